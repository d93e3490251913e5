"""The best validation accuracy so far against CPU seconds: each system's median, and each of its runs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.live.events import SYSTEMS, median_steps
from benchmarks.live.tables import Kept
from tuner.reporting.figures.compare import LOOKS
from tuner.reporting.figures.style import accuracy_axis, legend_above, paper, styled

SHOWN = 0.85
"""What lies below is left out where anything lies above: everybody's first epochs."""


@styled
def anytime(kept: Sequence[Kept]) -> Figure:
    """Draw the runs."""
    figure, [[axes]] = paper(240)
    end = max(run.cpu_seconds for run in kept)
    for (system, name), (colour, stroke) in zip(SYSTEMS.items(), LOOKS, strict=False):
        own = [run.steps for run in kept if run.system == system]
        for steps in own:
            _draw(axes, steps, end, color=colour, linestyle=stroke, linewidth=0.7, alpha=0.55)
        if own:
            label = f"{name} ({len(own)} runs)" if len(own) > 1 else name
            _draw(axes, median_steps(own), end, color=colour, linestyle=stroke, linewidth=2, label=label)
    reached = [accuracy for run in kept for _, accuracy in run.steps]
    accuracy_axis(axes, [accuracy for accuracy in reached if accuracy >= SHOWN] or reached)
    axes.set_xlim(0, end)
    axes.set_xlabel("CPU seconds")
    axes.set_ylabel("best validation accuracy so far, %")
    legend_above(axes, columns=1)
    return figure


def _draw(axes: Axes, steps: Sequence[tuple[float, float]], end: float, **look: object) -> None:
    """Draw a line of steps, on to the end of the budget."""
    if steps:
        axes.step(*zip(*steps, (end, steps[-1][1]), strict=True), where="post", **look)  # type: ignore[arg-type]
