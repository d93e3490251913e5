"""Small images of one's own that a network learns at once, in every form that ``--data`` takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.data.holdout import read_test
from tuner.data.idx import PARTS
from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images

from .conftest import write_idx

CLASSES = ("bars", "dots", "rings")
ALL = Cut(everything=True)
GREY, COLOUR = (8, 8, 1), (6, 9, 3)
TRAIN, TEST = (30, 40, 50), (5, 6, 7)


def images(counts: tuple[int, ...], shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images of ``shape`` and their labels, ``counts[k]`` of class k, in the same mixed order for every seed.

    A class is a stripe at a height of its own, on noise; in colour it has a tint of its own, too.
    """
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    height, _, channels = shape
    found = rng.integers(0, 90, (len(labels), *shape)).astype(np.uint8)
    for image, label in zip(found, labels, strict=True):
        top = height * int(label) // len(counts)
        tint = np.roll([230, 150, 90], int(label))[:channels] if channels == 3 else 220
        image[top : top + max(2, height // (2 * len(counts)))] = tint - rng.integers(0, 30)
    return found, labels


def idx(folder: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray] | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [*train, *(test or ())]
    for part, array in zip(PARTS, arrays, strict=False):
        write_idx(folder / part, array[..., 0] if array.ndim == 4 and array.shape[3] == 1 else array)
    return folder


def table(path: Path, pixels: np.ndarray, labels: np.ndarray | None, *, header: bool = True) -> Path:
    """A CSV table as Kaggle's: the label, then the pixels, or no labels."""
    rows = pixels.reshape(len(pixels), -1)
    names = [f"pixel{number}" for number in range(rows.shape[1])]
    if labels is not None:
        rows, names = np.column_stack([labels, rows]), ["label", *names]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, fmt="%g", delimiter=",", comments="", header=",".join(names) if header else "")
    if not header:
        path.write_text(path.read_text().lstrip("\n"))
    return path


def pictures(folder: Path, counts: tuple[int, ...], sizes: tuple[tuple[int, int], ...], *, channels: int = 3) -> Path:
    """Class folders of PNG and JPEG pictures of mixed ``sizes`` (height and width)."""
    for place, (height, width) in enumerate(sizes):
        pixels, labels = images(counts, (height, width, channels), seed=place)
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            if number % len(sizes) == place:
                path = folder / CLASSES[label] / f"{place}-{number}.{'jpg' if number % 4 == 3 else 'png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image if channels == 3 else image[..., 0]).save(path, quality=95)
    return folder


def planted_keras(folder: Path) -> Path:
    """A package called ``keras`` whose data sets are small ones of ours: no network is needed to load them."""
    (folder / "keras" / "datasets").mkdir(parents=True)
    np.savez(folder / "small.npz", **dict(zip("abcd", (*images((40,) * 10, (32, 32, 3)), *images((8,) * 10, (32, 32, 3), 1)), strict=True)))  # fmt: skip
    (folder / "keras" / "__init__.py").write_text("from keras import datasets\n")
    (folder / "keras" / "datasets" / "__init__.py").write_text(
        "import numpy\n"
        "class cifar10:\n"
        "    def load_data():\n"
        f"        f = numpy.load({str(folder / 'small.npz')!r})\n"
        "        return (f['a'], f['b'][:, None]), (f['c'], f['d'][:, None])\n"
    )
    return folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNER_DATA", raising=False)


def both(shape: tuple[int, int, int]) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return images(TRAIN, shape), images(TEST, shape, seed=1)


def npz(path: Path, shape: tuple[int, int, int] = GREY, **more: np.ndarray) -> Path:
    (x, y), (x_test, y_test) = both(shape)
    np.savez(path, **{"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test, **more})
    return path


def holds(source: Source, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> bool:
    read, tested = read_images(source, ALL), read_test(source)
    return all(
        np.array_equal(one, other)
        for one, other in (
            (read.train, train[0]),
            (read.train_labels, train[1]),
            (tested[0], test[0]),
            (tested[1], test[1]),
        )
    )
