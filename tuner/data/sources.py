"""Where the images are: found in a fixed order, verified by content, downloaded when missing."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.errors import DataError

FASHION_MNIST = "fashion-mnist"
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FASHION_BLOBS = {
    "train-images-idx3-ubyte": "ff2f5a96367a3c1656f09c93649f07143ff8b11e",
    "train-labels-idx1-ubyte": "30424ca2ea876655f5bba14f9f07132769687975",
    "t10k-images-idx3-ubyte": "37bac79bc6f002d965f363e0b20514904504a4d9",
    "t10k-labels-idx1-ubyte": "2195a4d0957e013db98d03e51697e2315816cce2",
}
"""Git blob ids of the decompressed files, the release of 31 August 2017: gzip headers differ between mirrors, and
the release before had images that train and test shared."""
_IDX_UBYTE = 8
_DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")
DOWNLOAD_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Source:
    """A folder of four IDX files that passed the checks."""

    name: str
    """``fashion-mnist`` when the content is that release, otherwise the folder's name."""
    folder: Path
    digest: str
    """Of all four files' decompressed bytes: the data's identity in manifests and caches."""
    input_shape: tuple[int, int, int]
    """Height, width, channels."""
    class_names: tuple[str, ...]
    n_train: int
    n_test: int
    test_class_counts: tuple[int, ...]

    @property
    def verified(self) -> bool:
        """Tell whether this is the published Fashion-MNIST, byte for byte."""
        return self.name == FASHION_MNIST


@dataclass(frozen=True)
class Place:
    """One folder where Fashion-MNIST was looked for, and what was found."""

    what: str
    folder: Path | None
    found: str
    """``verified``, ``not there``, or what is wrong."""


def find(data: str | None, say: Callable[[str], None] = lambda _: None) -> Source:
    """Return the source that ``data`` names: a folder of IDX files, or Fashion-MNIST when it is None or that name.

    Fashion-MNIST is looked for in :func:`places` and downloaded when it is nowhere. Raises DataError.
    """
    if data not in (None, FASHION_MNIST):
        return open_folder(Path(data))
    named = os.environ.get("TUNER_DATA")
    if named:
        return open_folder(Path(named))
    for place in places():
        if place.found == "verified" and place.folder:
            return open_folder(place.folder)
    return open_folder(fetch(say))


def places() -> list[Place]:
    """Look for Fashion-MNIST everywhere it may lie, in the order of preference; nothing is downloaded."""
    named = os.environ.get("TUNER_DATA")
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    folders = [
        ("the folder in TUNER_DATA", Path(named) if named else None),
        ("Keras's cache", keras_home / "datasets" / FASHION_MNIST),
        ("Debian's dataset-fashion-mnist", Path("/") / _DEBIAN_FOLDER),
        ("tuner's cache", cache_folder()),
    ]
    return [Place(what, folder, _state(folder)) for what, folder in folders]


def cache_folder() -> Path:
    """Return where tuner keeps what it downloaded."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tuner" / FASHION_MNIST


def open_folder(folder: Path) -> Source:
    """Read and check the four IDX files of ``folder`` (each plain or ``.gz``). Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", hint="name a folder with the four IDX files, or leave --data out")
    contents = {part: read_bytes(folder, part) for part in PARTS}
    arrays = {part: parse_idx(content, folder / part) for part, content in contents.items()}
    shapes = {}
    for kind in ("train", "t10k"):
        images, labels = (arrays[part] for part in PARTS if part.startswith(kind))
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(images):  # noqa: PLR2004
            raise DataError(f"{folder}: {kind} has images {images.shape} and labels {labels.shape}, which do not fit")
        shapes[kind] = images.shape[1:]
    if shapes["train"] != shapes["t10k"]:
        raise DataError(f"{folder}: training images are {shapes['train']}, test images {shapes['t10k']}")
    train_labels, test_labels = arrays[PARTS[1]], arrays[PARTS[3]]
    classes = int(train_labels.max()) + 1
    counts = np.bincount(train_labels, minlength=classes)
    if classes < 2 or counts.min() < 2:  # noqa: PLR2004  # nothing to tell apart, or a class that cannot be split
        raise DataError(f"{folder}: labels must be 0..n-1 with at least two images each, counts are {counts.tolist()}")
    if int(test_labels.max()) >= classes:
        raise DataError(f"{folder}: test label {int(test_labels.max())} is not among the {classes} training classes")
    is_fashion = all(git_blob(contents[part]) == blob for part, blob in FASHION_BLOBS.items())
    return Source(
        name=FASHION_MNIST if is_fashion else folder.resolve().name,
        folder=folder.resolve(),
        digest=hashlib.sha256("".join(git_blob(contents[part]) for part in PARTS).encode()).hexdigest()[:16],
        input_shape=(*shapes["train"], 1),
        class_names=FASHION_CLASSES if is_fashion else tuple(str(label) for label in range(classes)),
        n_train=len(train_labels),
        n_test=len(test_labels),
        test_class_counts=tuple(np.bincount(test_labels, minlength=classes).tolist()),
    )


def read_bytes(folder: Path, part: str) -> bytes:
    """Return the decompressed bytes of an IDX file, plain or gzipped. Raises DataError."""
    for path in (folder / part, folder / f"{part}.gz"):
        if path.is_file():
            try:
                content = path.read_bytes()
                return gzip.decompress(content) if path.suffix == ".gz" else content
            except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
                raise DataError(f"{path}: cannot be read: {error}", hint="fetch it again") from None
    raise DataError(f"{folder}: {part}[.gz] is missing", hint=f"needed are: {', '.join(PARTS)}")


def parse_idx(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """Return the uint8 array in IDX bytes: two zeros, type 8, the number of dimensions, then big-endian sizes."""
    if len(content) < 8 or content[:2] != b"\0\0" or content[2] != _IDX_UBYTE:  # noqa: PLR2004
        raise DataError(f"{path}: not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[k : k + 4], "big") for k in range(4, start, 4))
    if len(content) - start != int(np.prod(shape)):
        raise DataError(
            f"{path}: {len(content) - start} bytes where the header promises {shape}", hint="fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def git_blob(content: bytes) -> str:
    """Return what ``git hash-object`` prints for ``content``."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def fetch(say: Callable[[str], None] = lambda _: None) -> Path:
    """Download Fashion-MNIST, by Keras or else as Debian's package (no root needed), and return its folder."""
    problems = []
    for what, download in (("Keras", _fetch_with_keras), ("Debian's package", _fetch_from_debian)):
        say(f"Fetching Fashion-MNIST (30 MB) through {what} …")
        try:
            folder = download()
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or str(error)
            problems.append(f"{what}: {output.strip().splitlines()[-1] if output.strip() else 'failed'}")
            continue
        if _state(folder) == "verified":
            return folder
        problems.append(f"{what}: {_state(folder)}")
    raise DataError(
        f"Fashion-MNIST cannot be downloaded ({'; '.join(problems)})",
        hint="put the four IDX files into a folder and name it with --data or TUNER_DATA",
    )


def _fetch_with_keras() -> Path:
    # In a process of its own: the download needs Keras, and this process does without it.
    code = "import keras; keras.datasets.fashion_mnist.load_data()"
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    _run([sys.executable, "-c", code], env=quiet)
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets" / FASHION_MNIST


def _fetch_from_debian() -> Path:
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        package = "dataset-fashion-mnist"
        try:
            _run(["apt-get", "download", package], cwd=room)
        except subprocess.SubprocessError:  # no package lists on this machine: make some of our own, without root
            (room / "lists" / "partial").mkdir(parents=True)
            lists = ["-o", f"Dir::State::Lists={room / 'lists'}", "-o", f"Dir::Cache={room}"]
            _run(["apt-get", *lists, "update"], cwd=room)
            _run(["apt-get", *lists, "download", package], cwd=room)
        _run(["dpkg-deb", "-x", str(next(room.glob("*.deb"))), str(room / "unpacked")])
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            draft = folder / f".{part}.gz.draft"
            shutil.copyfile(room / "unpacked" / _DEBIAN_FOLDER / f"{part}.gz", draft)
            draft.replace(folder / f"{part}.gz")
    return folder


def _run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(  # noqa: S603  # a fixed command
        command, cwd=cwd, env=env, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_SECONDS
    )


def _state(folder: Path | None) -> str:
    if folder is None:
        return "not set"
    try:
        present = [part for part in PARTS if (folder / part).is_file() or (folder / f"{part}.gz").is_file()]
        if not present:
            return "not there"
        for part in PARTS:
            if git_blob(read_bytes(folder, part)) != FASHION_BLOBS[part]:
                return f"{part} is not the published one"
    except (DataError, OSError) as error:
        return str(error)
    return "verified"
