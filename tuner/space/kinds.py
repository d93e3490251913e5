"""One parameter: from its table, or its bare value, to its kind. What a kind's table holds, its dataclass says."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard, get_args, get_origin, get_type_hints

from tuner.errors import SpaceError
from tuner.records import Value
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter, When
from tuner.space.problems import Problems, closest, nearest

Table: TypeAlias = dict[str, Any]
KINDS: dict[str, type[Int | Float | Choice | Fixed] | None] = {
    "int": Int,
    "float": Float,
    "choice": Choice,
    "bool": None,
    "fixed": Fixed,
}
"""What each ``type`` becomes; ``bool`` is the choice of false and true, and has no keys of its own."""


@dataclass(frozen=True)
class Key:
    """A key of a kind's table."""

    name: str
    hint: Any
    """The type of the dataclass's field."""
    required: bool


def keys_of(kind: str) -> list[Key]:
    """Return the keys of a kind's table beside ``type``, ``when`` and ``per``.

    >>> [key.name for key in keys_of("float") if not key.required]
    ['step', 'log']
    """
    made = KINDS[kind]
    if made is None:
        return []
    hints = get_type_hints(made)
    fields = [field for field in dataclasses.fields(made) if field.name != "when"]
    return [Key(field.name, hints[field.name], field.default is dataclasses.MISSING) for field in fields]


def kind_of(raw: object) -> object:
    """Return what a raw parameter says that its type is; None where it does not say."""
    if not isinstance(raw, dict):
        return "fixed"
    return raw.get("type", "fixed" if "value" in raw else None)


def changed(old: object, new: object, *, kind: object = None) -> Table:
    """Return a raw parameter with ``new`` put over it: a bare value fixes it, another type has none of the old keys.

    Its conditions stay unless ``new`` has its own. ``kind`` is what ``old`` is where it does not say.

    >>> changed({"type": "int", "low": 1, "high": 9, "when": {"flip": True}}, 3)
    {'type': 'fixed', 'value': 3, 'when': {'flip': True}}
    """
    kept = {key: old[key] for key in ("when", "per") if key in old} if isinstance(old, dict) else {}
    if not isinstance(new, dict):
        return {"type": "fixed", "value": new, **kept}
    if not isinstance(old, dict) or kind_of(new) not in (None, kind_of(old) or kind):
        return {**kept, **new}
    return {**old, **new}


def read_parameter(raw: object) -> Parameter:
    """Return the parameter in a table or a bare value. Raises SpaceError with everything that is wrong with it."""
    if not isinstance(raw, dict):
        if is_value(raw):
            return Fixed(raw)
        hint = 'a choice is written type = "choice", options = […]' if isinstance(raw, list) else None
        raise SpaceError("is neither a table nor a finite value", hint=hint)
    kind = kind_of(raw)
    if kind is None:
        raise SpaceError("has no 'type'", hint=f"one of {', '.join(KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SpaceError(f"unknown type {kind!r}", hint=nearest(str(kind), KINDS))
    keys, problems = keys_of(kind), Problems()
    values: dict[str, Any] = {}
    names = ("type", *(key.name for key in keys), "when", "per")
    unknown = [name for name in raw if name not in names]
    for name in unknown:
        problems.add(f"unknown key '{name}'", hint=nearest(name, names))
    misspelt = {closest(name, names) for name in unknown}
    for key in keys:
        with problems.gathering():
            if key.name in raw:
                values[key.name] = _read_key(key, raw[key.name])
            elif key.required and key.name not in misspelt:
                raise SpaceError(f"'{key.name}' is missing")
    with problems.gathering():
        values["when"] = _read_when(raw.get("when", {}))
    problems.raise_any()
    made = KINDS[kind]
    return Choice((False, True), **values) if made is None else made(**values)


def _read_key(key: Key, value: object) -> object:
    kinds = get_args(key.hint) or (key.hint,)
    if get_origin(key.hint) is tuple:
        if not isinstance(value, list) or not all(is_value(one) for one in value):
            raise SpaceError(f"{key.name} must be a list of scalars", hint='e.g. options = ["sgd", "adamw"]')
        return tuple(value)
    if str in kinds:
        if not is_value(value):
            hint = "a list narrows a choice: parameters.NAME.options=[…]"
            raise SpaceError(f"{key.name} must be a scalar", hint=hint)
        return value
    if key.hint is bool:
        if not isinstance(value, bool):
            raise SpaceError(f"{key.name} = {value!r} is neither true nor false")
        return value
    if float in kinds:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SpaceError(f"{key.name} = {value!r} is not a number")
        return float(value)
    return whole(key.name, value)


def whole(name: str, value: object) -> int:
    """Return ``value`` when it is a whole number. Raises SpaceError naming ``name``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpaceError(f"{name} = {value!r} is not a whole number")
    return value


def _read_when(raw: object) -> When:
    if not isinstance(raw, dict):
        raise SpaceError("when must be a table", hint='e.g. when = { optimizer = "sgd" }')
    when = {parent: tuple(allowed) if isinstance(allowed, list) else (allowed,) for parent, allowed in raw.items()}
    for parent, allowed in when.items():
        if not allowed or not all(is_value(value) for value in allowed):
            raise SpaceError(f"when.{parent} must be a value or a list of values")
    return when


def is_value(value: object) -> TypeGuard[Value]:
    """Tell whether ``value`` is a finite scalar: nan equals nothing, not even itself."""
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
