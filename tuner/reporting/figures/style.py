"""Ink, type and sizes of the figures, and how one figure becomes a file to print and a piece of a page.

Figures are as wide as a phone's column, so that their text stays readable there. Every colour is one of a few: on the
page it becomes a CSS variable, which the page sets for light and for dark. Blue and vermilion are Okabe and Ito's
(2008), told apart by colour-blind readers too.
"""

from __future__ import annotations

import functools
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image  # a part of matplotlib's own output

from tuner.runs import draft_of

INK, MUTED, GRID, FAINT, PAPER = "#1a1a1a", "#6a6a6a", "#e4e4e4", "#b4b4b4", "#ffffff"
BLUE, RED, GREEN, GOLD, PURPLE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7"
ON_INK, ON_RED = "#fffffe", "#1a1a1b"
"""Text on a filled cell: on blue the page's own choice, on red, gold and grey always dark."""
CSS_NAMES = {
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    FAINT: "var(--faint)",
    PAPER: "var(--paper)",
    BLUE: "var(--blue)",
    RED: "var(--red)",
    GREEN: "var(--green)",
    GOLD: "var(--gold)",
    PURPLE: "var(--purple)",
    ON_INK: "var(--on-ink)",
    INK: "currentColor",
}
WIDTH = 360
"""Of every figure, in points: what a phone of 360 pixels shows at nearly their own size."""
DOTS, COLOURS = 200, 128
"""An inch, and in all, of the files to print: a figure of 250 lines stays under 200 KB."""
FLOOR = 1e-4
"""The least error that an accuracy axis tells apart."""
TICKS = (90, 95, 99, 80, 50, 98, 94, 92, 85, 93, 91, 97, 96, 60, 70, 20, 40, 99.5, 99.8, 99.9, 10, 0)
"""Per cents, the ones to name first."""
FINER_TICKS = tuple(tuple(k / parts for k in range(10 * parts, 100 * parts)) for parts in (2, 10))
RC: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8,
    "axes.linewidth": 0.7,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.0,
    "lines.linewidth": 1.4,
    "svg.fonttype": "none",
    "svg.hashsalt": "tuner",
    "savefig.facecolor": PAPER,
}
P = ParamSpec("P")


@contextmanager
def inked() -> Iterator[None]:
    """Draw in the house style; a class name in a script that the font lacks is no reason to speak up."""
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a figure function draw in the house style, and lay the figure out."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with inked():
            figure = draw(*args, **kwargs)
            engine = figure.get_layout_engine()
            if engine:  # laid out once, for the page and for print; with an engine each would be drawn twice
                engine.execute(figure)
                figure.set_layout_engine(None)
            return figure

    return drawn


def paper(height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Figure, list[list[Axes]]]:  # noqa: ANN401  # matplotlib's
    """Return an empty figure of the common width and its axes, row by row."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **layout).tolist()


def accuracy_axis(axes: Axes, accuracies: Iterable[float], *, horizontal: bool = False, room: float = 0.06) -> None:
    """Scale one axis by the logarithm of the error: what lies between 92 and 94 % shows as well as a bad start."""
    shown = [accuracy for accuracy in accuracies if math.isfinite(accuracy)]
    low, high = _level(min(shown, default=0.0)), _level(max(shown, default=0.9))
    margin = room * max(high - low, 0.05)
    low, high = max(0.0, low - margin), high + margin
    ticks = _ticks(low, high)
    labels = [f"{tick:g}" for tick in ticks]
    axis = axes.xaxis if horizontal else axes.yaxis
    (axes.set_xscale if horizontal else axes.set_yscale)("function", functions=(_level_of, _accuracy_of))
    (axes.set_xlim if horizontal else axes.set_ylim)(1 - 10**-low, 1 - 10**-high)
    axis.set_major_locator(NullLocator())
    axis.set_minor_locator(NullLocator())
    axis.set_ticks([tick / 100 for tick in ticks], labels)
    axes.grid(visible=True, axis="x" if horizontal else "y")


def _level(accuracy: float) -> float:
    return -math.log10(max(1 - accuracy, FLOOR))


def _level_of(accuracies: npt.ArrayLike) -> npt.NDArray[np.float64]:
    levels: npt.NDArray[np.float64] = -np.log10(np.maximum(1 - np.asarray(accuracies, float), FLOOR))
    return levels


def _accuracy_of(levels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    accuracies: npt.NDArray[np.float64] = 1 - 10 ** -np.asarray(levels, float)
    return accuracies


def _ticks(low: float, high: float, apart: float = 0.11) -> list[float]:
    """Return per cents between two levels, none nearer to the next than a ninth of the axis."""
    kept: list[float] = []
    for candidates in (TICKS, *FINER_TICKS):
        kept = []
        for tick in candidates:
            level = _level(tick / 100)
            if low <= level <= high and all(abs(level - _level(other / 100)) >= apart * (high - low) for other in kept):
                kept.append(tick)
        if len(kept) > 2:  # noqa: PLR2004  # fewer do not show a scale
            break
    return sorted(kept)


def log_axis(axes: Axes) -> None:
    """Scale the horizontal axis by logarithm, its ticks written out."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    steps = next(steps for most, steps in ((1, (1, 2, 5)), (2.5, (1, 3)), (math.inf, (1,))) if decades <= most)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.minorticks_off()


def plain(value: float) -> str:
    """Return a number as an axis names it.

    >>> plain(3e6), plain(20_000), plain(0.0003)
    ('3 M', '20 k', '0.0003')
    """
    for unit, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:.7f}".rstrip("0").rstrip(".")


def legend_above(axes: Axes, columns: int = 4, handles: Sequence[object] | None = None) -> None:
    """Put the legend over the axes, where it covers nothing."""
    more = {} if handles is None else {"handles": list(handles)}
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, **more)


def write_png(figure: Figure, path: Path) -> None:
    """Write ``figure`` on white, at 200 dots an inch, in as many colours as thin lines need; atomically."""
    buffer = io.BytesIO()
    with inked():
        figure.savefig(buffer, format="rgba", dpi=DOTS)
    width, height = (int(inches * DOTS) for inches in figure.get_size_inches())
    pixels = Image.frombytes("RGBA", (width, height), buffer.getvalue()).convert("RGB")
    with draft_of(path) as draft:
        pixels.quantize(COLOURS).save(draft, format="PNG", dpi=(DOTS, DOTS))


def as_svg(figure: Figure, name: str, label: str) -> str:
    """Return ``figure`` as an ``<svg>`` of a page: transparent, text as text, ids all its own, ``label`` read aloud."""
    buffer = io.StringIO()
    with inked():
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    body = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', body)
    body = body[body.index(">", body.index("<svg")) + 1 :]
    # The style that matplotlib gives every element would be the whole page's; the page's own CSS has it.
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]+)"', body)) | set(re.findall(r"url\(#([^)]+)\)", body))
    ids = {old: f"{name}-{k}" for k, old in enumerate(sorted(used))}
    body = re.sub(r"<[^>]*>", lambda tag: _slim(tag[0], ids), body)
    body = re.sub(r">\s+<", "><", body.strip())
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box[1] if box else ""}" role="img"'
    return f"{head} aria-label={quoteattr(label)}>{body}"


def _slim(tag: str, ids: dict[str, str]) -> str:
    """Drop what a browser does not need, keep the ids that are referred to, and name the colours as the page does."""
    tag = tag.replace("xlink:href", "href")
    tag = re.sub(r'\sid="([^"]*)"', lambda found: f' id="{ids[found[1]]}"' if found[1] in ids else "", tag)
    tag = re.sub(r'href="#([^"]+)"', lambda found: f'href="#{ids[found[1]]}"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{ids[found[1]]})", tag)
    tag = re.sub(r'\stransform="rotate\(-0 [^"]*"', "", tag)
    tag = re.sub(r"font-family: [^;\"]*;?\s?", "", tag)
    tag = re.sub(r"(?<=\d\.\d)(\d)\d+", r"\1", tag)
    tag = re.sub(r"#[0-9a-f]{6}\b", lambda found: CSS_NAMES.get(found[0], found[0]), tag)
    return re.sub(r"\s*\n\s*", " ", tag)
