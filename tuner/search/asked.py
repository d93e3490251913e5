"""The values that hypermodels ask for, in a study: under which name each is kept, and what was asked for in all."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.trial import FrozenTrial, TrialState

from tuner.records import Value, Values
from tuner.search.samplers import distribution_of
from tuner.space.asked import Asked
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter, Space

NAMES = "asked"
"""The user attribute of a trial that maps a value's name to the study's, where they differ."""


class Names:
    """The study's parameter names. Optuna knows one list of choices by a name, for ever."""

    def __init__(self, trials: Iterable[FrozenTrial] = ()) -> None:
        """Know what the ``trials`` of a study have."""
        self._known: dict[str, BaseDistribution] = {}
        for trial in trials:
            self._known |= trial.distributions

    def draw(
        self,
        asked: Asked,
        trial: optuna.Trial,
        put: Callable[[str, BaseDistribution, Value], Value] | None = None,
        wanted: Value = None,
    ) -> tuple[str, Value]:
        """Return the name under which ``trial`` has the value asked for, and the value, drawn unless it is there.

        ``put`` gives the trial the value ``wanted`` in place of drawing, or the default where that is outside.
        """
        if isinstance(asked.parameter, Fixed):
            return asked.name, asked.parameter.value
        distribution = distribution_of(asked.parameter)
        name = self._name_of(asked.key, distribution)
        if put is not None:
            value = wanted if asked.parameter.contains(wanted) else asked.default
            return name, asked.mirror(put(name, distribution, asked.mirror(value)))
        return name, asked.mirror(asked.parameter.suggest(name, trial))

    def _name_of(self, key: str, distribution: BaseDistribution) -> str:
        """Return ``key``, or with a number where another kind of value has it already."""
        for number in itertools.count(1):
            name = key if number == 1 else f"{key} ({number})"
            try:
                check_distribution_compatibility(self._known.setdefault(name, distribution), distribution)
            except ValueError:
                continue
            return name
        raise AssertionError(key)


def as_searched(space: Space, study: optuna.Study) -> Space:
    """Return ``space`` with the parameters that a hypermodel has asked for in ``study``; another one as it is."""
    if not space.hypermodel:
        return space
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    return dataclasses.replace(space, parameters=seen_parameters(trials))


def seen_parameters(trials: Iterable[FrozenTrial]) -> dict[str, Parameter]:
    """Return the parameters that hypermodels have asked for in ``trials``, by the values' own names, widest ranges."""
    found: dict[str, Parameter] = {}
    values: dict[str, list[Value]] = {}
    for trial in trials:
        had: Values = trial.user_attrs.get("values", {})
        for name, value in had.items():
            values.setdefault(name, [])
            if not any(type(one) is type(value) and one == value for one in values[name]):
                values[name].append(value)
            distribution = trial.distributions.get(trial.user_attrs.get(NAMES, {}).get(name, name))
            mirrored = trial.user_attrs.get(NAMES, {}).get(name, "").endswith("(mirrored)")
            parameter = _parameter_of(distribution, value, mirrored=mirrored)
            found[name] = _widest(found[name], parameter, values[name]) if name in found else parameter
    return found


def _parameter_of(distribution: BaseDistribution | None, value: Value, *, mirrored: bool) -> Parameter:
    match distribution:
        case IntDistribution():
            log = distribution.log and not mirrored
            return Int(distribution.low, distribution.high, distribution.step, log=log)
        case FloatDistribution():
            log = distribution.log and not mirrored
            return Float(distribution.low, distribution.high, distribution.step, log=log)
        case CategoricalDistribution():
            choices: tuple[Any, ...] = distribution.choices
            return Choice(choices)
        case _:
            return Fixed(value)


def _widest(one: Parameter, other: Parameter, values: list[Value]) -> Parameter:
    """Return a domain that holds both, for a name that has more than one in a study."""
    if one == other:
        return one
    if isinstance(one, Int) and isinstance(other, Int):
        return Int(min(one.low, other.low), max(one.high, other.high), log=one.log and other.log)
    if isinstance(one, Float) and isinstance(other, Float):
        return Float(min(one.low, other.low), max(one.high, other.high), log=one.log and other.log)
    known = [option for choice in (one, other) if isinstance(choice, Choice) for option in choice.options]
    return Choice(tuple({(type(value), value): value for value in (*known, *values)}.values()))
