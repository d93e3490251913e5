"""Options and ends of ranges that a search would hardly ever train, for the limits refuse whatever they stand in.

No proof: what is named so was refused in random configurations, with every other parameter at its lowest or highest,
and on the way from the nearest of these towards the limits, one parameter changed at a time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from tuner.data.sources import Source
from tuner.records import Value, seed_for
from tuner.search.rehearsal import NO_IMAGES
from tuner.search.task import Drawn, over, plan_one
from tuner.space.conditions import asked_of_ancestors, never_met
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter, Space, nearest_value, written

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
    """Why the one nearest to be accepted is refused."""


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


def always_refused(space: Space, share: float, source: Source = NO_IMAGES) -> Iterator[Refusal]:
    """Yield what is refused always, where random configurations are in ``share`` of all cases."""
    tries = FEWEST_TRIES
    if 0 < share < 1:
        tries = min(MOST_TRIES, max(FEWEST_TRIES, math.ceil(math.log(DOUBT) / math.log(share))))
    asleep, asked = never_met(space.parameters), asked_of_ancestors(space.parameters)
    for name, parameter in space.parameters.items():
        if name not in asleep and share > 0:

            def refused(value: Value, name: str = name) -> str:
                return refused_with(space, {**asked[name], name: (value,)}, source, tries)

            yield from (Refusal(name, part, tries, why) for part, why in _parts(parameter, refused))


def _parts(parameter: Parameter, refused: Callable[[Value], str]) -> Iterator[tuple[str, str]]:
    match parameter:
        case Fixed():
            return
        case Choice():
            for option in parameter.options:
                if why := refused(option):
                    yield f"= {written(option)}", why
        case Int() | Float():
            points = points_of(parameter)
            above = _run(points[::-1], refused)
            if above:
                yield f"from {above[-1][0]:g} up", above[0][1]
            below = _run(points, refused) if len(above) < len(points) else []
            if below:
                yield f"up to {below[-1][0]:g}", below[0][1]
        case _:
            assert_never(parameter)


def _run(points: Sequence[float], refused: Callable[[Value], str]) -> list[tuple[float, str]]:
    """Return the points that are refused before the first that is not, with the reasons."""
    found = []
    for point in points:
        why = refused(point)
        if not why:
            break
        found.append((point, why))
    return found


def refused_with(
    space: Space, pinned: Mapping[str, Sequence[Value]], source: Source = NO_IMAGES, tries: int = FEWEST_TRIES
) -> str:
    """Return why configurations with ``pinned`` are refused; nothing when one is accepted.

    ``tries`` of them are drawn, and two have all else at the ends. When all are refused, the nearest to the limits goes
    towards them for as long as changing one of its parameters, but for those that are pinned, brings it nearer.
    """

    def plan(pinned: Mapping[str, Sequence[Value]], number: int = 0) -> Drawn:
        values = space.sample(Pinned(seed_for("refusals", number), pinned))
        return plan_one(space, values, source.input_shape, len(source.class_names))

    best = plan(pinned)
    free = {name: pinned.get(name) or _candidates(parameter) for name, parameter in space.parameters.items()}
    if all(len(free[name]) == 1 for name in best.values):
        return best.refused  # there is no other
    for number in range(1, tries):
        if not best.refused:
            return ""
        best = min(best, plan(pinned, number), key=lambda one: over(space, one))
    ends = (plan({name: [values[end]] for name, values in free.items()}) for end in (0, -1))
    best, at = min((best, *ends), key=lambda one: over(space, one)), math.inf
    while best.refused and over(space, best) < at:
        at = over(space, best)
        for name in list(best.values):
            held = {**pinned, **{one: (value,) for one, value in best.values.items()}}
            changed = (plan({**held, name: (value,)}) for value in free[name])
            best = min((best, *changed), key=lambda one: over(space, one))
    return best.refused


def _candidates(parameter: Parameter) -> Sequence[Value]:
    """Return values to try in the place of another; of a float its ends, between which sizes only grow."""
    return points_of(parameter) if isinstance(parameter, Int) else parameter.extremes()


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
