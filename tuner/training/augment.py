"""Augmentation as a function: (images, random numbers) to images.

The random numbers of an epoch are drawn on the host from (seed, epoch), so that the same epoch sees the same images
whatever was killed before it, on every backend and with any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tuner.training.configuration import Recipe

DRAWS = 7
"""Uniform numbers an image: flip, shift down, shift right, rotation, zoom, hole's row, hole's column."""

STRENGTHS = ("shift", "rotation", "zoom", "erase")
"""The recipe's augmentations that have a strength; 0 is off."""


def draw(seed: int, epoch: int, count: int) -> npt.NDArray[np.float32]:
    """Return float32 (count, DRAWS), uniform in [0, 1), a function of (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch, 1]).random((count, DRAWS), dtype=np.float32)


def augment(images: Any, draws: Any, recipe: Recipe, strengths: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401  # backend tensors
    """Return ``images`` (n, height, width, channels) moved and holed by ``draws`` (n, DRAWS), on any backend.

    Geometry is one bilinear affine transform with black outside; whole-pixel shifts and flips are exact under it.
    ``recipe`` says what is on, and how strong it is unless ``strengths`` (STRENGTHS, scalar float32 tensors) does.
    """
    strengths = strengths or {name: float(getattr(recipe, name)) for name in STRENGTHS}
    height, width = images.shape[1], images.shape[2]
    if recipe.shift or recipe.rotation or recipe.zoom:
        transform = _inverse_affine(draws, recipe.flip, strengths, height, width)
        images = ops.image.affine_transform(images, transform, interpolation="bilinear", fill_mode="constant")
    elif recipe.flip:
        images = ops.where(draws[:, 0, None, None, None] < 0.5, ops.flip(images, axis=2), images)  # noqa: PLR2004
    if recipe.erase:
        images = images * _hole_mask(draws, strengths["erase"], height, width)
    return images


def _inverse_affine(draws: Any, flip: bool, strengths: Mapping[str, Any], height: int, width: int) -> Any:  # noqa: ANN401, FBT001
    """Return (n, 8): for each output pixel (x, y), the input pixel (a x + b y + c, d x + e y + f)."""
    mirror = ops.where(draws[:, 0] < 0.5, -1.0, 1.0) if flip else ops.ones_like(draws[:, 0])  # noqa: PLR2004
    shift, zoom = strengths["shift"], strengths["zoom"]
    sideways = ops.floor(draws[:, 2] * (2 * shift + 1)) - shift
    downwards = ops.floor(draws[:, 1] * (2 * shift + 1)) - shift
    angle = (2 * draws[:, 3] - 1) * (strengths["rotation"] * math.pi / 180)
    size = 1 / (1 + (2 * draws[:, 4] - 1) * zoom)
    a, b = ops.cos(angle) * size * mirror, -ops.sin(angle) * size * mirror
    d, e = ops.sin(angle) * size, ops.cos(angle) * size
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    c = middle_x - a * (middle_x + sideways) - b * (middle_y + downwards)
    f = middle_y - d * (middle_x + sideways) - e * (middle_y + downwards)
    zero = ops.zeros_like(a)
    return ops.stack([a, b, c, d, e, f, zero, zero], axis=1)


def _hole_mask(draws: Any, side: Any, height: int, width: int) -> Any:  # noqa: ANN401
    """Return (n, height, width, 1): 0 in a square of ``side`` whose centre is anywhere in the image, 1 elsewhere."""
    top = ops.floor(draws[:, 5] * height)[:, None] - ops.floor(side / 2)
    left = ops.floor(draws[:, 6] * width)[:, None] - ops.floor(side / 2)
    rows = ops.arange(height, dtype="float32")[None, :]
    columns = ops.arange(width, dtype="float32")[None, :]
    in_rows = ops.logical_and(rows >= top, rows < top + side)
    in_columns = ops.logical_and(columns >= left, columns < left + side)
    hole = ops.logical_and(in_rows[:, :, None], in_columns[:, None, :])
    return ops.cast(ops.logical_not(hole), keras.backend.floatx())[..., None]
