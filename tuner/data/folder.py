"""A folder of four IDX files, checked: what every training and every scoring reads, whatever the images came as."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.data.checks import check_classes, check_fit, remarks
from tuner.data.collected import Labelled, located
from tuner.data.idx import PARTS, git_blob, parse_images, parse_labels, read_bytes
from tuner.errors import DataError

FASHION_MNIST = "fashion-mnist"
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_BLOBS = {
    "train-images-idx3-ubyte": "ff2f5a96367a3c1656f09c93649f07143ff8b11e",
    "train-labels-idx1-ubyte": "30424ca2ea876655f5bba14f9f07132769687975",
    "t10k-images-idx3-ubyte": "37bac79bc6f002d965f363e0b20514904504a4d9",
    "t10k-labels-idx1-ubyte": "2195a4d0957e013db98d03e51697e2315816cce2",
}
"""Git blob ids of the decompressed files, the release of 31 August 2017: gzip headers differ between mirrors, and
the release before had images that train and test shared."""
LABELS_FILE = "labels.txt"
"""The classes' names, one a line, beside IDX files and tables, which hold numbers only."""


@dataclass(frozen=True)
class Known:
    """What is known of four files that were written here: their images were checked before that."""

    name: str
    kind: str
    digest: str
    class_names: tuple[str, ...]
    held_out: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A folder of four IDX files that passed the checks."""

    name: str
    """``fashion-mnist`` when the content is that release, otherwise what ``--data`` named, without its path."""
    folder: Path
    digest: str
    """Of all four files' decompressed bytes: the data's identity in manifests and caches."""
    input_shape: tuple[int, int, int]
    """Height, width, channels."""
    class_names: tuple[str, ...]
    n_train: int
    n_test: int
    test_class_counts: tuple[int, ...]
    train_class_counts: tuple[int, ...] = ()
    kind: str = "idx"
    """What the images came as: ``idx``, ``npz``, ``csv``, ``pictures`` or ``keras``."""
    held_out: bool = False
    """No test set came with them: it was held out here, before any search."""
    notes: tuple[str, ...] = ()
    """What was done with them, a line each."""
    warnings: tuple[str, ...] = ()
    """What is odd about them."""
    blobs: tuple[str, ...] = ()
    """Git blob ids of the four files, in the order of PARTS: whoever reads one later reads what was checked."""

    @property
    def verified(self) -> bool:
        """Tell whether this is the published Fashion-MNIST, byte for byte, whatever it is called."""
        return self.blobs == tuple(FASHION_BLOBS[part] for part in PARTS)

    def as_document(self) -> dict[str, object]:
        """Return what a report keeps of the images, as JSON can hold it."""
        return {
            "kind": self.kind,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "held_out": self.held_out,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def blob(self, part: str) -> str | None:
        """Return the id of one of the files; None where it is not known."""
        return dict(zip(PARTS, self.blobs, strict=False)).get(part)


def open_folder(folder: Path, known: Known | None = None) -> Source:
    """Read and check the four IDX files of ``folder`` (each plain or ``.gz``). Raises DataError.

    ``known`` images are not checked again; they may be others than those, which their digest tells.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", hint="name a folder with the four IDX files, or leave --data out")
    contents = {part: read_bytes(folder, part) for part in PARTS}
    blobs = tuple(git_blob(contents[part]) for part in PARTS)
    images = {part: parse_images(contents[part], folder / part) for part in PARTS[::2]}
    labels = {part: parse_labels(contents[part], folder / part) for part in PARTS[1::2]}
    train, test = (Labelled(images[PARTS[k]], labels[PARTS[k + 1]]) for k in (0, 2))
    is_fashion = blobs == tuple(FASHION_BLOBS[part] for part in PARTS)
    if known is None:
        names, odd = _checked(folder, train, test, verified=is_fashion)
        known = Known(folder.resolve().name, "idx", "", names, held_out=False, notes=(), warnings=odd)
    classes = FASHION_CLASSES if is_fashion else known.class_names
    return Source(
        name=FASHION_MNIST if is_fashion else known.name,
        folder=folder.resolve(),
        digest=hashlib.sha256("".join(blobs).encode()).hexdigest()[:16],
        input_shape=train.images.shape[1:],
        class_names=classes,
        n_train=len(train.labels),
        n_test=len(test.labels),
        train_class_counts=tuple(np.bincount(train.labels, minlength=len(classes)).tolist()),
        test_class_counts=tuple(np.bincount(test.labels, minlength=len(classes)).tolist()),
        kind=known.kind,
        held_out=known.held_out,
        notes=known.notes,
        warnings=known.warnings,
        blobs=blobs,
    )


def _checked(
    folder: Path, train: Labelled, test: Labelled, *, verified: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes, and what is odd. Raises DataError."""
    named = read_names(folder)
    with located(str(folder)):
        check_fit(train, test)
        present = np.unique(train.labels)
        names = class_names_of(present, named)
        check_known(test, present)
        check_classes(train, test, names)
    return names, () if verified else tuple(remarks(train, test, names))


def read_names(folder: Path) -> tuple[str, ...] | None:
    """Return the classes' names in ``labels.txt``, one a line; None where there is no such file. Raises DataError."""
    try:
        text = (folder / LABELS_FILE).read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / LABELS_FILE}: cannot be read: {error}", hint="needed is a name a line") from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def class_names_of(present: npt.NDArray[np.int64], named: Sequence[str] | None) -> tuple[str, ...]:
    """Return a name a class: ``named`` are by label, or one each of those that are ``present``; numbers without them.

    Raises DataError.
    """
    if named is None:
        return tuple(str(label) for label in present)
    if len(named) == len(present):
        names = tuple(named)
    elif len(named) > int(present[-1]):
        names = tuple(named[label] for label in present)
    else:
        raise DataError(
            f"{len(named)} names for {len(present)} classes, labels {present[0]} to {present[-1]}",
            hint="a name for each class, in the order of their labels",
        )
    if len(set(names)) < len(names) or not all(names):
        raise DataError("two classes have the same name, or one has none", hint="a name of its own for each class")
    return names


def check_known(test: Labelled, present: npt.NDArray[np.int64]) -> None:
    """Raise DataError when a test image's label is none of the training images'."""
    unknown = ~np.isin(test.labels, present)
    if unknown.any():
        first = int(unknown.argmax())
        raise DataError(
            f"test label {test.labels[first]} of {test.name(first)} is not among the {len(present)} training classes"
        )
