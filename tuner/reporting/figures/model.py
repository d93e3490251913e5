"""What became of the winner: how it trained, what it mistakes for what, how sure it is, and how it stands to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tuner.records import METRICS, VAL_ACCURACY, EpochResult
from tuner.reporting.figures.style import (
    BLUE,
    FAINT,
    GRID,
    INK,
    MUTED,
    ON_INK,
    ON_RED,
    PAPER,
    RED,
    accuracy_axis,
    legend_above,
    log_axis,
    paper,
    styled,
)

FULL_MATRIX = 20
"""Above so many classes the cells of the confusion matrix hold no figures."""
FEW = 20
"""Images in a bin: the share of right ones among fewer is mostly luck."""


@styled
def training_curves(searched: Sequence[EpochResult], refits: Sequence[Sequence[EpochResult]]) -> Figure:
    """Draw accuracy and loss by epoch: training and validation in the search, training in each refit."""
    figure, [panels] = paper(230, columns=2)
    for axes, key in zip(panels, ("accuracy", "loss"), strict=True):
        for k, curve in enumerate(refits):
            label = "refit, training" if k == 0 else None
            axes.plot(*_line(curve, key), color=MUTED, linewidth=0.9, label=label)
        if searched:
            axes.plot(*_line(searched, key), color=BLUE, linestyle=(0, (3, 1.5)), label="search, training")
            axes.plot(*_line(searched, f"val_{key}"), color=RED, marker="o", markersize=2.5, label="search, validation")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(visible=True, axis="y")
    accuracies = [value for curve in (searched, *refits) for row in curve for value in (row.accuracy, row.val_accuracy)]
    accuracy_axis(panels[0], [value for value in accuracies if value is not None])
    panels[0].set_ylabel("accuracy, %")
    panels[1].set_ylabel("loss")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


def _line(curve: Sequence[EpochResult], key: str) -> tuple[list[int], list[float]]:
    rows = [(row.epoch, getattr(row, key)) for row in curve if getattr(row, key) is not None]
    return [epoch for epoch, _ in rows], [value for _, value in rows]


@styled
def fractions(points: Sequence[Mapping[str, Any]], what: str = METRICS[VAL_ACCURACY]) -> Figure:
    """Draw what is reached on validation, as ``what`` calls it, against the number of training images."""
    figure, [[axes]] = paper(200)
    sizes, accuracies = ([point[key] for point in points] for key in ("train_images", "val_accuracy"))
    axes.plot(sizes, accuracies, color=BLUE, marker="o", markersize=4.5)
    log_axis(axes)
    accuracy_axis(axes, accuracies)
    axes.set_xlabel("training images")
    axes.set_ylabel(f"{what}, %")
    return figure


@styled
def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Draw which class (rows) was taken for which (columns): blue what is right, red what is not, by its share."""
    size = len(names)
    figure, [[axes]] = paper(358)
    most = max((_share(row, k) for j, row in enumerate(counts) for k in range(size) if k != j), default=0) or 1
    for j, row in enumerate(counts):
        for k, count in enumerate(row):
            share = _share(row, k)
            strength = share if j == k else 0.85 * share / most
            if strength > 0.01:  # noqa: PLR2004  # less cannot be seen
                colour = BLUE if j == k else RED
                axes.add_patch(Rectangle((k - 0.5, j - 0.5), 1, 1, facecolor=colour, alpha=strength, linewidth=0))
            if size <= FULL_MATRIX and count:
                small = 7 if size > 10 else 8  # noqa: PLR2004  # of 380 points
                on = INK if strength <= 0.7 else ON_INK if j == k else ON_RED  # noqa: PLR2004  # what both pages read
                axes.text(k, j, str(count), ha="center", va="center", fontsize=small, color=on)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    step = 1 if size <= 2 * FULL_MATRIX else -(-size // FULL_MATRIX)
    shown = range(0, size, step)
    axes.set_xticks(shown, [_cut(names[k]) for k in shown], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(shown, [_cut(names[k]) for k in shown])
    axes.tick_params(length=0)
    if size <= FULL_MATRIX:
        axes.set_xticks([k - 0.5 for k in range(1, size)], minor=True)
        axes.set_yticks([k - 0.5 for k in range(1, size)], minor=True)
        axes.grid(visible=True, which="minor", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted as")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
    return figure


def _share(row: Sequence[int], k: int) -> float:
    return row[k] / sum(row) if sum(row) else 0.0


def _cut(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"  # noqa: PLR2004  # letters beside the matrix


@styled
def per_class(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw precision, recall and F1 of every class, the weakest on top."""
    ordered = sorted((row for row in rows if row["f1"] is not None), key=lambda row: row["f1"])
    figure, [[axes]] = paper(52 + 17 * len(ordered))
    places = range(len(ordered))
    for row, place in zip(ordered, places, strict=True):
        ends = [row[key] for key in ("precision", "recall") if row[key] is not None]
        axes.plot([min(ends), max(ends)], [place, place], color=FAINT, linewidth=1, zorder=1)
    marks = (("precision", "<", BLUE, PAPER), ("recall", ">", RED, PAPER), ("f1", "o", INK, INK))
    for key, marker, colour, face in marks:
        there = [(row[key], place) for row, place in zip(ordered, places, strict=True) if row[key] is not None]
        axes.plot(*zip(*there, strict=True), linestyle="", marker=marker, markersize=5, color=colour,
                  markerfacecolor=face, label="F1" if key == "f1" else key)  # fmt: skip
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
    axes.set_yticks(places, [_cut(row["name"]) for row in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("%")
    legend_above(axes, columns=3)
    return figure


@styled
def reliability(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw how often the model is right by how sure it says it is, and how often it is that sure."""
    figure, [[axes], [below]] = paper(270, rows=2, height_ratios=[3, 1], sharex=True)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), label="as sure as right")
    total = sum(row["count"] for row in bins)
    many = [row for row in bins if row["count"] >= FEW]
    few = [row for row in bins if 0 < row["count"] < FEW]
    for row in many:
        axes.plot([row["confidence_mean"]] * 2, [row["confidence_mean"], row["accuracy"]], color=RED, linewidth=1)
    for rows, face, line, label in ((many, BLUE, "-", "this model"), (few, PAPER, "", f"under {FEW} images")):
        if rows:
            at = ([row["confidence_mean"] for row in rows], [row["accuracy"] for row in rows])
            axes.plot(*at, marker="o", markersize=4.5, color=BLUE, markerfacecolor=face, linestyle=line, linewidth=1,
                      label=label)  # fmt: skip
    axes.set_ylabel("right, %")
    axes.set_ylim(-0.02, 1.04)
    axes.grid(visible=True)
    legend_above(axes, columns=3)
    below.bar([row["low"] for row in bins], [row["count"] / max(1, total) for row in bins],
              [row["high"] - row["low"] for row in bins], align="edge", color=BLUE, edgecolor=PAPER)  # fmt: skip
    below.set_ylabel("images, %")
    below.set_xlabel("confidence, %")
    below.set_xlim(0, 1.02)
    for axis in (axes.xaxis, axes.yaxis, below.xaxis):
        axis.set_ticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "20", "40", "60", "80", "100"])
    top = max((row["count"] for row in bins), default=1) / max(1, total)
    below.set_yticks([0, top], ["0", f"{100 * top:.0f}"])
    return figure


@styled
def forest(rows: Sequence[Mapping[str, Any]], ours: Mapping[str, Any]) -> Figure:
    """Draw each baseline's test accuracy, as published and as measured, beside ours with its interval.

    ``ours`` holds mean, sd, interval (low, high) of the exported model.
    """
    figure, [[axes]] = paper(70 + 24 * (len(rows) + 1))
    low, high = ours["interval"]
    axes.axvspan(low, high, color=GRID, linewidth=0, zorder=0)
    axes.axvline(ours["mean"], color=BLUE, linewidth=0.8, zorder=0)
    seen = [low, high, ours["mean"]]
    _bar(axes, ours["mean"], ours["sd"], 0, (BLUE, "D"))
    for place, row in enumerate(rows, start=1):
        published, measured = row.get("published_test_accuracy"), row.get("measured_test_accuracy")
        if published is not None:
            axes.plot([published], [place], marker="o", markersize=6, color=INK, markerfacecolor=PAPER, zorder=3)
            seen.append(published)
        if measured is not None:
            _bar(axes, measured, row.get("sd"), place, (INK, "o"))
            seen.append(measured)
    accuracy_axis(axes, seen, horizontal=True, room=0.08)
    axes.set_yticks(range(len(rows) + 1), ["this search", *(_cut_long(str(row["name"])) for row in rows)])
    axes.set_ylim(len(rows) + 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("test accuracy, %")
    handles = [
        Line2D([], [], color=BLUE, marker="D", markersize=5, label="ours, mean ± SD"),
        Line2D([], [], color=INK, marker="o", markersize=5, label="measured ± SD"),
        Line2D([], [], color=INK, marker="o", markersize=6, markerfacecolor=PAPER, linestyle="", label="published"),
    ]
    legend_above(axes, columns=3, handles=handles)
    return figure


def _bar(axes: Axes, mean: float, sd: float | None, place: int, look: tuple[str, str]) -> None:
    colour, marker = look
    if sd:
        axes.plot([mean - sd, mean + sd], [place, place], color=colour, linewidth=1.6, zorder=3)
    axes.plot([mean], [place], marker=marker, markersize=5, color=colour, zorder=4)


def _cut_long(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"  # noqa: PLR2004  # letters beside the axis
