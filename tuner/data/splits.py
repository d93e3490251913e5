"""Training and validation: one constant stratified split, so that every study of a data set can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tuner.data.folder import Source
from tuner.data.idx import TRAINING, parse_images, parse_labels, read_bytes
from tuner.errors import DataError

SPLIT_SEED = 20170831
"""Of no study: the split is a property of the data set. (The day of the corrected Fashion-MNIST release.)"""
VALIDATION_SHARE = 1 / 6


@dataclass(frozen=True)
class Images:
    """What a training reads: uint8 (n, height, width, channels) and int64 (n,); ``val*`` is empty when all train."""

    train: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    val: npt.NDArray[np.uint8]
    val_labels: npt.NDArray[np.int64]
    classes: int
    scale: tuple[float, float]
    """Mean and standard deviation of all training pixels as fractions of 255."""


@dataclass(frozen=True)
class Cut:
    """Which of the training file's images train and which validate; the constant split unless it says otherwise."""

    train_images: int | None = None
    """Keep a stratified part of the training images; validation stays whole."""
    everything: bool = False
    """All train and none validate: the refit."""
    share: float | None = None
    """Of the file, validates: what a published system held back, drawn by class."""
    fold: tuple[int, int] | None = None
    """(k, n): the k-th of n equal parts of the file validates, counted from 0, each class in its proportion."""
    last: bool = False
    """With ``share``: the file's last images, as Keras's ``validation_split`` takes them."""


SPLIT = Cut()


def read_images(source: Source, cut: Cut = SPLIT) -> Images:
    """Return what trains and what validates, e.g. 50,000 and 10,000 images of Fashion-MNIST.

    Raises DataError when there are fewer than ``cut.train_images``, or they are no longer those that were checked.
    """
    images, classes = (read_bytes(source.folder, part, source.blob(part)) for part in TRAINING)
    pixels, labels = (
        parse_images(images, source.folder / TRAINING[0]),
        parse_labels(classes, source.folder / TRAINING[1]),
    )
    if cut.everything:
        train, val = np.arange(len(labels)), np.arange(0)
    elif cut.fold is not None:
        train, val = fold_indices(labels, *cut.fold)
    elif cut.share is not None and cut.last:
        train, val = np.split(np.arange(len(labels)), [len(labels) - round(len(labels) * cut.share)])
    else:
        train, val = split_indices(labels, cut.share or VALIDATION_SHARE)
    if cut.train_images is not None:
        train = part_of(train, labels, cut.train_images)
    return Images(pixels[train], labels[train], pixels[val], labels[val], len(source.class_names), _scale(pixels))


def check_cut(source: Source, folds: int, train_images: int | None) -> None:
    """Raise DataError when a fold would lack a class to validate, or a part of the images a class to train."""
    counts, names = source.train_class_counts, source.class_names
    least = min(counts, default=0)
    if folds > 1 and least < folds:
        raise DataError(
            f"search.folds = {folds}, but class '{names[counts.index(least)]}' has {least} training image(s)",
            hint=f"at most {least}, so that each fold validates every class",
        )
    if train_images is not None and train_images < len(names):
        raise DataError(
            f"search.train_images = {train_images}, but there are {len(names)} classes",
            hint="one image of each at least",
        )


def validation_counts(source: Source) -> list[int]:
    """Return how many images of each class of the training file validate on the constant split."""
    return [max(1, round(count * VALIDATION_SHARE)) for count in source.train_class_counts]


def validation_images(source: Source) -> int:
    """Return how many images of the training file validate on the constant split."""
    return sum(validation_counts(source))


def split_indices(
    labels: npt.NDArray[np.int64], share: float = VALIDATION_SHARE
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the sorted indices of training and validation: ``share`` of each class, at least one, validates."""
    val = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(len(members) * share))
        val.append(np.random.default_rng([SPLIT_SEED, int(label)]).permutation(members)[:count])
    chosen = np.sort(np.concatenate(val))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def fold_indices(
    labels: npt.NDArray[np.int64], fold: int, folds: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the sorted indices of training and validation when the ``fold``-th of ``folds`` parts validates."""
    val = []
    for label in np.unique(labels):
        members = np.random.default_rng([SPLIT_SEED, 1, int(label)]).permutation(np.flatnonzero(labels == label))
        val.append(np.array_split(members, folds)[(fold + int(label)) % folds])  # what is over goes around
    chosen = np.sort(np.concatenate(val))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def part_of(train: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return ``count`` of the indices ``train``, each class in its proportion, and at least one image of each."""
    if count > len(train):
        raise DataError(f"search.train_images = {count}, but the split has {len(train)}", hint="lower it, or drop it")
    order = np.random.default_rng([SPLIT_SEED, 1 << 20]).permutation(train)
    # Rank of each image within its class, as a fraction: the lowest fractions of all classes make an even part.
    fraction, firsts = np.empty(len(order)), []
    for label in np.unique(labels[order]):
        members = np.flatnonzero(labels[order] == label)
        fraction[members] = (np.arange(len(members)) + 0.5) / len(members)
        firsts.append(members[0])
    chosen = np.argsort(fraction, kind="stable")[:count]
    if not np.isin(firsts, chosen).all():  # of unbalanced classes the small ones would be missing
        fraction[firsts] = 0
        chosen = np.argsort(fraction, kind="stable")[:count]
    return np.sort(order[chosen])


def _scale(images: npt.NDArray[np.uint8]) -> tuple[float, float]:
    counts = np.bincount(images.ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    return mean, max(variance**0.5, 1e-6)
