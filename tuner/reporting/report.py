"""The result as documents: for programs (report.json, tables) and for reading (report.md)."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tuner.data.sources import Source
from tuner.evaluation.refit import Refitted
from tuner.models.baselines import PUBLISHED
from tuner.records import EpochResult, TrialSummary, count_states
from tuner.runs import versions, write_json, write_table, write_text
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
_CURVE_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


@dataclass(frozen=True)
class Facts:
    """What a search was about, for its report."""

    study: str
    study_facts: StudyFacts
    space: Space
    source: Source
    search_seconds: float
    workers_lost: int = 0


def build_report(
    facts: Facts,
    trials: Sequence[TrialSummary],
    winner: TrialSummary,
    refit: Document | None,
    total_seconds: float,
) -> Document:
    """Return the whole result; accuracies are fractions, ``refit`` is None after ``--no-refit``."""
    counts = count_states(trials)
    settings = facts.study_facts.settings
    peaks = [trial.peak_memory for trial in trials if trial.peak_memory is not None]
    mean = refit["test_accuracy_mean"] if refit else None
    return {
        "study": facts.study,
        "study_identity": facts.study_facts.identity,
        "space": facts.space.name,
        "space_hash": facts.study_facts.space_hash,
        "data": facts.source.name,
        "classes": list(facts.source.class_names),
        "input_shape": list(facts.source.input_shape),
        "seed": settings.seed,
        "command": " && ".join(facts.study_facts.commands),
        "versions": versions(),
        "n_trials": sum(trial.counted for trial in trials) - counts.get("running", 0),
        "n_complete": counts.get("complete", 0),
        "n_pruned": counts.get("pruned", 0) + counts.get("clock", 0),
        "n_stopped_by_clock": counts.get("clock", 0),
        "n_refused": counts.get("refused", 0),
        "n_failed": counts.get("failed", 0),
        "n_duplicate": counts.get("duplicate", 0),
        "n_redrawn": counts.get("redrawn", 0),
        "n_taken_up_again": sum(trial.attempts > 1 for trial in trials),
        "workers_lost": facts.workers_lost,
        "deterministic": settings.deterministic,
        "caps": {"memory_mib": settings.memory, "trial_seconds": settings.trial_time},
        "peaks": {
            "memory_mib": max(peaks, default=None),
            "trial_seconds": round(max((trial.seconds for trial in trials), default=0.0), 1),
        },
        "compute_saved_by_pruning": compute_saved(trials, settings.epochs),
        "best_trial": winner_document(trials, winner, settings),
        "refit": refit,
        "baselines": [
            {
                "name": baseline.name,
                "published_test_accuracy": baseline.test_accuracy,
                "difference": None if mean is None else mean - baseline.test_accuracy,
                "note": baseline.note,
            }
            for baseline in (PUBLISHED if facts.source.verified else ())
        ],
        "wall_seconds": {
            "search": round(facts.search_seconds, 1),
            "refit": refit["seconds"] if refit else 0.0,
            "total": round(total_seconds, 1),
        },
        "cpu_seconds": round(_cpu_seconds(), 1),
    }


def winner_document(trials: Sequence[TrialSummary], winner: TrialSummary, settings: SearchSettings) -> Document:
    """Return the winner: its values, what it reached in the search, and whether the search found it."""
    accuracy = winner.val_accuracy or 0.0
    entries = [trial for trial in trials if trial.enqueued and trial.state == "complete"]
    best_entry = max((trial.val_accuracy or 0.0 for trial in entries), default=None)
    return {
        "number": winner.number,
        "values": winner.values,
        "val_accuracy": accuracy,
        "epochs": len(winner.curve),
        "train_images": settings.train_images,
        "parameters": winner.cost.parameters if winner.cost else None,
        "multiply_adds": winner.cost.multiply_adds if winner.cost else None,
        "origin": "start_with" if winner.enqueued else "found",
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
    names = list(space.parameters)
    rows = [
        [
            trial.number,
            trial.state,
            trial.val_accuracy,
            len(trial.curve),
            round(trial.seconds, 2),
            trial.cost.parameters if trial.cost else None,
            trial.cost.multiply_adds if trial.cost else None,
            trial.attempts,
            trial.peak_memory,
            *(trial.values.get(name) for name in names),
        ]
        for trial in trials
    ]
    write_table(folder / "trials.csv", [*_TRIAL_COLUMNS, *names], rows)
    epochs = [_curve_row(trial.number, result) for trial in trials for result in trial.curve]
    write_table(folder / "curves.csv", ["number", *_CURVE_COLUMNS], epochs)


def write_refit_curves(folder: Path, refitted: Refitted) -> None:
    """Write ``refit_curves.csv``: one row an epoch and seed, the seeds counted from 0."""
    rows = [_curve_row(number, result) for number, curve in enumerate(refitted.curves) for result in curve]
    write_table(folder / "refit_curves.csv", ["seed", *_CURVE_COLUMNS], rows)


def write_report(folder: Path, report: Document) -> None:
    """Write ``report.json`` and ``report.md``."""
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", as_markdown(report))


def read_report(folder: Path) -> Document | None:
    """Return the report of a run folder, or None where there is none."""
    try:
        document: Document = json.loads((folder / "report.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return document


def as_markdown(report: Document) -> str:
    """Return the report to read: the answer first, the command that makes it last."""
    best, refit, seconds = report["best_trial"], report["refit"], report["wall_seconds"]
    lines = [f"# {report['study']}: {headline(report)}", ""]
    if refit:
        interval = " to ".join(f"{100 * bound:.2f}" for bound in refit["interval_95"])
        lines += [
            f"The winner, trial {best['number']}, was trained again on all training images for {refit['epochs']} "
            f"epochs with {len(refit['seeds'])} fresh seed(s): "
            + ", ".join(f"{100 * accuracy:.2f} %" for accuracy in refit["test_accuracies"])
            + f" of the {refit['n_test']:,} test images. The first seed's model is the one in `model.keras`; its 95 % "
            f"interval (Wilson) is {interval} %.",
            "",
        ]
        lines += [f"Note: {refit['note']}.", ""] if refit["note"] else []
    images = f", on {best['train_images']:,} training images" if best["train_images"] else ""
    lines += [
        f"In the search it reached {100 * best['val_accuracy']:.2f} % of the validation images after {best['epochs']} "
        f"epochs{images}. {origin_sentence(best)}",
        "",
        "| winner | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in best["values"].items()),
        f"| parameters | {best['parameters']:,} |",
        f"| multiply-adds | {best['multiply_adds']:,} |",
        "",
    ]
    if report["baselines"]:
        lines += ["| baseline | published test accuracy | difference | note |", "|---|---|---|---|"]
        for row in report["baselines"]:
            gain = "" if row["difference"] is None else f"{100 * row['difference']:+.2f}"
            lines.append(f"| {row['name']} | {100 * row['published_test_accuracy']:.2f} % | {gain} | {row['note']} |")
        lines.append("")
    lines += [
        counts_sentence(report),
        "",
        *(f"- {sentence}" for sentence in conditions(report)),
        "",
        f"Search {seconds['search']:.0f} s, refit {seconds['refit']:.0f} s, in all {seconds['total']:.0f} s of wall "
        f"clock and {report['cpu_seconds']:.0f} CPU seconds.",
        "",
        "```",
        report["command"],
        "```",
        "",
    ]
    return "\n".join(lines)


def headline(report: Document) -> str:
    """Return the answer in one phrase."""
    refit = report["refit"]
    if not refit:
        return f"validation accuracy {100 * report['best_trial']['val_accuracy']:.2f} %, not yet retrained"
    sd = refit["test_accuracy_sd"]
    error = f" ± {100 * sd:.2f}" if sd is not None else ""
    return f"test accuracy {100 * refit['test_accuracy_mean']:.2f}{error} %"


def counts_sentence(report: Document) -> str:
    """Return what became of the trials."""
    clock = f" ({report['n_stopped_by_clock']} by the clock)" if report["n_stopped_by_clock"] else ""
    twins = f", {report['n_duplicate']} duplicates told their twin's result" if report["n_duplicate"] else ""
    return (
        f"{report['n_trials']} trials: {report['n_complete']} complete, {report['n_pruned']} pruned{clock}, "
        f"{report['n_failed']} failed{twins}; {report['n_refused']} refused before training. "
        f"The pruner saved {100 * report['compute_saved_by_pruning']:.0f} % of the compute."
    )


def conditions(report: Document) -> list[str]:
    """Return what the search met with, and what of it another one may not."""
    caps, peaks = report["caps"], report["peaks"]
    lines = [
        "Deterministic: the same seed and the same number of workers give the same study, decisions included."
        if report["deterministic"]
        else "Not deterministic: with another timing of the workers, which trials are pruned and what the sampler "
        "proposes after them may differ; a trial's own curve does not (--deterministic fixes both)."
    ]
    if report["n_taken_up_again"] or report["workers_lost"]:
        lines.append(
            f"{report['n_taken_up_again']} trials were taken up again from their checkpoints; "
            f"{report['workers_lost']} workers were lost in the last run."
        )
    if report["n_redrawn"]:
        lines.append(f"{report['n_redrawn']} draws repeated values that were being trained, and were drawn again.")
    memory = "no cap" if caps["memory_mib"] is None else f"cap {caps['memory_mib']:,.0f}"
    seconds = "no cap" if caps["trial_seconds"] is None else f"cap {caps['trial_seconds']:,.0f}"
    held = "unknown" if peaks["memory_mib"] is None else f"{peaks['memory_mib']:,} MiB"
    lines += [
        f"Most memory that a trial's worker held: {held} ({memory}); "
        f"longest trial: {peaks['trial_seconds']:,.0f} s ({seconds}).",
        f"The run folder holds {report['run_folder_bytes'] / 1e6:.1f} MB.",
    ]
    return lines


def origin_sentence(best: Document) -> str:
    """Return where the winner comes from, and what the search gained over the entries that it started with."""
    if best["origin"] == "start_with":
        return "It is one of the configurations that the space starts with: the search found nothing better."
    gain = best["gain_over_best_start_with"]
    if gain is None:
        return "The search found it."
    return f"The search found it, {100 * gain:.2f} points above the best configuration that the space starts with."


def _curve_row(number: int, result: EpochResult) -> list[object]:
    return [number, *(getattr(result, column) for column in _CURVE_COLUMNS)]


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
