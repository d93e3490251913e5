"""Options and ends of ranges that a search would never train, for the limits refuse whatever they stand in."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from tuner.records import Value, seed_for
from tuner.search.task import plan_one
from tuner.space.conditions import asked_of_ancestors, never_met
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter, Space, nearest_value

DOUBT = 1e-4
"""How likely a value may be called refused by chance: there are about a hundred to look at."""
FEWEST_TRIES, MOST_TRIES = 20, 400
MOST_POINTS = 33
"""Of a range, that are looked at."""


@dataclass(frozen=True)
class Refusal:
    """A part of a parameter's domain with which no configuration was accepted."""

    name: str
    part: str
    """``= 512``, ``from 96 up`` or ``up to 0.1``."""
    tries: int
    """Random configurations with each of its values."""
    reason: str
    """Why one of them is refused."""


class Pinned:
    """A suggester that draws by chance, some parameters from certain values only."""

    def __init__(self, seed: int, pinned: Mapping[str, Sequence[Value]]) -> None:
        """Draw from ``seed``."""
        self._random = random.Random(seed)  # noqa: S311  # no secret
        self._pinned = pinned

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return an integer in [low, high]."""
        drawn = self._draw(name, low, high, log=log)
        return drawn if isinstance(drawn, int) else low + round((drawn - low) / step) * step

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a float in [low, high]."""
        drawn = self._draw(name, low, high, log=log)
        return drawn if step is None or name in self._pinned else min(high, low + round((drawn - low) / step) * step)

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """Return one of ``choices``."""
        return self._random.choice(self._pinned.get(name, choices))

    def _draw(self, name: str, low: float, high: float, *, log: bool) -> float:
        if name in self._pinned:
            value = self._random.choice(self._pinned[name])
            return value if isinstance(value, int | float) else low
        if log:
            return min(high, max(low, math.exp(self._random.uniform(math.log(low), math.log(high)))))
        return self._random.uniform(low, high)


def always_refused(space: Space, share: float) -> Iterator[Refusal]:
    """Yield what is refused always, where random configurations are in ``share`` of all cases."""
    tries = FEWEST_TRIES
    if 0 < share < 1:
        tries = min(MOST_TRIES, max(FEWEST_TRIES, math.ceil(math.log(DOUBT) / math.log(share))))
    asleep = never_met(space.parameters)
    for name, parameter in space.parameters.items():
        if name not in asleep and share > 0:
            yield from _parts(space, name, parameter, tries)


def _parts(space: Space, name: str, parameter: Parameter, tries: int) -> Iterator[Refusal]:
    match parameter:
        case Fixed():
            return
        case Choice():
            for option in parameter.options:
                if why := _refused(space, name, option, tries):
                    yield Refusal(name, f"= {option}", tries, why)
        case Int() | Float():
            points = points_of(parameter)
            above = _run(space, name, points[::-1], tries)
            if above:
                yield Refusal(name, f"from {above[-1][0]:g} up", tries, above[0][1])
            below = _run(space, name, points, tries) if len(above) < len(points) else []
            if below:
                yield Refusal(name, f"up to {below[-1][0]:g}", tries, below[0][1])
        case _:
            assert_never(parameter)


def _run(space: Space, name: str, points: Sequence[float], tries: int) -> list[tuple[float, str]]:
    """Return the points that are refused before the first that is not, with the reasons."""
    found = []
    for point in points:
        why = _refused(space, name, point, tries)
        if not why:
            break
        found.append((point, why))
    return found


def _refused(space: Space, name: str, value: Value, tries: int) -> str:
    return refused_with(space, {**asked_of_ancestors(space.parameters)[name], name: (value,)}, tries)


def refused_with(space: Space, pinned: Mapping[str, Sequence[Value]], tries: int = FEWEST_TRIES) -> str:
    """Return why the last of ``tries`` configurations with ``pinned`` is refused; nothing when one is accepted."""
    why = ""
    for number in range(tries):
        why = plan_one(space, space.sample(Pinned(seed_for("refusals", number), pinned))).refused
        if not why:
            return ""
    return why


def points_of(parameter: Int | Float) -> list[float]:
    """Return all values of a range, or some that cover it, lowest first.

    >>> points_of(Int(8, 64, step=8)) == list(range(8, 65, 8)), len(points_of(Float(0.0, 1.0)))
    (True, 33)
    """
    low, high = parameter.low, parameter.high
    if parameter.step is not None and (high - low) / parameter.step < MOST_POINTS:
        return [value for value in parameter.grid() if isinstance(value, int | float)]
    shares = [place / (MOST_POINTS - 1) for place in range(MOST_POINTS)]
    if parameter.log:
        points = [low * (high / low) ** share for share in shares]
    else:
        points = [low + (high - low) * share for share in shares]
    inside = [nearest_value(parameter, point) for point in points]
    return sorted({value for value in inside if isinstance(value, int | float)})
