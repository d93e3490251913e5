"""Which images do these paths hold? Pictures, arrays of images (.npz, IDX) and folders of both, one after the other."""

from __future__ import annotations

import gzip
import math
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from tuner.data.collected import AGAIN, printable
from tuner.data.idx import parse_idx
from tuner.data.images import FINE
from tuner.errors import DataError
from tuner.runs import DAMAGED

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
KINDS = "PNG, JPEG, GIF, WebP, BMP, .npz and IDX"
IN_FOLDERS = re.compile(r"\.(png|jpe?g|gif|webp|bmp|npz)$|[-.](idx[34](-ubyte)?|idx)(\.gz)?$", re.IGNORECASE)
"""Files of these names are taken from a folder; one that is named itself is known by its content."""
IDX_TYPES = tuple(bytes([code]) for code in (8, 9, 11, 12, 13, 14))
PIXELS = 89_478_485
"""In one picture: Pillow's own limit, a quarter of a gigabyte at three bytes a pixel."""
ARRAY_BYTES = 1 << 30
"""In one array, which has to fit into memory: 1.3 million images of 28x28."""
SPARE_BYTES = 1 << 20
"""Read beyond what an IDX file promises, to tell how much is too much; a gzipped one may go on for ever."""


@dataclass(frozen=True)
class Named:
    """One image, by the name that the answer is given under."""

    name: str
    picture: Image.Image
    warnings: tuple[str, ...] = ()


def find_files(paths: Sequence[Path]) -> tuple[list[Path | DataError], list[Path]]:
    """Return what is to be read, in order, with an error where there is nothing; and what folders hold besides.

    Folders are walked through, sorted; hidden files and folders are passed over.
    """
    found: list[Path | DataError] = []
    others: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside, besides = _walk(path)
            found += inside or [DataError(f"{path}: no image in this folder", hint=f"{KINDS} files are read")]
            others += besides
        elif path.is_file():
            found.append(path)
        else:
            what = "neither a file nor a folder" if path.exists() else "no such file or folder"
            found.append(DataError(f"{path}: {what}", hint="check the name"))
    return found, others


def _walk(folder: Path) -> tuple[list[Path | DataError], list[Path]]:
    images: list[Path] = []
    others: list[Path] = []
    closed: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                (images if IN_FOLDERS.search(name) else others).append(Path(where, name))
    errors = [DataError(f"{error.filename}: {error.strerror}", hint="check its permissions") for error in closed]
    return [*sorted(images), *errors], sorted(others)


def read_file(path: Path, key: str | None = None) -> Iterator[Named]:
    """Yield the images in one file; ``key`` names an array of an ``.npz``. Raises DataError."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="check its permissions") from None
    if not start:
        raise DataError(f"{path}: the file is empty", hint=AGAIN)
    if start[:2] == b"PK":
        yield from _rows(_read_npz(path, key), path)
    elif start[:2] == b"\x1f\x8b" or (start[:2] == b"\0\0" and start[2:3] in IDX_TYPES):
        yield from _rows(_read_idx(path, zipped=start[0] > 0), path)
    else:
        yield read_picture(path)


def read_picture(path: Path) -> Named:
    """Return the picture in one file, upright. Raises DataError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
        return decode(path)


def decode(path: Path) -> Named:
    """Return the picture in one file, upright, as :func:`read_picture` does for whoever keeps warnings quiet himself.

    Threads do: what is ignored is ignored in all of them. Raises DataError.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > PIXELS:
                raise Image.DecompressionBombError  # noqa: TRY301  # as Pillow does of twice as many
            moves = opened.format != "MPO" and getattr(opened, "is_animated", False)  # MPO: a camera's extras
            opened.draft(None, (FINE, FINE))  # a JPEG of many megapixels is decoded at a half, a quarter ...
            opened.load()
            picture = ImageOps.exif_transpose(opened)
    except Image.DecompressionBombError:
        limit = f"at most {PIXELS / 1e6:.0f} million are read: make it smaller"
        raise DataError(f"{path}: too many pixels", hint=limit) from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that tuner can read", hint=f"{KINDS} files are read") from None
    except Exception as error:  # noqa: BLE001  # a damaged picture makes Pillow raise nearly anything
        said = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: damaged: {said[:200]}", hint=AGAIN) from None
    return Named(printable(path), picture, ("animated: only its first frame is looked at",) if moves else ())


def read_array(images: npt.NDArray[np.generic]) -> Iterator[Named]:
    """Yield the images of an array, uint8 and (n, height, width[, channels]). Raises DataError."""
    if not _can_be_images(images.shape, images.dtype):
        raise _no_images("the array", images.shape, images.dtype)
    yield from _rows(images.astype(np.uint8, copy=False), Path("image"))


def _no_images(what: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> DataError:
    said = f"{what}: {dtype} {'x'.join(map(str, shape))} is no array of images"
    return DataError(said, hint="needed is uint8, (n, height, width[, channels])")


def _read_npz(path: Path, key: str | None) -> npt.NDArray[np.uint8]:
    """Return the array ``key``, or the first that can be images. Only that one is unpacked, and only if it fits."""
    try:
        with zipfile.ZipFile(path) as archive:
            seen = []
            for name in filter(_is_array, archive.namelist()):
                with archive.open(name) as file:
                    shape, turned, dtype = _npy_header(file)
                    if name.removesuffix(".npy") == key or (key is None and _can_be_images(shape, dtype)):
                        return _npy_body(file, path, shape, dtype, turned=turned)
                    seen.append(f"{name.removesuffix('.npy')} {dtype} {'x'.join(map(str, shape))}")
    except (*DAMAGED, RuntimeError, IndexError, MemoryError) as error:
        raise DataError(f"{path}: damaged, or not an .npz of arrays: {error}", hint=AGAIN) from None
    wanted = f"no array '{key}'" if key else "no uint8 array of 3 or 4 dimensions"
    raise DataError(f"{path}: {wanted}", hint=f"it holds {', '.join(seen) or 'nothing'}")


def _is_array(name: str) -> bool:
    return name.endswith(".npy")


def _can_be_images(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bool:
    return dtype == np.uint8 and len(shape) in (3, 4)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _npy_body(
    file: IO[bytes], path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic], *, turned: bool
) -> npt.NDArray[np.uint8]:
    if not _can_be_images(shape, dtype):
        raise _no_images(str(path), shape, dtype)
    content = file.read(_checked(shape, path) + 1)  # one more, which must not be there
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if turned else "C")


def _read_idx(path: Path, *, zipped: bool) -> npt.NDArray[np.uint8]:
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            head = file.read(4)
            head += file.read(4 * head[3]) if len(head) == 4 else b""  # noqa: PLR2004
            shape = tuple(np.frombuffer(head[4 : 4 + len(head[4:]) // 4 * 4], ">u4").tolist())
            if head[:3] == b"\0\0\x08" and head[3] not in (3, 4):
                raise DataError(
                    f"{path}: {head[3]} dimension(s): labels, not images?", hint="images have 3, or 4 with channels"
                )
            return parse_idx(head + file.read(_checked(shape, path) + SPARE_BYTES), path)
    except DAMAGED as error:
        raise DataError(f"{path}: damaged: {error}", hint=AGAIN) from None


def _checked(shape: tuple[int, ...], path: Path) -> int:
    """Return the bytes of a uint8 array that fits into memory. Raises DataError."""
    size = math.prod(shape)
    if size > ARRAY_BYTES:
        raise DataError(
            f"{path}: an array of {size / 2**30:,.1f} GiB",
            hint=f"at most {ARRAY_BYTES / 2**30:.0f} GiB are read: split it",
        )
    return size


def _rows(images: npt.NDArray[np.uint8], path: Path) -> Iterator[Named]:
    if images.ndim == 4 and images.shape[3] == 1:  # noqa: PLR2004
        images = images[..., 0]
    if not images.size or (images.ndim == 4 and images.shape[3] not in (3, 4)):  # noqa: PLR2004
        raise DataError(
            f"{path}: an array of {'x'.join(map(str, images.shape))} is no images",
            hint="needed is (n, height, width[, channels]) with 1, 3 or 4 channels",
        )
    if math.prod(images.shape[1:3]) > PIXELS:
        raise DataError(f"{path}: too many pixels an image", hint=f"at most {PIXELS / 1e6:.0f} million are read")
    for number, image in enumerate(images):
        yield Named(f"{printable(path)}[{number}]", Image.fromarray(np.ascontiguousarray(image)))
