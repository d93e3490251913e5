"""Pictures made of Fashion-MNIST's images, whole and broken, for the tests of ``tuner predict``."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tuner.data.images import fit

GREY = (28, 28, 1)
COLOUR = (28, 28, 3)
R = Image.Resampling


def enlarged(image: Image.Image, times: int, how: R = R.NEAREST) -> Image.Image:
    return image.resize((image.width * times, image.height * times), how)


def inverted(image: Image.Image) -> Image.Image:
    return Image.fromarray(255 - np.asarray(image))


def padded(image: Image.Image, left: int, top: int, right: int, bottom: int, level: int = 0) -> Image.Image:
    canvas = Image.new("L", (image.width + left + right, image.height + top + bottom), level)
    canvas.paste(image, (left, top))
    return canvas


def tinted(image: Image.Image, dark: tuple[int, int, int], bright: tuple[int, int, int]) -> Image.Image:
    share = np.asarray(image)[..., None] / 255
    return Image.fromarray((np.array(dark) * (1 - share) + np.array(bright) * share).round().astype(np.uint8))


def cut_out(image: Image.Image, thing: Image.Image) -> Image.Image:
    """``thing`` in colours, transparent where ``image`` is dark."""
    picture = thing.convert("RGBA")
    picture.putalpha(image.point([0] * 13 + [255] * 243))
    return picture


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def grey(picture: Image.Image, **options: Any) -> np.ndarray:
    return fit(picture, GREY, **options).pixels[..., 0]


def error(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square difference, in levels of 255."""
    return float(np.sqrt(((one.astype(float) - other.astype(float)) ** 2).mean()))


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises more than it holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def npz_of(shape: tuple[int, ...]) -> bytes:
    """An .npz whose array promises more than it holds."""
    array, archive = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.npy", array.getvalue() + bytes(100))
    return archive.getvalue()


def idx_of(*shape: int, kind: int = 8, n_bytes: int = 100) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(n_bytes)


def as_bytes(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8))
BROKEN: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "the file is empty"),
    "a text": (b"hello", "not an image that tuner can read"),
    "one byte": (b"\0", "not an image that tuner can read"),
    "a cut JPEG": (as_bytes(NOISE, "JPEG")[:3000], "damaged: image file is truncated"),
    "a cut PNG": (as_bytes(NOISE, "PNG")[:3000], "damaged: image file is truncated"),
    "a decompression bomb": (png_of(40_000, 40_000), "too many pixels"),
    "a smaller bomb": (png_of(10_000, 10_000), "too many pixels"),
    "a PNG without its pixels": (png_of(50, 50), "damaged"),
    "a TIFF": (as_bytes(NOISE, "TIFF"), "not an image that tuner can read"),
    "a phone's HEIC": (b"\0\0\0\x18ftypheic" + bytes(99), "not an image that tuner can read"),
    "an IDX file that is cut": (idx_of(4, 28, 28), "100 bytes where the header promises (4, 28, 28)"),
    "an IDX file without sizes": (b"\0\0\x08\x03\0\0", "not an IDX file"),
    "labels": (idx_of(100, kind=8), "1 dimension(s): labels"),
    "an IDX file of floats": (idx_of(5, 2, 2, kind=13, n_bytes=80), "not an IDX file of unsigned bytes"),
    "an IDX file beyond all memory": (idx_of(2**31, 2**31, 4), "GiB"),
    "an IDX file of no images": (idx_of(0, 28, 28, n_bytes=0), "is no images"),
    "a gzipped text": (gzip.compress(b"hello"), "not an IDX file"),
    "a cut gzip": (gzip.compress(idx_of(4, 5, 5))[:30], "damaged: Compressed file ended"),
    "a huge npz": (npz_of((10**8, 28, 28)), "an array of 73.0 GiB"),
    "an npz that holds less than it says": (npz_of((4, 28, 28)), "damaged"),
    "an npz that holds more than it says": (npz_of((1, 10, 9)), "damaged"),
    "an IDX file that holds more than it says": (idx_of(1, 10, 9), "100 bytes where the header promises (1, 10, 9)"),
    "a zip that is no npz": (npz_of((4, 28, 28))[:60], "damaged, or not an .npz"),
    "two channels": (idx_of(1, 5, 10, 2), "is no images"),
}
