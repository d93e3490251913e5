"""IDX files, the form in which every data set is read: images and labels apart, training and test apart."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tuner.errors import DataError

PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAINING, TEST = PARTS[:2], PARTS[2:]
_UBYTE, _INT = 8, 12
_AS_INT = np.dtype(">i4")
Pixel = TypeVar("Pixel", bound=np.generic)
CHANNELS = (1, 3)
"""Of an image: grey, or red, green and blue."""


def has_part(folder: Path, part: str) -> bool:
    """Tell whether ``folder`` has an IDX file, plain or gzipped."""
    return (folder / part).is_file() or (folder / f"{part}.gz").is_file()


def read_bytes(folder: Path, part: str, blob: str | None = None) -> bytes:
    """Return the decompressed bytes of an IDX file, plain or gzipped. Raises DataError.

    ``blob`` is what :func:`git_blob` said of them when they were checked.
    """
    for path in (folder / part, folder / f"{part}.gz"):
        if path.is_file():
            try:
                content = path.read_bytes()
                content = gzip.decompress(content) if path.suffix == ".gz" else content
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{path}: cannot be read: {error}", hint="fetch it again") from None
            if blob is not None and git_blob(content) != blob:
                raise DataError(
                    f"{path}: has changed since the search began", hint="bring the images back as they were"
                )
            return content
    raise DataError(f"{folder}: {part}[.gz] is missing", hint=f"needed are: {', '.join(PARTS)}")


def parse_idx(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """Return the uint8 array in IDX bytes: two zeros, type 8, the number of dimensions, then big-endian sizes."""
    if len(content) < 8 or content[:2] != b"\0\0" or content[2] != _UBYTE:  # noqa: PLR2004
        raise DataError(f"{path}: not an IDX file of unsigned bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(_shape(content, path, 1))


def parse_images(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """Return the images in IDX bytes as (n, height, width, channels). Raises DataError."""
    return with_channels(parse_idx(content, path), str(path))


def with_channels(array: npt.NDArray[Pixel], what: str) -> npt.NDArray[Pixel]:
    """Return images as (n, height, width, channels); ``what`` an error calls them. Raises DataError."""
    if array.ndim == 3:  # noqa: PLR2004  # grey
        return array[..., None]
    if array.ndim == 4 and array.shape[3] in CHANNELS:  # noqa: PLR2004
        return array
    hint = "needed is (n, height, width), or (n, height, width, channels) with 1 or 3 channels"
    if array.ndim == 4 and array.shape[1] in CHANNELS:  # noqa: PLR2004
        hint = "channels come last: .transpose(0, 2, 3, 1)"
    raise DataError(f"{what}: an array of {'x'.join(map(str, array.shape))} is no images", hint=hint)


def parse_labels(content: bytes, path: Path) -> npt.NDArray[np.int64]:
    """Return the labels in IDX bytes, unsigned bytes or 32-bit whole numbers. Raises DataError."""
    if len(content) >= 8 and content[:3] == bytes([0, 0, _INT]):  # noqa: PLR2004
        shape = _shape(content, path, _AS_INT.itemsize)
        array = np.frombuffer(content, _AS_INT, offset=4 + 4 * content[3]).reshape(shape).astype(np.int64)
    else:
        array = parse_idx(content, path).astype(np.int64)
    if array.ndim != 1:
        raise DataError(f"{path}: an array of {'x'.join(map(str, array.shape))} is no labels", hint="one an image")
    return array


def _shape(content: bytes, path: Path, item_bytes: int) -> tuple[int, ...]:
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[k : k + 4], "big") for k in range(4, start, 4))
    if len(content) - start != int(np.prod(shape, dtype=object)) * item_bytes:
        raise DataError(
            f"{path}: {len(content) - start} bytes where the header promises {shape}", hint="fetch it again"
        )
    return shape


def images_as_idx(images: npt.NDArray[np.uint8]) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Return the header and the body of images (n, height, width, channels) as IDX; grey ones as MNIST has them."""
    body = images[..., 0] if images.shape[3] == 1 else images
    return _header(_UBYTE, body.shape), np.ascontiguousarray(body)


def labels_as_idx(labels: npt.NDArray[np.int64]) -> bytes:
    """Return labels as IDX: unsigned bytes as MNIST has them, or 32-bit numbers where there are more classes."""
    if labels.max(initial=0) <= np.iinfo(np.uint8).max:
        return _header(_UBYTE, labels.shape) + labels.astype(np.uint8).tobytes()
    return _header(_INT, labels.shape) + labels.astype(_AS_INT).tobytes()


def _header(kind: int, shape: Sequence[int]) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def git_blob(content: bytes) -> str:
    """Return what ``git hash-object`` prints for ``content``."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
