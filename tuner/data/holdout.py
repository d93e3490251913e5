"""The one door to the test pixels. ``evaluation.score`` alone may import this module (an import contract)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.data.sources import PARTS, parse_idx, read_bytes


def read_test(folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the test images, uint8 (n, height, width, channels), and their labels, int64 (n,)."""
    images, labels = (parse_idx(read_bytes(folder, part), folder / part) for part in PARTS[2:])
    return images[..., None], labels.astype(np.int64)
