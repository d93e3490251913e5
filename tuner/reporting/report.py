"""The result as documents for programs: report.json and the tables."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tuner.data.sources import Source
from tuner.evaluation.refit import Refitted
from tuner.records import (
    VAL_ACCURACY,
    VAL_BALANCED_ACCURACY,
    EpochResult,
    TrialSummary,
    count_states,
    fold_values,
    metric_of,
    value_of,
)
from tuner.runs import DAMAGED, commit, versions, write_table
from tuner.search.budget import Clock
from tuner.search.study import StudyFacts
from tuner.space.parameters import Space
from tuner.space.settings import SearchSettings

Document: TypeAlias = dict[str, Any]
"""What JSON can hold."""

_TRIAL_COLUMNS = (
    "number",
    "state",
    "val_accuracy",
    "epochs_trained",
    "seconds",
    "parameters",
    "multiply_adds",
    "attempts",
    "peak_memory_mib",
)
_CURVE_COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "val_balanced_accuracy",
    "learning_rate",
    "seconds",
)


@dataclass(frozen=True)
class Facts:
    """What a search was about, for its report."""

    study: str
    study_facts: StudyFacts
    space: Space
    source: Source
    search_seconds: float
    workers_lost: int = 0
    before: Document | None = None
    """The report that the run folder held: its seconds count when it is of the same study."""


def build_report(
    facts: Facts,
    trials: Sequence[TrialSummary],
    winner: TrialSummary,
    refit: Document | None,
    clock: Clock,
) -> Document:
    """Return the result as the search knows it; ``verdict`` adds what follows from it.

    Accuracies are fractions, ``refit`` is None after ``--no-refit``. The ``clock`` is the command's; workers on a Ray
    cluster tell nobody what their processors did.
    """
    before = facts.before or {}
    if before.get("study_identity") != facts.study_facts.identity:
        before = {}
    seconds = before.get("wall_seconds") or {}
    on_ray = facts.study_facts.settings.executor == "ray"
    return {
        **study_document(facts.study, facts.study_facts, trials, winner),
        "data": facts.source.name,
        "images": facts.source.as_document(),
        "classes": list(facts.source.class_names),
        "input_shape": list(facts.source.input_shape),
        "versions": versions(),
        "commit": commit(),
        "workers_lost": facts.workers_lost,
        "refit": refit,
        "refit_before": None if refit else latest_refit(before),
        "wall_seconds": {
            "search": round(facts.search_seconds + seconds.get("search", 0.0), 1),
            "refit": refit["seconds"] if refit else 0.0,
            "total": round(clock.elapsed() + seconds.get("total", 0.0), 1),
        },
        "cpu_seconds": None if on_ray else round(clock.cpu_seconds() + (before.get("cpu_seconds") or 0.0), 1),
    }


def study_document(name: str, facts: StudyFacts, trials: Sequence[TrialSummary], winner: TrialSummary) -> Document:
    """Return what the study alone tells of a result."""
    counts, settings = count_states(trials), facts.settings
    peaks = [trial.peak_memory for trial in trials if trial.peak_memory is not None]
    return {
        "study": name,
        "study_identity": facts.identity,
        "data_digest": facts.data,
        "space": facts.space_name,
        "space_hash": facts.space_hash,
        "seed": settings.seed,
        "metric": settings.metric,
        "command": " && ".join(facts.commands),
        "n_trials": sum(trial.counted for trial in trials) - counts.get("running", 0),
        "n_complete": counts.get("complete", 0),
        "n_pruned": counts.get("pruned", 0) + counts.get("clock", 0),
        "n_stopped_by_clock": counts.get("clock", 0),
        "n_refused": counts.get("refused", 0),
        "n_failed": counts.get("failed", 0),
        "n_duplicate": counts.get("duplicate", 0),
        "n_redrawn": counts.get("redrawn", 0),
        "n_taken_up_again": sum(trial.attempts > 1 for trial in trials),
        "deterministic": settings.deterministic,
        "caps": {"memory_mib": settings.memory, "trial_seconds": settings.trial_time},
        "peaks": {
            "memory_mib": max(peaks, default=None),
            "trial_seconds": round(max((trial.seconds for trial in trials), default=0.0), 1),
        },
        "compute_saved_by_pruning": compute_saved(trials, settings.trial_epochs),
        "best_trial": winner_document(trials, winner, settings),
    }


def winner_document(trials: Sequence[TrialSummary], winner: TrialSummary, settings: SearchSettings) -> Document:
    """Return the winner: its values, what it reached in the search, and whether the search found it."""
    accuracy, balanced = winner.val_accuracy or 0.0, settings.metric == VAL_BALANCED_ACCURACY
    complete = [trial for trial in trials if trial.state == "complete"]
    entries = [trial for trial in complete if trial.enqueued]
    best_entry = max((trial.val_accuracy or 0.0 for trial in entries), default=None)
    return {
        "number": winner.number,
        "values": winner.values,
        "metric": settings.metric,
        "val_accuracy": value_of(winner.curve, settings.epochs) if balanced and winner.curve else accuracy,
        **({VAL_BALANCED_ACCURACY: accuracy} if balanced else {}),
        "epochs": len(winner.curve),
        "folds": fold_values(winner.curve, settings.epochs, settings.metric) if settings.folds > 1 else None,
        "train_images": settings.train_images,
        "parameters": winner.cost.parameters if winner.cost else None,
        "multiply_adds": winner.cost.multiply_adds if winner.cost else None,
        "origin": "start_with" if winner.enqueued else "found",
        "by_finals": any((trial.val_accuracy or 0.0) > accuracy for trial in complete),
        "gain_over_best_start_with": None if best_entry is None else accuracy - best_entry,
    }


def compute_saved(trials: Sequence[TrialSummary], epochs: int) -> float:
    """Return the share of multiply-adds that the pruner saved: of those that training every trial in full would take.

    Trials that the clock stopped, were refused or failed count neither way.
    """
    full = spent = 0.0
    for trial in trials:
        if trial.state in ("complete", "pruned") and trial.cost:
            full += trial.cost.multiply_adds * epochs
            spent += trial.cost.multiply_adds * len(trial.curve)
    return 1 - spent / full if full else 0.0


def write_tables(folder: Path, trials: Sequence[TrialSummary], space: Space) -> None:
    """Write ``trials.csv``, one row a trial, and ``curves.csv``, one row an epoch."""
    write_table(folder / "trials.csv", *trial_table(trials, space))
    epochs = [_curve_row(trial.number, result) for trial in trials for result in trial.curve]
    write_table(folder / "curves.csv", ["number", *_CURVE_COLUMNS], epochs)


def trial_table(trials: Sequence[TrialSummary], space: Space) -> tuple[list[str], list[list[object]]]:
    """Return the header and the rows of ``trials.csv``."""
    names, metric = list(space.parameters), metric_of(trials)
    columns = [metric if column == VAL_ACCURACY else column for column in _TRIAL_COLUMNS]
    rows = [[*_trial_row(trial), *(trial.values.get(name) for name in names)] for trial in trials]
    return [*columns, *(f"value: {name}" if name in columns else name for name in names)], rows


def trial_documents(trials: Sequence[TrialSummary]) -> list[Document]:
    """Return the trials with their values, why they ended, and every epoch, as JSON can hold them."""
    return [
        {
            **dict(zip(_TRIAL_COLUMNS, _trial_row(trial), strict=True)),
            "metric": trial.metric,
            "reason": trial.reason,
            "values": trial.values,
            "curve": [dict(zip(_CURVE_COLUMNS, _curve_row(trial.number, one)[1:], strict=True)) for one in trial.curve],
        }
        for trial in trials
    ]


def _trial_row(trial: TrialSummary) -> list[object]:
    return [
        trial.number,
        trial.state,
        trial.val_accuracy,
        len(trial.curve),
        round(trial.seconds, 2),
        trial.cost.parameters if trial.cost else None,
        trial.cost.multiply_adds if trial.cost else None,
        trial.attempts,
        trial.peak_memory,
    ]


def write_refit_curves(folder: Path, refitted: Refitted, done: int = 0) -> None:
    """Write ``refit_curves.csv``: one row an epoch and seed, counted from 0; those of ``done`` earlier seeds stay."""
    path, rows = folder / "refit_curves.csv", []
    if done:
        with contextlib.suppress(OSError), path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in list(csv.reader(file))[1:] if row and int(row[0]) < done]
    more = [_curve_row(number, result) for number, curve in enumerate(refitted.curves, done) for result in curve]
    write_table(path, ["seed", *_CURVE_COLUMNS], [*rows, *more])


def read_report(folder: Path) -> Document | None:
    """Return the report of a run folder, or None where there is none."""
    document: object = None
    with contextlib.suppress(*DAMAGED):
        document = json.loads((folder / "report.json").read_text("utf-8"))
    return document if isinstance(document, dict) else None


def latest_refit(report: Document) -> Document | None:
    """Return the refit whose model and predictions lie beside a report: its own, or that of an earlier winner."""
    return report.get("refit") or report.get("refit_before")


def _curve_row(number: int, result: EpochResult) -> list[object]:
    return [number, *(getattr(result, column) for column in _CURVE_COLUMNS)]
