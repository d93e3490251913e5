"""Which parameters wake which: an order in which conditions only look back, and conditions that are never met."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

from tuner.errors import SpaceError
from tuner.records import Value
from tuner.space.parameters import Fixed, Parameter, written


def parents_first(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return ``parameters`` ordered so that conditions only look back; written order is kept otherwise."""
    ordered: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [name for name, parameter in waiting.items() if all(parent in ordered for parent in parameter.when)]
        if not ready:
            names = ", ".join(itertools.islice(waiting, 4))
            raise SpaceError(f"parameters: the conditions of {names} wait for each other in a circle")
        ordered[ready[0]] = waiting.pop(ready[0])
    return ordered


def asked_of_ancestors(parameters: Mapping[str, Parameter]) -> dict[str, dict[str, tuple[Value, ...]]]:
    """Return for each parameter the values that its ancestors have where it is there; parents stand first."""
    asked: dict[str, dict[str, tuple[Value, ...]]] = {}
    for name, parameter in parameters.items():
        needs: dict[str, tuple[Value, ...]] = {}
        for parent, allowed in parameter.when.items():
            for ancestor, values in ((parent, allowed), *asked[parent].items()):
                needs[ancestor] = tuple(value for value in needs.get(ancestor, values) if value in values)
        asked[name] = needs
    return asked


def decided(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return ``parameters`` without those that are never there, and without conditions that are always met.

    Two spaces that are equal so have the same configurations.
    """
    asleep = never_met(parameters)
    left: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        if name not in asleep:
            when = {
                parent: allowed
                for parent, allowed in parameter.when.items()
                if not isinstance(left[parent], Fixed) or left[parent].when
            }
            left[name] = dataclasses.replace(parameter, when=when)
    return left


def never_met(parameters: Mapping[str, Parameter]) -> dict[str, str]:
    """Return the parameters that no configuration has, each with the reason; parents stand first.

    Exact, not sampled: a parameter asks each of its ancestors for certain values, and nothing else binds those. It
    sleeps for ever when what is asked of one of them is nothing, or not its fixed value.
    """
    found: dict[str, str] = {}
    for name, needs in asked_of_ancestors(parameters).items():
        for ancestor, values in needs.items():
            other = parameters[ancestor]
            if not values:
                found[name] = f"its conditions ask for different values of {ancestor}"
            elif isinstance(other, Fixed) and other.value not in values:
                wanted = " or ".join(map(written, values))
                found[name] = f"{ancestor} is fixed at {written(other.value)}, and would have to be {wanted}"
    return found
