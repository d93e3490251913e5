"""What a file or a folder of images holds, before it is checked, split and stored."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.errors import DataError

AGAIN = "is it whole? copy or fetch it again"
BLACK_TO_WHITE = 255
HAIR = 1e-3
"""What arithmetic may leave below 0 or above 1 of fractions of white."""
SIZES = (8, 512)
"""Pixels along an edge that pictures can be brought to."""


@dataclass(frozen=True)
class Labelled:
    """Images with their labels."""

    images: npt.NDArray[np.uint8]
    """(n, height, width, channels)"""
    labels: npt.NDArray[np.int64]
    """(n,)"""
    names: Sequence[str] | None = None
    """Of each image, where it has one; a number otherwise."""

    def name(self, index: int) -> str:
        """Return what the user calls an image."""
        return self.names[index] if self.names else f"image {index}"

    def only(self, indices: npt.NDArray[np.int64]) -> Labelled:
        """Return some of them, in the order of ``indices``, under the names that they have here."""
        return Labelled(self.images[indices], self.labels[indices], [self.name(int(index)) for index in indices])


@dataclass(frozen=True)
class Collected:
    """Images as they were found."""

    train: Labelled
    test: Labelled | None
    """None where none came: one is held out then."""
    class_names: tuple[str, ...] | None = None
    """By label, or one a class that occurs; None where they have none but their numbers."""
    notes: tuple[str, ...] = ()
    """What was done or left out on the way."""


@dataclass(frozen=True)
class Wanted:
    """How pictures are asked for; None is as they are found."""

    size: tuple[int, int] | None = None
    """Height and width."""
    channels: int | None = None


AS_FOUND = Wanted()


def some(names: Sequence[str], shown: int = 3) -> str:
    """Return the first of many names."""
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Let a DataError that is raised inside begin with ``where``."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error.message}", hint=error.hint) from None


def printable(path: Path) -> str:
    """Return a name as text, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "replace")  # a name of other bytes could not be printed


def as_pixels(arrays: dict[str, npt.NDArray[np.generic]]) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """Return arrays of pixels as uint8, and what was done with them. Raises DataError.

    Numbers from 0 to 255 are rounded. Where none is above 1, give or take a HAIR, they are taken for fractions of
    white. ``arrays`` are by the names that an error calls them.
    """
    scales = {name: _scale_of(name, array) for name, array in arrays.items()}
    if len(set(scales.values())) > 1:
        said = ", ".join(f"{name} to {BLACK_TO_WHITE // scale}" for name, scale in scales.items())
        raise DataError(f"the pixels of {said}: not on one scale", hint="scale all of them alike, 0 to 255")
    notes = []
    for name, array in arrays.items():
        if array.dtype != np.uint8:
            how = "0 to 1 times 255" if scales[name] > 1 else "rounded"
            notes.append(f"{name}: {array.dtype} pixels made whole numbers from 0 to 255 ({how})")
    return [_rounded(array, scales[name]) for name, array in arrays.items()], notes


def _scale_of(name: str, array: npt.NDArray[np.generic]) -> int:
    """Return what pixels have to be multiplied with; 1 leaves them as they are."""
    if array.dtype == np.uint8:
        return 1
    if array.dtype.kind not in "buif":
        raise DataError(f"{name}: {array.dtype} is no type of pixels", hint="uint8 from 0 to 255, or float from 0 to 1")
    if not array.size:
        return 1
    low, high = (float(bound) for bound in (array.min(), array.max()))
    if not (np.isfinite(low) and np.isfinite(high)):
        broken = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        first, count = int(broken.argmax()), int(broken.sum())
        raise DataError(
            f"{name}: {count:,} image(s) have pixels that are no finite number, the first is image {first}",
            hint="leave them out, or mend what made them",
        )
    if low < -HAIR or high > BLACK_TO_WHITE + HAIR:
        raise DataError(
            f"{name}: pixels from {low:g} to {high:g}", hint="needed is 0 to 255, or 0 to 1: undo the normalisation"
        )
    if high <= 1:
        return BLACK_TO_WHITE
    if high <= 2 and array.dtype.kind == "f" and bool((array != np.rint(array)).any()):  # noqa: PLR2004
        if high > 1 + HAIR:
            raise DataError(
                f"{name}: pixels from {low:g} to {high:g}, neither 0 to 1 nor 0 to 255",
                hint=f"clip them at 1, or divide all by {high:g}",
            )
        return BLACK_TO_WHITE
    return 1


def _rounded(array: npt.NDArray[np.generic], scale: int) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return np.asarray(array, np.uint8)
    if scale == 1 and array.dtype.kind in "ui":
        return array.astype(np.uint8)
    found = np.empty(array.shape, np.uint8)
    for index, image in enumerate(array):  # one by one: all at once would take four times the memory
        found[index] = np.rint(np.clip(image.astype(np.float32) * scale, 0, BLACK_TO_WHITE))
    return found
