"""What a search was worth: how good its answer is by compute, and when it comes near the best that was recorded."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.landscape.account import Run
from benchmarks.landscape.table import CHANCE, Table

WITHIN = (0.5, 0.25, 0.1)
"""Points below the best of the table."""
GRID_STEPS = 48
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Quartiles:
    """Of seeds; infinity where a quarter, or half of them, never came there."""

    low: float
    median: float
    high: float


def answers(run: Run, table: Table, moments: Sequence[float]) -> list[float]:
    """Return how good the answer is at each of ``moments`` of CPU seconds, as the table knows it; chance at first."""
    starts = [step.compute for step in run.steps]
    found = []
    for moment in moments:
        last = bisect.bisect_right(starts, moment) - 1
        found.append(table.configurations[run.steps[last].configuration].final if last >= 0 else CHANCE)
    return found


def reached(run: Run, table: Table, points: float) -> float:
    """Return the CPU seconds until the answer first is within ``points`` of the table's best, or infinity."""
    enough = table.enough(points)
    good = (step.compute for step in run.steps if table.configurations[step.configuration].final >= enough)
    return next(good, math.inf)


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the quartiles of some values, each of them one of these: infinity has no part in a finite one."""
    ranked = sorted(values)
    return Quartiles(*(ranked[max(0, math.ceil(share * len(ranked)) - 1)] for share in QUARTILES))


def moments(budget: float, first: float) -> list[float]:
    """Return moments from ``first`` to the ``budget``, evenly apart by their logarithms."""
    ratio = (budget / first) ** (1 / (GRID_STEPS - 1))
    return [*(first * ratio**k for k in range(GRID_STEPS - 1)), budget]
