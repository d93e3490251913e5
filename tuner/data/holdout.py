"""The one door to the test pixels. ``evaluation.score`` alone may import this module (an import contract)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tuner.data.folder import Source
from tuner.data.idx import TEST, parse_images, parse_labels, read_bytes


def read_test(source: Source) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the test images, uint8 (n, height, width, channels), and their labels, int64 (n,).

    Raises DataError when they are no longer those that were checked.
    """
    images, labels = (read_bytes(source.folder, part, source.blob(part)) for part in TEST)
    return parse_images(images, source.folder / TEST[0]), parse_labels(labels, source.folder / TEST[1])
