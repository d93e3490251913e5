"""Where the images are: what ``--data`` names, found, checked, and brought to the one form that trainings read."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tuner.data import tables
from tuner.data.collected import AS_FOUND, SIZES, Collected, Labelled, Wanted, printable
from tuner.data.fetching import KERAS_SETS, VERIFIED, debian_folder, fetch, keras_folder, save_keras_set, state_of
from tuner.data.folder import FASHION_CLASSES, FASHION_MNIST, LABELS_FILE, Source, open_folder, read_names
from tuner.data.idx import PARTS, TEST, TRAINING, has_part, parse_images, parse_labels, read_bytes
from tuner.data.store import Origin, cache_folder, in_one_form, store_folder
from tuner.errors import DataError

__all__ = ["FASHION_CLASSES", "FASHION_MNIST", "Place", "Source", "find", "named", "open_folder", "places"]

KINDS = "four IDX files, an .npz, CSV tables, class folders of pictures, or keras:NAME"
_SUFFIX = re.compile(r"^(.+):(\d+(?:x\d+)?|gr[ea]y|colou?r|rgb)$", re.IGNORECASE)
_KERAS = "keras:"
LONGEST_SHOWN = 200
"""Characters of a path in an error."""
_DOWNLOADED_ONCE = "'tuner data check' loads it"


@dataclass(frozen=True)
class Place:
    """One folder where Fashion-MNIST was looked for, and what was found."""

    what: str
    folder: Path | None
    found: str
    """``verified``, ``not there``, or what is wrong."""


@dataclass(frozen=True)
class Asked:
    """What ``--data`` says: a place, and how pictures are wanted."""

    paths: tuple[Path, ...]
    wanted: Wanted = AS_FOUND
    suffix: str = ""
    """How ``wanted`` was said."""
    keras: str | None = None


def find(data: str | None, say: Callable[[str], None] = lambda _: None, *, download: bool = True) -> Source:
    """Return the images that ``data`` names; those of TUNER_DATA when it is None, or else Fashion-MNIST.

    ``data`` is ``fashion-mnist``, a folder, a file, two tables with a comma between them, or ``keras:NAME``; behind a
    folder of pictures ``:32``, ``:24x32`` (height and width) or ``:grey`` say how they are wanted. Fashion-MNIST is
    looked for in :func:`places` and downloaded when it is nowhere. ``say`` hears what takes time. Raises DataError.
    """
    data = data or os.environ.get("TUNER_DATA") or FASHION_MNIST
    if data == FASHION_MNIST:
        return _fashion(say, download=download)
    asked = read(data)
    if asked.keras is not None:
        return _from_keras(asked.keras, say, download=download)
    first = asked.paths[0]
    for path in asked.paths:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{path}: no such file or folder", hint=f"--data takes {KINDS}") from None
        except OSError as error:
            raise DataError(f"{_shortened(path)}: cannot be read: {error.strerror}", hint="check its name") from None
    if not first.is_dir():
        _refuse_wanted(asked)
    if len(asked.paths) > 1:
        return in_one_form(_tables(printable(Path(first.stem)), *asked.paths, asked=True), say)
    return _in_folder(asked, say) if first.is_dir() else in_one_form(_file(first), say)


def read(data: str) -> Asked:
    """Return what ``data`` asks for. Raises DataError."""
    if data.startswith(_KERAS):
        name = data.removeprefix(_KERAS).replace("-", "_")
        if name not in KERAS_SETS:
            raise DataError(f"{data}: there is no such data set", hint=f"there are: {', '.join(KERAS_SETS)}")
        return Asked((), keras=name)
    size, channels, rest = None, None, data
    while not os.path.exists(rest) and (match := _SUFFIX.match(rest)):  # noqa: PTH110  # Path's raises of long names
        rest, word = match[1], match[2].lower()
        if (size if word[0].isdigit() else channels) is not None:
            raise DataError(f"{data}: two sizes, or grey and in colour", hint="photos:32:grey says each once")
        if word[0].isdigit():
            size = tuple(int(edge) for edge in (word.split("x") * 2)[:2])
        else:
            channels = 1 if word.startswith("g") else 3
    if size and not all(SIZES[0] <= edge <= SIZES[1] for edge in size):
        raise DataError(f"{data}: pictures of {size[0]}x{size[1]}", hint="from 8 to 512 pixels an edge")
    wanted = Wanted((size[0], size[1]) if size else None, channels)
    return Asked(tuple(Path(name) for name in _places_of(rest)), wanted, data[len(rest) :])


def _places_of(text: str) -> list[str]:
    """Return the one place, or the two tables with a comma between them; a name may have commas of its own."""
    if "," not in text or os.path.exists(text):  # noqa: PTH110
        return [text]
    pairs = [[text[: comma.start()], text[comma.end() :]] for comma in re.finditer(",", text)]
    there = [pair for pair in pairs if all(map(os.path.exists, pair))]
    if not there and (len(pairs) > 1 or not all(pairs[0])):
        raise DataError(f"{text}: not one place, or two tables", hint="--data train.csv,test.csv")
    return (there or pairs)[0]


def _shortened(path: Path) -> str:
    return str(path) if len(str(path)) < LONGEST_SHOWN else f"{str(path)[:LONGEST_SHOWN]}…"


def named(data: str | None) -> str | None:
    """Return ``data`` as it means the same from any folder and whatever TUNER_DATA is then: what a study keeps.

    Fashion-MNIST is its name, wherever it lies.
    """
    if data is None:
        data = os.environ.get("TUNER_DATA") or FASHION_MNIST
        if _idx_in(data) and state_of(Path(data)) == VERIFIED:
            return FASHION_MNIST
    if data == FASHION_MNIST:
        return FASHION_MNIST
    asked = read(data)
    if asked.keras is not None:
        return f"{_KERAS}{asked.keras}"
    return ",".join(str(path.absolute()) for path in asked.paths) + asked.suffix


def short_name(data: str | None) -> str:
    """Return what a report calls the images of a study, where they are not there to tell."""
    if data is None:
        return FASHION_MNIST
    return data if data.startswith(_KERAS) else printable(Path(Path(data.partition(",/")[0]).name))


def places() -> list[Place]:
    """Look for Fashion-MNIST everywhere it may lie, in the order of preference; nothing is downloaded."""
    folders = [
        ("Keras's cache", keras_folder() / FASHION_MNIST),
        ("Debian's dataset-fashion-mnist", debian_folder()),
        ("tuner's cache", cache_folder() / FASHION_MNIST),
    ]
    return [_in_variable(), *(Place(what, folder, state_of(folder)) for what, folder in folders)]


def _in_variable() -> Place:
    """Return what TUNER_DATA names: a folder that may hold Fashion-MNIST, or images of one's own."""
    what, data = "the folder in TUNER_DATA", os.environ.get("TUNER_DATA")
    if not data or _idx_in(data):
        folder = Path(data) if data else None
        return Place(what, folder, state_of(folder))
    try:
        asked = read(data)
    except DataError as error:
        return Place(what, None, str(error))
    there = asked.keras is not None or all(map(os.path.exists, asked.paths))
    return Place(what, Path(data), "own images: 'tuner data check' looks at them" if there else "not there")


def _idx_in(data: str) -> bool:
    """Tell whether ``data`` is a folder that has IDX files."""
    try:
        return any(has_part(Path(data), part) for part in PARTS)
    except OSError:
        return False


def _fashion(say: Callable[[str], None], *, download: bool) -> Source:
    for place in places():
        if place.found == VERIFIED and place.folder:
            return open_folder(place.folder)
    if not download:
        raise DataError("Fashion-MNIST is not on this machine", hint="'tuner data fetch' downloads it")
    return open_folder(fetch(say))


def _from_keras(name: str, say: Callable[[str], None], *, download: bool) -> Source:
    if name == "fashion_mnist":
        return _fashion(say, download=download)

    def collect() -> Collected:
        if not download:
            raise DataError(f"keras:{name} is not on this machine", hint=_DOWNLOADED_ONCE)
        say(f"Loading {name} through Keras …")
        store_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store_folder(), suffix=".draft") as room:
            path = Path(room) / f"{name}.npz"
            save_keras_set(name, path)
            return replace(tables.read_npz(path), class_names=KERAS_SETS[name])

    # What it holds was published once and for all: its name is enough to know it.
    return in_one_form(Origin(name, "keras", f"keras:{name}", lambda: [name], collect), say)


def _in_folder(asked: Asked, say: Callable[[str], None]) -> Source:
    folder, found = asked.paths[0], None
    try:
        has_idx = any(has_part(folder, part) for part in PARTS)
        if not has_idx and not _has_classes(folder):
            found = tables.find_tables(folder)
        if has_idx or found:
            _refuse_wanted(asked)
        if has_idx:
            origin = None
        elif found:
            origin = _tables(_called(folder), *found, asked=False)
        else:
            origin = _pictures(folder, asked.wanted)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}", hint="check its permissions") from None
    return in_one_form(origin, say) if origin else _idx(folder, say)


def _has_classes(folder: Path) -> bool:
    if not any(path.is_dir() for path in folder.iterdir()):
        return False
    from tuner.data import pictures  # a search of arrays loads no Pillow

    return pictures.has_classes(folder)


def _pictures(folder: Path, wanted: Wanted) -> Origin:
    from tuner.data import pictures  # a search of arrays loads no Pillow

    layout = pictures.find_layout(folder)
    if layout is None:
        raise DataError(f"{folder}: no images in this folder", hint=f"--data takes {KINDS}")
    return Origin(
        _called(folder),
        "pictures",
        printable(folder),
        lambda: [wanted.size, wanted.channels, pictures.fingerprint(layout)],
        lambda: pictures.collect(layout, wanted),
    )


def _called(folder: Path) -> str:
    return printable(Path(folder.resolve().name))


def _refuse_wanted(asked: Asked) -> None:
    if asked.wanted != AS_FOUND:
        raise DataError(
            f"{asked.paths[0]}: only a folder of pictures can be asked for at a size or in grey",
            hint=f"leave '{asked.suffix}' out",
        )


def _idx(folder: Path, say: Callable[[str], None]) -> Source:
    """Open IDX files where they lie; of those without a test set, or with gaps in their labels, a copy is made."""
    labels = parse_labels(read_bytes(folder, TRAINING[1]), folder / TRAINING[1])
    tested = any(has_part(folder, part) for part in TEST)
    if tested and (not len(labels) or len(np.unique(labels)) == labels.max() + 1):
        return open_folder(folder)

    def collect() -> Collected:
        images = parse_images(read_bytes(folder, TRAINING[0]), folder / TRAINING[0])
        test = None
        if tested:
            pixels, numbers = (read_bytes(folder, part) for part in TEST)
            test = Labelled(parse_images(pixels, folder / TEST[0]), parse_labels(numbers, folder / TEST[1]))
        return Collected(Labelled(images, labels), test, read_names(folder))

    def fingerprint() -> list[object]:
        parts = PARTS if tested else TRAINING
        return [[part, hashlib.sha256(read_bytes(folder, part)).hexdigest()] for part in parts] + _names_beside(folder)

    return in_one_form(Origin(_called(folder), "idx", str(folder), fingerprint, collect), say)


def _tables(name: str, train: Path, test: Path | None, *, asked: bool) -> Origin:
    def collect() -> Collected:
        return replace(tables.read_tables(train, test, asked=asked), class_names=read_names(train.parent))

    files = [train, *([test] if test else [])]
    where = str(train) if asked or test is None else str(train.parent)
    return Origin(
        name, "csv", where, lambda: [asked, [_digest_of(path) for path in files], _names_beside(train.parent)], collect
    )


def _file(path: Path) -> Origin:
    stem = printable(Path(path.stem))
    match path.suffix.lower():
        case ".npz":
            return Origin(stem, "npz", str(path), lambda: [_digest_of(path)], partial(tables.read_npz, path))
        case ".csv":
            return _tables(stem, path, None, asked=True)
        case _:
            raise DataError(f"{path}: neither an .npz nor a .csv", hint=f"--data takes {KINDS}")


def _digest_of(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return [path.name, hashlib.file_digest(file, "blake2b").hexdigest()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="check its name and permissions") from None


def _names_beside(folder: Path) -> list[object]:
    return [read_names(folder)] if (folder / LABELS_FILE).exists() else []
