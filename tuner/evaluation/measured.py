"""What baselines measured: one file a network, with the test probabilities.

The user's own lie in ``baselines/`` of the output folder; those of the project come with the package. Both are used
for the images and settings that they were made with only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.resources
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.data.sources import Source
from tuner.evaluation.statistics import mean_and_sd
from tuner.models.baselines import BASELINES
from tuner.models.baselines.baseline import Baseline
from tuner.records import EpochResult
from tuner.runs import DAMAGED, Outputs, draft_of

MEASURED = "tuner.measured"
"""The package of the project's own figures: ``results/reference/baselines``."""


@dataclass(frozen=True)
class Measured:
    """One baseline as it was trained and scored."""

    name: str
    epochs: int
    digest: str
    """Of the network and its training."""
    data: str
    """The digest of the images."""
    parameters: int
    seconds: float
    """Of training, all seeds."""
    versions: dict[str, str]
    curves: tuple[tuple[EpochResult, ...], ...]
    """One a seed."""
    predicted: npt.NDArray[np.unsignedinteger]
    """(seeds, images): the most probable class."""
    probabilities: npt.NDArray[np.float16]
    """(seeds, images, classes), to three decimals."""
    labels: npt.NDArray[np.unsignedinteger]
    """(images,)"""

    @property
    def seeds(self) -> int:
        """Return how often it was trained."""
        return len(self.predicted)

    @property
    def accuracies(self) -> list[float]:
        """Return the test accuracies, one a seed."""
        return [float(share) for share in (self.predicted == self.labels).mean(axis=1)]

    @property
    def mean_and_sd(self) -> tuple[float, float | None]:
        """Return the mean over the seeds and their sample standard deviation."""
        return mean_and_sd(self.accuracies)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Return whether the first seed's model is right, (images,)."""
        return np.asarray(self.predicted[0] == self.labels)

    def is_of(self, baseline: Baseline, epochs: int, data: str) -> bool:
        """Tell whether it is what would be measured now."""
        return (self.digest, self.epochs, self.data) == (baseline.digest, epochs, data)


def folder_of(outputs: Outputs) -> Path:
    """Return where the user's own figures lie."""
    return outputs.folder / "baselines"


def place_of(folder: Path, baseline: Baseline, epochs: int | None = None) -> Path:
    """Return the file of a baseline's figures; other epochs than published have one of their own."""
    other = f"-{epochs}-epochs" if epochs not in (None, baseline.epochs) else ""
    return folder / f"{baseline.name}{other}.npz"


def known_baselines(folder: Path, source: Source) -> dict[str, Measured]:
    """Return what is measured on these images under the published settings: in ``folder``, else by the project."""
    found = {}
    for name, baseline in BASELINES.items():
        for path in (place_of(folder, baseline), _of_the_project(baseline)):
            measured = read_measured(path) if path else None
            if measured is not None and measured.is_of(baseline, baseline.epochs, source.digest):
                found[name] = measured
                break
    return found


def _of_the_project(baseline: Baseline) -> Path | None:
    with contextlib.suppress(ModuleNotFoundError):
        path = importlib.resources.files(MEASURED) / f"{baseline.name}.npz"
        return path if isinstance(path, Path) else None
    return None


def write_measured(path: Path, measured: Measured) -> None:
    """Write the figures of one baseline, atomically."""
    about = {
        field.name: getattr(measured, field.name)
        for field in dataclasses.fields(measured)
        if field.name not in ("predicted", "probabilities", "labels", "curves")
    }
    about["curves"] = [[dataclasses.asdict(result) for result in curve] for curve in measured.curves]
    with draft_of(path) as draft:
        np.savez_compressed(
            draft,
            about=np.array(json.dumps(about)),
            predicted=measured.predicted,
            probabilities=measured.probabilities,
            labels=measured.labels,
        )


def read_measured(path: Path) -> Measured | None:
    """Return the figures in ``path``, or None where there are none."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            about = json.loads(str(saved["about"]))
            curves = tuple(tuple(EpochResult(**row) for row in curve) for curve in about.pop("curves"))
            arrays: dict[str, Any] = {name: saved[name] for name in ("predicted", "probabilities", "labels")}
            return Measured(curves=curves, **about, **arrays)
    except DAMAGED:
        return None
