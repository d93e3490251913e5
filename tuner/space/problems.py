"""All that is wrong with a file, gathered so that it is said at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import SpaceError


class Problems:
    """What was found wrong so far."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.found: list[SpaceError] = []

    def add(self, message: str, *, hint: str | None = None) -> None:
        """Note a problem; what was said before is not said again."""
        self.take(SpaceError(message, hint=hint))

    def take(self, error: SpaceError) -> None:
        """Note every part of an error."""
        said = {str(part) for part in self.found}
        self.found += [part for part in error.parts if str(part) not in said]

    def gathering(self, where: str = "") -> Gathering:
        """Note the SpaceError that ends the block, with ``where`` before its message, and go on."""
        return Gathering(self, where)

    def unknown(self, keys: Iterable[str], names: Iterable[str], where: str, *, what: str = "key") -> bool:
        """Note those ``keys`` that are none of ``names``, and tell whether there are any."""
        names = list(names)
        wrong = [key for key in keys if key not in names]
        for key in wrong:
            self.add(f"{where}: unknown {what} '{key}'", hint=nearest(key, names))
        return bool(wrong)

    def mention(self, word: str) -> bool:
        """Tell whether a problem, or its hint, names ``word`` already."""
        return any(word in str(part) for part in self.found)

    def raise_any(self) -> None:
        """Raise what was found, as one SpaceError."""
        if self.found:
            raise SpaceError.of(self.found)


@dataclass(frozen=True)
class Gathering:
    """A block whose SpaceError is noted. No generator, of which a type checker cannot know that it goes on."""

    problems: Problems
    where: str

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Take a SpaceError, and nothing else."""
        if isinstance(error, SpaceError):
            self.problems.take(error.at(self.where) if self.where else error)
        return isinstance(error, SpaceError)


def nearest(word: str, names: Iterable[str]) -> str:
    """Return the hint for an unknown ``word``: the name that it is likely to mean, or all there are."""
    names = list(names)
    close = closest(word, names)
    if close is not None:
        return f"did you mean '{close}'?"
    return f"there are: {', '.join(names)}" if names else "there are none"


def closest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that an unknown ``word`` is likely to mean, in capitals or not."""
    lower = {name.lower(): name for name in names}
    return next((lower[name] for name in difflib.get_close_matches(word.lower(), lower, n=1)), None)


def text_at(path: Path, said: str) -> str:
    """Return what stands in a file that errors call ``said``. Raises SpaceError."""
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise SpaceError(f"{said}: no such file", hint="'tuner spaces' lists the built-in ones") from None
    except (OSError, ValueError) as error:  # no text, a name with NUL
        raise SpaceError(f"{said}: cannot be read: {error}") from None
