"""How the search went: its history, the curves of its trials, where its compute went, accuracy against size."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tuner.records import TrialSummary
from tuner.reporting.figures.style import (
    BLUE,
    FAINT,
    GOLD,
    INK,
    MUTED,
    ON_INK,
    ON_RED,
    PAPER,
    PURPLE,
    RED,
    accuracy_axis,
    legend_above,
    log_axis,
    paper,
    styled,
)
from tuner.reporting.findings import FATES, best_so_far, judged_by, last_accuracy, pareto_front, thinned, trained

FATE_COLOURS = {"complete": BLUE, "pruned": FAINT, "clock": GOLD, "failed": PURPLE, "running": MUTED}
FATE_WORDS = {
    "complete": "complete",
    "pruned": "pruned",
    "clock": "by the clock",
    "failed": "failed",
    "running": "unfinished",
}
MOST_POINTS, MOST_CURVES = 600, 250
"""Above these a page would weigh more than it shows."""


@styled
def history(trials: Sequence[TrialSummary], winner: int) -> Figure:
    """Draw every trained trial by its number, and the best complete one so far."""
    figure, [[axes]] = paper(220)
    drawn = thinned(trained(trials), MOST_POINTS)
    _mark_winner(axes, trials, winner, lambda trial: trial.number)
    steps = best_so_far(trials)
    if steps:
        last = (max((trial.number for trial in drawn), default=0), steps[-1][1])
        axes.step(*zip(*steps, last, strict=True), where="post", color=INK, linewidth=1, label="best so far")
    _points(axes, drawn, lambda trial: trial.number)
    accuracy_axis(axes, map(last_accuracy, drawn))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(judged_by(trials))
    legend_above(axes, columns=5)
    return figure


@styled
def learning_curves(trials: Sequence[TrialSummary], winner: int, rungs: Sequence[int]) -> Figure:
    """Draw the validation accuracy of every trial by epoch, coloured by what became of it, the winner over all."""
    figure, [[axes]] = paper(240)
    drawn = thinned(trained(trials), MOST_CURVES)
    for rung in rungs:
        axes.axvline(rung, color=FAINT, linewidth=0.7, linestyle=(0, (2, 2)), zorder=0)
    handles: list[Line2D] = []
    for fate in reversed(FATES):
        curves = [t.path for t in drawn if t.state == fate]
        if curves:
            colour = FATE_COLOURS[fate]
            axes.add_collection(LineCollection(curves, colors=colour, linewidths=0.8, alpha=0.75))
            ends = [curve[-1] for curve in curves]
            axes.plot(*zip(*ends, strict=True), linestyle="", marker="o", markersize=1.8, color=colour)
            handles.insert(0, Line2D([], [], color=colour, label=FATE_WORDS[fate]))
    for trial in trials:
        if trial.number == winner and trial.curve:
            (line,) = axes.plot(*zip(*trial.path, strict=True), color=RED, linewidth=2, marker="o", markersize=3.5)
            line.set_label(f"winner, trial {winner}")
            handles.insert(0, line)
    accuracy_axis(axes, [reached for trial in drawn for _, reached in trial.path])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch" + ("  (dotted: where the pruner decides)" if rungs else ""))
    axes.set_ylabel(judged_by(trials))
    legend_above(axes, handles=handles)
    return figure


@styled
def compute(rows: Sequence[Mapping[str, int]], shares: Mapping[str, float], rungs: Sequence[int]) -> Figure:
    """Draw how many trials trained each epoch, and how the compute divides by what became of them."""
    figure, [[survivors], [bar]] = paper(250, rows=2, height_ratios=[5, 1])
    epochs = range(1, len(rows) + 1)
    floor = [0] * len(rows)
    words = {**FATE_WORDS, "on": "trained on", "pruned": "pruned here"}
    colours = {**FATE_COLOURS, "on": "#8fbfdc"}
    for key in ("complete", "on", *FATES[1:]):
        counts = [row[key] for row in rows]
        if any(counts):
            survivors.bar(epochs, counts, 0.72, floor, color=colours[key], label=words[key])
            floor = [below + count for below, count in zip(floor, counts, strict=True)]
    for epoch, total in zip(epochs, floor, strict=True):
        if len(rows) <= 20 and total:  # noqa: PLR2004  # more would touch each other
            survivors.annotate(str(total), (epoch, total), (0, 2), textcoords="offset points", ha="center")
    survivors.set_xlabel("epoch" + (f"  (the pruner decides after {_listed(rungs)})" if rungs else ""))
    survivors.set_ylabel("trials that trained it")
    survivors.xaxis.set_major_locator(MaxNLocator(integer=True))
    survivors.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    survivors.set_ylim(0, 1.12 * max(floor, default=1))
    legend_above(survivors, columns=5)
    _share_bar(bar, shares)
    return figure


def _share_bar(axes: Axes, shares: Mapping[str, float]) -> None:
    left = 0.0
    for fate, share in shares.items():
        axes.barh(0, share, 0.8, left, color=FATE_COLOURS[fate], edgecolor=PAPER, linewidth=0.8)
        if share > 0.08:  # noqa: PLR2004  # less does not hold its figure
            dark = fate in ("complete", "failed", "running")
            axes.text(left + share / 2, 0, f"{100 * share:.0f} %", ha="center", va="center",
                      color=ON_INK if dark else ON_RED)  # fmt: skip
        left += share
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel("share of the multiply-adds, in the same colours")


@styled
def sizes(trials: Sequence[TrialSummary], winner: int) -> Figure:
    """Draw validation accuracy against multiply-adds and against parameters, with the front that nothing beats."""
    figure, [panels] = paper(220, columns=2, sharey=True)
    drawn = [trial for trial in thinned(trained(trials), MOST_POINTS) if trial.cost]
    for axes, name in zip(panels, ("multiply_adds", "parameters"), strict=True):
        size_of = operator.attrgetter(f"cost.{name}")
        _points(axes, drawn, size_of)
        complete = [t for t in trials if t.state == "complete" and t.cost and t.curve]
        points = [(size_of(t), last_accuracy(t)) for t in complete]
        front = [points[k] for k in pareto_front(points)]
        axes.step(*zip(*front, strict=True), where="post", color=INK, linewidth=1, label="Pareto front")
        _mark_winner(axes, trials, winner, size_of)
        axes.set_xlabel(name.replace("_", "-"))
        log_axis(axes)
        accuracy_axis(axes, map(last_accuracy, drawn))
    panels[0].set_ylabel(judged_by(trials))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure


def _points(axes: Axes, trials: Sequence[TrialSummary], x_of: Callable[[TrialSummary], float]) -> None:
    """Draw trials by what became of them: complete ones filled, those that were not trained to the end open."""
    for fate in FATES:
        of_it = [trial for trial in trials if trial.state == fate]
        if of_it:
            face = FATE_COLOURS[fate] if fate == "complete" else "none"
            axes.plot(list(map(x_of, of_it)), list(map(last_accuracy, of_it)), linestyle="", marker="o", markersize=4,
                      markerfacecolor=face, markeredgewidth=0.9, markeredgecolor=FATE_COLOURS[fate],
                      label=FATE_WORDS[fate])  # fmt: skip


def _mark_winner(
    axes: Axes, trials: Sequence[TrialSummary], winner: int, x_of: Callable[[TrialSummary], float]
) -> None:
    for trial in trials:
        if trial.number == winner and trial.curve:
            axes.plot([x_of(trial)], [last_accuracy(trial)], linestyle="", marker="D", markersize=6.5, color=RED,
                      markeredgecolor=PAPER, markeredgewidth=0.8, label="winner", zorder=5)  # fmt: skip


def _listed(epochs: Sequence[int]) -> str:
    text = ", ".join(str(epoch) for epoch in epochs[:-1])
    return f"{text} and {epochs[-1]}" if text else str(epochs[-1])
