"""A folder of class folders of pictures: which classes, how large, in colour or grey; and all of them as one array."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from tuner.data.collected import AGAIN, SIZES, Collected, Labelled, Wanted, printable, some
from tuner.data.images import fit_whole
from tuner.data.reading import FORMATS, decode
from tuner.errors import DataError
from tuner.runs import cores

SUFFIXES = re.compile(r"\.(png|jpe?g|gif|webp|bmp)$", re.IGNORECASE)
OTHER_SUFFIXES = re.compile(r"\.(tiff?|jfif|jpe|jp2|hei[cf]|avif|ppm|pgm|svg|ico|tga|psd|dng)$", re.IGNORECASE)
"""Pictures, which are not read."""
TRAINING, TEST = ("train", "training"), ("test", "testing")
VALIDATION = ("val", "valid", "validation")
LONGEST_EDGE = 64
"""Larger ones are brought to this unless a size is asked for: networks that train on CPUs see no more."""
MOST_BYTES = 4 << 30
"""Of all pictures, which every worker holds in memory."""
GREY_MODES = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Layout:
    """Which pictures a folder holds, by class."""

    folder: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    """Each with its class's number."""
    test: tuple[tuple[Path, int], ...] | None
    notes: tuple[str, ...]

    @property
    def paths(self) -> list[Path]:
        """Return all pictures."""
        return [path for path, _ in (*self.train, *(self.test or ()))]


def has_classes(folder: Path) -> bool:
    """Tell whether a folder has class folders with pictures in them, of its own or in ``train/``."""
    train = _training_folder(folder)
    filled = [path for path in _folders(train or folder) if _pictures(path)]
    return len(filled) > (0 if train else 1)  # one alone may be anything, beside tables


def _training_folder(folder: Path) -> Path | None:
    """Return the folder of the training images, when there is one with class folders in it."""
    by_name = {path.name.lower(): path for path in _folders(folder)}
    return next((by_name[name] for name in TRAINING if name in by_name and _folders(by_name[name])), None)


def find_layout(folder: Path) -> Layout | None:
    """Return the classes of a folder and their pictures; None where it has no folders. Raises DataError.

    ``train/`` and ``test/`` hold the class folders, or there are only class folders.
    """
    inside = _folders(folder)
    by_name = {path.name.lower(): path for path in inside}
    train, test, notes = _training_folder(folder), None, []
    if train is not None:
        test = next((by_name[name] for name in TEST if name in by_name), None)
        others = [path.name for path in inside if path not in (train, test)]
        if others:
            held_back = any(name.lower() in VALIDATION for name in others)
            why = ": validation images are split off the training images" if held_back else ""
            notes.append(f"beside {train.name}/, {', '.join(others)} is left out{why}")
    if not inside:
        return None
    classes, pictures, loose = _classes(train or folder)
    if loose:
        notes.append(f"{loose:,} picture(s) in no class folder are left out")
    if unread := [path for place in (train or folder, test) if place for path in _pictures(place, OTHER_SUFFIXES)]:
        kinds = ", ".join(sorted({path.suffix.lower() for path in unread}))
        notes.append(f"{len(unread):,} picture(s) of formats that are not read are left out: {kinds}")
    if tables := sorted(path.name for path in folder.glob("*.[cC][sS][vV]")):
        notes.append(f"{some([printable(Path(name)) for name in tables])} is left out: the folders are the classes")
    tested = None
    if test is not None and not _folders(test):
        notes.append(f"{test.name}/ has no class folders, so it is no test set")
    elif test is not None:
        tested = _tested(test, classes)
    return Layout(folder, tuple(classes), tuple(pictures), tested, tuple(notes))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(folder: Path) -> tuple[list[str], list[tuple[Path, int]], int]:
    """Return the classes, the pictures with their class, and how many lie beside the class folders."""
    found = {path.name: _pictures(path) for path in _folders(folder)}
    empty = [name for name, pictures in found.items() if not pictures]
    if empty:
        raise DataError(
            f"{folder / empty[0]}: no picture in this class folder",
            hint="PNG, JPEG, GIF, WebP and BMP are read; remove it if it is no class",
        )
    loose = sum(path.is_file() and SUFFIXES.search(path.name) is not None for path in folder.iterdir())
    pictures = [(path, number) for number, paths in enumerate(found.values()) for path in paths]
    return list(found), pictures, loose


def _tested(folder: Path, classes: Sequence[str]) -> tuple[tuple[Path, int], ...]:
    found = {path: _pictures(path) for path in _folders(folder)}
    for path, pictures in found.items():
        if pictures and path.name not in classes:
            raise DataError(
                f"{path}: there is no training class '{path.name}'", hint=f"there are: {', '.join(classes)}"
            )
    return tuple((one, classes.index(path.name)) for path, pictures in found.items() for one in pictures)


def _pictures(folder: Path, suffixes: re.Pattern[str] = SUFFIXES) -> list[Path]:
    found = []

    def unreadable(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(where, name) for name in names if suffixes.search(name) and not name.startswith(".")]
    return sorted(found)


def fingerprint(layout: Layout) -> list[object]:
    """Return every picture's name and digest."""

    def one(path: Path) -> list[str]:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}", hint="check its permissions") from None
        name = os.fsencode(path.relative_to(layout.folder)).hex()  # no two names of any bytes are one
        return [name, hashlib.blake2b(content, digest_size=16).hexdigest()]

    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(one, layout.paths))


def collect(layout: Layout, wanted: Wanted) -> Collected:
    """Return all pictures at one size, as grey or colour as they are. Raises DataError."""
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
        heads = list(pool.map(_head, layout.paths))
        broken = [head for head in heads if isinstance(head, DataError)]
        good = [head for head in heads if not isinstance(head, DataError)]
        _raise_first(broken)
        height, width = wanted.size or _usual_size([head.size for head in good])
        channels = wanted.channels or (1 if all(head.grey for head in good) else 3)
        if len(heads) * height * width * channels > MOST_BYTES:
            raise DataError(
                f"{len(heads):,} pictures of {height}x{width}x{channels} are more than {MOST_BYTES >> 30} GiB",
                hint=f"a smaller size: --data {printable(layout.folder)}:32",
            )
        images = np.empty((len(heads), height, width, channels), np.uint8)
        _raise_first(list(pool.map(lambda k: _fill(images, k, layout.paths[k]), range(len(heads)))))
    names = [printable(path.relative_to(layout.folder)) for path in layout.paths]
    labels = np.array([label for _, label in (*layout.train, *(layout.test or ()))], np.int64)
    split = len(layout.train)
    train = Labelled(images[:split], labels[:split], names[:split])
    test = None if layout.test is None else Labelled(images[split:], labels[split:], names[split:])
    notes = [*layout.notes, f"the pictures are brought to {height}x{width}, {'grey' if channels == 1 else 'in colour'}"]
    if wanted.channels is None and channels > 1 and _all_grey(images):
        again = f"{printable(layout.folder)}{':{}x{}'.format(*wanted.size) if wanted.size else ''}:grey"
        notes.append(f"all of them are grey, though kept in colours: --data {again} is quicker")
    return Collected(train, test, tuple(printable(Path(name)) for name in layout.classes), tuple(notes))


@dataclass(frozen=True)
class _Head:
    size: tuple[int, int]
    grey: bool


def _head(path: Path) -> _Head | DataError:
    """Return what a picture's first bytes tell: height and width as it is looked at, and whether it has colours."""
    try:
        with Image.open(path, formats=FORMATS) as opened:
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) > 4  # noqa: PLR2004  # on its side
            width, height = opened.size[::-1] if turned else opened.size
            return _Head((height, width), opened.mode in GREY_MODES or opened.mode.startswith("I"))
    except Exception:  # noqa: BLE001  # a damaged picture makes Pillow raise nearly anything; reading it says what
        try:
            decode(path)
        except DataError as error:
            return error
        return DataError(f"{path}: damaged", hint=AGAIN)


def _fill(images: npt.NDArray[np.uint8], place: int, path: Path) -> DataError | None:
    try:
        images[place] = fit_whole(decode(path).picture, images.shape[1:])
    except DataError as error:
        return error
    return None


def _raise_first(errors: Sequence[DataError | None]) -> None:
    broken = [error for error in errors if error is not None]
    if broken:
        more = f"; {len(broken) - 1:,} other picture(s) cannot be read either" if len(broken) > 1 else ""
        raise DataError(f"{broken[0].message}{more}", hint="mend or remove them" if more else broken[0].hint)


def _usual_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the median height and width, the longer edge at most LONGEST_EDGE."""
    height, width = (statistics.median_low(edge) for edge in zip(*sizes, strict=True))
    scale = min(1.0, LONGEST_EDGE / max(height, width))
    return max(SIZES[0], round(height * scale)), max(SIZES[0], round(width * scale))


def _all_grey(images: npt.NDArray[np.uint8]) -> bool:
    return all((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all() for image in images)
