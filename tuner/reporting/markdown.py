"""The report to read as text: report.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from tuner.reporting.report import Document
from tuner.reporting.sentences import (
    SCALE,
    averaged_sentence,
    class_rows,
    conditions,
    counts_sentence,
    data_sentence,
    finalist_rows,
    headline,
    interval_sentence,
    mistakes_sentence,
    p_text,
    pair_rows,
    percent,
    points,
    refit_sentence,
    seconds_sentence,
    size_rows,
    spread,
    validation_sentence,
    value_rows,
    verdict,
)


class Shown(Protocol):
    """What a report links of a figure."""

    @property
    def name(self) -> str:
        """Return its file's name, without the suffix."""

    @property
    def title(self) -> str:
        """Return what stands over it."""

    @property
    def caption(self) -> str:
        """Return what is seen on it."""


def as_markdown(report: Document, figures: Sequence[Shown] = ()) -> str:
    """Return the report to read: the answer first, the command that makes it last."""
    best, refit = report["best_trial"], report["refit"]
    paragraphs = [f"# {plain(report['study'])}: {headline(report)}"]
    if refit:
        paragraphs += [verdict(report), f"{refit_sentence(report)} {interval_sentence(report)}"]
        paragraphs.append(data_sentence(report))
        paragraphs += [f"Note: {refit['note']}." if refit["note"] else "", averaged_sentence(report)]
    paragraphs += [validation_sentence(report), _baselines(report["baselines"])]
    paragraphs += ["## The winner", table(("winner", ""), [*value_rows(best), *size_rows(best)])]
    if report.get("finalists"):
        header = ("finalist", "mean on validation", "by fresh seed")
        paragraphs.append("The finalists were judged again on validation, with fresh seeds:")
        paragraphs.append(table(header, finalist_rows(report)))
    if report.get("analysis"):
        paragraphs += ["## What it gets wrong", mistakes_sentence(report), *_errors(report)]
    if figures:
        paragraphs += ["## Figures", SCALE]
        for shown in figures:
            title = plain(shown.title)
            paragraphs += [f"![{title}](figures/{shown.name}.png)", f"**{title}.** {plain(shown.caption)}"]
    paragraphs += ["## The search", counts_sentence(report), "\n".join(f"- {line}" for line in conditions(report))]
    paragraphs += [seconds_sentence(report), f"```\n{report['command']}\n```"]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _baselines(rows: Sequence[Document]) -> str:
    if not rows:
        return ""
    header = ("baseline", "published", "measured here", "ours minus", "p, same images", "p, published", "note")
    return table(
        header,
        [
            (
                row["name"],
                percent(row["published_test_accuracy"]),
                spread(row.get("measured_test_accuracy"), row.get("sd")),
                points(row["difference"]),
                p_text(row["mcnemar"]["p_exact"] if row.get("mcnemar") else None),
                p_text(row.get("p_published")),
                row["note"],
            )
            for row in rows
        ],
    )


def _errors(report: Document) -> Iterable[str]:
    if pairs := pair_rows(report):
        yield table(("most confused, A and B", "mistakes", "A as B", "B as A"), pairs)
    yield table(("class", "images", "precision", "recall", "F1"), class_rows(report))


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table, whatever its cells hold."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    """Return what a cell holds: a bar would end it, and a tag would be one."""
    return re.sub(r"\||<(?=[A-Za-z/!?])", r"\\\g<0>", " ".join(str(value).split()))


def plain(text: str) -> str:
    """Return text that no Markdown stands in, whatever the classes and parameters are called."""
    return re.sub(r"[\\`*\[\]]|<(?=[A-Za-z/!?])", r"\\\g<0>", text)
