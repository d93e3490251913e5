"""Test-time averaging: what a network says of an image and of its mirror image or shifted copies, averaged.

Whether that helps is decided on the validation images, with the winner's own network of the search: after the refit
there are none left.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images
from tuner.records import Values

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
    """How to average, and what it gave on the validation images; accuracies are fractions."""

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


def choose(
    predict: Predict, images: Pixels, labels: npt.NDArray[np.int64], until: float, models: int
) -> Averaging | None:
    """Return the way that is best on these validation images; None when ``until`` (monotonic) is too soon to try.

    ``models`` is how many will be scored with it, each on about as many images.
    """
    start = time.monotonic()
    plain = predict(images)
    one_pass = time.monotonic() - start
    known: dict[tuple[int, bool], npt.NDArray[np.float32]] = {(0, False): plain}
    accuracies = {"": _accuracy(plain, labels)}
    for how, copies in WAYS.items():
        passes = len(copies) - len(known) + models * len(copies)
        if one_pass * passes > until - time.monotonic():
            break
        for copy in copies:
            if copy not in known:
                known[copy] = predict(_copy(images, *copy))
        accuracies[how] = _accuracy(np.mean([known[copy] for copy in copies], axis=0), labels)
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


def choose_for(winner: Winner, until: float, models: int, batch: int) -> Averaging | None:
    """Choose with the network in the winner's newest checkpoint; None when there is none, or no time."""
    from tuner.models.cnn import build_network, whole_model
    from tuner.training.checkpoint import Damaged, newest_weights
    from tuner.training.configuration import read_configuration

    images = read_images(winner.source, winner.cut)
    plan = read_configuration(winner.values).plan(winner.source.input_shape, images.classes)
    network = build_network(plan, scale=images.scale, seed=0)
    try:
        network.set_weights(newest_weights(winner.checkpoints))
    except (Damaged, ValueError):
        return None
    model = whole_model(plan, network, scale=images.scale)
    return choose(
        lambda pixels: model.predict(pixels, batch_size=batch, verbose=0),
        images.val,
        images.val_labels,
        until,
        models,
    )


def _accuracy(probabilities: npt.NDArray[np.float32], labels: Sequence[int] | npt.NDArray[np.int64]) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())
