"""How faithful the replay is: configurations are left out, and those that answer for them are compared with them."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.landscape.ranks import spearman
from benchmarks.landscape.replay import Encoding, Floats, Replay
from benchmarks.landscape.table import CHANCE, Configuration, Table
from tuner.space.parameters import Space


@dataclass(frozen=True)
class Fidelity:
    """Rank correlations of configurations and those that answer for them."""

    configurations: int
    groups: int
    """Of configurations that are equal but for ``ema``."""
    final: float
    """Of the final accuracy."""
    final_by_distance: float
    """The same where Gower's distance alone chooses who answers."""
    final_better_half: float
    """Among the configurations of the better half."""
    first_epoch: float
    """Of the accuracy after the first epoch."""
    apart: float
    """The median difference of the final accuracies, in points."""
    noise: float | None
    """The median difference between two seeds of one configuration, in points; None where there are none."""


def leave_out(table: Table, space: Space, leaf: int) -> Fidelity:
    """Return the figures: configurations that are equal but for ``ema`` are left out together, and a forest is grown.

    One that stayed would answer for the others: it is nearly the same training.
    """
    everyone, encoding = table.configurations, Encoding(space)
    groups = list(_twins(everyone))
    answering, nearest = list(everyone), list(everyone)
    for group in groups:
        others = tuple(one for number, one in enumerate(everyone) if number not in group)
        replay = Replay(dataclasses.replace(table, configurations=others), space, leaf=leaf)
        plain = np.array([encoding.plain(one.values) for one in others])
        for number in group:
            values = everyone[number].values
            answering[number] = others[replay.nearest(values)]
            nearest[number] = others[int(np.argmin(encoding.distances(encoding.plain(values), plain)))]
    own, other = _finals(everyone), _finals(answering)
    better = own >= np.median(own)
    pairs = [(one.curves[0], one.curves[1]) for one in everyone if len(one.curves) > 1]
    noise = [abs(some[-1] - more[-1]) for some, more in pairs if len(some) == len(more) == table.epochs]
    return Fidelity(
        len(everyone), len(groups), spearman(own, other), spearman(own, _finals(nearest)),
        spearman(own[better], other[better]), spearman(_firsts(everyone), _firsts(answering)),
        100 * float(np.median(abs(own - other))), 100 * float(np.median(noise)) if noise else None,
    )  # fmt: skip


def _twins(some: Sequence[Configuration]) -> Iterable[set[int]]:
    """Return the numbers of those that are equal but for ``ema``."""
    groups: dict[str, set[int]] = defaultdict(set)
    for number, one in enumerate(some):
        groups[json.dumps({**one.values, "ema": None}, sort_keys=True)].add(number)
    return groups.values()


def _finals(some: Sequence[Configuration]) -> Floats:
    return np.array([one.final for one in some])


def _firsts(some: Sequence[Configuration]) -> Floats:
    return np.array([next(iter(one.curves[0]), CHANCE) for one in some])
