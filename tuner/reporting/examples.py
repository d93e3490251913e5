"""Test images that the scoring kept to be looked at, with what the exported model said of them."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.runs import DAMAGED


@dataclass(frozen=True)
class Example:
    """One test image and what the model said."""

    index: int
    label: int
    predicted: int
    confidence: float
    """Of the predicted class, a fraction."""
    pixels: npt.NDArray[np.uint8]
    """(height, width, channels)"""

    @property
    def right(self) -> bool:
        """Tell whether the prediction is the label."""
        return self.label == self.predicted

    @property
    def data_url(self) -> str:
        """Return the image as a PNG inside an address, so that a page needs no other file."""
        return "data:image/png;base64," + base64.b64encode(png(self.pixels)).decode()


def read_examples(folder: Path) -> dict[str, list[Example]]:
    """Return the examples of a run folder by group: ``mistakes``, ``samples``, ``pairs/0`` …; none in an older run."""
    groups: dict[str, list[Example]] = {}
    try:
        with np.load(folder / "examples.npz", allow_pickle=False) as saved:
            columns = [saved[name] for name in ("group", "index", "label", "predicted", "confidence", "images")]
    except DAMAGED:
        return {}
    for group, index, label, predicted, confidence, pixels in zip(*columns, strict=True):
        example = Example(int(index), int(label), int(predicted), float(confidence), pixels)
        groups.setdefault(str(group), []).append(example)
    return groups


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return grey or coloured pixels, (height, width, 1 or 3), as a PNG file (ISO 15948)."""
    height, width, channels = pixels.shape
    kind = {1: 0, 3: 2}[channels]
    lines = np.ascontiguousarray(pixels, np.uint8).reshape(height, width * channels)
    body = b"".join(b"\0" + line.tobytes() for line in lines)  # each line unfiltered
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
