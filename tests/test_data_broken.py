"""Images that cannot be searched: one line each, before anything is trained; and what is only odd, which is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.cli import run
from tuner.data.folder import LABELS_FILE
from tuner.data.idx import PARTS
from tuner.data.sources import find
from tuner.errors import DataError

from .conftest import write_idx
from .own_images import idx, images, pictures, table
from .pictures import idx_of

SHAPE = (8, 8, 1)
Broken = Callable[[Path], str]
"""Makes a data set in a folder, and returns what ``--data`` says then."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def npz(folder: Path, **changed: np.ndarray | None) -> str:
    x, y = images((20, 20, 20), SHAPE)
    x_test, y_test = images((5, 5, 5), SHAPE, seed=1)
    arrays = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test, **changed}
    np.savez(folder / "x.npz", **{name: array for name, array in arrays.items() if array is not None})
    return str(folder / "x.npz")


def npz_with(**changed: np.ndarray | None) -> Broken:
    return lambda folder: npz(folder, **changed)


def written(name: str, content: bytes | str) -> Broken:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return str(folder / name)

    return make


def csv(*rows: str) -> Broken:
    return written("train.csv", "\n".join(rows) + "\n")


def photos(change: Callable[[Path], object], counts: tuple[int, ...] = (6, 6)) -> Broken:
    def make(folder: Path) -> str:
        place = pictures(folder / "photos", counts, ((9, 9),))
        change(place)
        return str(place)

    return make


def idx_with(part: int, array: np.ndarray) -> Broken:
    def make(folder: Path) -> str:
        place = idx(folder / "idx", images((9, 9), SHAPE), images((3, 3), SHAPE, seed=1))
        write_idx(place / PARTS[part], array)
        return str(place)

    return make


def loose(folder: Path) -> str:
    place = pictures(folder / "photos", (6,), ((9, 9),))
    for path in list(place.rglob("*.*")):
        shutil.move(path, place)
    (place / "bars").rmdir()
    return str(place)


def cut_idx(folder: Path) -> str:
    place = idx(folder / "idx", images((9, 9), SHAPE), images((3, 3), SHAPE, seed=1))
    (place / PARTS[0]).write_bytes((place / PARTS[0]).read_bytes()[:-5])
    return str(place)


def unnamed(folder: Path) -> str:
    place = idx(folder / "idx", images((9, 9, 9), SHAPE), images((3, 3, 3), SHAPE, seed=1))
    (place / LABELS_FILE).write_text("only\ntwo\n")
    return str(place)


def asked_test_without_labels(folder: Path) -> str:
    pixels, labels = images((9, 9), SHAPE)
    return f"{table(folder / 'train.csv', pixels, labels)},{table(folder / 'test.csv', pixels, None)}"


def two_training_tables(folder: Path) -> str:
    for name in ("train_a.csv", "train_b.csv"):
        table(folder / "tables" / name, *images((9, 9), SHAPE))
    return str(folder / "tables")


X, Y = images((20, 20, 20), SHAPE)
NAN = X.astype(np.float32)
NAN[3, 0, 0] = np.nan

BROKEN: dict[str, tuple[Broken, str]] = {
    "nothing there": (lambda folder: str(folder / "none"), "none: no such file or folder"),
    "an empty folder": (str, "no images in this folder"),
    "another kind of file": (written("x.txt", "hello"), "neither an .npz nor a .csv"),
    "an unknown data set of Keras": (lambda _: "keras:mnits", "there is no such data set"),
    "an npz that is none": (written("x.npz", "PK hello"), "damaged, or not an .npz"),
    "an npz without labels": (npz_with(y_train=None), "y_train missing (it holds x_train 60x8x8x1"),
    "half a test set": (npz_with(y_test=None), "y_test missing"),
    "an npz of Python objects": (npz_with(y_train=np.array([{}] * 60)), "an array of Python objects"),
    "labels that do not fit": (npz_with(y_train=Y[:50]), "training has 60 images and 50 labels, which do not fit"),
    "channels first": (npz_with(x_train=np.zeros((60, 3, 9, 9))), "x_train: an array of 60x3x9x9 is no images (channels come last: .transpose(0, 2, 3, 1)"),
    "four channels": (npz_with(x_train=np.zeros((60, 9, 9, 4))), "an array of 60x9x9x4 is no images"),
    "one-hot labels": (npz_with(y_train=np.eye(3)[Y]), "one-hot? y_train.argmax(axis=1)"),
    "labels between two numbers": (npz_with(y_train=Y + 0.5), "which is no whole number"),
    "a label below 0": (npz_with(y_train=Y - 1), "is below 0"),
    "an unknown test class": (npz_with(y_test=np.full(15, 7)), "test label 7 of image 0 is not among the 3"),
    "pixels that are no numbers": (npz_with(x_train=NAN), "1 image(s) have pixels that are no finite number, the first is image 3"),
    "normalised pixels": (npz_with(x_train=X / 127.5 - 1, x_test=X[:15] / 127.5 - 1), "pixels from -1"),
    "fractions that go too far": (npz_with(x_train=X / 200, x_test=None, y_test=None), "neither 0 to 1 nor 0 to 255 (clip them at 1"),
    "words that are none of the names": (npz_with(y_train=np.array(["a", "b", "c"])[Y], x_test=None, y_test=None, class_names=np.array(["c", "d", "a"])), "y_train has 'b', which class_names has not"),
    "two scales": (npz_with(x_test=X[:15] / 255), "not on one scale"),
    "words for pixels": (npz_with(x_train=np.full((60, 8, 8), "a")), "<U1 is no type of pixels"),
    "other test images": (npz_with(x_test=np.zeros((15, 9, 9), np.uint8)), "training images are 8x8x1, test images 9x9x1"),
    "no images": (npz_with(x_train=X[:0], y_train=Y[:0]), "there are no training images"),
    "one class": (npz_with(y_train=Y * 0, y_test=None, x_test=None), "there is one class only, '0'"),
    "too few of a class": (npz_with(y_train=np.r_[3, 4, 4, 5, Y[4:]]), "class '3' has 1 training image(s), and 1 other"),
    "too few to hold out": (npz_with(y_train=np.r_[3, 3, Y[2:]], y_test=None, x_test=None), "class '3' has 2 training image(s) (3 at least"),
    "an empty table": (csv(""), "train.csv: "),
    "a table of a header": (csv("label,a,b,c,d"), "there are no rows"),
    "a table of words": (csv("label,pixel0", "1,a"), "line 2, column 2: 'a' is no number"),
    "a row that is cut": (csv("label,a,b,c,d", "1,2,3,4,5", "1,2,3"), "line 3 has 3 columns, the ones before have 5"),
    "no square image": (csv("label,a,b,c,d,e", "1,2,3,4,5,6"), "5 pixels a row are no square image"),
    "a table with other commas": (csv(";".join(["label", *map(str, range(784))]), "1;2"), "its columns are apart by ';' (needed are commas"),
    "a table with tabs": (csv("label\ta", "1\t2"), "its columns are apart by tabs"),
    "a long cell of words": (csv("label,a", "1," + 300 * "x"), "line 2, column 2: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' is no number"),
    "an error below empty lines": (csv("label,a", "1,2", "", "", "1,b"), "line 5, column 2: 'b' is no number"),
    "a cut row below empty lines": (csv("1,2,3,4,5", "", "1,2,3"), "line 3 has 3 columns, the ones before have 5"),
    "a header of other columns": (csv("label,a,b,", "1,2"), "the header has 4 columns, the rows 2"),
    "a table of numbers that are none": (csv("label,a", "0,1", "0,nan"), "train.csv: 1 image(s) have pixels that are no finite number"),
    "a named test table without labels": (asked_test_without_labels, "test.csv: there is no column of labels"),
    "two training tables": (two_training_tables, "which of train_a.csv, train_b.csv is the training table?"),
    "three tables": (lambda _: "a.csv,b.csv,c.csv", "not one place, or two tables"),
    "a class without pictures": (photos(lambda place: (place / "empty").mkdir()), "no picture in this class folder"),
    "a damaged picture": (photos(lambda place: (place / "bars" / "x.png").write_bytes(b"hello")), "x.png: not an image"),
    "two damaged pictures": (photos(lambda place: [(place / "bars" / name).write_bytes(b"x") for name in ("a.jpg", "b.jpg")]), "1 other picture(s) cannot be read either"),
    "pictures without classes": (loose, "no images in this folder"),
    "one class of pictures": (photos(lambda _: None, (9,)), "there is one class only, 'bars'"),
    "a class of copies": (photos(lambda place: [Image.new("RGB", (9, 9)).save(path) for path in (place / "dots").iterdir()]), "class 'dots' has only copies of one image"),
    "two pictures of a class": (photos(lambda _: None, (9, 2)), "class 'dots' has 2 training image(s)"),
    "a size for an npz": (lambda folder: npz(folder) + ":16", "can be asked for at a size"),
    "pictures of no size": (lambda folder: photos(lambda _: None)(folder) + ":4", "from 8 to 512"),
    "a size and another": (lambda folder: photos(lambda _: None)(folder) + ":16:32", "two sizes, or grey and in colour"),
    "an IDX file that is cut": (cut_idx, "where the header promises"),
    "IDX images of five channels": (idx_with(0, np.zeros((18, 4, 4, 5))), "is no images"),
    "IDX labels that do not fit": (idx_with(1, np.arange(2)), "do not fit"),
    "fewer names than classes": (unnamed, "2 names for 3 classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_data_set_that_cannot_be_searched_is_one_clear_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, said = BROKEN[name]
    (tmp_path / "here").mkdir()
    data = make(tmp_path / "here")

    code = run(["data", "check", data, "--json"])

    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (4, "", 1), printed.err
    assert said in printed.err
    # It says which file or folder; Keras's names are no place.
    assert data.split(",")[0].split(":")[0] in printed.err or str(tmp_path) in printed.err
    assert not list((tmp_path / "cache").rglob("*-ubyte"))


def test_what_is_odd_is_told_and_searched_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = images((100, 10, 20), SHAPE)
    x_test, y_test = images((5, 0, 5), SHAPE, seed=1)
    first, second = np.flatnonzero(y == 0)[:2].tolist()
    even_one = int(np.flatnonzero(y == 2)[0])
    x[even_one], x_test[2] = 7, 0
    x_test[:2], y_test[:2] = x[[first, second]], (0, 2)
    data = npz(tmp_path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)

    assert run(["data", "check", data, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    balance, missing, even, even_test, copies = found["warnings"]
    assert "100 training images of '0', 10 of '1'; --metric val_balanced_accuracy" in balance
    assert missing == "1 of the 3 classes have no test image: '1'"
    assert even == f"1 training image(s) are one even colour: image {even_one}"
    assert even_test == "1 test image(s) are one even colour: image 2"
    assert copies.startswith("2 of the 10 test images are also training images, 1 of them under another label: ")
    assert f"test image 0 is training image {first}, test image 1 is training image {second}" in copies


def test_images_that_were_scaled_twice_look_dark(tmp_path: Path) -> None:
    assert (
        find(npz(tmp_path, x_train=X // 20, x_test=X[:15] // 30)).warnings[0].startswith("no pixel is brighter than 11")
    )


def test_check_shows_classes_split_and_remarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pictures(tmp_path / "photos", (50, 10), ((9, 12),))

    assert run(["data", "check", f"{folder}:10x12"]) == 0

    said = capsys.readouterr().out
    assert "photos (pictures): 10x12, in colour, 2 classes" in said
    assert "42 images train, 8 validate, 10 test, held out here" in said
    assert [line.split() for line in said.splitlines() if line.startswith(("bars", "dots"))] == [
        ["bars", "42", "8"],
        ["dots", "8", "2"],
    ]
    assert "warning: the classes are unbalanced" in said


def test_an_idx_file_that_promises_more_than_memory_holds_is_one_line(tmp_path: Path) -> None:
    place = idx(tmp_path / "idx", images((9, 9), SHAPE), images((3, 3), SHAPE, seed=1))
    (place / PARTS[0]).write_bytes(idx_of(2**31, 2**31, 4))

    assert run(["data", "check", str(place)]) == 4


def test_a_name_longer_than_any_is_one_line() -> None:
    with pytest.raises(DataError, match=r"xxx…: cannot be read: File name too long"):
        find("x" * 5000)


def test_a_place_that_may_not_be_looked_into_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for what in ("stat", "is_file"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, what, closed)
            with pytest.raises(DataError, match=f"{tmp_path}.*: cannot be read: Permission denied"):
                find(str(tmp_path))


def closed(path: Path, **_: object) -> None:
    raise PermissionError(13, "Permission denied", str(path))
