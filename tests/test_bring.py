"""How pictures are brought to a model's input: as the images that it learnt from are."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tuner.data.images import LOOKS_INVERTED, NEGATED
from tuner.data.sources import Source
from tuner.errors import ExportError
from tuner.export.away import _bring
from tuner.export.bring import PICTURES, bring, read_way, way_of
from tuner.export.formats import export_model
from tuner.export.predict import predict

from .pictures import enlarged, inverted, saved

SHAPE = (16, 16, 1)


def squares(number: int, paper: int, ink: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Squares of one of two inks on paper, never at the edges: what class they are is how bright they are."""
    rng = np.random.default_rng(0)
    labels = np.arange(number) % 2
    found = np.full((number, *SHAPE), paper, np.uint8)
    for image, label in zip(found, labels, strict=True):
        top, left = rng.integers(1, 4, 2)
        image[top : top + 10, left : left + 10] = ink[label]
    return found, labels


def test_the_training_images_tell_how_pictures_are_brought(trained_on: tuple[np.ndarray, np.ndarray]) -> None:
    fashion = trained_on[0][:1000, ..., None]

    assert way_of(fashion) == "trimmed"
    assert way_of(255 - fashion) == "whole"
    assert way_of(np.pad(fashion, ((0, 0), (4, 4), (4, 4), (0, 0)))) == "whole-on-dark"  # as MNIST's digits
    assert way_of(np.roll(fashion, 5, axis=1)) == "whole-on-dark"
    assert way_of(np.repeat(fashion, 3, axis=3)) == "whole"
    assert way_of(np.zeros_like(fashion)) == "whole-on-dark"


def test_only_the_published_images_go_without_being_looked_at(fashion: Source, small: Source) -> None:
    paper = squares(20, 250, (20, 150))[0]

    assert _bring({"data": "fashion-mnist"}, fashion, paper) is None
    assert _bring({"data": "fashion-mnist"}, None, None) is None
    assert _bring({"data": "other"}, None, None) == "whole"
    assert _bring({"data": "fashion-mnist"}, small, paper) == "whole"  # called so, and another one


def test_on_dark_a_bright_picture_is_negated_and_told(boot: Image.Image) -> None:
    large, pixels = enlarged(boot, 2), np.asarray(boot)[..., None]

    for picture, invert, expected, told in (
        (large, None, pixels, ()),
        (inverted(large), None, pixels, (NEGATED,)),
        (inverted(large), True, pixels, ()),
        (inverted(large), False, 255 - pixels, ()),
        (inverted(boot), None, 255 - pixels, (LOOKS_INVERTED,)),
    ):
        found = bring(picture, (28, 28, 1), "whole-on-dark", invert=invert)
        np.testing.assert_array_equal(found.pixels, expected)
        assert found.warnings == told
    assert bring(inverted(large), (28, 28, 1), "whole", invert=None).warnings == ()


@pytest.fixture
def by_brightness(tmp_path: Path) -> Path:
    """A model that knows the two inks by the mean of all pixels."""
    inputs = keras.Input(SHAPE, dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    dense = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(inputs, dense(mean))
    low, high = (squares(2, 250, (20, 150))[0] / 255).mean(axis=(1, 2, 3))
    dense.set_weights([np.array([[-90.0, 90.0]]), np.array([45.0, -45.0]) * (low + high)])
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def document(**changed: object) -> dict[str, object]:
    best = {"number": 0, "values": {}, "parameters": 4, "multiply_adds": 4, "val_accuracy": 0.9, "epochs": 1}
    found = {
        "study": "s", "data": "paper", "images": None, "classes": ["black|ink", "grey"], "input_shape": [*SHAPE],
        "command": "tuner search", "seed": 0, "versions": {}, "best_trial": best, "refit": None, "analysis": None,
    }  # fmt: skip
    return {**found, **changed}


def test_a_model_of_paper_is_asked_about_pictures_of_another_size(by_brightness: Path, tmp_path: Path) -> None:
    images, labels = squares(20, 250, (20, 150))
    away = tmp_path / "away"

    export_model(by_brightness, document(bring=way_of(images)), away, ["keras"], images, lambda _: None)

    files = [saved(enlarged(Image.fromarray(one[..., 0]), 2), tmp_path / f"{k}.png") for k, one in enumerate(images)]
    answers = predict(away, files)
    assert [one.top[0][0] for one in answers.found] == [["black|ink", "grey"][label] for label in labels]
    assert answers.warnings == []
    assert json.loads((away / PICTURES).read_text()) == {"bring": "whole"}
    card = (away / "model_card.md").read_text("utf-8")
    assert "`tuner predict` has each one taken whole, its proportions kept, on the colour of its corners." in card


def test_names_of_classes_break_no_table_of_the_card(by_brightness: Path, tmp_path: Path) -> None:
    row = {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    analysis = {"per_class": [row, row], "confusion": [[1, 1], [0, 1]]}

    export_model(by_brightness, document(analysis=analysis), tmp_path / "away", ["keras"], None, lambda _: None)

    assert "| black\\|ink | 100.0 % |" in (tmp_path / "away" / "model_card.md").read_text("utf-8")


def test_what_another_model_left_is_not_taken_for_this_ones(by_brightness: Path, tmp_path: Path) -> None:
    (tmp_path / PICTURES).write_text('{"bring": "whole"}')

    with pytest.raises(ExportError, match=f"{PICTURES} exists"):
        export_model(by_brightness, document(bring=None), tmp_path, ["saved-model"], None, lambda _: None)


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read"), ('{"bring": "upside down"}', "says nothing that")])
def test_a_damaged_pictures_json_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / PICTURES).write_text(text)

    with pytest.raises(ExportError, match=f"{PICTURES}: {said}"):
        read_way(tmp_path / PICTURES)
    assert read_way(tmp_path / "none.json") == "trimmed"
