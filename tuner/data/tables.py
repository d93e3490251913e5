"""Images in arrays and tables: NumPy's ``.npz``, and CSV as Kaggle has it, a row an image."""

from __future__ import annotations

import csv
import math
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.data.collected import Collected, Labelled, as_pixels, located
from tuner.data.idx import CHANNELS
from tuner.errors import DataError
from tuner.runs import DAMAGED

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
NAMES = "class_names"
LABEL_COLUMNS = ("label", "labels", "class", "target", "y")
"""How a header calls the labels, wherever they stand; without a header they stand first."""
MOST_BYTES = 8 << 30
"""Of one array in an .npz: more is a damaged header, or does not fit into memory."""
AGAIN = "is it whole? copy or fetch it again"


def read_npz(path: Path) -> Collected:
    """Return the images of an ``.npz`` with x_train and y_train, and perhaps x_test, y_test and class_names.

    Raises DataError.
    """
    arrays = _load(path)
    missing = [name for name in ARRAYS[:2] if name not in arrays]
    if ("x_test" in arrays) != ("y_test" in arrays):
        missing += [name for name in ARRAYS[2:] if name not in arrays]
    if missing:
        holds = ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in arrays.items()) or "nothing"
        raise DataError(f"{path}: {' and '.join(missing)} missing", hint=f"it holds {holds}")
    kinds = ["train", "test"] if "x_test" in arrays else ["train"]
    with located(str(path)):
        pixels, notes = as_pixels({f"x_{kind}": _shaped(f"x_{kind}", arrays[f"x_{kind}"]) for kind in kinds})
        names = _texts(arrays[NAMES]) if NAMES in arrays else None
        labels, named = _labels([arrays[f"y_{kind}"] for kind in kinds])
        parts = [Labelled(images, y) for images, y in zip(pixels, labels, strict=True)]
    return Collected(parts[0], parts[1] if len(parts) > 1 else None, names or named, tuple(notes))


def _load(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    try:
        with zipfile.ZipFile(path) as archive:  # before anything is unpacked
            too_large = [item for item in archive.infolist() if item.file_size > MOST_BYTES]
        if too_large:
            raise DataError(
                f"{path}: {too_large[0].filename} has {too_large[0].file_size / 2**30:,.0f} GiB",
                hint=f"at most {MOST_BYTES >> 30} GiB are read",
            )
        with np.load(path, allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files if name in (*ARRAYS, NAMES)} or {
                name: np.empty(0) for name in saved.files
            }
    except (*DAMAGED, MemoryError) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path}: an array of Python objects, which are not loaded", hint="save arrays of numbers"
            ) from None
        said = str(error).split("\n")[0]
        raise DataError(f"{path}: damaged, or not an .npz of arrays: {said}", hint=AGAIN) from None


def _shaped(name: str, images: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if images.ndim == 3:  # noqa: PLR2004  # grey
        return images[..., None]
    if images.ndim == 4 and images.shape[3] in CHANNELS:  # noqa: PLR2004
        return images
    shape = "x".join(map(str, images.shape))
    hint = "needed is (n, height, width), or (n, height, width, channels) with 1 or 3 channels"
    if images.ndim == 4 and images.shape[1] in CHANNELS:  # noqa: PLR2004
        hint = f"channels come last: {name}.transpose(0, 2, 3, 1)"
    raise DataError(f"{name}: an array of {shape} is no images", hint=hint)


def _labels(found: Sequence[npt.NDArray[np.generic]]) -> tuple[list[npt.NDArray[np.int64]], tuple[str, ...] | None]:
    """Return labels as numbers; where they are words, the words of the first array in their order are the classes."""
    flat = []
    for name, array in zip(("y_train", "y_test"), found, strict=False):
        if array.ndim == 2 and array.shape[1] > 1:  # noqa: PLR2004
            raise DataError(
                f"{name}: {array.shape[1]} numbers an image, not one label", hint=f"one-hot? {name}.argmax(axis=1)"
            )
        flat.append(array.reshape(-1))
    if flat[0].dtype.kind in "US":
        words = sorted(set(_texts(flat[0])))
        number = {word: place for place, word in enumerate(words)}
        if unknown := sorted(set(_texts(flat[-1])) - set(words)):
            raise DataError(f"y_test: the class '{unknown[0]}' is not in y_train")
        return [np.array([number[word] for word in _texts(one)], np.int64) for one in flat], tuple(words)
    return [whole_numbers(name, one) for name, one in zip(("y_train", "y_test"), flat, strict=False)], None


def whole_numbers(name: str, labels: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return labels as whole numbers. Raises DataError when they are none."""
    if labels.dtype.kind not in "buif":
        raise DataError(f"{name}: {labels.dtype} is no type of labels", hint="whole numbers from 0, or words")
    numbers = labels.astype(np.float64)
    odd = ~np.isfinite(numbers) | (numbers != np.rint(numbers)) | (abs(numbers) >= 2**31)
    if odd.any():
        first = int(odd.argmax())
        raise DataError(f"{name}: the label of image {first} is {numbers[first]:g}, which is no whole number")
    return numbers.astype(np.int64)


def _texts(array: npt.NDArray[np.generic]) -> tuple[str, ...]:
    if array.dtype.kind == "S":
        return tuple(item.decode("utf-8", "replace") for item in array.reshape(-1).tolist())
    return tuple(str(item) for item in array.reshape(-1).tolist())


def find_tables(folder: Path) -> tuple[Path, Path | None] | None:
    """Return the training and the test table among the CSV files of a folder, None without any. Raises DataError."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv" and path.is_file())
    train, test = ([path for path in files if word in path.name.lower()] for word in ("train", "test"))
    if len(train) == 1 and len(test) < 2:  # noqa: PLR2004
        return train[0], test[0] if test else None
    if not files or any(path.is_dir() for path in folder.iterdir()):  # pictures, with a table of something beside them
        return None
    if len(files) == 1:
        return files[0], None
    raise DataError(
        f"{folder}: which of {', '.join(path.name for path in files)} is the training table?",
        hint="name the tables: --data train.csv,test.csv",
    )


def read_tables(train: Path, test: Path | None, *, asked: bool) -> Collected:
    """Return the images of CSV tables, one a row: its label and its pixels. Raises DataError.

    A test table without labels, as a competition has it, is left out, unless it was ``asked`` for by name.
    """
    rows, labels = _read_table(train)
    if labels is None:
        raise DataError(f"{train}: there is no column of labels", hint="needed is the label, then the pixels of a row")
    tables, notes = {train.name: (rows, labels)}, []
    if test is not None:
        test_rows, test_labels = _read_table(test, pixels=rows.shape[1])
        if test_labels is not None:
            tables[test.name] = test_rows, test_labels
        elif asked:
            raise DataError(
                f"{test}: there is no column of labels", hint="leave it out: a test set is then held out of the other"
            )
        else:
            notes.append(f"{test.name} has no labels, so it is no test set")
    with located(str(train.parent)):
        pixels, made = as_pixels({name: table for name, (table, _) in tables.items()})
    whole = {name for name, (table, _) in tables.items() if (table == np.rint(table)).all()}
    notes += [note for note in made if note.split(":")[0] not in whole or "times" in note]
    parts = []
    for path, images, (_, given) in zip((train, test), pixels, tables.values(), strict=False):
        name = str(path)
        parts.append(Labelled(_squared(name, images), whole_numbers(name, given)))
    return Collected(parts[0], parts[1] if len(parts) > 1 else None, None, tuple(notes))


def _read_table(
    path: Path, pixels: int | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Return the pixels (n, pixels) and the labels of a table; none where it has no column of them."""
    header = _header(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a table without rows, which is told below
            # 32 bits hold every whole number that a pixel or a label can be.
            table = np.loadtxt(
                path, np.float32, comments=None, delimiter=",", skiprows=1 if header else 0, ndmin=2,
                encoding="utf-8-sig", quotechar='"',
            )  # fmt: skip
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint=AGAIN) from None
    except ValueError as error:
        raise DataError(f"{path}: {_where(str(error), bool(header))}", hint="a row is a label and its pixels") from None
    if not table.size:
        raise DataError(f"{path}: there are no rows", hint=AGAIN)
    lower = [name.strip().lower() for name in header]
    column = next((lower.index(name) for name in LABEL_COLUMNS if name in lower), 0)
    count = table.shape[1]
    only_pixels = count == pixels or (_shape_of(count) is not None and _shape_of(count - 1) is None)
    if only_pixels and not any(name in lower for name in LABEL_COLUMNS):
        return table, None
    return np.delete(table, column, axis=1), table[:, column]


def _header(path: Path) -> list[str]:
    """Return the names in the first row, or nothing when it is a row of numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="needed is text, with commas") from None
    if not first:
        raise DataError(f"{path}: the file is empty", hint=AGAIN)
    try:
        [float(cell) for cell in first]
    except ValueError:
        return first
    return []


def _where(said: str, headed: bool) -> str:  # noqa: FBT001
    """Return NumPy's complaint with the line of the file in it."""
    match = re.search(r"could not convert string '(.*)' to \w+ at row (\d+), column (\d+)", said)
    if match:
        return f"line {int(match[2]) + 1 + headed}, column {match[3]}: '{match[1][:40]}' is no number"
    match = re.search(r"from (\d+) to (\d+) at row (\d+)", said)
    if match:
        return f"line {int(match[3]) + headed} has {match[2]} columns, the ones before have {match[1]}"
    return said.split("\n", maxsplit=1)[0]


def _squared(name: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return rows of pixels as square images: grey, or in three colours, which stand together for each pixel."""
    shape = _shape_of(images.shape[1])
    if shape is None:
        raise DataError(
            f"{name}: {images.shape[1]} pixels a row are no square image",
            hint="needed is side x side pixels, or three times as many",
        )
    return images.reshape(-1, *shape)


def _shape_of(count: int) -> tuple[int, int, int] | None:
    """Return the square image, grey or in three colours, that so many numbers are; None when they are none."""
    for channels in CHANNELS:
        side = math.isqrt(count // channels)
        if count and side * side * channels == count:
            return side, side, channels
    return None
