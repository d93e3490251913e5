"""How a picture is brought to an exported model's input: as its training images are, which ``pictures.json`` tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from tuner.data.images import CLOSE, LOOKS_INVERTED, NEGATED, Fitted, Shape, corners_of, fit, fit_whole, looks_inverted
from tuner.errors import ExportError

PICTURES = "pictures.json"
"""Beside every model but those of Fashion-MNIST, whose pictures are trimmed."""
Way = Literal["trimmed", "whole", "whole-on-dark"]
SAID: dict[Way, str] = {
    "trimmed": "cut to its outline, which fills the input in its middle, and negated where its background is bright",
    "whole": "taken whole, its proportions kept, on the colour of its corners",
    "whole-on-dark": "taken whole, its proportions kept, on the colour of its corners, and negated where that is "
    "bright",
}
MOST = 0.8
"""Of the training images. Fashion-MNIST: 99.98 % have dark corners, 94 % are trimmed and in the middle."""
OFF = 2
"""Pixels by which two margins differ at most where a thing is in the middle."""


def way_of(images: npt.NDArray[np.uint8]) -> Way:
    """Return how pictures have to be brought to look like ``images`` (n, height, width, channels) of the training."""
    if images.shape[3] > 1 or np.mean([np.median(corners_of(image)) <= CLOSE for image in images]) < MOST:
        return "whole"
    return "trimmed" if np.mean([_is_trimmed(image[..., 0]) for image in images]) >= MOST else "whole-on-dark"


def _is_trimmed(image: npt.NDArray[np.uint8]) -> bool:
    """Tell whether what is not dark reaches two opposite edges, and is in the middle between the others."""
    margins = []
    for axis in (0, 1):
        filled = np.flatnonzero((image > CLOSE).any(axis=1 - axis))
        if not len(filled):
            return False
        margins.append((int(filled[0]), image.shape[axis] - 1 - int(filled[-1])))
    return (0, 0) in margins and all(abs(before - after) <= OFF for before, after in margins)


def bring(picture: Image.Image, shape: Shape, way: Way, *, invert: bool | None) -> Fitted:
    """Bring ``picture`` to ``shape``. ``invert`` negates and False does not; None as ``way`` says.

    A picture of the model's own size is not negated by itself, only warned of.
    """
    if way == "trimmed":
        return fit(picture, shape, invert=invert)
    pixels = fit_whole(picture, shape, invert=bool(invert))
    if way == "whole" or invert is not None or not looks_inverted(pixels):
        return Fitted(pixels)
    if picture.size == shape[1::-1]:
        return Fitted(pixels, (LOOKS_INVERTED,))
    return Fitted(255 - pixels, (NEGATED,))


def as_document(way: Way) -> dict[str, str]:
    """Return what ``pictures.json`` says."""
    return {"bring": way}


def read_way(path: Path) -> Way:
    """Return what a ``pictures.json`` says, and how it is without one. Raises ExportError."""
    if not path.exists():
        return "trimmed"
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: cannot be read: {error}", hint="mend it, or export the model again") from None
    for way in get_args(Way):
        if said == as_document(way):
            return cast("Way", way)
    raise ExportError(f"{path}: says nothing that this version knows", hint="export the model again")
