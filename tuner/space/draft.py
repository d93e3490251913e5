"""A space file's tables, not yet read: what TOML gives, each in its place, what is in them unchecked."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tuner.errors import SpaceError
from tuner.space.hypermodel_file import HYPERMODEL
from tuner.space.kinds import Table
from tuner.space.parameters import Limits
from tuner.space.problems import Problems, nearest
from tuner.space.settings import SearchSettings

_AT_END = re.compile(r" ?\(at end of document\)$")
_WHOLE = range(-(2**63), 2**63)
"""What TOML promises to hold, and what a database does."""


@dataclass(frozen=True)
class Draft:
    """The top of a space file, each entry of the right type."""

    description: str | None = None
    model: str | None = None
    extends: str | None = None
    remove: list[Any] = field(default_factory=list)
    parameters: Table = field(default_factory=dict)
    limits: Table = field(default_factory=dict)
    start_with: list[Any] | None = None
    search: Table = field(default_factory=dict)
    hypermodel: Table = field(default_factory=dict)
    """Not for a file that somebody writes: what a study keeps of a KerasTuner file."""

    def as_table(self) -> Table:
        """Return what is written as TOML: a space that depends on no other."""
        return {name: value for name, value in vars(self).items() if value not in (None, {}, [])}


TOP: dict[str, tuple[type, str, str]] = {
    "description": (str, "a text", 'description = "…"'),
    "model": (str, "a text", 'model = "cnn"'),
    "extends": (str, "a text", 'extends = "cnn", or the path of a space file'),
    "remove": (list, "a list of names", 'remove = ["dropout"]'),
    "parameters": (dict, "a table", "[parameters.NAME]"),
    "limits": (dict, "a table", "[limits]"),
    "start_with": (list, "a list of tables", "[[start_with]]"),
    "search": (dict, "a table", "[search]"),
    "hypermodel": (dict, "a table", "[hypermodel]"),
}
"""What may stand at the top: its type, that in words, and how it is written."""


def load(text: str) -> Table:
    """Return what ``text`` says. Raises SpaceError with the line and column where it is not TOML."""
    try:
        table = tomllib.loads(text)
        text.encode()
        large = [path for path, value in _leaves(table, "") if isinstance(value, int) and value not in _WHOLE]
    except tomllib.TOMLDecodeError as error:
        lines = text.split("\n")
        end = f" (at line {len(lines)}, column {len(lines[-1]) + 1})"
        raise SpaceError(f"not TOML: {_AT_END.sub(end, str(error))}") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a list a thousand deep, half a character
        raise SpaceError(f"not TOML that can be read: {error}") from None
    if large:
        raise SpaceError(f"{', '.join(large)}: a whole number of more than 64 bits")
    return table


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


def drafted(table: Table, problems: Problems) -> Draft:
    """Return the top of a file; ``problems`` hears of what does not belong there, and it is left out."""
    settings, limits = SearchSettings.__dataclass_fields__, Limits.__dataclass_fields__
    for key in table:
        if key in settings or (key in limits and key not in TOP):
            problems.add(f"top level: '{key}' belongs under [{'search' if key in settings else 'limits'}]")
        elif key not in TOP:
            hint = nearest(key, [name for name in TOP if name != HYPERMODEL])
            problems.add(f"top level: unknown key '{key}'", hint=hint)
    right = {}
    for key, (kind, words, written) in TOP.items():
        if key in table and not isinstance(table[key], kind):
            problems.add(f"{key} is not {words}", hint=f"write {written}")
        elif key in table:
            right[key] = table[key]
    return Draft(**right)
