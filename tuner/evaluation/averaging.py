"""Test-time averaging: what a network says of an image and of its mirror image or shifted copies, averaged.

Whether that helps is decided on the validation images, with the winner's own network of the search: after the refit
there are none left.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images
from tuner.records import VAL_ACCURACY, Values
from tuner.space.hypermodel_file import HypermodelFile
from tuner.training.metrics import by_metric

Pixels: TypeAlias = npt.NDArray[np.uint8]
Predict: TypeAlias = Callable[[Pixels], npt.NDArray[np.float32]]
"""uint8 (n, height, width, channels) to float32 (n, classes), probabilities."""

WAYS: dict[str, tuple[tuple[int, bool], ...]] = {
    "mirror": ((0, False), (0, True)),
    "mirror and shifts": tuple(itertools.product((0, -1, 1), (False, True))),
}
"""Copies of an image: shifted by so many pixels down and right, and mirrored or not. The shifts are those of airbench
(Jordan 2024); the first copy is the image itself."""


@dataclass(frozen=True)
class Averaging:
    """How to average, and what it gave on the validation images; fractions, by the search's metric."""

    how: str
    """One of WAYS, or "" when plain is as good."""
    val_accuracy: float
    val_accuracy_plain: float


def _copy(images: Pixels, shift: int, mirrored: bool) -> Pixels:  # noqa: FBT001
    """Return the images moved ``shift`` pixels down and right (black comes in), then mirrored."""
    if shift:
        moved = np.zeros_like(images)
        to, source = (
            (slice(shift, None), slice(None, -shift)) if shift > 0 else (slice(None, shift), slice(-shift, None))
        )
        moved[:, to, to] = images[:, source, source]
        images = moved
    return np.ascontiguousarray(images[:, :, ::-1]) if mirrored else images


def averaged(predict: Predict, images: Pixels, how: str, plain: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean of the probabilities of all copies; ``plain`` are those of the images as they are."""
    _, *altered = WAYS[how]
    mean: npt.NDArray[np.float32] = np.mean([plain, *(predict(_copy(images, *copy)) for copy in altered)], axis=0)
    return mean


def choose(  # noqa: PLR0913
    predict: Predict,
    images: Pixels,
    labels: npt.NDArray[np.int64],
    until: float,
    models: int,
    metric: str = VAL_ACCURACY,
) -> Averaging | None:
    """Return the way that is best on these validation images; None when ``until`` (monotonic) is too soon to try.

    ``models`` is how many will be scored with it, each on about as many images.
    """
    start = time.monotonic()
    plain = predict(images)
    one_pass = time.monotonic() - start
    known: dict[tuple[int, bool], npt.NDArray[np.float32]] = {(0, False): plain}
    accuracies = {"": by_metric(metric, plain.argmax(axis=1), labels)}
    for how, copies in WAYS.items():
        passes = len(copies) - len(known) + models * len(copies)
        if one_pass * passes > until - time.monotonic():
            break
        for copy in copies:
            if copy not in known:
                known[copy] = predict(_copy(images, *copy))
        mean = np.mean([known[copy] for copy in copies], axis=0)
        accuracies[how] = by_metric(metric, mean.argmax(axis=1), labels)
    if len(accuracies) == 1:
        return None
    best = max(accuracies, key=lambda how: accuracies[how])  # the first of equals: the cheapest
    return Averaging(best, accuracies[best], accuracies[""])


@dataclass(frozen=True)
class Winner:
    """The winner of a search as it was then: its values, its images and its checkpoints."""

    values: Values
    source: Source
    cut: Cut
    """The images that the checkpoint was trained on: those that validated it may choose."""
    checkpoints: Path
    metric: str = VAL_ACCURACY
    hypermodel: HypermodelFile | None = None


def choose_for(winner: Winner, until: float, models: int, batch: int) -> Averaging | None:
    """Choose with the network in the winner's newest checkpoint; None when there is none, or no time."""
    from tuner.training.checkpoint import Damaged
    from tuner.training.rebuilt import rebuilt

    images = read_images(winner.source, winner.cut)
    try:
        model = rebuilt(winner.values, winner.hypermodel, winner.source, images, winner.checkpoints)
    except (Damaged, ValueError):
        return None
    return choose(
        lambda pixels: model.predict(pixels, batch_size=batch, verbose=0),
        images.val,
        images.val_labels,
        until,
        models,
        winner.metric,
    )
