"""The JSON Schema of a space file, by which editors complete and check it, made from what the reader reads.

It says what may stand where. What values mean together the reader says: whether low is below high, a condition can be
met, a first entry lies in the space. So it takes all that the reader takes, but for the ``[hypermodel]`` of the text
that a study keeps, which nobody writes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

from tuner.space.kinds import KINDS, Key, Table, keys_of
from tuner.space.parameters import Limits, Parameter, describe
from tuner.space.settings import LEAST_REDUCTION, NOT_NEGATIVE, OPTIONS, POSITIVE, SearchSettings

SCHEMA_NAME = "space.schema.json"
TITLE = "A search space of tuner"
SCALAR = {"type": ["boolean", "integer", "number", "string"]}
_A_PARAMETER = {"$ref": "#/definitions/parameter"}
_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}
_SAID = {
    "description": "What the space holds, in a sentence.",
    "model": "The family that reads the parameters.",
    "extends": "The space that this file changes: a built-in name, or a path relative to this file.",
    "remove": "Parameters of the extended space that this one is without.",
    "parameters": "What may vary. A bare value fixes a parameter.",
    "limits": "Sizes above which a configuration is refused before any training.",
    "start_with": "Known-good configurations, tried first.",
    "search": "How this space is searched; the command line wins.",
    "type": "int, float: low, high, and step or log; choice: options; bool: no other key; fixed: value.",
    "when": "Conditions: the parameter is there only where each named one has the value, or one of the values.",
    "per": "Repeat it: 'blocks' makes NAME_1, NAME_2 … up to the number of blocks.",
    "low": "The lowest value.",
    "high": "The highest value.",
    "step": "Only low, low + step, … up to high.",
    "log": "Draw by the logarithm.",
    "options": "The values that there are.",
    "value": "The one value.",
}


def schema_text(families: Mapping[str, Mapping[str, Parameter]]) -> str:
    """Return the schema as it is committed; ``families`` are what each model reads, with the values that it can use."""
    return json.dumps(schema(families), indent=2, ensure_ascii=False) + "\n"


def schema(families: Mapping[str, Mapping[str, Parameter]]) -> Table:
    """Return the schema, of draft 7, which editors know best."""
    limits = {name: {"type": "integer", "minimum": 1} for name in get_type_hints(Limits)}
    properties: Table = {
        "description": {"type": "string"},
        "model": {"enum": list(families)},
        "extends": {"type": "string"},
        "remove": {"type": "array", "items": {"type": "string"}},
        "parameters": _closed(_parameters(families)),
        "limits": _closed(limits),
        "start_with": {"type": "array", "items": {"type": "object", "additionalProperties": SCALAR}},
        "search": _closed(_described(_settings(), docs_of(SearchSettings))),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": TITLE,
        **_closed(_described(properties, _SAID)),
        "definitions": {"parameter": _parameter()},
    }


def _closed(properties: Table) -> Table:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _described(properties: Table, said: Mapping[str, str]) -> Table:
    return {name: {"description": said[name], **one} if name in said else one for name, one in properties.items()}


def _parameters(families: Mapping[str, Mapping[str, Parameter]]) -> Table:
    """Return what may be named: what the families read, and what is repeated per block without its number."""
    names: Table = {}
    for model, domains in families.items():
        for name, domain in domains.items():
            said = f"{model}: {describe(domain)}"
            names.setdefault(name.removesuffix("_1"), {"description": said, "allOf": [_A_PARAMETER]})
            names.setdefault(name, {"description": said, "allOf": [_A_PARAMETER]})
    return names


def _parameter() -> Table:
    """Return a parameter: a bare value, a table of one kind, or in a table without ``type`` changes of another."""
    keys: dict[str, list[Key]] = {kind: keys_of(kind) for kind in KINDS}
    shared: Table = {
        "type": {"enum": list(KINDS)},
        "when": {"type": "object", "additionalProperties": {"anyOf": [SCALAR, _list_of_scalars()]}},
        "per": {"type": "string"},
    }
    every = {key.name: _of(key.hint) for key in itertools.chain(*keys.values())}
    return {
        "type": ["object", *SCALAR["type"]],
        "properties": _described({**shared, **every}, _SAID),
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
                "then": {"properties": dict.fromkeys(every, False) | {key.name: _of(key.hint) for key in own}},
            }
            for kind, own in keys.items()
        ],
    }


def _of(hint: Any) -> Table:  # noqa: ANN401  # a type, in Python's words
    """Return the schema of a value of a field's type; None is to leave the key out."""
    kinds = get_args(hint) or (hint,)
    if get_origin(hint) is tuple:
        return _list_of_scalars()
    names = [_TYPES[kind] for kind in kinds if kind in _TYPES]
    return SCALAR if len(names) == len(_TYPES) else {"type": names[0] if len(names) == 1 else names}


def _list_of_scalars() -> Table:
    return {"type": "array", "items": SCALAR, "minItems": 1}


def _settings() -> Table:
    found: Table = {}
    hints = get_type_hints(SearchSettings)
    for field in dataclasses.fields(SearchSettings):
        one = _of(hints[field.name])
        if field.name in POSITIVE:
            one["exclusiveMinimum"] = 0
        if field.name in NOT_NEGATIVE:
            one["minimum"] = 0
        if field.name == "reduction":
            one["minimum"] = LEAST_REDUCTION
        if field.name in OPTIONS:
            one = {"enum": list(OPTIONS[field.name])}
        if field.name == "time":  # or 45m, which the reader takes apart
            one["type"] = ["number", "string"]
        found[field.name] = one if field.default is None else {**one, "default": field.default}
    return found


def docs_of(made: type) -> dict[str, str]:
    """Return what a dataclass says under its fields, which Python keeps in the source alone."""
    body = ast.parse(inspect.getsource(made)).body[0]
    found = {}
    for field, said in itertools.pairwise(getattr(body, "body", [])):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(said, ast.Expr):
            text = ast.literal_eval(said.value)
            found[field.target.id] = " ".join(text.replace("``", "").split())
    return found
