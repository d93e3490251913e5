"""A user's KerasTuner file as a search keeps it.

It is read and parsed, never run: the process that searches loads neither KerasTuner nor the file.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import SpaceError
from tuner.space.problems import text_at

HYPERMODEL = "hypermodel"
"""The ``model`` of a space that a KerasTuner file asks its values for, and the table that holds the file."""
PIXELS = ("auto", "unit", "raw")
"""What pixels a model is given: 0 to 1 (``unit``), 0 to 255 (``raw``), or what its layers say it wants."""
LABELS = ("auto", "integer", "one-hot")
"""What labels its loss is given."""
OUTPUTS = ("auto", "probabilities", "logits")
"""What it gives."""
BATCH_SIZE = 32
"""Keras's own, which a hypermodel trains with unless told otherwise."""


@dataclass(frozen=True)
class HypermodelFile:
    """A file with a ``build(hp)`` function or a ``HyperModel``, whole: later changes of it change no study."""

    path: str
    """Where it lay, absolute: what it imports from beside it is looked for there."""
    name: str
    """The function, class or object that is meant; empty is the only one that can be."""
    text: str
    pixels: str = "auto"
    labels: str = "auto"
    outputs: str = "auto"
    batch_size: int = BATCH_SIZE

    def __post_init__(self) -> None:
        """Refuse settings that nothing understands."""
        for key, options in (("pixels", PIXELS), ("labels", LABELS), ("outputs", OUTPUTS)):
            if getattr(self, key) not in options:
                raise SpaceError(f"hypermodel.{key} = {getattr(self, key)!r} is none of {', '.join(options)}")
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise SpaceError(f"hypermodel.batch_size = {self.batch_size!r} is not a whole number above 0")

    @classmethod
    def of(cls, raw: dict[str, Any]) -> HypermodelFile:
        """Return what a study's text says of its hypermodel. Raises SpaceError."""
        missing = [key for key in ("path", "name", "text") if not isinstance(raw.get(key), str)]
        if missing:
            raise not_in_toml()
        return cls(**{field.name: raw[field.name] for field in dataclasses.fields(cls) if field.name in raw})

    @property
    def called(self) -> str:
        """Return what errors call it: ``my_model.py:build_model``."""
        return Path(self.path).name + (f":{self.name}" if self.name else "")

    @property
    def digest(self) -> str:
        """Return what trials of it depend on, as a digest; where it lies is not part of that."""
        facts = repr((self.name, self.text, self.pixels, self.labels, self.batch_size))
        facts += self.outputs * (self.outputs != "auto")  # which is younger than some studies
        return hashlib.sha256(facts.encode()).hexdigest()[:16]


def not_in_toml() -> SpaceError:
    """Return what is said of a ``[hypermodel]`` table that somebody wrote."""
    return SpaceError("a hypermodel is named by its .py file, not written in TOML", hint="e.g. 'tuner search FILE.py'")


def is_hypermodel(source: str) -> bool:
    """Tell whether SPACE names a Python file: ``my_model.py`` or ``my_model.py:build_model``."""
    return source.endswith(".py") or ".py:" in source


def read_hypermodel(source: str) -> HypermodelFile:
    """Return what ``PATH.py`` or ``PATH.py:NAME`` names, read and parsed but not run. Raises SpaceError."""
    place, _, name = (source, "", "") if source.endswith(".py") else source.rpartition(":")
    path = Path(place)
    text = text_at(path, place)
    try:
        tree = ast.parse(text, place)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise SpaceError(f"{place}{line}: not Python: {said}") from None
    _refuse_a_search(tree, place)
    return HypermodelFile(str(path.absolute()), name, text)


def _refuse_a_search(tree: ast.Module, place: str) -> None:
    """Raise SpaceError where importing the file would search: every worker imports it."""
    for statement in tree.body:
        # Who keeps what comes of it means another search, e.g. that of a regular expression.
        value = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "search":
            raise SpaceError(
                f"{place}, line {statement.lineno}: it searches as soon as it is imported",
                hint="put what is no hypermodel under: if __name__ == '__main__':",
            )
