"""What is wrong with images and labels, before anything is trained on them; and what is odd about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tuner.data.collected import Labelled, some
from tuner.errors import DataError

UNBALANCED = 5
"""A class of so many times another's images makes plain accuracy misleading."""
DARK = 16
"""Where no pixel is brighter, the images were probably scaled to something else than 0 to 255."""
ENOUGH_TRAINING = 2
"""Images of a class: one that trains and one that validates. One more where a test set is held out."""


def check_fit(train: Labelled, test: Labelled | None) -> None:
    """Raise DataError when images and labels do not belong together, or training and test images."""
    for what, part in (("training", train), ("test", test)):
        if part is None:
            continue
        if len(part.images) != len(part.labels):
            raise DataError(
                f"{what} has {len(part.images):,} images and {len(part.labels):,} labels, which do not fit",
                hint="one label an image, in the same order",
            )
        if not len(part.images):
            raise DataError(f"there are no {what} images")
        if not part.images.size:
            raise DataError(f"{what} images of {_size(part)} have no pixels")
        if int(part.labels.min()) < 0:
            first = int((part.labels < 0).argmax())
            raise DataError(f"the label {part.labels[first]} of {what} {part.name(first)} is below 0")
    if test is not None and train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(f"training images are {_size(train)}, test images {_size(test)}", hint="they have to be alike")


def _size(part: Labelled) -> str:
    return "x".join(map(str, part.images.shape[1:]))


def check_classes(train: Labelled, test: Labelled | None, class_names: Sequence[str]) -> None:
    """Raise DataError when there is nothing to tell apart, or a class cannot be split. Labels are 0..n-1."""
    counts = np.bincount(train.labels, minlength=len(class_names))
    if len(class_names) < 2:  # noqa: PLR2004
        raise DataError(
            f"there is one class only, '{class_names[0]}'",
            hint="a classifier needs two to tell apart: check the labels",
        )
    needed = ENOUGH_TRAINING + (test is None)
    few = np.flatnonzero(counts < needed)
    if len(few):
        others = f", and {len(few) - 1} other class(es) have too few" if len(few) > 1 else ""
        what = "train, validate and test with" if test is None else "train and validate with"
        raise DataError(
            f"class '{class_names[few[0]]}' has {counts[few[0]]} training image(s){others}",
            hint=f"{needed} at least, to {what}: add images, or leave the class out",
        )


def remarks(train: Labelled, test: Labelled, class_names: Sequence[str]) -> list[str]:
    """Return what a user should know of images that can be searched, a line each. Labels are 0..n-1."""
    return [
        *_balance(train, test, class_names),
        *_brightness(train),
        *_even_images("training", train),
        *_even_images("test", test),
        *_duplicates(train, test),
    ]


def _balance(train: Labelled, test: Labelled, class_names: Sequence[str]) -> list[str]:
    counts = np.bincount(train.labels, minlength=len(class_names))
    most, least = int(counts.argmax()), int(counts.argmin())
    found = []
    if counts[most] >= UNBALANCED * counts[least]:
        found.append(
            f"the classes are unbalanced: {counts[most]:,} training images of '{class_names[most]}', "
            f"{counts[least]:,} of '{class_names[least]}'; --metric val_balanced_accuracy counts every class alike"
        )
    missing = np.flatnonzero(np.bincount(test.labels, minlength=len(class_names)) == 0)
    if len(missing):
        names = some([f"'{class_names[label]}'" for label in missing.tolist()])
        found.append(f"{len(missing)} of the {len(class_names)} classes have no test image: {names}")
    return found


def _brightness(train: Labelled) -> list[str]:
    high = int(train.images.max())
    if 0 < high < DARK:
        return [f"no pixel is brighter than {high} of 255: were they scaled?"]
    return []


def _even_images(what: str, part: Labelled) -> list[str]:
    flat = part.images.reshape(len(part.images), -1, part.images.shape[3])
    even = np.flatnonzero((flat.max(axis=1) == flat.min(axis=1)).all(axis=1))
    if not len(even):
        return []
    return [f"{len(even):,} {what} image(s) are one even colour: {some([part.name(int(index)) for index in even])}"]


def _duplicates(train: Labelled, test: Labelled) -> list[str]:
    """Return a line when test images are among the training images: a network may remember these."""
    first = {digest: index for index, digest in reversed(list(enumerate(digests(train.images))))}
    pairs = [(index, first[digest]) for index, digest in enumerate(digests(test.images)) if digest in first]
    if not pairs:
        return []
    shown = some([f"test {test.name(here)} is training {train.name(there)}" for here, there in pairs])
    other = sum(test.labels[here] != train.labels[there] for here, there in pairs)
    labels = f", {other:,} of them under another label" if other else ""
    return [f"{len(pairs):,} of the {len(test.images):,} test images are also training images{labels}: {shown}"]


def digests(images: npt.NDArray[np.uint8]) -> list[bytes]:
    """Return a digest of each image's pixels."""
    return [hashlib.blake2b(image, digest_size=16).digest() for image in np.ascontiguousarray(images)]
