"""Error bars."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Z_95 = 1.959963984540054


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927).

    >>> [round(bound, 4) for bound in wilson(9400, 10000)]
    [0.9352, 0.9445]
    """
    share, z2 = correct / total, Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation; one value has none."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
