"""``tuner predict``: the model's answers, the screen, the exit codes; and sixteen of twenty pictures are right."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import tuner
from tuner.cli import run
from tuner.console import tables
from tuner.data.idx import PARTS
from tuner.data.images import NEGATED
from tuner.data.sources import FASHION_CLASSES
from tuner.errors import ExportError
from tuner.export.predict import Prediction, Predictions, predict

from .conftest import Done, write_idx
from .pictures import BROKEN, GREY, NOISE, R, as_bytes, cut_out, enlarged, inverted, npz, padded, saved, tinted

Tuner = Callable[..., Done]


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory, trained_on: tuple[np.ndarray, np.ndarray]) -> Path:
    """An export folder without a training: a least-squares classifier as one dense layer, raw pixels in."""
    import keras

    images, labels = (array[:6000] for array in trained_on)
    x = images.reshape(len(images), -1) / 255
    mean = x.mean(axis=0)
    weights = np.linalg.solve((x - mean).T @ (x - mean) + 60 * np.eye(784), (x - mean).T @ (np.eye(10)[labels] - 0.1))
    inputs = keras.Input(GREY, dtype="uint8")
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    dense = keras.layers.Dense(10)
    model = keras.Model(inputs, keras.layers.Softmax()(dense(hidden)))
    dense.set_weights([6 * weights, 6 * (0.1 - mean @ weights)])
    folder = tmp_path_factory.mktemp("linear")
    model.save(folder / "model.keras")
    (folder / "labels.json").write_text(json.dumps(FASHION_CLASSES), "utf-8")
    return folder


def saved_model(path: Path, *, shape: tuple[int, ...] = GREY, dtype: str = "uint8", last: str = "softmax") -> Path:
    import keras

    inputs = keras.Input(shape, dtype=dtype)
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    keras.Model(inputs, keras.layers.Dense(4, activation=last)(hidden)).save(path)
    return path


def test_predictions_are_the_models_own_in_the_order_of_the_images(
    linear: Path, tmp_path: Path, trained_on: tuple[np.ndarray, np.ndarray]
) -> None:
    import keras

    images = trained_on[0][50_000:50_600]  # more than one batch
    path = npz(tmp_path / "x.npz", x=images)
    first = saved(Image.fromarray(images[3]), tmp_path / "first.png")

    answer = predict(linear, [first, path], top=12)

    expected = keras.saving.load_model(linear / "model.keras").predict(images[..., None], verbose=0)
    assert [one.image for one in answer.found[:2]] == [str(first), f"{path}[0]"]
    assert len(answer.found) == 601
    assert [one.top[0][0] for one in answer.found[1:]] == [FASHION_CLASSES[k] for k in expected.argmax(axis=1)]
    assert answer.found[0].top == answer.found[4].top
    for one, row in zip(answer.found[1:], expected, strict=True):
        assert [share for _, share in one.top] == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-5)
    assert answer.broken == ()
    assert (expected.argmax(axis=1) == trained_on[1][50_000:50_600]).mean() > 0.75  # it is worth asking


def test_an_array_is_asked_about_like_a_file(
    linear: Path, tmp_path: Path, trained_on: tuple[np.ndarray, np.ndarray]
) -> None:
    images = trained_on[0][:20]
    path = npz(tmp_path / "x.npz", x=images)

    array, file, channels = (tuner.classify(linear, asked).found for asked in (images, str(path), images[..., None]))

    assert [one.top for one in array] == [one.top for one in file] == [one.top for one in channels]
    assert (array[0].image, array[0].label, array[0].confidence) == ("image[0]", *array[0].top[0])


@pytest.mark.parametrize(
    ("images", "what"),
    [
        (np.zeros((2, 28, 28), np.float32), "the array: float32 2x28x28 is no array of images"),
        (np.zeros((28, 28), np.uint8), "the array: uint8 28x28 is no array of images"),
        (["none.png", "neither.png"], "none.png: no such file.*neither.png: no such file"),
    ],
)
def test_nothing_that_can_be_read_is_an_error(linear: Path, images: Any, what: str) -> None:
    with pytest.raises(tuner.DataError, match=what):
        tuner.classify(linear, images)


def test_without_labels_the_classes_have_numbers(linear: Path, tmp_path: Path, boot: Image.Image) -> None:
    alone = tmp_path / "alone.keras"
    alone.write_bytes((linear / "model.keras").read_bytes())
    path = saved(boot, tmp_path / "boot.png")

    (named,), (numbered,) = predict(linear, [path], top=1).found, predict(alone, [path], top=1).found

    assert (named.top[0][0], numbered.top[0][0]) == ("Ankle boot", "9")


def test_a_broken_file_keeps_no_other_from_its_answer(linear: Path, tmp_path: Path, boot: Image.Image) -> None:
    (tmp_path / "b.png").write_bytes(b"")
    saved(inverted(enlarged(boot, 2)), tmp_path / "a.gif", save_all=True, append_images=[enlarged(boot, 2)])
    saved(boot, tmp_path / "c.png")

    answer = predict(linear, [tmp_path, tmp_path / "d.png"])

    assert [Path(one.image).name for one in answer.found] == ["a.gif", "c.png"]
    assert [one.warnings for one in answer.found] == [("animated: only its first frame is looked at", NEGATED), ()]
    assert [line.split(": ")[0] for line in answer.broken] == [str(tmp_path / "d.png"), str(tmp_path / "b.png")]


def test_many_images_with_one_warning_share_a_line() -> None:
    def warned(n: int) -> list[str]:
        found = tuple(Prediction(f"{k}.png", (("Bag", 1.0),), ("is odd",)) for k in range(n))
        return Predictions(found, others=(Path("notes.txt"),)).warnings

    assert warned(2) == ["0.png: is odd", "1.png: is odd", "1 other file(s) passed over: notes.txt"]
    assert warned(6)[0] == "6 images: is odd (0.png, 1.png, 2.png, …)"


def test_a_colour_model_is_asked_in_colours(tmp_path: Path, boot: Image.Image) -> None:
    model = saved_model(tmp_path / "m.keras", shape=(40, 30, 3))

    answer = predict(model, [saved(tinted(enlarged(boot, 3), (9, 9, 99), (200, 9, 9)), tmp_path / "x.png")], top=9)

    assert len(answer.found[0].top) == 4
    assert sum(share for _, share in answer.found[0].top) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "float32"}, "takes float32, not raw uint8 pixels"),
        ({"shape": (784,)}, "not an image classifier"),
        ({"shape": (28, 28, 2)}, "not an image classifier"),
        ({"last": "relu"}, "no probabilities"),
    ],
)
def test_a_model_that_is_no_exported_classifier_is_refused(
    options: dict[str, Any], said: str, tmp_path: Path, boot: Image.Image
) -> None:
    model = saved_model(tmp_path / "m.keras", **options)

    with pytest.raises(ExportError, match=said):
        predict(model, [saved(boot, tmp_path / "x.png")])


@pytest.mark.parametrize(
    ("labels", "said"), [('["a", "b"]', "not a list of 10 names"), ("{", "cannot be read"), ('"Bag"', "not a list")]
)
def test_damaged_labels_are_refused(labels: str, said: str, tmp_path: Path, linear: Path, boot: Image.Image) -> None:
    (tmp_path / "model.keras").write_bytes((linear / "model.keras").read_bytes())
    (tmp_path / "labels.json").write_text(labels)

    with pytest.raises(ExportError, match=said):
        predict(tmp_path, [saved(boot, tmp_path / "x.png")])


def test_a_damaged_model_is_refused_in_one_line(tmp_path: Path, linear: Path, boot: Image.Image) -> None:
    path = saved(boot, tmp_path / "x.png")
    (tmp_path / "text.keras").write_bytes(b"x")
    (tmp_path / "other.onnx").write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    content = bytearray((linear / "model.keras").read_bytes())
    content[len(content) // 3 : len(content) // 3 + 4000] = bytes(4000)
    (tmp_path / "overwritten.keras").write_bytes(content)

    said = {}
    for name in ("text.keras", "other.onnx", "zip.keras", "overwritten.keras", "none.keras", "."):
        with pytest.raises(ExportError) as caught:
            predict(tmp_path / name, [path])
        said[name] = str(caught.value)

    assert "text.keras: cannot be loaded: it is no zip archive" in said["text.keras"]
    assert "other.onnx: " in said["other.onnx"]  # damaged, or its runtime is not there
    assert "zip.keras: cannot be loaded: " in said["zip.keras"]
    assert "overwritten.keras: cannot be loaded: " in said["overwritten.keras"]
    assert "none.keras: there is no model" in said["none.keras"]
    assert f"{tmp_path}: there is no model" in said["."]
    assert not any("\n" in line for line in said.values())


# The screen and the command


ROWS = [
    Prediction("photos/boot.jpg", (("Ankle boot", 0.98765), ("Sneaker", 0.01), ("Sandal", 0.002))).as_document(),
    Prediction("a/very/long/path/to/some/images-idx3-ubyte[59999]", (("Bag", 0.5), ("[b]odd[/b] class", 0.25))).as_document(),
]  # fmt: skip


def drawn(rows: list[dict[str, Any]], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None, highlight=False)
    tables.show_predictions(console, rows)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_is_readable_at_80_columns() -> None:
    assert "\n".join(line.rstrip() for line in drawn(ROWS).splitlines()) == GOLDEN


GOLDEN = """\
image                         class       confidence  then
photos/boot.jpg               Ankle boot  98.8 %      Sneaker 1.0 %,
                                                      Sandal 0.2 %
…me/images-idx3-ubyte[59999]  Bag         50.0 %      [b]odd[/b] class 25.0 %"""


def test_of_very_many_images_the_table_shows_the_first_and_counts_all() -> None:
    shown = drawn(ROWS[:1] * 60 + ROWS[1:] * 59)

    assert shown.count("…/path/to/some/images-idx3-ubyte") == 0
    assert shown.count("photos/boot.jpg") == 60
    assert "and 19 more; --csv and --json list all" in shown
    assert "60 Ankle boot, 59 Bag" in " ".join(shown.split())


@pytest.fixture
def pictures(tmp_path: Path, boot: Image.Image) -> Path:
    """A folder with a picture from a shop, a broken one and a text."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    saved(inverted(enlarged(boot, 5)), folder / "shop.png")
    (folder / "cut.jpg").write_bytes(as_bytes(NOISE, "JPEG")[:3000])
    (folder / "notes.txt").write_text("mine")
    return folder


def test_the_command_answers_complains_and_ends_with_the_code_for_data(
    tuner: Tuner, linear: Path, pictures: Path
) -> None:
    done = tuner("predict", linear, "pictures")

    assert done.code == 4
    lines = done.err.splitlines()
    assert lines[0].startswith("error: pictures/cut.jpg: damaged: image file is truncated")
    assert lines[1] == f"warning: pictures/shop.png: {NEGATED}"
    assert lines[2] == "warning: 1 other file(s) passed over: pictures/notes.txt"
    assert len(lines) == 3
    assert [line.split()[:3] for line in done.out.splitlines()[1:2]] == [["pictures/shop.png", "Ankle", "boot"]]
    assert "\x1b" not in done.out


def test_json_is_one_document(linear: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["predict", str(linear), str(pictures), "--json", "--top", "2"])

    said = capsys.readouterr()
    (one,) = json.loads(said.out)
    assert code == 4
    assert list(one) == ["image", "label", "confidence", "top", "warnings"]
    assert (one["image"], one["label"], one["warnings"]) == (str(pictures / "shop.png"), "Ankle boot", [NEGATED])
    assert [list(row) for row in one["top"]] == [["label", "confidence"]] * 2
    assert one["confidence"] == one["top"][0]["confidence"] > one["top"][1]["confidence"]
    assert len(said.err.splitlines()) == 3


def test_csv_is_one_row_an_image(linear: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["predict", str(linear), str(pictures / "shop.png"), "--csv", "--no-invert"])

    said = capsys.readouterr()
    head, row = csv.reader(said.out.splitlines())
    assert (code, said.err) == (0, "")
    assert head == ["image", "label", "confidence", "label_2", "confidence_2", "label_3", "confidence_3"]
    assert row[0] == str(pictures / "shop.png")
    assert float(row[2]) > float(row[4]) > float(row[6])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none", "x.png"], 7, "error: none: there is no model ('tuner best --export DIR' writes one)"),
        (["empty", "x.png"], 7, "error: empty: there is no model"),
        (["text.keras", "x.png"], 7, "error: text.keras: cannot be loaded: it is no zip archive"),
        (["text.keras", "none.png"], 4, "error: none.png: no such file or folder"),
        (["text.keras", "empty"], 4, "error: empty: no image in this folder"),
        (["text.keras"], 2, "error: tuner predict: Missing argument"),
        (["text.keras", "x.png", "--csv", "--json"], 2, "error: --csv and --json contradict each other"),
        (["text.keras", "x.png", "--top", "0"], 2, "error: tuner predict: Invalid value for '--top'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_its_code(
    arguments: list[str], code: int, said: str, tuner: Tuner, tmp_path: Path, boot: Image.Image
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.keras").write_bytes(b"x")
    saved(boot, tmp_path / "x.png")

    done = tuner("predict", *arguments)

    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1


def test_nothing_heavy_is_loaded_before_an_image_is_there(tmp_path: Path) -> None:
    code = """
import sys
import tuner
from tuner.cli import run
assert run(["predict", "--help"]) == 0
assert not {"numpy", "PIL", "keras", "tensorflow"} & set(sys.modules)
assert run(["predict", "m.keras", "none.png"]) == 4
assert not {"keras", "tensorflow"} & set(sys.modules)
"""
    (tmp_path / "m.keras").write_bytes(b"x")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


# Done when: twenty pictures and five broken files


SPACE = """
description = "one good network"
model = "cnn"

[parameters.filters_1]
type = "fixed"
value = 24

[parameters.dense_units]
type = "fixed"
value = 64

[parameters.flip]
type = "fixed"
value = true

[parameters.learning_rate]
type = "fixed"
value = 4e-3

[search]
epochs = 1
train_images = 2000
refit_epochs = 6
refit_seeds = 1
"""


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, trained_on: tuple[np.ndarray, np.ndarray]) -> Path:
    """What ``tuner search`` and ``tuner best --export`` make of the first training images, in a folder of their own."""
    folder = tmp_path_factory.mktemp("road")
    (folder / "data").mkdir()
    images, labels = trained_on
    for part, array in zip(PARTS, (images[:20_000], labels[:20_000], images[55_000:55_500], labels[55_000:55_500]), strict=True):  # fmt: skip
        write_idx(folder / "data" / part, array)
    (folder / "one.toml").write_text(SPACE, "utf-8")
    search = ["search", "one.toml", "--trials", "1", "--workers", "1", "--seed", "0", "--data", "data", "--quiet"]
    for command in (search, ["best", "--export", "away"]):
        subprocess.run([sys.executable, "-m", "tuner", *command], cwd=folder, check=True, capture_output=True)
    (folder / "away" / "labels.json").write_text(json.dumps(FASHION_CLASSES), "utf-8")
    return folder / "away"


def as_shop_photo(image: Image.Image) -> Image.Image:
    """Dark on almost white, off the centre of a portrait: as the pictures that Fashion-MNIST was made of."""
    return inverted(padded(enlarged(image, 12, R.BICUBIC), 210, 150, 190, 500, level=2))


MAKERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as-it-is.png": lambda image: image,
    "enlarged.png": lambda image: enlarged(image, 5),
    "enlarged.jpg": lambda image: enlarged(image, 8, R.BICUBIC),
    "inverted.png": lambda image: inverted(enlarged(image, 3, R.BILINEAR)),
    "inverted.jpg": as_shop_photo,
    "coloured.png": lambda image: tinted(enlarged(image, 6, R.LANCZOS), (10, 20, 60), (255, 220, 90)),
    "coloured.jpg": lambda image: tinted(padded(enlarged(image, 9, R.BICUBIC), 9, 9, 9, 99), (230, 240, 235), (90, 20, 30)),
    "padded.png": lambda image: padded(enlarged(image, 4, R.BICUBIC), 300, 20, 10, 60),
    "padded.jpg": lambda image: padded(enlarged(image, 7, R.LANCZOS), 5, 200, 40, 5),
    "cut-out.png": lambda image: cut_out(enlarged(image, 5, R.BICUBIC), inverted(enlarged(image, 5, R.BICUBIC))),
}  # fmt: skip
FIVE_BROKEN = ("an empty file", "a text", "a cut JPEG", "a cut PNG", "a decompression bomb")


@pytest.mark.slow
def test_sixteen_of_twenty_pictures_are_right_and_five_broken_files_have_their_line(
    exported: Path, tuner: Tuner, tmp_path: Path, trained_on: tuple[np.ndarray, np.ndarray]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    images, labels = (array[56_000:] for array in trained_on)
    truth: dict[str, str] = {}
    for place, (name, make) in enumerate(MAKERS.items()):
        for time in range(2):  # every class twice, each time made another way
            label = (place + 5 * time) % 10
            image = images[np.flatnonzero(labels == label)[time]]
            path = saved(make(Image.fromarray(image)), pictures / f"{time}-{name}")
            truth[os.fspath(path.relative_to(tmp_path))] = FASHION_CLASSES[label]
    for number, name in enumerate(FIVE_BROKEN):
        (pictures / f"broken-{number}.png").write_bytes(BROKEN[name][0])

    done = tuner("predict", exported, "pictures", "--json")

    said = {row["image"]: row["label"] for row in done.document}
    assert done.code == 4
    assert set(said) == set(truth)
    assert len(truth) == 20
    right = [name for name in truth if said[name] == truth[name]]
    assert len(right) >= 16, {name: (said[name], truth[name]) for name in truth if name not in right}
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == [f"pictures/broken-{number}.png" for number in range(5)]
    assert not [line for line in done.err.splitlines() if not line.startswith(("error: ", "warning: "))]
