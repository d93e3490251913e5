"""The whole road with images of one's own: search, refit, report, export, predict, from every form they come in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuner.data.holdout import read_test
from tuner.data.images import fit_whole
from tuner.data.sources import find

from .conftest import Done
from .own_images import CLASSES, idx, images, pictures, planted_keras, table

Tuner = Callable[..., Done]
SPACE = """
description = "one block, for small images"
model = "cnn"
[parameters]
blocks = { type = "fixed", value = 1 }
filters_1 = { type = "choice", options = [8, 12] }
dense_units = { type = "fixed", value = 0 }
learning_rate = { type = "float", low = 5e-3, high = 3e-2, log = true }
batch_size = { type = "fixed", value = 16 }
flip = { type = "bool" }
shift = { type = "fixed", value = 1 }
rotation = { type = "fixed", value = 5 }
zoom = { type = "fixed", value = 0.1 }
erase = { type = "fixed", value = 2 }
[search]
trials = 2
epochs = 6
refit_epochs = 8
refit_seeds = 1
workers = 1
"""


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNER_DATA", raising=False)
    for name in ("http_proxy", "https_proxy"):  # no network: what is not there is an error at once
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "own.toml").write_text(SPACE, "utf-8")


def searched(tuner: Tuner, data: str, *options: object) -> dict[str, Any]:
    done = tuner("search", "own.toml", "--data", data, *options, "--json")
    assert done.code == 0, done.err
    return done.document


def exported(tuner: Tuner, tmp_path: Path, report: dict[str, Any]) -> Path:
    """Export the winner, and look at what every run and every export holds."""
    run = tmp_path / "results" / "runs" / report["study"]
    assert {"report.html", "report.md", "predictions.npz", "examples.npz"} <= {path.name for path in run.iterdir()}
    with np.load(run / "examples.npz") as examples:
        assert list(examples["images"].shape[1:]) == report["input_shape"]
    done = tuner("best", "--export", "away", "--json")
    assert done.code == 0, done.err
    assert done.document["formats"][0]["agreement"] == 1.0
    assert json.loads((tmp_path / "away" / "labels.json").read_text("utf-8")) == report["classes"]
    height, width, channels = report["input_shape"]
    assert f"{height}x{width} images with {channels} channel(s)" in (tmp_path / "away" / "model_card.md").read_text()
    return tmp_path / "away"


def share_right(tuner: Tuner, files: list[Path], names: list[str]) -> float:
    done = tuner("predict", "away", *files, "--json")
    assert done.code == 0, done.err
    rows = done.document
    assert len(rows) == len(names)
    return sum(row["label"] == name for row, name in zip(rows, names, strict=True)) / len(rows)


def answers(away: Path, pixels: np.ndarray) -> list[str]:
    """What the exported model says of images by itself."""
    import keras

    labels = json.loads((away / "labels.json").read_text("utf-8"))
    model = keras.saving.load_model(away / "model.keras")
    return [labels[k] for k in model.predict(pixels, verbose=0).argmax(axis=1)]


@pytest.mark.slow
def test_photos_of_mixed_sizes_and_unbalanced_classes(tuner: Tuner, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", (60, 60, 12), ((18, 24), (30, 40), (12, 24)))

    report = searched(tuner, "photos:12x16", "--metric", "val_balanced_accuracy")

    assert (report["data"], report["input_shape"], report["classes"]) == ("photos", [12, 16, 3], list(CLASSES))
    assert report["images"]["held_out"]
    assert "unbalanced" in report["images"]["warnings"][0]
    best, refit = report["best_trial"], report["refit"]
    assert (report["metric"], best["metric"]) == ("val_balanced_accuracy",) * 2
    assert refit["n_test"] == report["images"]["n_test"] == 22
    assert refit["test_accuracies"][0] > 0.6
    assert refit["test_balanced_accuracies"][0] == pytest.approx(
        np.mean([row["recall"] for row in report["analysis"]["per_class"]])
    )
    run = tmp_path / "results" / "runs" / report["study"]
    said = (run / "report.md").read_text("utf-8")
    assert "photos came without test images: 22 of 132, every class in its proportion, were held out" in said
    assert "a balanced validation accuracy of" in said
    away = exported(tuner, tmp_path, report)
    assert json.loads((away / "pictures.json").read_text()) == {"bring": "whole"}
    asked = sorted((tmp_path / "photos").rglob("*.png"))
    assert share_right(tuner, asked, [path.parent.name for path in asked]) > 0.6
    # The pixels that predict makes of a picture are those that were trained on: so are the answers.
    rows = tuner("predict", "away", *asked, "--json").document
    whole = np.stack([fit_whole(Image.open(path), (12, 16, 3)) for path in asked])
    assert [row["label"] for row in rows] == answers(away, whole)

    first = next(folder.rglob("*.png"))
    Image.new("RGB", (20, 20)).save(first)
    changed = tuner("search", "--resume", "--trials", 3)
    assert (changed.code, "was searched on other images" in changed.err) == (5, True)


@pytest.mark.slow
def test_grey_tables_of_kaggle(tuner: Tuner, tmp_path: Path) -> None:
    test = images((20, 20, 20), (28, 28, 1), seed=1)
    table(tmp_path / "kaggle" / "x_train.csv", *images((90, 90, 90), (28, 28, 1)))
    table(tmp_path / "kaggle" / "x_test.csv", *test)

    report = searched(tuner, "kaggle")

    assert (report["input_shape"], report["classes"], report["refit"]["n_test"]) == ([28, 28, 1], ["0", "1", "2"], 60)
    assert not report["images"]["held_out"]
    assert report["refit"]["test_accuracies"][0] > 0.8
    exported(tuner, tmp_path, report)
    np.savez(tmp_path / "ask.npz", x=test[0])
    assert share_right(tuner, [tmp_path / "ask.npz"], [str(label) for label in test[1]]) == pytest.approx(
        report["refit"]["test_accuracies"][0]
    )


@pytest.mark.slow
def test_an_npz_in_colours(tuner: Tuner, tmp_path: Path) -> None:
    (x, y), (x_test, y_test) = images((80, 80), (32, 32, 3)), images((15, 15), (32, 32, 3), seed=1)
    np.savez(
        tmp_path / "x.npz", x_train=x / 255, y_train=y, x_test=x_test / 255, y_test=y_test, class_names=["a b", "ç"]
    )

    report = searched(tuner, "x.npz", "--set", "search.folds=2", "--top", 2)

    assert (report["input_shape"], report["classes"]) == ([32, 32, 3], ["a b", "ç"])
    assert report["refit"]["test_accuracies"][0] > 0.8
    exported(tuner, tmp_path, report)
    np.savez(tmp_path / "ask.npz", x=x_test)
    assert share_right(tuner, [tmp_path / "ask.npz"], [report["classes"][label] for label in y_test]) == pytest.approx(
        report["refit"]["test_accuracies"][0]
    )


@pytest.mark.slow
def test_idx_files_of_three_classes_that_are_not_square(tuner: Tuner, tmp_path: Path) -> None:
    idx(tmp_path / "idx", images((80, 80, 80), (14, 22, 1)), images((20, 20, 20), (14, 22, 1), seed=1))
    (tmp_path / "idx" / "labels.txt").write_text("\n".join(CLASSES))

    report = searched(tuner, "idx")

    assert (report["input_shape"], report["classes"]) == ([14, 22, 1], list(CLASSES))
    assert report["refit"]["test_accuracies"][0] > 0.8
    exported(tuner, tmp_path, report)
    few = images((5, 5, 5), (14, 22, 1), 2)[0]
    for number, image in enumerate(few):
        Image.fromarray(image[..., 0]).resize((44, 28), 0).save(tmp_path / f"{number:02}.png")
    asked = tuner("predict", "away", *(f"{number:02}.png" for number in range(15)), "--json")
    assert ([row["label"] for row in asked.document], asked.err) == (answers(tmp_path / "away", few), "")


@pytest.mark.slow
def test_what_keras_left_in_the_cache(tuner: Tuner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv(
            "PYTHONPATH", os.pathsep.join([str(planted_keras(tmp_path / "planted")), os.environ.get("PYTHONPATH", "")])
        )
        assert tuner("data", "check", "keras:cifar10").code == 0

    report = searched(tuner, "keras:cifar10")

    assert (report["data"], report["input_shape"], len(report["classes"])) == ("cifar10", [32, 32, 3], 10)
    assert report["refit"]["n_test"] == 80
    assert report["refit"]["test_accuracies"][0] > 0.2
    exported(tuner, tmp_path, report)
    pixels, _ = read_test(find("keras:cifar10", download=False))
    Image.fromarray(pixels[0]).save(tmp_path / "one.png")
    assert share_right(tuner, [tmp_path / "one.png"], answers(tmp_path / "away", pixels[:1])) == 1.0
