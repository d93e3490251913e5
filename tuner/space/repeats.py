"""Parameters that each block has its own of: ``per = "blocks"`` makes ``filters_1``, ``filters_2`` … of ``filters``."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tuner.errors import SpaceError
from tuner.records import Value
from tuner.space.kinds import Table, changed, read_parameter
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter
from tuner.space.problems import Problems, nearest

MOST_REPEATS = 100
_ONE_OF = re.compile(r"(.+)_([1-9][0-9]{0,5})", re.DOTALL)


@dataclass
class Parameters:
    """A file's parameters as read."""

    read: dict[str, Parameter] = field(default_factory=dict)
    """In written order, repeated ones under the names that they become."""
    repeats: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What each repeated one becomes."""
    parents: dict[str, str] = field(default_factory=dict)
    """What each repeated one is repeated by."""
    labels: dict[str, str] = field(default_factory=dict)
    """The table that each of these is written in."""
    unread: set[str] = field(default_factory=set)
    """Tables that could not be read: what else is said of them would follow from that."""

    def highest(self, name: str) -> float:
        """Return the highest number of a repeated parameter's names; without end where that could not be read."""
        parent = self.read.get(self.parents[name]) if name in self.parents else None
        numbers = None if parent is None else whole_numbers(parent)
        return max(numbers) if numbers else math.inf

    def excused(self, name: str) -> bool:
        """Tell whether ``name`` may be missing because its table, or its block's, could not be read."""
        match = _ONE_OF.fullmatch(name)
        return name in self.unread or (match is not None and match[1] in self.unread)


def is_repeated(raw: object) -> bool:
    """Tell whether a raw parameter is repeated."""
    return isinstance(raw, dict) and "per" in raw


def owner_of(name: str, raw: Table) -> tuple[str, int] | None:
    """Return which repeated parameter of a file ``name`` is one of, and its number; None for one of its own.

    >>> owner_of("filters_2", {"filters": {"type": "int", "per": "blocks"}})
    ('filters', 2)
    """
    match = _ONE_OF.fullmatch(name)
    return (match[1], int(match[2])) if match and is_repeated(raw.get(match[1])) else None


def read_parameters(raw: Table, problems: Problems) -> Parameters:
    """Return every parameter of a file that can be read; ``problems`` hears of the others."""
    plain: dict[str, Parameter] = {}
    for name, table in raw.items():
        if owner_of(name, raw) is None:
            with problems.gathering(f"parameters.{name}"):
                plain[name] = read_parameter(_without_per(table))
    found = Parameters(unread=set(raw) - set(plain))
    for name, parameter in plain.items():
        if is_repeated(raw[name]):
            found.unread.add(name)
            with problems.gathering(f"parameters.{name}"):
                parent = _parent_of(name, raw)
                if parent in plain:
                    _Repeat(name, parent, raw, plain).put_into(found, problems)
        else:
            found.read[name] = parameter
    return found


def _parent_of(name: str, raw: Table) -> str:
    parent = raw[name]["per"]
    single = [other for other in raw if not is_repeated(raw[other]) and owner_of(other, raw) is None]
    if not isinstance(parent, str) or parent not in raw:
        raise SpaceError(f"per = {parent!r} is no parameter", hint=nearest(str(parent), single))
    if parent not in single:
        raise SpaceError(f"per = '{parent}' is repeated itself", hint=nearest(parent, single))
    return parent


@dataclass(frozen=True)
class _Repeat:
    """A parameter that is repeated, what it is repeated by, and the file that they stand in."""

    name: str
    parent: str
    raw: Table
    plain: dict[str, Parameter]

    def put_into(self, found: Parameters, problems: Problems) -> None:
        """Put ``name_1``, ``name_2`` … into ``found``, each awake for so many blocks or more."""
        numbers = whole_numbers(self.plain[self.parent])
        if numbers is None:
            raise SpaceError(f"per = '{self.parent}' is not always a whole number", hint="e.g. the number of blocks")
        highest = max(numbers)
        if not 1 <= highest <= MOST_REPEATS:
            said = f"per = '{self.parent}', which is at most {highest}"
            raise SpaceError(said, hint=f"1 to {MOST_REPEATS} can be repeated")
        made = []
        for number in range(1, highest + 1):
            one = f"{self.name}_{number}"
            with problems.gathering(f"parameters.{one}"):
                parameter = self._one(one, number, numbers)
                if parameter is not None:
                    made.append(one)
                    found.read[one] = parameter
                    found.unread.discard(one)
                    found.labels[one] = one if one in self.raw else self.name
        for other in self.raw:
            owner = owner_of(other, self.raw)
            if owner and owner[0] == self.name and owner[1] > highest:
                problems.add(f"parameters.{other}: {self.parent} is at most {highest}", hint=f"leave {other} out")
        found.unread.discard(self.name)
        found.repeats[self.name], found.parents[self.name] = tuple(made), self.parent

    def _one(self, one: str, number: int, numbers: Sequence[int]) -> Parameter | None:
        parameter = self.plain[self.name]
        if one not in self.raw:
            return _awake_from(number, parameter, self.parent, self.plain[self.parent], numbers)
        if is_repeated(self.raw[one]):
            raise SpaceError(f"is one of the repeated '{self.name}'", hint="leave its 'per' out")
        parameter = read_parameter(_without_per(changed(self.raw[self.name], self.raw[one])))
        woken = _awake_from(number, parameter, self.parent, self.plain[self.parent], numbers)
        if woken is None:
            raise SpaceError(f"its 'when' leaves it no value of {self.parent}")
        return woken


def _awake_from(
    number: int, parameter: Parameter, parent: str, blocks: Parameter, numbers: Sequence[int]
) -> Parameter | None:
    """Return ``parameter`` as it is for block ``number``; None when its own condition leaves no such number."""
    own = parameter.when.get(parent)
    if own is None and min(numbers) >= number and not blocks.when:
        return parameter
    enough: tuple[Value, ...] = tuple(value for value in numbers if value >= number)
    if own is not None:
        enough = tuple(value for value in own if not isinstance(value, int) or value >= number)
    return dataclasses.replace(parameter, when={**parameter.when, parent: enough}) if enough else None


def whole_numbers(parent: Parameter) -> Sequence[int] | None:
    """Return the numbers of blocks that ``parent`` can say, up to one below 1; None when it may be no whole number."""
    values: Sequence[Value]
    match parent:
        case Float():
            return None
        case Int():
            # From the last one that is not above 0: a range may begin far below, and end there or far above.
            skipped = min(max(0, -parent.low), parent.high - parent.low) // parent.step
            values = range(parent.low + skipped * parent.step, parent.high + 1, parent.step)
            return values if len(values) <= 2 * MOST_REPEATS else [parent.high]
        case Fixed():
            values = [parent.value]
        case Choice():
            values = parent.options
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    return numbers if len(numbers) == len(values) else None


def _without_per(raw: object) -> object:
    return {key: value for key, value in raw.items() if key != "per"} if isinstance(raw, dict) else raw
