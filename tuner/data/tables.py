"""Images in arrays and tables: NumPy's ``.npz``, and CSV as Kaggle has it, a row an image."""

from __future__ import annotations

import csv
import itertools
import math
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.data.collected import AGAIN, Collected, Labelled, as_pixels, located
from tuner.data.idx import CHANNELS, with_channels
from tuner.errors import DataError
from tuner.runs import DAMAGED

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
NAMES = "class_names"
LABEL_COLUMNS = ("label", "labels", "class", "target", "y")
"""How a header calls the labels, wherever they stand; without a header they stand first."""
ID_COLUMNS = ("id", "imageid", "image_id", "unnamed: 0", "")
"""How a header calls the images' numbers, which are no pixels; pandas' index has no name."""
MOST_BYTES = 8 << 30
"""Of one array in an .npz: more is a damaged header, or does not fit into memory."""


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
        pixels, notes = as_pixels({f"x_{kind}": with_channels(arrays[f"x_{kind}"], f"x_{kind}") for kind in kinds})
        names = _texts(arrays[NAMES]) if NAMES in arrays else None
        labels, names = _labels([arrays[f"y_{kind}"] for kind in kinds], names)
        parts = [Labelled(images, y) for images, y in zip(pixels, labels, strict=True)]
    return Collected(parts[0], parts[1] if len(parts) > 1 else None, names, tuple(notes))


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


def _labels(
    found: Sequence[npt.NDArray[np.generic]], names: tuple[str, ...] | None
) -> tuple[list[npt.NDArray[np.int64]], tuple[str, ...] | None]:
    """Return labels as numbers, and the classes' names.

    Where labels are words, they are the names: in the order of ``names``, or else in their own.
    """
    flat = []
    for name, array in zip(("y_train", "y_test"), found, strict=False):
        if array.ndim == 2 and array.shape[1] > 1:  # noqa: PLR2004
            raise DataError(
                f"{name}: {array.shape[1]} numbers an image, not one label", hint=f"one-hot? {name}.argmax(axis=1)"
            )
        flat.append(array.reshape(-1))
    if flat[0].dtype.kind in "US":
        words = sorted(set(_texts(flat[0])))
        if names is not None:
            if odd := sorted(set(words) ^ set(names)):
                where = (NAMES, "y_train") if odd[0] in names else ("y_train", NAMES)
                raise DataError(
                    f"{where[0]} has '{odd[0]}', which {where[1]} has not", hint=f"leave {NAMES} out: labels are words"
                )
            words = list(names)
        number = {word: place for place, word in enumerate(words)}
        if unknown := sorted(set(_texts(flat[-1])) - set(words)):
            raise DataError(f"y_test: the class '{unknown[0]}' is not in y_train")
        return [np.array([number[word] for word in _texts(one)], np.int64) for one in flat], tuple(words)
    return [whole_numbers(name, one) for name, one in zip(("y_train", "y_test"), flat, strict=False)], names


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
    if not files:
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
    first = _read_table(train)
    if first.labels is None:
        raise DataError(f"{train}: there is no column of labels", hint="needed is the label, then the pixels of a row")
    tables, notes = {train: (first.pixels, first.labels)}, []
    if test is not None:
        other = _read_table(test, like=first)
        if other.labels is not None:
            tables[test] = other.pixels, other.labels
        elif asked:
            raise DataError(
                f"{test}: there is no column of labels", hint="leave it out: a test set is then held out of the other"
            )
        else:
            notes.append(f"{test.name} has no labels, so it is no test set")
    pixels, made = as_pixels({str(path): table for path, (table, _) in tables.items()})
    parts = []
    for (path, (table, given)), images, note in zip(tables.items(), pixels, made, strict=True):
        if "times" in note or not (table == np.rint(table)).all():
            notes.append(f"{path.name}{note.removeprefix(str(path))}")
        parts.append(Labelled(_squared(str(path), images), whole_numbers(str(path), given)))
    return Collected(parts[0], parts[1] if len(parts) > 1 else None, None, tuple(notes))


@dataclass(frozen=True)
class _Table:
    pixels: npt.NDArray[np.float32]
    """(n, pixels)"""
    labels: npt.NDArray[np.float32] | None
    """None where it has no column of them."""
    named: bool
    """Its header names that column."""


def _read_table(path: Path, like: _Table | None = None) -> _Table:
    """Return a table; a test table is ``like`` the training table."""
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
        said = _where(str(error), path, headed=bool(header))
        raise DataError(f"{path}: {said}", hint="a row is a label and its pixels") from None
    if not table.size:
        raise DataError(f"{path}: there are no rows", hint=AGAIN)
    if header and len(header) != table.shape[1]:
        raise DataError(
            f"{path}: the header has {len(header)} columns, the rows {table.shape[1]}", hint="a name for each column"
        )
    lower = [name.strip().lower() for name in header]
    numbers = [place for place, name in enumerate(lower) if name in ID_COLUMNS]
    table, lower = np.delete(table, numbers, axis=1), [name for name in lower if name not in ID_COLUMNS]
    column = next((lower.index(name) for name in LABEL_COLUMNS if name in lower), None)
    count = table.shape[1]
    if column is None and (
        (like is not None and (count == like.pixels.shape[1] or (like.named and bool(header))))
        or (_shape_of(count) is not None and _shape_of(count - 1) is None)
    ):
        return _Table(table, None, named=False)
    place = column or 0
    return _Table(np.delete(table, place, axis=1), table[:, place], named=column is not None)


def _header(path: Path) -> list[str]:
    """Return the names in the first row, or nothing when it is a row of numbers. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="needed is text, with commas") from None
    if not first:
        raise DataError(f"{path}: the file is empty", hint=AGAIN)
    if len(first) == 1 and (other := re.search(r"[;\t|]", first[0])):
        mark = "tabs" if other[0] == "\t" else f"'{other[0]}'"
        raise DataError(f"{path}: its columns are apart by {mark}", hint="needed are commas")
    try:
        numbers = [float(cell) for cell in first]
    except ValueError:
        return first
    return first if numbers == list(range(len(first))) else []  # pandas' names of columns without names


def _where(said: str, path: Path, *, headed: bool) -> str:
    """Return NumPy's complaint with the line of the file in it."""
    # Of a long cell NumPy gives the beginning, without the closing quote.
    match = re.search(r"could not convert string '(.*?)'? to \w+ at row (\d+), column (\d+)", said)
    if match:
        return f"line {_line_of(path, int(match[2]) + headed)}, column {match[3]}: '{match[1][:40]}' is no number"
    match = re.search(r"from (\d+) to (\d+) at row (\d+)", said)
    if match:
        line = _line_of(path, int(match[3]) - 1 + headed)
        return f"line {line} has {match[2]} columns, the ones before have {match[1]}"
    return said.split("\n", maxsplit=1)[0]


def _line_of(path: Path, row: int) -> int:
    """Return the line of a row, both the header's too and rows counted from 0: NumPy passes empty lines over."""
    with path.open("rb") as file:
        filled = (number for number, line in enumerate(file, 1) if line.strip(b"\r\n"))
        return next(itertools.islice(filled, row, None))


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
