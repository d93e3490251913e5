"""The figures of a simulation, drawn from its tables alone."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.landscape.simulate import ABOUT, ANYTIME, SUMMARY
from benchmarks.landscape.strategies import STRATEGIES, Peer
from benchmarks.landscape.table import CHANCE
from tuner.errors import UsageError
from tuner.reporting.figures.style import (
    BLUE,
    FAINT,
    GOLD,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    RED,
    accuracy_axis,
    legend_above,
    log_axis,
    paper,
    styled,
    write_png,
)

OURS, BARE = "ours", "ours, no entries"
GIVEN = ", entries"
"""After the name of a peer that is given the space's known-good entries: drawn as without them, dashed."""
PEER_INKS = (INK, GOLD, GREEN, PURPLE, RED, MUTED, FAINT)
VARIANT, HELPED = "#8fbfdc", "#ecb78f"
NEAR = "0.1"
"""Points below the table's best."""
Rows = Sequence[Mapping[str, str]]


def draw(folder: Path) -> list[str]:
    """Draw every figure into ``folder``, and return their paths. Raises UsageError where no tables are."""
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        tables = [list(csv.DictReader((folder / name).read_text("utf-8").splitlines())) for name in (ANYTIME, SUMMARY)]
    except OSError as error:
        hint = "python -m benchmarks.landscape simulate"
        raise UsageError(f"{error.filename}: {error.strerror}", hint=hint) from None
    figures = {"anytime.png": anytime(tables[0], about), "compute.png": compute(tables[1], about)}
    for name, figure in figures.items():
        write_png(figure, folder / name)
    return [str(folder / name) for name in figures]


@styled
def anytime(rows: Rows, about: Mapping[str, Any]) -> Figure:
    """Draw how good the answer is by compute: the median of each strategy, and for ours the quartiles around it."""
    figure, [[axes]] = paper(290)
    names = [name for name in dict.fromkeys(row["strategy"] for row in rows) if name in (OURS, BARE) or _is_peer(name)]
    inks = dict(zip(names, _inks(names), strict=True))
    handles: list[Line2D] = []
    shown = [about["best"]]
    for name in reversed(names):
        own = [row for row in rows if row["strategy"] == name]
        seconds, low, median, high = (
            [float(row[key]) for row in own] for key in ("cpu_seconds", "low", "median", "high")
        )
        if name == OURS:
            axes.fill_between(seconds, low, high, step="post", color=BLUE, alpha=0.15, linewidth=0)
        median = [accuracy if accuracy > CHANCE else math.nan for accuracy in median]  # no answer yet
        line = {
            "color": inks[name],
            "linewidth": 2 if name == OURS else 1.2,
            "linestyle": "--" if name.endswith(GIVEN) else "-",
        }
        axes.step(seconds, median, where="post", **line)
        handles.insert(0, Line2D([], [], label=name, **line))
        shown += [accuracy for accuracy in median if accuracy > about["best"] - 0.06]
    axes.axhline(about["best"], color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)))
    accuracy_axis(axes, shown)
    axes.set_xlim(about["full_training_seconds"], about["full_training_seconds"] * about["budget_trainings"])
    log_axis(axes)
    axes.set_xlabel(
        f"CPU seconds (a full training takes {about['full_training_seconds']:.0f}; dotted: the best there is)"
    )
    axes.set_ylabel(f"validation accuracy, median of {about['seeds']} seeds")
    legend_above(axes, columns=2, handles=handles)
    return figure


@styled
def compute(rows: Rows, about: Mapping[str, Any]) -> Figure:
    """Draw what each strategy needs to come near the best: a bar to the median, a line from quartile to quartile."""
    budget = about["budget_trainings"]
    ranked = sorted(rows, key=lambda row: (_trainings(row, "median", about), -float(row[f"to_{NEAR}_share"])))
    figure, [[axes]] = paper(60 + 13 * len(ranked))
    inks = [_kind_ink(row["strategy"]) for row in ranked]
    for place, (row, ink) in enumerate(zip(ranked, inks, strict=True)):
        low, median, high = (_trainings(row, which, about) for which in ("low", "median", "high"))
        if math.isfinite(median):
            axes.barh(place, median, 0.7, color=ink)
            axes.plot([low, min(high, budget)], [place, place], color=INK, linewidth=0.8)
        else:
            share = float(row[f"to_{NEAR}_share"])
            axes.annotate(f"not by then ({share:.0%} of the seeds)", (0, place), (3, 0), textcoords="offset points",
                          va="center", fontsize=7, color=MUTED)  # fmt: skip
    axes.set_yticks(range(len(ranked)), [row["strategy"] for row in ranked], fontsize=7)
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.set_xlim(0, budget)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(f"full trainings until within {NEAR} points of the best")
    kinds = {BLUE: "our default", VARIANT: "ours, set otherwise", RED: "peers", HELPED: "peers, given our entries"}
    handles = [Line2D([], [], color=ink, linewidth=6, label=kinds[ink]) for ink in kinds if ink in inks]
    legend_above(axes, columns=2, handles=handles)
    return figure


def _trainings(row: Mapping[str, str], which: str, about: Mapping[str, Any]) -> float:
    seconds = row[f"to_{NEAR}_{which}"]
    return float(seconds) / about["full_training_seconds"] if seconds else math.inf


def _kind_ink(name: str) -> str:
    if _is_peer(name):
        return HELPED if name.endswith(GIVEN) else RED
    return BLUE if name == OURS else VARIANT


def _is_peer(name: str) -> bool:
    return isinstance(STRATEGIES.get(name), Peer)


def _inks(names: Sequence[str]) -> list[str]:
    peers = dict.fromkeys(name.removesuffix(GIVEN) for name in names if _is_peer(name))
    inks = dict(zip(peers, PEER_INKS * len(peers), strict=False))
    return [inks.get(name.removesuffix(GIVEN)) or _kind_ink(name) for name in names]
