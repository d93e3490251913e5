"""What a run of ``__main__.py`` writes down, one line an event, and what can be read off it.

An epoch's line holds the CPU and wall seconds since the run's process began, the trial, the epoch, its validation
accuracy and the trial's values; a trial's last line says how it ended and what it is worth to its own system. CPU
seconds are those of the process and of all its descendants.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tuner.records import Values

SPACE = "cnn"
"""The built-in space that all search."""
_KNOWN = "from the space's known configurations"
SYSTEMS = {
    "ours": f"tuner, {_KNOWN}",
    "optuna": "Optuna TPE + median",
    "optuna-entries": f"Optuna TPE + median, {_KNOWN}",
    "keras-tuner": "KerasTuner Hyperband",
}
"""What is compared, and what the figure calls it."""
EVENTS, ABOUT, ANSWER = "events.jsonl", "run.json", "answer.json"
"""Files of a run: its events; what it was, written when it has ended; its answer, retrained and scored."""
COMPLETE, PRUNED, FAILED, REFUSED = "complete", "pruned", "failed", "refused"
"""How a trial ends; refused is before any training, for the space's limits. Ours has other words beside these."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Spent(BaseException):  # an order, not an error: no ``except Exception`` of a system is to keep it
    """The run has used up its CPU seconds."""


@dataclass(frozen=True)
class Epoch:
    """An epoch that has ended."""

    cpu_seconds: float
    wall_seconds: float
    trial: int
    epoch: int
    """Counted from 1; of a promoted trial of KerasTuner, from the epoch that it was promoted at."""
    val_accuracy: float


@dataclass(frozen=True)
class Trial:
    """A trial that has ended, or was under way when the run did."""

    trial: int
    state: str
    value: float | None
    """What it is worth to its own system; of a trial that is not complete, nothing that counts."""
    values: Values


@dataclass(frozen=True)
class Events:
    """One run, read."""

    epochs: tuple[Epoch, ...]
    trials: tuple[Trial, ...]

    def answer(self) -> Trial | None:
        """Return the best complete trial, the earliest of equals: what the system itself would name."""
        complete = [trial for trial in self.trials if trial.state == COMPLETE and trial.value is not None]
        return max(complete, key=lambda trial: (trial.value, -trial.trial), default=None)


class Told:
    """Writes a run's events, and ends the run when its CPU seconds are spent."""

    def __init__(self, path: Path, cpu_seconds: float) -> None:
        """Write to ``path``, a new file; ``cpu_seconds`` is the run's budget."""
        self._file = path.open("x", encoding="utf-8")
        self._limit = cpu_seconds

    def epoch(self, trial: int, epoch: int, val_accuracy: float, values: Values) -> None:
        """Hear of an epoch. Raises Spent, and forgets the epoch, when it ended after the budget."""
        cpu = cpu_seconds()
        if cpu > self._limit:
            raise Spent
        self._write(cpu=round(cpu, 2), trial=trial, epoch=epoch, val_accuracy=val_accuracy, values=values)

    def ended(self, trial: int, state: str, value: float | None, values: Values) -> None:
        """Hear how a trial ended."""
        self._write(cpu=round(cpu_seconds(), 2), trial=trial, ended=state, value=value, values=values)

    def __enter__(self) -> Self:
        """Write while the block lasts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write no more."""
        self._file.close()

    def _write(self, cpu: float, **facts: object) -> None:
        self._file.write(json.dumps({"cpu": cpu, "wall": round(wall_seconds(), 2), **facts}) + "\n")
        self._file.flush()


def read_events(path: Path) -> Events:
    """Return a run's events. A last line that was cut off is left out: its run was killed over it."""
    epochs: list[Epoch] = []
    trials: dict[int, Trial] = {}
    lines = path.read_text("utf-8").split("\n")
    for line in lines[:-1]:
        fact: dict[str, Any] = json.loads(line)
        number = fact["trial"]
        if "ended" in fact:
            trials[number] = Trial(number, fact["ended"], fact["value"], fact["values"])
        else:
            epochs.append(Epoch(fact["cpu"], fact["wall"], number, fact["epoch"], fact["val_accuracy"]))
            trials[number] = Trial(number, "running", None, fact["values"])
    return Events(tuple(epochs), tuple(trials[number] for number in sorted(trials)))


def best_so_far(epochs: Iterable[Epoch]) -> list[tuple[float, float]]:
    """Return (CPU seconds, best validation accuracy of any epoch until then), one a step upwards."""
    steps: list[tuple[float, float]] = []
    for epoch in sorted(epochs, key=lambda one: one.cpu_seconds):
        if not steps or epoch.val_accuracy > steps[-1][1]:
            steps.append((epoch.cpu_seconds, epoch.val_accuracy))
    return steps


def seconds_to(epochs: Iterable[Epoch], val_accuracy: float) -> float:
    """Return the CPU seconds after which an epoch first reached ``val_accuracy``; infinity when none did."""
    return min((one.cpu_seconds for one in epochs if one.val_accuracy >= val_accuracy), default=math.inf)


def median_steps(runs: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the median over ``runs`` of their best so far, one step at each time at which it rises.

    A run without an epoch yet counts as 0: the median begins when more than half of the runs have one.
    """
    steps: list[tuple[float, float]] = []
    for now in sorted({seconds for run in runs for seconds, _ in run}):
        best = [max((value for seconds, value in run if seconds <= now), default=0.0) for run in runs]
        median = statistics.median_low(best)
        if median > (steps[-1][1] if steps else 0.0):
            steps.append((now, median))
    return steps


def cpu_seconds(process: int | None = None) -> float:
    """Return the CPU seconds that a process (this one) and its descendants have taken, those that ended included."""
    taken: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text("utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(path.parent.name)
        children.setdefault(int(fields[1]), []).append(number)
        taken[number] = sum(int(ticks) for ticks in fields[11:15])  # its own, and of children that it waited for
    ours, waiting = 0, [process or os.getpid()]
    while waiting:
        number = waiting.pop()
        ours += taken.get(number, 0)
        waiting += children.get(number, [])
    return ours / _TICKS


def wall_seconds() -> float:
    """Return the seconds since this process began."""
    began = int(Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()[19]) / _TICKS
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began
