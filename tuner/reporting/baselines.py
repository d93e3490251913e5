"""The published networks as rows: published beside measured here, and a result beside both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tuner.data.sources import Source
from tuner.errors import SpaceError
from tuner.evaluation.measured import Measured
from tuner.evaluation.score import TestScore
from tuner.evaluation.statistics import mcnemar, two_proportions
from tuner.models.baselines import BASELINES, PUBLISHED
from tuner.models.baselines.baseline import Baseline
from tuner.runs import write_text

Row: TypeAlias = dict[str, Any]


def baseline_documents(chosen: Iterable[Baseline], found: Mapping[str, Measured], source: Source) -> list[Row]:
    """Return a row a baseline whose network these images are large enough for.

    Accuracies are fractions; published ones, and what is to be known about them, are of the real Fashion-MNIST only.
    """
    rows = []
    for baseline in chosen:
        try:
            cost = baseline.plan(source.input_shape, len(source.class_names)).cost
        except SpaceError:
            continue
        measured = found.get(baseline.name)
        mean, sd = measured.mean_and_sd if measured else (None, None)
        rows.append(
            {
                "name": baseline.name,
                "published_test_accuracy": baseline.test_accuracy if source.verified else None,
                "measured_test_accuracy": mean,
                "sd": sd,
                "seeds": measured.seeds if measured else 0,
                "epochs": measured.epochs if measured else baseline.epochs,
                "parameters": cost.parameters,
                "note": baseline.note if source.verified else "",
            }
        )
    return rows


def comparison(score: TestScore | None, found: Mapping[str, Measured], source: Source) -> list[Row]:
    """Return the rows of a report: each published figure, and each one measured on these images, beside ``score``.

    ``difference`` is the mean of the result's seeds less the measured mean, or less the published figure where nothing
    is measured. ``mcnemar`` compares the exported model with the baseline's first seed on the same images;
    ``p_published`` with the published figure, as if of as many other images.
    """
    chosen = [baseline for baseline in BASELINES.values() if baseline.name in found or baseline in PUBLISHED]
    rows = baseline_documents(chosen if source.verified else [b for b in chosen if b.name in found], found, source)
    for row in rows:
        measured, published = found.get(row["name"]), row["published_test_accuracy"]
        row |= {"difference": None, "mcnemar": None, "p_published": None}
        if score is None:
            continue
        beside = row["measured_test_accuracy"] if measured else published
        row["difference"] = score.mean_and_sd[0] - beside
        if measured:
            test = mcnemar(score.right, measured.right)
            row["mcnemar"] = {
                "only_ours": test.only_first,
                "only_theirs": test.only_second,
                "p_exact": test.p_exact,
                "p_corrected": test.p_corrected,
            }
        if published is not None:
            total = len(score.labels)
            row["p_published"] = two_proportions(int(score.right.sum()), total, round(published * total), total)
    return rows


def write_table_of(found: Mapping[str, Measured], folder: Path, source: Source) -> None:
    """Write ``table.md``: published beside measured, as the README shows it."""
    write_text(folder / "table.md", as_table(baseline_documents(BASELINES.values(), found, source)))


def as_table(rows: Iterable[Row]) -> str:
    """Return the rows in Markdown."""
    lines = [
        "| baseline | published | measured here | seeds | epochs | parameters | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        published = "–" if row["published_test_accuracy"] is None else f"{100 * row['published_test_accuracy']:.2f} %"
        measured = "–" if row["measured_test_accuracy"] is None else f"{100 * row['measured_test_accuracy']:.2f}"
        sd = f" ± {100 * row['sd']:.2f}" if row["sd"] is not None else ""
        unit = " %" if row["measured_test_accuracy"] is not None else ""
        lines.append(
            f"| {row['name']} | {published} | {measured}{sd}{unit} | {row['seeds'] or '–'} | {row['epochs']} "
            f"| {row['parameters']:,} | {row['note']} |"
        )
    return "\n".join(lines) + "\n"
