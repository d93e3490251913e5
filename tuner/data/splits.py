"""Training and validation: one constant stratified split, so that every study of a data set can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tuner.data.sources import PARTS, Source, parse_idx, read_bytes
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


def read_split(source: Source, train_images: int | None = None) -> Images:
    """Return the training and validation images, e.g. 50,000 and 10,000 of Fashion-MNIST.

    ``train_images`` keeps a stratified part of the training images; validation stays whole.
    """
    images, labels = _read_training(source)
    train, val = split_indices(labels)
    if train_images is not None:
        train = part_of(train, labels, train_images)
    return Images(images[train], labels[train], images[val], labels[val], len(source.class_names), _scale(images))


def read_all(source: Source) -> Images:
    """Return all training images, validation included, for the refit."""
    images, labels = _read_training(source)
    return Images(images, labels, images[:0], labels[:0], len(source.class_names), _scale(images))


def split_indices(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the sorted indices of training and validation: a sixth of each class, at least one, validates."""
    val = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(len(members) * VALIDATION_SHARE))
        val.append(np.random.default_rng([SPLIT_SEED, int(label)]).permutation(members)[:count])
    chosen = np.sort(np.concatenate(val))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def part_of(train: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return ``count`` of the indices ``train``, each class in its proportion."""
    if count > len(train):
        raise DataError(f"search.train_images = {count}, but the split has {len(train)}", hint="lower it, or drop it")
    order = np.random.default_rng([SPLIT_SEED, 1 << 20]).permutation(train)
    # Rank of each image within its class, as a fraction: the lowest fractions of all classes make an even part.
    fraction = np.empty(len(order))
    for label in np.unique(labels[order]):
        members = np.flatnonzero(labels[order] == label)
        fraction[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(order[np.argsort(fraction, kind="stable")[:count]])


def _read_training(source: Source) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    images, labels = (parse_idx(read_bytes(source.folder, part), source.folder / part) for part in PARTS[:2])
    return images[..., None], labels.astype(np.int64)


def _scale(images: npt.NDArray[np.uint8]) -> tuple[float, float]:
    counts = np.bincount(images.ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    return mean, max(variance**0.5, 1e-6)
