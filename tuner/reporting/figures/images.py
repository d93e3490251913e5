"""Images with what the model said of them: one grid a group, to print. The page sets its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tuner.reporting.examples import Example
from tuner.reporting.figures.style import BLUE, RED, WIDTH, paper, styled

COLUMNS = 6
SIDE = 0.94
"""Of an image, in a cell of one."""
CAPTION = 0.42
"""The height of the two lines under an image, in images."""


@styled
def grid(examples: Sequence[Example], names: Sequence[str]) -> Figure:
    """Draw the images, each over its predicted class and confidence; under a wrong one stands what it is."""
    rows = -(-len(examples) // COLUMNS)
    figure, [[axes]] = paper(WIDTH / COLUMNS * (1 + CAPTION) * rows)
    for number, example in enumerate(examples):
        column, row = number % COLUMNS, number // COLUMNS * (1 + CAPTION)
        pixels = example.pixels if example.pixels.shape[2] == 3 else example.pixels[:, :, 0]  # noqa: PLR2004  # colours
        axes.imshow(np.asarray(pixels), cmap="gray", vmin=0, vmax=255, extent=_frame(column, row, *pixels.shape[:2]))
        colour = BLUE if example.right else RED
        sign = "✓" if example.right else "✗"
        said = f"{sign} {_cut(names[example.predicted])} {100 * example.confidence:.0f} %"
        axes.text(column + 0.47, row + 1.02, said, ha="center", va="top", color=colour, fontsize=5.8)
        if not example.right:
            axes.text(
                column + 0.47, row + 1.17, f"is {_cut(names[example.label])}", ha="center", va="top", fontsize=5.8
            )
    axes.set_xlim(-0.04, COLUMNS)
    axes.set_ylim(rows * (1 + CAPTION), -0.02)
    axes.set_axis_off()
    return figure


def _frame(column: float, row: float, height: int, width: int) -> tuple[float, float, float, float]:
    """Return where an image stands in its cell: as large as it fits, in its own proportions, in the middle."""
    tall, wide = SIDE * height / max(height, width), SIDE * width / max(height, width)
    left, top = column + (SIDE - wide) / 2, row + (SIDE - tall) / 2
    return (left, left + wide, top + tall, top)


def _cut(name: str) -> str:
    return name if len(name) <= 11 else name[:10] + "…"  # noqa: PLR2004  # letters under an image
