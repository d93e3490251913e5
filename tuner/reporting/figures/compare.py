"""Several searches in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tuner.reporting.figures.style import (
    BLUE,
    GOLD,
    GREEN,
    MUTED,
    PURPLE,
    RED,
    accuracy_axis,
    legend_above,
    paper,
    plain,
    styled,
)

LOOKS = (
    (BLUE, "-"),
    (RED, (0, (5, 2))),
    (GREEN, (0, (1.5, 1.5))),
    (PURPLE, (0, (5, 1.5, 1, 1.5))),
    (GOLD, "-"),
    (MUTED, "--"),
)
"""Colour and stroke of each study, in turn: never the colour alone."""


@styled
def races(lines: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> Figure:
    """Draw the best complete trial's validation accuracy so far against what it took, a line a study."""
    figure, [[axes]] = paper(230 + 12 * (len(lines) // 3))
    for number, (name, steps) in enumerate(lines.items()):
        colour, stroke = LOOKS[number % len(LOOKS)]
        label = name if len(name) <= 24 else name[:23] + "…"  # noqa: PLR2004  # letters that the legend holds
        axes.step(*zip(*steps, strict=True), where="post", color=colour, linestyle=stroke, label=label)
    accuracy_axis(axes, [best for steps in lines.values() for _, best in steps])
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value) if value else "0"))
    axes.set_xlabel(unit)
    axes.set_ylabel("best validation accuracy, %")
    legend_above(axes, columns=3)
    return figure
