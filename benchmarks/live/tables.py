"""From the runs to tables that are committed, and from those to what they show."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.live.events import (
    ABOUT,
    ANSWER,
    COMPLETE,
    EVENTS,
    REFUSED,
    SYSTEMS,
    Epoch,
    best_so_far,
    read_events,
    seconds_to,
)
from tuner.errors import UsageError
from tuner.runs import write_json, write_table

EPOCHS, TRIALS, ANSWERS, RUNS, TABLE = "epochs.csv", "trials.csv", "answers.csv", "runs.json", "table.csv"
LEVELS = (0.91, 0.92, 0.93)
"""Validation accuracies that are waited for."""
SAME = ("space", "cpu_minutes", "epochs", "train_images")
"""What runs must share to be compared."""
_EPOCH_COLUMNS = ("system", "seed", "cpu_seconds", "wall_seconds", "trial", "epoch", "val_accuracy")
_TRIAL_COLUMNS = ("system", "seed", "trial", "state", "value", "values")
_ANSWER_COLUMNS = ("system", "seed", "trial", "value", "refit_epochs", "test_accuracies")
_MEDIAN = "median"


@dataclass(frozen=True)
class Kept:
    """One run, as the committed tables have it."""

    system: str
    seed: int
    cpu_seconds: float
    """Its budget."""
    epochs: tuple[Epoch, ...]
    trials: int
    refused: int
    """Of the trials, before any training."""
    answer_val_accuracy: float | None = None
    """What the answer is worth to its own system; None until the answer is scored, and -inf where there is none."""
    test_accuracies: tuple[float, ...] = ()
    """Of the retrained answer, one a seed."""

    @property
    def steps(self) -> list[tuple[float, float]]:
        """Return the best validation accuracy so far, at each time at which it rises."""
        return best_so_far(self.epochs)


def whole_runs(out: Path) -> list[Path]:
    """Return the folders of the runs in ``out`` that have ended, in the order of SYSTEMS and seeds."""
    return [
        folder
        for system in SYSTEMS
        for folder in sorted(out.glob(f"{system}-[0-9]*"), key=lambda one: int(one.name.rpartition("-")[2]))
        if (folder / ABOUT).exists()
    ]


def check_protocol(out: Path, protocol: Mapping[str, object]) -> None:
    """Raise UsageError when the runs in ``out`` are not of ``protocol``, which has what SAME names."""
    abouts = [json.loads((folder / ABOUT).read_text("utf-8")) for folder in whole_runs(out)]
    facts = [tuple(about[name] for name in SAME) for about in (protocol, *abouts)]
    _check_same("this run and those there", SAME, facts, "--out names another folder")


def gather(out: Path, to: Path) -> None:
    """Write the tables that are committed, from the runs in ``out``.

    Raises UsageError when there are none, or when they cannot be compared.
    """
    runs = whole_runs(out)
    if not runs:
        raise UsageError(f"{out}: no run has ended there", hint="'python -m benchmarks.live run' makes them")
    epochs: list[Sequence[object]] = []
    trials: list[Sequence[object]] = []
    answers: list[Sequence[object]] = []
    abouts = []
    for folder in runs:
        about, events = json.loads((folder / ABOUT).read_text("utf-8")), read_events(folder / EVENTS)
        run = (about["system"], about["seed"])
        abouts.append(about)
        epochs += [(*run, e.cpu_seconds, e.wall_seconds, e.trial, e.epoch, e.val_accuracy) for e in events.epochs]
        trials += [(*run, t.trial, t.state, t.value, json.dumps(t.values)) for t in events.trials]
        if (folder / ANSWER).exists():
            answer = json.loads((folder / ANSWER).read_text("utf-8"))
            tests = " ".join(map(str, answer["test_accuracies"]))
            answers.append((*run, answer["trial"], answer["value"], answer["epochs"], tests))
    _check_same("the runs", SAME, [tuple(about[name] for name in SAME) for about in abouts])
    _check_same("the answers", ("refit_epochs",), [answer[4:5] for answer in answers])
    write_table(to / EPOCHS, _EPOCH_COLUMNS, epochs)
    write_table(to / TRIALS, _TRIAL_COLUMNS, trials)
    write_table(to / ANSWERS, _ANSWER_COLUMNS, answers)
    write_json(to / RUNS, abouts)


def _check_same(
    what: str, names: Sequence[str], facts: Iterable[Sequence[object]], hint: str = "remove those that are not meant"
) -> None:
    """Raise UsageError when ``facts``, of several runs, are not the same."""
    for name, *values in zip(names, *facts, strict=True):
        if len(set(values)) > 1:
            found = " and ".join(sorted(map(str, set(values))))
            raise UsageError(f"{what} differ in {name}: {found}", hint=hint)


def read_kept(folder: Path) -> list[Kept]:
    """Return the runs in the committed tables. Raises UsageError when these are not there."""
    try:
        abouts = json.loads((folder / RUNS).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{folder / RUNS}: {error.strerror}", hint="--runs makes the tables") from None
    epochs, trials, answers = (_by_run(folder / name) for name in (EPOCHS, TRIALS, ANSWERS))
    found = []
    for about in abouts:
        run = (about["system"], str(about["seed"]))
        answer = next(iter(answers.get(run, [])), None)
        in_vain = not any(row["state"] == COMPLETE and row["value"] for row in trials.get(run, []))
        found.append(
            Kept(
                system=about["system"],
                seed=about["seed"],
                cpu_seconds=60 * about["cpu_minutes"],
                epochs=tuple(map(_epoch, epochs.get(run, []))),
                trials=len(trials.get(run, [])),
                refused=sum(row["state"] == REFUSED for row in trials.get(run, [])),
                answer_val_accuracy=float(answer["value"]) if answer else -math.inf if in_vain else None,
                test_accuracies=tuple(map(float, answer["test_accuracies"].split())) if answer else (),
            )
        )
    return found


def write_summary(kept: Sequence[Kept], path: Path) -> None:
    """Write one row a run, and each system's medians: what cannot be said, or was not reached, is empty."""
    header = [
        "system", "seed", "trials", "refused", "epochs", "best_val_accuracy",
        *(f"cpu_seconds_to_{100 * level:.0f}" for level in LEVELS), "answer_val_accuracy", "test_accuracy_mean",
        "test_accuracies",
    ]  # fmt: skip
    rows: list[Sequence[object]] = []
    for system in SYSTEMS:
        own = [run for run in kept if run.system == system]
        figures = [_figures(run) for run in own]
        for run, row in zip(own, figures, strict=True):
            tests = " ".join(f"{accuracy:.4f}" for accuracy in run.test_accuracies)
            rows.append([system, run.seed, *map(_cell, row), tests])
        if own:
            rows.append([system, _MEDIAN, *(_cell(_median(column)) for column in zip(*figures, strict=True)), None])
    write_table(path, header, rows)


def _figures(run: Kept) -> list[float | None]:
    """Return a run's figures: None where there is none yet, and the worst, an infinity, for what it did not reach."""
    unscored = None if run.answer_val_accuracy != -math.inf else -math.inf
    return [
        run.trials,
        run.refused,
        len(run.epochs),
        max((one.val_accuracy for one in run.epochs), default=-math.inf),
        *(seconds_to(run.epochs, level) for level in LEVELS),
        run.answer_val_accuracy,
        statistics.mean(run.test_accuracies) if run.test_accuracies else unscored,
    ]


def _median(column: Iterable[float | None]) -> float | None:
    """Return the median, when every run has the figure: what was not reached is worse than anything."""
    figures = list(column)
    known = [figure for figure in figures if figure is not None]
    return statistics.median(known) if len(known) == len(figures) else None


def _cell(figure: float | None) -> float | None:
    return None if figure is None or math.isinf(figure) else round(figure, 4)


def _by_run(path: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["system"], row["seed"]), []).append(row)
    return found


def _epoch(row: dict[str, str]) -> Epoch:
    return Epoch(
        float(row["cpu_seconds"]),
        float(row["wall_seconds"]),
        int(row["trial"]),
        int(row["epoch"]),
        float(row["val_accuracy"]),
    )
