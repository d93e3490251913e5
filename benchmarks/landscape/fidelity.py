"""How faithful the replay is: each configuration is left out, and the one that answers for it is compared with it."""

from __future__ import annotations

import dataclasses
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


def leave_one_out(table: Table, space: Space, leaf: int) -> Fidelity:
    """Return the figures; a forest is grown for each configuration."""
    everyone = table.configurations
    answering = [_answering(table, space, number, leaf) for number in range(len(everyone))]
    encoding = Encoding(space)
    plain = np.array([encoding.plain(one.values) for one in everyone])
    nearest = []
    for number, one in enumerate(plain):
        distances = encoding.distances(one, plain)
        distances[number] = np.inf
        nearest.append(everyone[int(np.argmin(distances))])
    own, other = _finals(everyone), _finals(answering)
    better = own >= np.median(own)
    pairs = [(one.curves[0], one.curves[1]) for one in everyone if len(one.curves) > 1]
    noise = [abs(some[-1] - more[-1]) for some, more in pairs if len(some) == len(more) == table.epochs]
    return Fidelity(
        len(everyone), spearman(own, other), spearman(own, _finals(nearest)),
        spearman(own[better], other[better]), spearman(_firsts(everyone), _firsts(answering)),
        100 * float(np.median(abs(own - other))), 100 * float(np.median(noise)) if noise else None,
    )  # fmt: skip


def _answering(table: Table, space: Space, number: int, leaf: int) -> Configuration:
    others = tuple(one for k, one in enumerate(table.configurations) if k != number)
    replay = Replay(dataclasses.replace(table, configurations=others), space, leaf=leaf)
    return others[replay.nearest(table.configurations[number].values)]


def _finals(some: list[Configuration] | tuple[Configuration, ...]) -> Floats:
    return np.array([one.final for one in some])


def _firsts(some: list[Configuration] | tuple[Configuration, ...]) -> Floats:
    return np.array([next(iter(one.curves[0]), CHANCE) for one in some])

