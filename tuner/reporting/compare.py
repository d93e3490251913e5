"""Studies side by side: one page, and the same as a document."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from markupsafe import escape

from tuner.evaluation.score import TestScore, read_score
from tuner.evaluation.statistics import mcnemar
from tuner.records import METRICS, VAL_ACCURACY, TrialSummary, Value
from tuner.reporting.again import Told
from tuner.reporting.exhibit import Exhibit
from tuner.reporting.figures.compare import races
from tuner.reporting.figures.style import as_svg
from tuner.reporting.findings import compute_of, trained
from tuner.reporting.page import Drawn, render
from tuner.reporting.report import Document
from tuner.reporting.sentences import SCALE, duration, headline, judged, listed, p_text, percent, spread, value_text
from tuner.reporting.verdict import PREDICTIONS
from tuner.runs import Outputs, write_text

REPORTS = "reports"
"""The folder of comparisons, in the output folder."""
LONGEST = 120
"""Letters of a file's name; file systems end at 255 bytes."""


def write_comparison(outputs: Outputs, told: Sequence[Told]) -> tuple[Path, Document]:
    """Write ``reports/compare-NAMES.html`` into the output folder; return it and what it says as a document."""
    names = "-".join(re.sub(r"[^\w.+=-]+", "_", one.story.report["study"]) for one in told)
    if len(names) > LONGEST:
        names = f"{names[:LONGEST]}-and-others"
    path = outputs.folder / REPORTS / f"compare-{names}.html"
    document = comparison(told)
    write_text(path, _as_page(told, document))
    return path, document


def comparison(told: Sequence[Told]) -> Document:
    """Return the studies' answers, what keeps them from being compared, and the winners' values that differ.

    ``pairs`` are tests of every two exported models on the same test images.
    """
    rows = [_row(one) for one in told]
    return {
        "studies": rows,
        "notes": _notes(rows),
        "values": differing([one.story.report["best_trial"]["values"] for one in told]),
        "pairs": _pairs(told),
    }


def differing(winners: Sequence[dict[str, Value]]) -> dict[str, list[Value]]:
    """Return by parameter what each winner has, where they do not all have the same; None where it is absent.

    >>> differing([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}])
    {'b': [2, 3], 'c': [None, 4]}
    """
    names = dict.fromkeys(itertools.chain.from_iterable(winners))
    rows = {name: [winner.get(name) for winner in winners] for name in names}
    return {name: row for name, row in rows.items() if len({(type(value), value) for value in row}) > 1}


def race(trials: Sequence[TrialSummary], cost: Callable[[TrialSummary], float]) -> list[tuple[float, float]]:
    """Return (what the trials took together so far, best complete validation accuracy so far), to the last trial."""
    steps: list[tuple[float, float]] = []
    spent = 0.0
    for trial in trained(trials):
        spent += cost(trial)
        accuracy = trial.val_accuracy
        if trial.state == "complete" and accuracy is not None and (not steps or accuracy > steps[-1][1]):
            steps.append((spent, accuracy))
    return [*steps, (spent, steps[-1][1])] if steps else []


def _row(told: Told) -> Document:
    story, report = told.story, told.story.report
    refit, best, seconds = report["refit"] or {}, report["best_trial"], report["wall_seconds"] or {}
    return {
        "study": report["study"],
        "space": report["space"],
        "data": report["data"],
        "data_digest": report.get("data_digest"),
        "command": report["command"],
        "test_accuracy_mean": refit.get("test_accuracy_mean"),
        "test_accuracy_sd": refit.get("test_accuracy_sd"),
        "interval_95": refit.get("interval_95"),
        "seeds": len(refit.get("seeds", ())),
        "metric": best.get("metric", VAL_ACCURACY),
        "val_accuracy": judged(best),
        "train_images": best["train_images"],
        "folds": story.settings.folds,
        "parameters": best["parameters"],
        "multiply_adds": best["multiply_adds"],
        "n_trials": report["n_trials"],
        "n_complete": report["n_complete"],
        "search_compute": sum(map(compute_of, trained(story.trials))),
        "training_seconds": round(sum(trial.seconds for trial in trained(story.trials)), 1),
        "wall_seconds": seconds.get("total"),
    }


def _notes(rows: Sequence[Document]) -> list[str]:
    """Return in what the searches were not alike, a sentence each; nothing where they were."""
    notes = []
    if not _alike(rows, "data_digest"):
        images = listed([f"{row['study']}: {row['data']}" for row in rows])
        notes.append(
            f"These studies searched different images ({images}), so that their accuracies cannot be set against each "
            "other."
        )
    if not _alike(rows, "metric"):
        each = listed([f"{row['study']} by {METRICS[row['metric']]}" for row in rows])
        notes.append(f"Their trials were not judged alike: {each}; figures of validation cannot be set side by side.")
    if not _alike(rows, "train_images", "folds"):
        each = listed([f"those of {row['study']} on {_share(row)}" for row in rows])
        notes.append(f"Their trials were not trained alike: {each}; accuracies and times differ for that, too.")
    return notes


def _share(row: Document) -> str:
    images = f"{row['train_images']:,} training images" if row["train_images"] else "all training images"
    return f"{images} in {row['folds']} folds" if row["folds"] > 1 else images


def _alike(rows: Sequence[Document], *keys: str) -> bool:
    return len({tuple(row[key] for key in keys) for row in rows}) == 1


def _pairs(told: Sequence[Told]) -> list[Document]:
    """Return McNemar's test of every two exported models that were scored on the same test images."""
    rows: list[Document] = []
    for (first, ours), (second, theirs) in itertools.combinations([(one.story.report, _score(one)) for one in told], 2):
        if ours is None or theirs is None or first.get("data_digest") != second.get("data_digest"):
            continue
        if not np.array_equal(ours.labels, theirs.labels):  # one of them was cut or altered
            continue
        test = mcnemar(ours.right, theirs.right)
        counts = {"only_first": test.only_first, "only_second": test.only_second}
        rows.append({"studies": [first["study"], second["study"]], **counts, "p_exact": test.p_exact})
    return rows


def _score(told: Told) -> TestScore | None:
    return read_score(told.folder / PREDICTIONS) if told.story.report["refit"] else None


def _exhibits(told: Sequence[Told], rows: Sequence[Document]) -> list[Exhibit]:
    """Return the races that can be run: none on different images, and by compute only where an epoch is of as many."""
    if not _alike(rows, "data_digest", "metric"):
        return []
    costs: list[tuple[str, str, Callable[[TrialSummary], float]]] = [
        ("trials", "trained trials", lambda _: 1.0),
        ("seconds", "hours of training, all workers together", lambda trial: trial.seconds / 3600),
    ]
    if _alike(rows, "train_images", "folds"):
        costs.append(("compute", "multiply-adds of an image, times epochs", compute_of))
    shown = []
    for name, unit, cost in costs:
        lines = {one.story.report["study"]: race(one.story.trials, cost) for one in told}
        lines = {study: steps for study, steps in lines.items() if steps}
        best, steps = max(lines.items(), key=lambda line: line[1][-1][1])
        seen = f"{best} ends highest, at {percent(steps[-1][1])} of the validation images."
        title = {"trials": "By trials", "seconds": "By time", "compute": "By compute"}[name]
        shown.append(Exhibit("search", name, title, f"Best validation accuracy so far, by {unit}", seen, "",
                             lambda lines=lines, unit=unit: races(lines, unit)))  # type: ignore[misc]  # fmt: skip
    return shown


def _as_page(told: Sequence[Told], document: Document) -> str:
    rows = document["studies"]
    names = [row["study"] for row in rows]
    scored = [k for k, row in enumerate(rows) if row["test_accuracy_mean"] is not None]
    if not _alike(rows, "data_digest"):
        scored = []  # none of them is the best
    return render(
        "compare.html.j2",
        title=f"{listed(names)} compared",
        names=names,
        answers=[(row["study"], headline(one.story.report)) for row, one in zip(rows, told, strict=True)],
        notes=document["notes"],
        best=max(scored, key=lambda k: rows[k]["test_accuracy_mean"], default=None),
        table_rows=[
            (
                row["study"],
                _accuracy(row),
                "–".join(f"{100 * bound:.2f}" for bound in row["interval_95"] or ()),
                percent(row["val_accuracy"]),
                f"{row['n_complete']} of {row['n_trials']}",
                f"{row['parameters']:,}" if row["parameters"] else "–",
                f"{row['multiply_adds'] / 1e6:.1f} M" if row["multiply_adds"] else "–",
                duration(row["training_seconds"]),
                duration(row["wall_seconds"]) if row["wall_seconds"] else "–",
            )
            for row in rows
        ],
        pairs=[
            (*pair["studies"], pair["only_first"], pair["only_second"], p_text(pair["p_exact"]))
            for pair in document["pairs"]
        ],
        values=[
            (name, *("–" if value is None else value_text(value) for value in row))
            for name, row in document["values"].items()
        ],
        figures=[Drawn.of(one, as_svg(one.draw(), one.name, one.label)) for one in _exhibits(told, rows)],
        scale=SCALE,
        commands=[(row["study"], escape(row["command"])) for row in rows],
    )


def _accuracy(row: Document) -> str:
    seeds = f" ({row['seeds']})" if row["seeds"] else ""
    return spread(row["test_accuracy_mean"], row["test_accuracy_sd"]) + seeds
