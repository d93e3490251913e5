"""The kinds of parameter, and the space that they make together.

A space is sampled through a :class:`Suggester`, a shape that ``optuna.Trial``, ``optuna.trial.FixedTrial`` and a
ten-line test double all have; nothing here imports Optuna.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, assert_never

from tuner.errors import SpaceError
from tuner.records import Cost, Value, Values
from tuner.space.hypermodel_file import HypermodelFile

MAX_GRID_POINTS = 100_000
MOST_STEPS = 2.0**53
"""Beyond it a float no longer tells neighbouring whole numbers apart, in our arithmetic or in Optuna's."""
When: TypeAlias = Mapping[str, tuple[Value, ...]]
"""Conditions: every named parent is active and has one of the given values."""


class Suggester(Protocol):
    """Anything that can be asked for a value: ``optuna.Trial`` is one."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return an integer in [low, high]."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a float in [low, high]."""

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """Return one of ``choices``."""


@dataclass(frozen=True)
class Int:
    """An integer in [low, high], in steps or on a log scale.

    >>> Int(low=16, high=64, step=16).grid()
    range(16, 65, 16)
    """

    low: int
    high: int
    step: int = 1
    log: bool = False
    when: When = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        wrong = list(_range_problems(self.low, self.high, self.step, log=self.log, stepped=self.step != 1))
        if not wrong and (self.high - self.low) % self.step:
            last = self.low + (self.high - self.low) // self.step * self.step
            wrong = [SpaceError(f"high = {self.high} is not low + a multiple of step", hint=f"high = {last} would be")]
        if wrong:
            raise SpaceError.of(wrong)

    def suggest(self, name: str, suggester: Suggester) -> Value:
        """Ask for a value of this kind."""
        return suggester.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Tell whether ``value`` lies in the range and on a step."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def grid(self) -> Sequence[Value]:
        """Return every value, lowest first."""
        return range(self.low, self.high + 1, self.step)

    def extremes(self) -> list[Value]:
        """Return the values that bound it."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Float:
    """A float in [low, high], in steps or on a log scale."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    when: When = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        wrong = list(_range_problems(self.low, self.high, self.step, log=self.log, stepped=self.step is not None))
        if not wrong and self.step is not None:
            count = (self.high - self.low) / self.step
            if not math.isclose(count, round(count), abs_tol=1e-9):
                wrong = [SpaceError(f"high = {self.high} is not low + a multiple of step", hint="change one of them")]
        if wrong:
            raise SpaceError.of(wrong)

    def suggest(self, name: str, suggester: Suggester) -> Value:
        """Ask for a value of this kind."""
        return suggester.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Tell whether ``value`` lies in the range and, within rounding, on a step."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        count = (value - self.low) / self.step
        return math.isclose(count, round(count), abs_tol=1e-9)

    def grid(self) -> Sequence[Value]:
        """Return every value, lowest first; only a float with a step has a grid."""
        if self.step is None:
            raise SpaceError("a float without 'step' has no grid", hint="give it a step, or fix it with --set")
        count = round((self.high - self.low) / self.step)
        if count >= MAX_GRID_POINTS:
            raise SpaceError(f"its grid has {count + 1:,} points", hint="give it a wider step, or fix it with --set")
        return [min(self.high, self.low + self.step * k) for k in range(count + 1)]

    def extremes(self) -> list[Value]:
        """Return the values that bound it."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Choice:
    """One of several scalars; ``bool`` parameters are the choice of false and true."""

    options: tuple[Value, ...]
    when: When = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an empty list and a value that stands twice."""
        if not self.options:
            raise SpaceError("options is empty", hint="name at least one value")
        if len({(type(option), option) for option in self.options}) != len(self.options):
            raise SpaceError("options holds a value twice", hint="name each value once")

    def suggest(self, name: str, suggester: Suggester) -> Value:
        """Ask for a value of this kind."""
        return suggester.suggest_categorical(name, list(self.options))

    def contains(self, value: Value) -> bool:
        """Tell whether ``value`` is one of the options, types included (1 is not true)."""
        return any(type(option) is type(value) and option == value for option in self.options)

    def grid(self) -> Sequence[Value]:
        """Return the options as written."""
        return list(self.options)

    def extremes(self) -> list[Value]:
        """Return the options: none bounds the others."""
        return list(self.options)


@dataclass(frozen=True)
class Fixed:
    """A value that does not vary; it is part of every configuration and never asked for."""

    value: Value
    when: When = field(default_factory=dict)

    def contains(self, value: Value) -> bool:
        """Tell whether ``value`` is the one."""
        return value == self.value

    def grid(self) -> Sequence[Value]:
        """Return the value alone."""
        return [self.value]

    def extremes(self) -> list[Value]:
        """Return the value alone."""
        return [self.value]


Parameter: TypeAlias = Int | Float | Choice | Fixed


@dataclass(frozen=True)
class Limits:
    """Sizes above which a configuration is refused before any training; None is no limit."""

    parameters: int | None = None
    multiply_adds: int | None = None

    def broken_by(self, cost: Cost) -> tuple[str, float]:
        """Return which limit ``cost`` breaks, and by what share of it; or an empty reason."""
        for name in ("parameters", "multiply_adds"):
            limit, size = getattr(self, name), getattr(cost, name)
            if limit is not None and size > limit:
                return f"{size:,} {name.replace('_', '-')} are over the limit of {limit:,}", size / limit - 1
        return "", 0.0

    def excess(self, cost: Cost) -> float:
        """Return by what share ``cost`` breaks the limits, all together; 0.0 where it breaks none."""
        pairs = ((self.parameters, cost.parameters), (self.multiply_adds, cost.multiply_adds))
        return sum(max(0.0, size / limit - 1) for limit, size in pairs if limit is not None)


@dataclass(frozen=True)
class Space:
    """A whole search space: parameters with parents before children, limits, and known-good configurations."""

    name: str
    description: str
    model: str
    parameters: Mapping[str, Parameter]
    limits: Limits = field(default_factory=Limits)
    start_with: tuple[Values, ...] = ()
    hypermodel: HypermodelFile | None = None
    """The file that asks for its values itself; ``parameters`` then holds those that were seen, or none."""

    def active(self, name: str, values: Values) -> bool:
        """Tell whether ``name`` varies, given the ``values`` of the parameters before it."""
        when = self.parameters[name].when
        return all(parent in values and values[parent] in allowed for parent, allowed in when.items())

    def sample(self, suggester: Suggester) -> Values:
        """Ask for every active parameter, parents first, and return the configuration."""
        values: Values = {}
        for name, parameter in self.parameters.items():
            if not self.active(name, values):
                continue
            match parameter:
                case Fixed():
                    values[name] = parameter.value
                case Int() | Float() | Choice():
                    values[name] = parameter.suggest(name, suggester)
                case _:
                    assert_never(parameter)
        return values

    def check_values(self, values: Values) -> None:
        """Raise SpaceError unless ``values`` (which may leave parameters out) lies in the space."""
        wrong = list(self.value_problems(values))
        if wrong:
            raise SpaceError.of(wrong)

    def value_problems(self, values: Values) -> Iterator[SpaceError]:
        """Yield what keeps ``values``, all of them parameters of the space, from lying in it."""
        known: Values = {}
        for name, parameter in self.parameters.items():
            if name in values:
                if not parameter.contains(values[name]):
                    said = f"{name} = {quoted(values[name])} is outside the space"
                    yield SpaceError(said, hint=f"allowed: {describe(parameter)}")
                    continue
                known[name] = values[name]
            elif isinstance(parameter, Fixed):
                known[name] = parameter.value
        for name in values:
            for parent, allowed in self.parameters[name].when.items():
                if parent in known and known[parent] not in allowed:
                    text = " or ".join(map(quoted, allowed))
                    yield SpaceError(f"{name} is only active when {parent} is {text}", hint=f"leave {name} out")

    def nearest(self, wanted: Values) -> Values:
        """Return the configuration of the space that is nearest to ``wanted``, parameter by parameter.

        What ``wanted`` leaves out takes the first value of its domain.
        """
        values: Values = {}
        for name, parameter in self.parameters.items():
            if self.active(name, values):
                values[name] = nearest_value(parameter, wanted.get(name))
        return {name: value for name, value in values.items() if not isinstance(self.parameters[name], Fixed)}

    def grid(self) -> list[Values]:
        """Return every configuration of a finite space, inactive parameters left out."""
        points: list[Values] = [{}]
        for name, parameter in self.parameters.items():
            grown: list[Values] = []
            for values in points:
                if not self.active(name, values):
                    grown.append(values)
                    continue
                try:
                    grid = parameter.grid()
                except SpaceError as error:
                    raise SpaceError(f"parameters.{name}: {error.message}", hint=error.hint) from None
                if len(grown) + len(grid) > MAX_GRID_POINTS:
                    raise SpaceError(
                        f"the grid has more than {MAX_GRID_POINTS:,} points",
                        hint="fix parameters with --set parameters.NAME=VALUE, or use --sampler qmc",
                    )
                grown.extend({**values, name: value} for value in grid)
            points = grown
        return points


def nearest_value(parameter: Parameter, wanted: Value) -> Value:
    """Return the value of a domain that is nearest to ``wanted``; one of another kind has the first as its nearest.

    >>> nearest_value(Int(low=16, high=64, step=16), 100), nearest_value(Choice(("sgd", "adam")), "adam")
    (64, 'adam')
    """
    if parameter.contains(wanted):
        return wanted
    number = _number(wanted)
    match parameter:
        case Fixed():
            return parameter.value
        case Choice():
            options = [(option, value) for option in parameter.options if (value := _number(option)) is not None]
            if number is None or not options:
                return parameter.options[0]
            return min(options, key=lambda pair: abs(pair[1] - number))[0]
        case Int() | Float():
            inside = parameter.low if number is None else min(max(number, parameter.low), parameter.high)
            if parameter.step is not None:
                inside = parameter.low + round((inside - parameter.low) / parameter.step) * parameter.step
            return round(inside) if isinstance(parameter, Int) else inside
        case _:
            assert_never(parameter)


def _number(value: Value) -> float | None:
    return None if isinstance(value, bool | str | None) else value


def written(value: Value) -> str:
    """Return a value as TOML has it, a text without its quotes.

    >>> written(True), written("sgd"), quoted("sgd")
    ('true', 'sgd', "'sgd'")
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def quoted(value: Value) -> str:
    """Return a value as TOML has it, for the middle of a sentence."""
    return repr(value) if isinstance(value, str) else written(value)


def describe(parameter: Parameter) -> str:
    """Return one phrase for the domain, for tables and errors.

    >>> describe(Float(low=1e-4, high=0.1, log=True))
    '0.0001 … 0.1, log'
    """
    match parameter:
        case Int() | Float():
            step = f", step {parameter.step:g}" if parameter.step not in (None, 1) else ""
            return f"{parameter.low:g} … {parameter.high:g}{step}{', log' if parameter.log else ''}"
        case Choice():
            return " | ".join(map(written, parameter.options))
        case Fixed():
            return f"= {written(parameter.value)}"
        case _:
            assert_never(parameter)


def describe_when(when: When) -> str:
    """Return one phrase for the conditions: ``optimizer = sgd, blocks = 2 | 3``."""
    return ", ".join(f"{parent} = {' | '.join(map(written, allowed))}" for parent, allowed in when.items())


def _range_problems(low: float, high: float, step: float | None, *, log: bool, stepped: bool) -> Iterator[SpaceError]:
    if not (math.isfinite(low) and math.isfinite(high)):
        yield SpaceError("low and high must be finite")
    elif low > high:
        yield SpaceError(f"low = {low} is above high = {high}", hint="swap them")
    elif not high - low < math.inf or (step is not None and 0 < step < math.inf and (high - low) / step > MOST_STEPS):
        yield SpaceError(f"low = {low} and high = {high} are too far apart")
    if step is not None and not 0 < step < math.inf:
        yield SpaceError(f"step = {step} must be positive, and finite")
    if log and low <= 0:
        yield SpaceError(f"a log scale needs low > 0, not {low}")
    if log and stepped:
        yield SpaceError("'log' and 'step' exclude each other", hint="drop one of them")
