"""What the search learnt about the space: which parameters matter, and which of their values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tuner.records import TrialSummary, Value, seed_for
from tuner.reporting.figures.style import (
    BLUE,
    FAINT,
    GOLD,
    GREEN,
    INK,
    MUTED,
    PAPER,
    PURPLE,
    RED,
    accuracy_axis,
    legend_above,
    log_axis,
    paper,
    styled,
)
from tuner.reporting.findings import judged_by, last_accuracy, ranking, thinned, trained
from tuner.space.parameters import Choice, Fixed, Int, Parameter, Space

MOST_POINTS, MOST_LINES = 300, 160
ABSENT = -0.12
"""Where a line passes the axis of a parameter that its trial does not have."""
KINDS = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (PURPLE, "D"), (GOLD, "v"), (MUTED, "P"))
"""Colour and shape of a category: never the colour alone."""


@styled
def importance(shares: Mapping[str, float], clear: Collection[str]) -> Figure:
    """Draw how much of being among the best each parameter accounts for: open bars are no more than chance gives."""
    names = list(shares)
    figure, [[axes]] = paper(56 + 15 * len(names))
    heights = [100 * shares[name] for name in names]
    for row, name in enumerate(names):
        face = BLUE if name in clear else PAPER
        axes.barh(row, heights[row], 0.66, color=face, edgecolor=BLUE if name in clear else FAINT, linewidth=0.8)
    for row, height in enumerate(heights):
        axes.annotate(f"{height:.0f}", (height, row), (3, 0), textcoords="offset points", va="center", color=MUTED)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("importance, %")
    axes.set_xlim(0, 1.1 * max(heights, default=1))
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=BLUE, label="more than chance gives"),
        Rectangle((0, 0), 1, 1, facecolor=PAPER, edgecolor=FAINT, label="no more than chance"),
    ]
    legend_above(axes, handles=handles)
    return figure


@styled
def slices(space: Space, trials: Sequence[TrialSummary], names: Sequence[str], winner: int) -> Figure:
    """Draw validation accuracy against each of a few parameters, one panel each."""
    rows = math.ceil(len(names) / 2)
    figure, panels = paper(36 + 128 * rows, rows=rows, columns=2, sharey=True)
    drawn = thinned(trained(trials), MOST_POINTS)
    for axes, name in zip(itertools.chain.from_iterable(panels), names, strict=False):
        scale = Scale(space.parameters[name], [t.values[name] for t in drawn if name in t.values])
        for complete, colour, face in ((False, FAINT, "none"), (True, BLUE, BLUE)):
            of_it = [t for t in drawn if (t.state == "complete") == complete and name in t.values]
            x = [scale.place(t.values[name], aside=t.number) for t in of_it]
            label = "complete" if complete else "not trained to the end"
            axes.plot(x, [last_accuracy(t) for t in of_it], linestyle="", marker="o", markersize=3.2,
                      markerfacecolor=face, markeredgecolor=colour, markeredgewidth=0.8, label=label)  # fmt: skip
        for trial in drawn:
            if trial.number == winner and name in trial.values:
                axes.plot([scale.place(trial.values[name], aside=winner)], [last_accuracy(trial)], linestyle="",
                          marker="D", markersize=6, color=RED, markeredgecolor=PAPER, label="winner")  # fmt: skip
        scale.dress(axes)
        axes.set_xlabel(name)
        accuracy_axis(axes, map(last_accuracy, drawn))
    for axes in list(itertools.chain.from_iterable(panels))[len(names) :]:
        axes.set_visible(False)
    for axes, *_ in panels:
        axes.set_ylabel(judged_by(trials).replace(" accuracy", ""))
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


@styled
def learning_rate(trials: Sequence[TrialSummary], name: str, by: str | None) -> Figure:
    """Draw validation accuracy against the learning rate, told apart by the parameter ``by``, e.g. the optimizer."""
    figure, [[axes]] = paper(220)
    drawn = [t for t in thinned(trained(trials), MOST_POINTS) if name in t.values]
    groups = sorted({str(t.values.get(by)) for t in drawn}) if by else [""]
    for group, (colour, marker) in zip(groups, KINDS, strict=False):
        of_it = [t for t in drawn if by is None or str(t.values.get(by)) == group]
        for complete in (False, True):
            part = [t for t in of_it if (t.state == "complete") == complete]
            axes.plot([float(t.values[name] or 0.0) for t in part], [last_accuracy(t) for t in part], linestyle="",
                      marker=marker, markersize=4.5, markeredgecolor=colour, markeredgewidth=0.9,
                      markerfacecolor=colour if complete else "none", alpha=1 if complete else 0.6)  # fmt: skip
    log_axis(axes)
    axes.set_xlabel("learning rate" if name == "learning_rate" else name)
    axes.set_ylabel(judged_by(trials))
    accuracy_axis(axes, map(last_accuracy, drawn))
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=4.5, label=group)
        for group, (colour, marker) in zip(groups, KINDS, strict=False)
        if by
    ]
    handles.append(
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=4.5,
            markerfacecolor="none",
            markeredgecolor=MUTED,
            label="open: not complete",
        )
    )
    legend_above(axes, columns=5, handles=handles)
    return figure


@styled
def parallel(space: Space, trials: Sequence[TrialSummary], names: Sequence[str], winner: int) -> Figure:
    """Draw each trial as a line over a few parameters to its accuracy; the best quarter in blue.

    Ranks, and the quarter, are of all trials; the lines that are drawn of many are some of them.
    """
    figure, [[axes]] = paper(250)
    drawn = thinned([t for t in trained(trials) if t.state != "failed"], MOST_LINES)
    scales = [Scale(space.parameters[name], [t.values[name] for t in drawn if name in t.values]) for name in names]
    ranked, quarter = ranking(trials)
    best = ranked[quarter - 1]
    lines: dict[str, list[list[tuple[float, float]]]] = {FAINT: [], BLUE: [], RED: []}
    for trial in drawn:
        path = [
            (float(k), scale.share(trial.values[name]) if name in trial.values else ABSENT)
            for k, (name, scale) in enumerate(zip(names, scales, strict=True))
        ]
        accuracy = last_accuracy(trial)
        path.append((float(len(names)), 1 - sum(other > accuracy for other in ranked) / max(1, len(ranked) - 1)))
        lines[RED if trial.number == winner else BLUE if accuracy >= best else FAINT].append(path)
    words = {FAINT: "the others", BLUE: "best quarter", RED: "winner"}
    for colour, width in ((FAINT, 0.6), (BLUE, 1.0), (RED, 2.2)):
        axes.add_collection(LineCollection(lines[colour], colors=colour, linewidths=width, alpha=0.8))
    lowest = -0.04
    for k, (name, scale) in enumerate(zip(names, scales, strict=True)):
        _rail(axes, k, [(scale.share(value), text) for value, text in scale.ticks()])
        if any(name not in trial.values for trial in drawn):
            _tick(axes, k, ABSENT, "absent")
            lowest = ABSENT - 0.06
    _rail(axes, len(names), [(0, f"{100 * ranked[-1]:.1f}"), (1, f"{100 * ranked[0]:.1f}")])
    axes.set_xlim(-0.35, len(names) + 0.45)
    axes.set_ylim(lowest, 1.06)
    axes.set_xticks(range(len(names) + 1), [*(_broken(name) for name in names), "validation\nrank, %"])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0)
    legend_above(axes, handles=[Line2D([], [], color=colour, label=words[colour]) for colour in (RED, BLUE, FAINT)])
    return figure


def _rail(axes: Axes, k: int, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([k, k], [0, 1], color=MUTED, linewidth=0.8, zorder=3)
    for height, text in ticks:
        _tick(axes, k, height, text)


def _tick(axes: Axes, k: int, height: float, text: str) -> None:
    axes.annotate(
        text, (k, height), (3, 0), textcoords="offset points", va="center", fontsize=7, color=INK,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8}, zorder=6,
    )  # fmt: skip


def _broken(name: str) -> str:
    """Return a name on two lines where it is long."""
    head, _, tail = name.rpartition("_")
    return f"{head}\n{tail}" if head and len(name) > 9 else name  # noqa: PLR2004  # what stands beside the next


class Scale:
    """Where the values of a parameter stand on an axis: as they are, by logarithm, or one category beside the next."""

    def __init__(self, parameter: Parameter, values: Sequence[Value]) -> None:
        """Scale by the parameter's own range; a choice by those of its options that occur."""
        self.log = not isinstance(parameter, Choice | Fixed) and parameter.log
        self.whole = isinstance(parameter, Int)
        seen = {(type(value), value) for value in values}
        self.options: list[Value] | None = None
        self.low = self.high = 0.0
        if isinstance(parameter, Choice | Fixed):
            self.options = [value for value in parameter.grid() if (type(value), value) in seen]
        else:
            self.low, self.high = float(parameter.low), float(parameter.high)

    def place(self, value: Value, *, aside: int | None = None) -> float:
        """Return where ``value`` stands; categories a little aside, the same for the same trial."""
        if self.options is None:
            return float(value)  # type: ignore[arg-type]  # numbers, in a range
        shift = 0.0 if aside is None else (seed_for("aside", aside) % 1000 / 1000 - 0.5) * 0.4
        return (
            next(k for k, option in enumerate(self.options) if (type(option), option) == (type(value), value)) + shift
        )

    def share(self, value: Value) -> float:
        """Return where ``value`` stands between the least (0) and the greatest (1)."""
        if self.options is not None:
            return (self.place(value) + 0.5) / len(self.options)
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, self.place(value)))
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[Value, str]]:
        """Return the values to name on the axis."""
        ends: list[Value] = [self.low, self.high] if self.options is None else self.options
        return [(value, short(value)) for value in ends]

    def dress(self, axes: Axes) -> None:
        """Give ``axes`` this scale."""
        if self.options is not None:
            texts = [short(option) for option in self.options]
            crowded = sum(map(len, texts)) > 26  # noqa: PLR2004  # letters that half the figure's width holds
            axes.set_xticks(
                range(len(texts)), texts, rotation=30 if crowded else 0, ha="right" if crowded else "center"
            )
            axes.set_xlim(-0.5, len(texts) - 0.5)
        elif self.log:
            log_axis(axes)
        elif self.whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def short(value: Value, most: int = 12) -> str:
    """Return a value in few letters.

    >>> short(0.00312345), short("a-very-long-option"), short(True)
    ('0.0031', 'a-very-long…', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}" if value == round(value) else f"{value:.2g}"
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
