"""The spaces that come with tuner, and copies of them to edit."""

from __future__ import annotations

import importlib.resources
import json
from importlib.resources.abc import Traversable
from pathlib import Path

from tuner.errors import EnvironmentProblem, SpaceError, UsageError
from tuner.runs import write_text
from tuner.space.problems import nearest
from tuner.space.schema import SCHEMA_NAME, TITLE


def builtin_names() -> list[str]:
    """Return the names of the spaces that come with tuner."""
    return sorted(item.name.removesuffix(".toml") for item in _folder().iterdir() if item.name.endswith(".toml"))


def builtin_text(name: str) -> str:
    """Return the TOML text of a built-in space."""
    if name not in builtin_names():
        raise SpaceError(f"there is no built-in space '{name}'", hint=nearest(name, builtin_names()))
    return _folder().joinpath(f"{name}.toml").read_text("utf-8")


def copy_builtin(name: str, file: Path) -> Path | None:
    """Write a built-in space to ``file``, and beside it the schema that its first line names, for editors.

    Returns where the schema is, or None where something else has its name. Raises SpaceError, UsageError when ``file``
    exists, EnvironmentProblem.
    """
    if file.suffix != ".toml":
        raise UsageError(f"{file}: a space file ends in .toml")
    text = builtin_text(name)
    beside = file.with_name(SCHEMA_NAME)
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(text)
        if beside.exists() and not _is_schema(beside):
            return None
        write_text(beside, _folder().joinpath(SCHEMA_NAME).read_text("utf-8"))
    except FileExistsError:
        raise UsageError(f"{file} exists", hint="name another file, or remove it first") from None
    except OSError as error:
        raise EnvironmentProblem(f"{file}: cannot write there: {error.strerror}") from None
    return beside


def _folder() -> Traversable:
    return importlib.resources.files("tuner.search_spaces")


def _is_schema(file: Path) -> bool:
    """Tell whether a file is our schema, of whatever version."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("title") == TITLE
