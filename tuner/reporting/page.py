"""The report to look at: one HTML file that needs nothing else, neither a network nor a script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup, escape

from tuner.records import METRICS, VAL_ACCURACY
from tuner.reporting.examples import Example
from tuner.reporting.exhibit import Exhibit, Omission
from tuner.reporting.report import Document
from tuner.reporting.sentences import (
    SCALE,
    averaged_sentence,
    balanced_test,
    class_rows,
    conditions,
    counts_sentence,
    data_sentence,
    finalist_rows,
    headline,
    interval_sentence,
    judged,
    listed,
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
    value_text,
    verdict,
    versions_sentence,
)
from tuner.reporting.story import Story

SECTIONS = ("answer", "training", "errors", "images", "search")


@dataclass(frozen=True)
class Drawn:
    """A figure as the page holds it."""

    name: str
    title: str
    seen: str
    reading: str
    svg: Markup

    @classmethod
    def of(cls, exhibit: Exhibit, svg: str) -> Drawn:
        """Return ``exhibit`` with its drawing, which escapes what it is told itself."""
        return cls(exhibit.name, exhibit.title, exhibit.seen, exhibit.reading, Markup(svg))  # noqa: S704  # matplotlib's


def as_page(story: Story, drawn: Sequence[tuple[str, Drawn]], omitted: Sequence[Omission]) -> str:
    """Return ``report.html``; ``drawn`` are figures by section."""
    report = story.report
    return render(
        "report.html.j2",
        title=f"{report['study']}: {headline(report)}",
        report=report,
        answer=_answer(report),
        baselines=[_baseline(row) for row in report["baselines"]],
        validation=validation_sentence(report),
        values=[(name, value_text(value)) for name, value in report["best_trial"]["values"].items()],
        scale=SCALE,
        finalists=finalist_rows(report),
        mistakes=mistakes_sentence(report) if report.get("analysis") else "",
        pairs=pair_rows(report),
        per_class=class_rows(report),
        images_shown=_images(story),
        counts=counts_sentence(report),
        conditions=conditions(report),
        took=seconds_sentence(report),
        command=escape(report["command"]),
        versions=versions_sentence(report),
        shown={section: [figure for where, figure in drawn if where == section] for section in SECTIONS},
        omitted={section: [one for one in omitted if one.section == section] for section in SECTIONS},
    )


def render(template: str, **content: Any) -> str:  # noqa: ANN401  # what the template asks for
    """Return a page; everything that is put into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tuner.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_held_together,
    )
    return environment.get_template(template).render(**content)


def _held_together(value: object) -> object:
    """Keep a figure and its sign on one line; what is marked up, or to be typed, stays as it is."""
    return re.sub(" (?=[%±])|(?<=±) ", "\N{NO-BREAK SPACE}", value) if type(value) is str else value


def _answer(report: Document) -> Document:
    """Return the headline in parts, and what has to be known with it."""
    best, refit = report["best_trial"], report["refit"]
    if not refit:
        return {
            "number": f"{100 * judged(best):.2f}",
            "error": "%",
            "unit": f"{METRICS[best.get('metric', VAL_ACCURACY)]}; the winner was not trained again yet",
            "verdict": "",
            "sentences": [],
            "facts": size_rows(best),
        }
    sd, seeds = refit["test_accuracy_sd"], len(refit["seeds"])
    low, high = (100 * bound for bound in refit["interval_95"])
    found = [refit_sentence(report), interval_sentence(report)]
    found += [data_sentence(report)] if data_sentence(report) else []
    found += [f"Note: {refit['note']}."] if refit["note"] else []
    found += [averaged_sentence(report)] if averaged_sentence(report) else []
    return {
        "number": f"{100 * refit['test_accuracy_mean']:.2f}",
        "error": f"± {100 * sd:.2f} %" if sd is not None else "%",
        "unit": f"test accuracy, mean ± SD of {seeds} seeds" if seeds > 1 else "test accuracy, one seed",
        "verdict": verdict(report),
        "sentences": found,
        "facts": [
            ("exported model", percent(refit["test_accuracies"][0])),
            ("its 95 % interval", f"{low:.2f}–{high:.2f} %"),
            *([("balanced", balanced_test(report))] if balanced_test(report) else []),
            ("on validation", percent(judged(best))),
            *size_rows(best),
            ("trials", report["n_trials"]),
        ],
    }


def _baseline(row: Document) -> tuple[object, ...]:
    return (
        row["name"],
        percent(row["published_test_accuracy"]),
        spread(row.get("measured_test_accuracy"), row.get("sd")) + (f" ({row['seeds']})" if row.get("seeds") else ""),
        points(row["difference"]),
        p_text(row["mcnemar"]["p_exact"] if row.get("mcnemar") else None),
        p_text(row.get("p_published")),
        f"{row['parameters']:,}" if row.get("parameters") else "–",
        row["note"],
    )


@dataclass(frozen=True)
class _Group:
    title: str
    examples: Sequence[Example]


def _images(story: Story) -> list[_Group]:
    """Return the groups of images under their titles."""
    groups = [_Group("The most confident mistakes", story.examples.get("mistakes", ()))]
    for pair, examples in story.pairs:
        groups.append(_Group(f"{listed(pair['names'])}: {pair['count']} mistakes", examples))
    groups.append(_Group("A sample, right and wrong as they come", story.examples.get("samples", ())))
    return [group for group in groups if group.examples]
