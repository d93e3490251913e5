"""What is on these pictures? The exported model's answers, and one line for whatever could not be asked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tuner.data.collected import some
from tuner.data.images import Fitted
from tuner.data.reading import Named, find_files, read_array, read_file
from tuner.errors import DataError, ExportError
from tuner.export.bring import PICTURES, bring, read_way
from tuner.export.runtimes import BATCH, FILES, LABELS, Runtime, format_of, open_runtime

EACH = 5
"""Images that are warned of one by one; more of them share a line."""


@dataclass(frozen=True)
class Prediction:
    """One image's answer."""

    image: str
    top: tuple[tuple[str, float], ...]
    """The likeliest classes with their probabilities, the best first."""
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return the likeliest class."""
        return self.top[0][0]

    @property
    def confidence(self) -> float:
        """Return the model's probability of it: a fraction."""
        return self.top[0][1]

    def as_document(self) -> dict[str, Any]:
        """Return what ``--json`` prints of it."""
        top = [{"label": label, "confidence": round(share, 6)} for label, share in self.top]
        return {"image": self.image, **top[0], "top": top, "warnings": list(self.warnings)}


@dataclass(frozen=True)
class _Asked:
    """One image as the model is asked about it."""

    name: str
    pixels: npt.NDArray[np.uint8]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Predictions:
    """All answers, in the order of the images, and what went wrong."""

    found: tuple[Prediction, ...]
    broken: tuple[str, ...] = ()
    """One line a file that could not be read."""
    others: tuple[Path, ...] = ()
    """What the folders hold besides images."""

    @property
    def warnings(self) -> list[str]:
        """Return one line an image and warning; one line in all where many share a warning."""
        images: dict[str, list[str]] = {}
        for prediction in self.found:
            for text in prediction.warnings:
                images.setdefault(text, []).append(prediction.image)
        lines = []
        for text, names in images.items():
            if len(names) > EACH:
                lines.append(f"{len(names)} images: {text} ({some(names)})")
            else:
                lines += [f"{name}: {text}" for name in names]
        if self.others:
            lines.append(f"{len(self.others)} other file(s) passed over: {some([str(path) for path in self.others])}")
        return lines


def predict(
    model: Path,
    images: Sequence[Path] | npt.NDArray[np.generic],
    *,
    top: int = 3,
    invert: bool | None = None,
    key: str | None = None,
) -> Predictions:
    """Ask the model (a file, or the folder that ``tuner best --export`` wrote) about every image in files or an array.

    An array is uint8 and (n, height, width[, channels]). ``invert`` is what :func:`tuner.export.bring.bring` does with
    it; ``key`` names the arrays of ``.npz`` files. What cannot be read is told in ``broken``. Raises ExportError when
    the model cannot be used.
    """
    file = _model_file(model)
    broken: list[str] = []
    others: list[Path] = []
    if isinstance(images, np.ndarray):
        reads = [read_array(images)]
    else:
        places, others = find_files(images)
        broken += [str(place) for place in places if isinstance(place, DataError)]
        reads = [read_file(place, key) for place in places if isinstance(place, Path)]
    found: list[Prediction] = []
    if reads:
        runtime = open_runtime(file)
        labels = _labels(file.parent / LABELS, runtime.n_classes)
        way = read_way(file.parent / PICTURES)
        fitted = _fitted(reads, partial(bring, shape=runtime.input_shape, way=way, invert=invert), broken)
        while batch := list(itertools.islice(fitted, BATCH)):
            found += _answers(batch, runtime, labels, top)
    return Predictions(tuple(found), tuple(broken), tuple(others))


def _fitted(
    reads: Sequence[Iterator[Named]], brought: Callable[[Image.Image], Fitted], broken: list[str]
) -> Iterator[_Asked]:
    for read in reads:
        try:
            for named in read:
                fitted = brought(named.picture)
                yield _Asked(named.name, fitted.pixels, named.warnings + fitted.warnings)
        except DataError as error:
            broken.append(str(error))


def _answers(batch: Sequence[_Asked], runtime: Runtime, labels: Sequence[str], top: int) -> Iterator[Prediction]:
    probabilities = runtime.predict(np.stack([asked.pixels for asked in batch]))
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    for asked, row, order in zip(batch, probabilities, best, strict=True):
        yield Prediction(asked.name, tuple((labels[k], float(row[k])) for k in order), asked.warnings)


def _model_file(path: Path) -> Path:
    if format_of(path) == "saved-model" or path.is_file():
        return path
    if path.is_dir():  # the first format of an export that is there
        for name in FILES.values():
            if format_of(path / name) and (path / name).exists():
                return path / name
    raise ExportError(f"{path}: there is no model", hint="'tuner best --export DIR' writes one")


def _labels(path: Path, n_classes: int) -> list[str]:
    """Return the class names in ``path``, or the classes' numbers where it is not there. Raises ExportError."""
    if not path.exists():
        return [str(number) for number in range(n_classes)]
    try:
        labels = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: cannot be read: {error}", hint="mend it, or move it away") from None
    if not isinstance(labels, list) or len(labels) != n_classes or not all(isinstance(name, str) for name in labels):
        raise ExportError(f"{path}: not a list of {n_classes} names", hint="mend it, or move it away")
    return labels
