"""From a TOML file to a :class:`Space`: parse at the door, so that nobody downstream sees a table."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.resources
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import tomli_w

from tuner.errors import SpaceError
from tuner.records import Value, Values
from tuner.space.parameters import Choice, Fixed, Float, Int, Limits, Parameter, Space, When, parents_first
from tuner.space.settings import SearchSettings

Table: TypeAlias = dict[str, Any]
_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s?)?")
_TOP = ("description", "model", "parameters", "limits", "start_with", "search")


@dataclass(frozen=True)
class SpaceFile:
    """A space file as read: the space, its own search defaults, and the text that made it, changes included."""

    space: Space
    settings: SearchSettings
    text: str
    """TOML of the space as searched; written into the run folder as ``space.toml``."""

    @property
    def hash(self) -> str:
        """Return a digest of what is tried (parameters, limits, model, first entries), not of comments or settings."""
        space = self.space
        parameters = {name: [type(p).__name__, dataclasses.asdict(p)] for name, p in space.parameters.items()}
        facts = [space.model, parameters, dataclasses.asdict(space.limits), space.start_with]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def starting_with(self, entries: Iterable[Values], why: str) -> SpaceFile:
        """Return this space with ``entries`` tried before its own; ``why`` is a comment in its text."""
        chosen: list[Values] = []
        for entry in (*entries, *self.space.start_with):
            if entry not in chosen:
                chosen.append(entry)
        text = f"# {why}\n" + tomli_w.dumps({**tomllib.loads(self.text), "start_with": chosen})
        return dataclasses.replace(self, space=dataclasses.replace(self.space, start_with=tuple(chosen)), text=text)

    def as_document(self) -> Table:
        """Return everything as JSON can hold it."""
        space = self.space
        return {
            "name": space.name,
            "description": space.description,
            "model": space.model,
            "hash": self.hash,
            "parameters": {
                name: {"type": type(parameter).__name__.lower(), **dataclasses.asdict(parameter)}
                for name, parameter in space.parameters.items()
            },
            "limits": dataclasses.asdict(space.limits),
            "start_with": list(space.start_with),
            "search": dataclasses.asdict(self.settings),
        }


def builtin_names() -> list[str]:
    """Return the names of the spaces that come with tuner."""
    folder = importlib.resources.files("tuner.search_spaces")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def builtin_text(name: str) -> str:
    """Return the TOML text of a built-in space."""
    if name not in builtin_names():
        raise SpaceError(f"there is no built-in space '{name}'", hint=_nearest(name, builtin_names()))
    return importlib.resources.files("tuner.search_spaces").joinpath(f"{name}.toml").read_text("utf-8")


def read_space(source: str, changes: Iterable[str] = ()) -> SpaceFile:
    """Read a space by name or path and put ``changes`` (``dotted.path=TOML value``) over it.

    A ``source`` with a suffix or a slash is a path, otherwise a built-in name. Raises SpaceError naming the file, the
    table and the key.
    """
    is_path = "/" in source or Path(source).suffix != ""
    if is_path:
        path = Path(source)
        if path.suffix != ".toml":
            raise SpaceError(
                f"{source}: a space file ends in .toml", hint="'tuner spaces copy cnn mine.toml' starts one"
            )
        try:
            text = path.read_text("utf-8-sig")
        except FileNotFoundError:
            raise SpaceError(f"{source}: no such file", hint="'tuner spaces' lists the built-in ones") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SpaceError(f"{source}: cannot be read: {error}") from None
    else:
        text = builtin_text(source)
    return parse_space(Path(source).stem, text, changes, source)


def parse_space(name: str, text: str, changes: Iterable[str] = (), source: str = "") -> SpaceFile:
    """Return the space in ``text``, with ``changes`` put over it. ``source`` is what errors call it."""
    source = source or name
    changes = list(changes)
    try:
        table = tomllib.loads(text)
        for change in changes:
            _apply(table, change)
        if changes:
            table["start_with"] = _fitting(_parse(name, {**table, "start_with": []}, "").space, _entries(table))
            text = "# Changed by --set: " + ", ".join(changes) + "\n" + tomli_w.dumps(table)
        return _parse(name, table, text)
    except tomllib.TOMLDecodeError as error:
        raise SpaceError(f"{source}: not TOML: {error}") from None
    except SpaceError as error:
        raise SpaceError(f"{source}: {error.message}", hint=error.hint) from None


def _apply(table: Table, change: str) -> None:
    """Put one ``--set`` over the table: a parameter set to a bare value is fixed there."""
    path, equals, written = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise SpaceError(f"--set {change}: not KEY=VALUE", hint="e.g. --set parameters.dropout=0.3")
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written.strip()  # a bare word is meant as text: --set search.pruner=median
    if keys[0] not in ("parameters", "limits", "search"):
        raise SpaceError(f"--set {path}: starts with neither parameters, limits nor search")
    if keys[0] == "parameters" and len(keys) > 1:
        parameters = _table(table, "parameters")
        _known(keys[1], parameters, f"--set {path}")
        if len(keys) == 2:  # noqa: PLR2004  # parameters.NAME
            _fix(table, parameters, keys[1], value)
            return
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise SpaceError(f"--set {path}: '{key}' is not a table")
    table[keys[-1]] = value


def _fix(table: Table, parameters: Table, name: str, value: object) -> None:
    """Put one value in the place of a parameter's domain; its condition stays, and the first entries follow."""
    old = parameters[name]
    when = {"when": old["when"]} if isinstance(old, dict) and "when" in old else {}
    parameters[name] = {"type": "fixed", "value": value, **when}
    entries = table.get("start_with", [])
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and name in entry:
            entry[name] = value


def _fitting(space: Space, entries: list[Values]) -> list[Values]:
    """Return those first entries that a space changed by ``--set`` still holds, without what became inactive."""
    kept = []
    for entry in entries:
        known: Values = {}
        for name, parameter in space.parameters.items():
            met = all(parent not in known or known[parent] in allowed for parent, allowed in parameter.when.items())
            if isinstance(parameter, Fixed):
                known[name] = parameter.value
            elif name in entry and met:
                known[name] = entry[name]
        own = {name: value for name, value in known.items() if name in entry}
        if all(space.parameters[name].contains(value) for name, value in own.items()):
            kept.append(own)
    return kept


def _parse(name: str, table: Table, text: str) -> SpaceFile:
    for key in table:
        _known(key, _TOP, "top level", what="key")
    model = table.get("model", "cnn")
    description = table.get("description", "")
    if not isinstance(model, str) or not isinstance(description, str):
        raise SpaceError("model and description must be texts")
    raw = _table(table, "parameters")
    if not raw:
        raise SpaceError("[parameters] is missing or empty", hint="'tuner spaces show cnn' is an example")
    read = {key: _named(f"parameters.{key}", _parameter, value) for key, value in raw.items()}
    parameters = parents_first(_conditions_checked(read))
    limits = _named("limits", _limits, _table(table, "limits"))
    space = Space(name, description, model, parameters, limits)
    entries = _entries(table)
    for number, entry in enumerate(entries, 1):
        _named(f"start_with entry {number}", lambda entry: _start_with(space, entry), entry)
    space = dataclasses.replace(space, start_with=tuple(dict(entry) for entry in entries))
    search = _table(table, "search")
    names = [field.name for field in dataclasses.fields(SearchSettings)]
    for key in search:
        _known(key, names, "search", what="key")
    if isinstance(search.get("time"), str):
        search = {**search, "time": parse_seconds(search["time"])}
    return SpaceFile(space, SearchSettings().merged(search), text)


def parse_seconds(text: str) -> float:
    """Return the seconds of ``1h30m``, ``45m``, ``600s``, ``90`` (seconds).

    >>> parse_seconds("1h30m")
    5400.0
    """
    match = _DURATION.fullmatch(text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise SpaceError(f"time '{text}' is not a duration", hint="e.g. 45m, 1h30m or 600s")
    return total


def _parameter(raw: object) -> Parameter:
    if not isinstance(raw, dict):
        if _is_value(raw):
            return Fixed(raw)
        raise SpaceError("is neither a table nor a finite value")
    kind = raw.get("type", "fixed" if "value" in raw else None)
    if kind is None:
        raise SpaceError("has no 'type'", hint=f"one of {', '.join(_KINDS)}")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise SpaceError(f"unknown type {kind!r}", hint=_nearest(str(kind), _KINDS))
    keys, build = _KINDS[kind]
    for key in raw:
        _known(key, ("type", *keys, "when"), "", what="key")
    return build(raw, _when(raw.get("when", {})))


def _int_parameter(raw: Table, when: When) -> Parameter:
    return Int(_int(raw, "low"), _int(raw, "high"), _int(raw, "step", 1), log=_bool(raw, "log"), when=when)


def _float_parameter(raw: Table, when: When) -> Parameter:
    step = _float(raw, "step") if "step" in raw else None
    return Float(_float(raw, "low"), _float(raw, "high"), step, log=_bool(raw, "log"), when=when)


def _choice_parameter(raw: Table, when: When) -> Parameter:
    options = raw.get("options")
    if not isinstance(options, list) or not all(_is_value(option) for option in options):
        raise SpaceError("options must be a list of scalars", hint='e.g. options = ["sgd", "adamw"]')
    return Choice(tuple(options), when)


def _bool_parameter(_raw: Table, when: When) -> Parameter:
    return Choice((False, True), when)


def _fixed_parameter(raw: Table, when: When) -> Parameter:
    value = raw.get("value")
    if not _is_value(value):
        raise SpaceError("value must be a scalar", hint="a list narrows a choice: --set parameters.NAME.options=[…]")
    return Fixed(value, when)


_KINDS: dict[str, tuple[tuple[str, ...], Callable[[Table, When], Parameter]]] = {
    "int": (("low", "high", "step", "log"), _int_parameter),
    "float": (("low", "high", "step", "log"), _float_parameter),
    "choice": (("options",), _choice_parameter),
    "bool": ((), _bool_parameter),
    "fixed": (("value",), _fixed_parameter),
}
"""The keys of each kind of parameter beside ``type`` and ``when``, and how it is read."""


def _when(raw: object) -> When:
    if not isinstance(raw, dict):
        raise SpaceError("when must be a table", hint='e.g. when = { optimizer = "sgd" }')
    when = {parent: tuple(allowed) if isinstance(allowed, list) else (allowed,) for parent, allowed in raw.items()}
    for parent, allowed in when.items():
        if not allowed or not all(_is_value(value) for value in allowed):
            raise SpaceError(f"when.{parent} must be a value or a list of values")
    return when


def _conditions_checked(parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    for name, parameter in parameters.items():
        for parent, allowed in parameter.when.items():
            _known(parent, parameters, f"parameters.{name}.when")
            for value in allowed:
                if not parameters[parent].contains(value) and not isinstance(parameters[parent], Fixed):
                    raise SpaceError(f"parameters.{name}.when: {parent} is never {value!r}")
    return parameters


def _limits(raw: Table) -> Limits:
    for key in raw:
        _known(key, ("parameters", "multiply_adds"), "", what="key")
    for key in raw:
        if _int(raw, key) < 1:
            raise SpaceError(f"{key} must be above 0")
    return Limits(raw.get("parameters"), raw.get("multiply_adds"))


def _entries(table: Table) -> list[Table]:
    entries = table.get("start_with", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SpaceError("start_with is not a list of tables", hint="write [[start_with]]")
    return entries


def _start_with(space: Space, entry: Table) -> None:
    for key, value in entry.items():
        _known(key, space.parameters, "")
        if not _is_value(value):
            raise SpaceError(f"{key} must be a scalar")
    space.check_values(entry)


def _named(where: str, read: Callable[[Any], Any], raw: object) -> Any:  # noqa: ANN401  # a pass-through
    try:
        return read(raw)
    except SpaceError as error:
        raise SpaceError(f"{where}: {error.message}", hint=error.hint) from None


def _known(key: str, names: Iterable[str], where: str, *, what: str = "parameter") -> None:
    names = list(names)
    if key not in names:
        prefix = f"{where}: " if where else ""
        raise SpaceError(f"{prefix}unknown {what} '{key}'", hint=_nearest(key, names))


def _nearest(word: str, names: Iterable[str]) -> str:
    names = list(names)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(names)}"


def _table(table: Table, key: str) -> Table:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise SpaceError(f"{key} is not a table", hint=f"write [{key}]")
    return value


def _int(raw: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpaceError(f"{key} = {value!r} is not a whole number" if key in raw else f"'{key}' is missing")
    return value


def _float(raw: Mapping[str, object], key: str) -> float:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpaceError(f"{key} = {value!r} is not a number" if key in raw else f"'{key}' is missing")
    return float(value)


def _bool(raw: Mapping[str, object], key: str) -> bool:
    value = raw.get(key, False)
    if not isinstance(value, bool):
        raise SpaceError(f"{key} = {value!r} is neither true nor false")
    return value


def _is_value(value: object) -> TypeGuard[Value]:
    """Tell whether ``value`` is a finite scalar: nan equals nothing, not even itself."""
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
