"""Do early epochs rank like the last one? The evidence for where rungs may stand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.landscape.replay import Floats, ranks
from benchmarks.landscape.table import CHANCE, Configuration, Table

GROUP, DRAWS, SEED = 9, 2000, 0
"""How many trials meet at a rung, and how often such a meeting is drawn."""
SHARE = 3
LEAST = 8
"""Fewer configurations tell nothing."""


@dataclass(frozen=True)
class Ranked:
    """How one epoch ranks the configurations of a group."""

    group: str
    configurations: int
    epoch: int
    spearman: float
    """With the ranks after the last epoch."""
    spearman_better_half: float
    """The same among those that end in the better half: where it is decided."""
    kept: float
    """How often the best third of some trials holds the one that ends best."""


def rank_epochs(table: Table) -> list[Ranked]:
    """Return the figures of every group and epoch."""
    return [
        ranked
        for name, members in groups(table)
        if len(members) >= LEAST
        for ranked in _ranked(name, np.array([_padded(one.curves[0], table.epochs) for one in members]))
    ]


def groups(table: Table) -> Iterator[tuple[str, list[Configuration]]]:
    """Yield all configurations, then those of each part, schedule, horizon of averaging, and both."""
    everyone = list(table.configurations)
    yield "all", everyone
    for part in dict.fromkeys(one.part for one in everyone):
        yield f"part {part}", [one for one in everyone if one.part == part]
    names = [name for name in ("schedule", "ema") if any(name in one.values for one in everyone)]
    for wanted in (*([name] for name in names), *([names] if len(names) > 1 else [])):
        keys = {number: tuple(one.values.get(name) for name in wanted) for number, one in enumerate(everyone)}
        for key in sorted(set(keys.values()), key=str):
            called = ", ".join(f"{name} {value}" for name, value in zip(wanted, key, strict=True))
            yield called, [one for number, one in enumerate(everyone) if keys[number] == key]


def _padded(curve: Sequence[float], epochs: int) -> list[float]:
    return [*curve, *[CHANCE] * (epochs - len(curve))]


def _ranked(name: str, curves: Floats) -> Iterator[Ranked]:
    last = curves[:, -1]
    better = curves[last >= np.median(last)]
    for epoch in range(1, curves.shape[1]):
        yield Ranked(
            name, len(curves), epoch, spearman(curves[:, epoch - 1], last),
            spearman(better[:, epoch - 1], better[:, -1]), _kept(curves[:, epoch - 1], last),
        )  # fmt: skip


def spearman(some: Floats, others: Floats) -> float:
    """Return the rank correlation, equals sharing a rank; NaN where one side is the same all over."""
    if len(set(some)) == 1 or len(set(others)) == 1:
        return math.nan
    return float(np.corrcoef(ranks(list(some)), ranks(list(others)))[0, 1])


def _kept(some: Floats, last: Floats) -> float:
    random = np.random.default_rng(SEED)
    size = min(GROUP, len(some))
    kept = 0
    for _ in range(DRAWS):
        drawn = random.permutation(len(some))[:size]
        best = drawn[np.argmax(last[drawn])]
        kept += int((some[drawn] > some[best]).sum()) < size // SHARE
    return kept / DRAWS
