"""Which recorded configuration answers for a proposed one: the one that a random forest can hardly tell from it.

Two configurations are near when many trees, grown on the table to tell good from bad, put them into the same leaf
(Breiman 2001's proximity). So the parameters that matter decide, and each curve that a strategy sees was measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.landscape.table import Configuration, Table
from tuner.errors import EnvironmentProblem, UsageError
from tuner.records import Value, Values
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter, Space

TREES, SEED = 300, 0
LEAF = 3
"""The fewest configurations in a leaf; ``fidelity --leaf`` tries others."""
ASLEEP = -1.0
"""How a forest is told that a parameter is not active: beside the range of all that are."""
LEAST_ROWS = 20
"""Fewer configurations with an overlay's values are no landscape."""
Floats = npt.NDArray[np.float64]


class Encoding:
    """Configurations as numbers: for trees, and for Gower's distance (1971), which counts every parameter alike."""

    def __init__(self, space: Space) -> None:
        """Look at the parameters that vary."""
        self._parameters = {name: p for name, p in space.parameters.items() if not isinstance(p, Fixed)}
        self._ordered = [_is_ordered(parameter) for parameter in self._parameters.values()]

    def plain(self, values: Values) -> Floats:
        """Return one number a parameter: its place in the range, the number of an option, or ``ASLEEP``."""
        return np.array([_place(p, values[name]) if name in values else ASLEEP for name, p in self._parameters.items()])

    def for_trees(self, plain: Floats) -> Floats:
        """Return what trees split: options without an order become a column each. ``plain`` may have many rows."""
        columns = []
        for k, (ordered, parameter) in enumerate(zip(self._ordered, self._parameters.values(), strict=True)):
            column = plain[..., k : k + 1]
            if ordered:
                columns.append(column)
            elif isinstance(parameter, Choice):
                columns.append((column == np.arange(len(parameter.options))).astype(float))
        return np.concatenate(columns, axis=-1)

    def distances(self, one: Floats, others: Floats) -> Floats:
        """Return Gower's distances from one plain encoding to many."""
        apart = np.abs(others - one)
        unlike = (others != one).astype(float)
        whole = ((others == ASLEEP) != (one == ASLEEP)) | ~np.array(self._ordered)
        spans = np.array([_span(parameter) for parameter in self._parameters.values()])
        distances: Floats = np.where(whole, unlike, apart / spans).mean(axis=1)
        return distances


def _is_ordered(parameter: Parameter) -> bool:
    if isinstance(parameter, Choice):
        numbers = all(isinstance(option, int | float) for option in parameter.options)
        return numbers and list(parameter.options) == sorted(parameter.options)  # type: ignore[type-var]
    return True


def _place(parameter: Parameter, value: Value) -> float:
    match parameter:
        case Choice():
            return float(next(k for k, option in enumerate(parameter.options) if option == value))
        case Int() | Float():
            low, high, here = parameter.low, parameter.high, float(value)  # type: ignore[arg-type]
            if parameter.log:
                low, high, here = math.log(low), math.log(high), math.log(here)
            return (here - low) / (high - low) if high > low else 0.0
        case Fixed():
            return 0.0


def _span(parameter: Parameter) -> float:
    return max(1.0, len(parameter.options) - 1.0) if isinstance(parameter, Choice) else 1.0


class Forest:
    """Scikit-learn's extremely randomised trees (Geurts et al. 2006), which all look for a row's leaves at once."""

    def __init__(self, features: Floats, target: Floats, leaf: int = LEAF) -> None:
        """Grow the trees. Raises EnvironmentProblem without scikit-learn."""
        try:
            from sklearn.ensemble import ExtraTreesRegressor
        except ImportError:
            hint = "benchmarks/requirements.txt has it"
            raise EnvironmentProblem("the replay needs scikit-learn", hint=hint) from None
        grown = ExtraTreesRegressor(TREES, min_samples_leaf=leaf, random_state=SEED).fit(features, target)
        trees = [one.tree_ for one in grown.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        self._roots = starts
        self._feature = np.concatenate([tree.feature for tree in trees])
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        self._next = np.stack([
            np.concatenate([np.where(side < 0, -1, side + start) for side, start in zip(sides, starts, strict=True)])
            for sides in ([tree.children_left for tree in trees], [tree.children_right for tree in trees])
        ])  # fmt: skip
        self._next = np.where(self._next < 0, np.arange(self._next.shape[1]), self._next)  # a leaf leads to itself
        self._depth = max(tree.max_depth for tree in trees)

    def leaves(self, features: Floats) -> npt.NDArray[np.int64]:
        """Return the leaf of one row, or of several, in each tree."""
        rows = features.astype(np.float32).reshape(-1, features.shape[-1])  # as scikit-learn compares them
        here = np.broadcast_to(self._roots, (len(rows), len(self._roots)))
        for _ in range(self._depth):
            right = np.take_along_axis(rows, self._feature[here].clip(0), axis=1) > self._threshold[here]
            here = self._next[right.astype(int), here]
        leaves: npt.NDArray[np.int64] = here.reshape(*features.shape[:-1], -1)
        return leaves


def ranks(values: Sequence[float]) -> Floats:
    """Return the ranks of ``values``, from 0 to 1, those of equals shared: how good, however far a bad one falls."""
    from scipy.stats import rankdata

    from_zero: Floats = (rankdata(values) - 1) / max(1, len(values) - 1)
    return from_zero


class Replay:
    """The landscape: tells of any configuration of the space which recorded one answers for it."""

    def __init__(self, table: Table, space: Space, overlay: Values | None = None, *, leaf: int = LEAF) -> None:
        """Grow the forest; with an ``overlay`` only configurations that have its values answer. Raises UsageError."""
        self.table = table
        self._encoding = Encoding(space)
        everyone = np.array([self._encoding.plain(one.values) for one in table.configurations])
        finals = ranks([one.final for one in table.configurations])
        forest = Forest(self._encoding.for_trees(everyone), finals, leaf)
        self._forest = forest
        asked = (overlay or {}).items()
        self._numbers = [
            number
            for number, one in enumerate(table.configurations)
            if all(one.values.get(name) == value for name, value in asked)
        ]
        if len(self._numbers) < (LEAST_ROWS if overlay else 1):
            said = " and ".join(f"{name} = {value}" for name, value in asked)
            raise UsageError(f"only {len(self._numbers)} recorded configurations have {said}")
        self._plain = everyone[self._numbers]
        self._leaves = forest.leaves(self._encoding.for_trees(self._plain))

    def nearest(self, values: Values, taken: Collection[int] = ()) -> int:
        """Return the number of the configuration that answers for ``values``: the nearest that is not ``taken``.

        One that was recorded answers for itself, and where all are taken the nearest does. Gower's distance decides
        between equals.
        """
        plain = self._encoding.plain(values)
        distances = self._encoding.distances(plain, self._plain)
        if distances.min() == 0:
            return self._numbers[int(np.argmin(distances))]
        leaves = self._forest.leaves(self._encoding.for_trees(plain))
        shared = (self._leaves == leaves).sum(axis=1)
        if len(taken) < len(self._numbers):
            shared[[place for place, number in enumerate(self._numbers) if number in taken]] = -1
        candidates = np.flatnonzero(shared == shared.max())
        return self._numbers[int(candidates[int(np.argmin(distances[candidates]))])]

    def configuration(self, number: int) -> Configuration:
        """Return a recorded configuration."""
        return self.table.configurations[number]


class Answers:
    """What one search has asked for: another proposal is another training, as long as there are enough of them.

    A search that looks closely at one place then sees how its surroundings differ, and not one curve again and again.
    But a long search so comes to list the table: conclusions have to hold as well where a configuration answers often.
    """

    def __init__(self, replay: Replay, *, once: bool = True) -> None:
        """Have told nothing yet; not ``once``, and the nearest answers whatever it has answered before."""
        self.replay, self._once = replay, once
        self._told: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many recorded configurations have answered."""
        return len(set(self._told.values()))

    def to(self, values: Values) -> int:
        """Return the number of the configuration that answers for ``values``: always the same one."""
        key = json.dumps(values, sort_keys=True)
        if key not in self._told:
            self._told[key] = self.replay.nearest(values, set(self._told.values()) if self._once else ())
        return self._told[key]
