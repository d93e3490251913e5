"""The recorded table: configurations, what each costs, and the learning curves that were measured of it."""

from __future__ import annotations

import csv
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import UsageError
from tuner.experiment.road import epoch_images_of
from tuner.records import Cost, Value, Values
from tuner.search.rehearsal import NO_IMAGES
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter, Space, written
from tuner.space.reader import SpaceFile, read_space

HERE = Path(__file__).parent
SPACE, CURVES = HERE / "space.toml", HERE / "curves.csv"
CHANCE = 1 / len(NO_IMAGES.class_names)
"""The accuracy of a network that has diverged: it names one class for every image."""
START_SECONDS = 1.0
"""A trial's CPU seconds before its first step, for everybody: building and tracing a small model took 0.8 to 1.4 s."""


@dataclass(frozen=True)
class Configuration:
    """Values that were trained, from one seed or from several."""

    values: Values
    cost: Cost
    part: str
    """The part of the recording that had it first."""
    curves: tuple[tuple[float, ...], ...]
    """Of each seed the validation accuracy after each epoch; shorter where the training failed."""
    final: float
    """The mean of the last epochs' accuracies: what it is worth, as far as the table knows."""


@dataclass(frozen=True)
class Table:
    """Everything that was recorded."""

    configurations: tuple[Configuration, ...]
    epochs: int
    epoch_images: float
    """What an epoch costs, in images trained: a validation image counts a third."""
    pace: float
    """Seconds of an image and a unit of cost: the median of all trainings."""

    @property
    def best(self) -> float:
        """Return what the best configuration is worth."""
        return max(one.final for one in self.configurations)

    def near(self, points: float) -> int:
        """Return how many configurations are within ``points`` of the best."""
        return sum(one.final >= self.enough(points) for one in self.configurations)

    def enough(self, points: float) -> float:
        """Return the accuracy that is ``points`` below the best, less what floats lose."""
        return self.best - points / 100 - 1e-9

    @property
    def trainings(self) -> int:
        """Return how many curves there are."""
        return sum(len(one.curves) for one in self.configurations)

    def epoch_seconds(self, one: Configuration) -> float:
        """Return the CPU seconds of an epoch."""
        return self.pace * one.cost.units * self.epoch_images

    @property
    def full_training(self) -> float:
        """Return the CPU seconds of a typical configuration trained to its end: the unit of budgets."""
        return START_SECONDS + self.epochs * statistics.median(map(self.epoch_seconds, self.configurations))


def read_landscape(space: Path = SPACE, curves: Path = CURVES) -> tuple[SpaceFile, Table]:
    """Return the space and its table. Raises SpaceError, and UsageError for a table that is not of this space."""
    space_file = read_space(str(space))
    return space_file, read_table(curves, space_file)


def read_table(path: Path, space_file: SpaceFile) -> Table:
    """Read the table of ``space_file``'s space. Raises UsageError, naming the line."""
    settings = space_file.settings
    epoch_images = epoch_images_of(settings, NO_IMAGES.n_train)
    names = list(space_file.space.parameters)
    accuracies = [f"val_{epoch}" for epoch in range(1, settings.epochs + 1)]
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        hint = "python -m benchmarks.landscape.record makes it"
        raise UsageError(f"{path}: {error.strerror or error}", hint=hint) from None
    rows = list(csv.DictReader(text.splitlines()))
    needed = ["part", *names, "parameters", "multiply_adds", "seconds", *accuracies]
    if missing := [name for name in needed if name not in (rows[0] if rows else ())]:
        raise UsageError(f"{path}: no column {', '.join(missing)}", hint="was it recorded with another space?")
    found: dict[str, list[tuple[str, Values, Cost, tuple[float, ...]]]] = defaultdict(list)
    paces = []
    for line, row in enumerate(rows, 2):
        try:
            values = read_values(row, space_file.space)
            cost = Cost(int(row["parameters"]), int(row["multiply_adds"]))
            curve = _curve([row[name] for name in accuracies])
            seconds = float(row["seconds"])
        except ValueError as error:
            raise UsageError(f"{path}, line {line}: {error}") from None
        found[json.dumps(values, sort_keys=True)].append((row["part"], values, cost, curve))
        if len(curve) == settings.epochs:
            paces.append(seconds / (settings.epochs * cost.units * epoch_images))
    if not paces:
        raise UsageError(f"{path}: no training has all {settings.epochs} epochs")
    configurations = tuple(_joined(trainings, settings.epochs) for trainings in found.values())
    return Table(configurations, settings.epochs, epoch_images, statistics.median(paces))


def read_values(row: Mapping[str, str], space: Space) -> Values:
    """Return a row's configuration. Raises ValueError for what lies outside the space."""
    values: Values = {}
    for name, parameter in space.parameters.items():
        active, cell = space.active(name, values), row[name]
        if active != (cell != ""):
            raise ValueError(f"{name} is {'missing' if active else 'not active there'}")
        if active:
            values[name] = _read_value(name, parameter, cell)
    return values


def _read_value(name: str, parameter: Parameter, cell: str) -> Value:
    match parameter:
        case Choice():
            for option in parameter.options:
                if cell in (written(option), str(option)) or (_number(option) == _number(cell) is not None):
                    return option
        case Fixed():
            return parameter.value
        case Int() | Float():
            value = int(cell) if isinstance(parameter, Int) else float(cell)
            if parameter.low <= value <= parameter.high:
                return value
    raise ValueError(f"{name} = {cell} is outside the space")


def _number(value: Value) -> float | None:
    if isinstance(value, bool | None):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _curve(cells: Sequence[str]) -> tuple[float, ...]:
    reached = next((k for k, cell in enumerate(cells) if not cell), len(cells))
    if any(cells[reached:]):
        raise ValueError(f"val_{reached + 1} is missing, and a later one is there")
    curve = tuple(map(float, cells[:reached]))
    if not all(0 <= accuracy <= 1 for accuracy in curve):
        raise ValueError("an accuracy is no fraction")
    return curve


def _joined(trainings: Sequence[tuple[str, Values, Cost, tuple[float, ...]]], epochs: int) -> Configuration:
    part, values, cost, _ = trainings[0]
    curves = tuple(curve for *_, curve in trainings)
    final = statistics.fmean(curve[-1] if len(curve) == epochs else CHANCE for curve in curves)
    return Configuration(values, cost, part, curves, final)
