"""Every error that a user can mend, with the exit code it ends the command with.

What is not here is a bug, and keeps its traceback. The codes are part of the command line's promise::

    2 usage · 3 space · 4 data · 5 study · 6 no result (every trial failed, or no budget) · 7 export
    8 environment (unwritable folder, full disk, locked database, port in use) · 130 interrupted
"""

from __future__ import annotations

from collections.abc import Sequence


class TunerError(Exception):
    """A problem that the user can mend: one line that says what and where, and a hint that says what next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Keep ``message`` (what is wrong, and where) and ``hint`` (what to do next)."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the one line that the console prints."""
        return f"{self.message} ({self.hint})" if self.hint else self.message

    @property
    def lines(self) -> list[str]:
        """Return what the console prints: one line, or a heading and a line for each of several problems."""
        return [str(self)]


class UsageError(TunerError):
    """The command line asks for something that does not exist or contradicts itself."""

    exit_code = 2


class SpaceError(TunerError):
    """A space file, a value in it, or a ``--set`` is wrong; all that is wrong with one file is one error.

    >>> SpaceError.of([SpaceError("x: low is missing"), SpaceError("y: no type")]).of_file("mine.toml").lines
    ['mine.toml has 2 errors:', 'x: low is missing', 'y: no type']
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None, parts: Sequence[SpaceError] = ()) -> None:
        """Keep ``parts``, the errors that this one sums up."""
        super().__init__(message, hint=hint)
        self._parts = tuple(parts)

    @classmethod
    def of(cls, parts: Sequence[SpaceError]) -> SpaceError:
        """Return one error that says all of ``parts``, which are not empty."""
        return parts[0] if len(parts) == 1 else cls(f"{len(parts)} errors", parts=parts)

    @property
    def parts(self) -> tuple[SpaceError, ...]:
        """Return the errors that this one sums up: itself where it is one."""
        return self._parts or (self,)

    def at(self, where: str) -> SpaceError:
        """Return the same with ``where``, a table or a key, before each message."""
        return SpaceError.of([SpaceError(f"{where}: {part.message}", hint=part.hint) for part in self.parts])

    def of_file(self, source: str) -> SpaceError:
        """Return the same with the file's name: before the one message, or as the heading of several."""
        return SpaceError(f"{source} has {self.message}", parts=self._parts) if self._parts else self.at(source)

    def __str__(self) -> str:
        """Return everything in one line."""
        return f"{self.message}: {'; '.join(map(str, self._parts))}" if self._parts else super().__str__()

    @property
    def lines(self) -> list[str]:
        """Return a heading and a line for each part, or the one line."""
        return [f"{self.message}:", *map(str, self._parts)] if self._parts else super().lines


class DataError(TunerError):
    """The images are missing, damaged, or not what they should be."""

    exit_code = 4


class StudyError(TunerError):
    """The study exists already, does not exist, or was made with another space."""

    exit_code = 5


class SearchError(TunerError):
    """The search has no result: every trial failed, or the budget held none."""

    exit_code = 6


class ExportError(TunerError):
    """The model cannot be taken away."""

    exit_code = 7


class EnvironmentProblem(TunerError):  # noqa: N818  # EnvironmentError is Python's own
    """The machine stands in the way: an unwritable folder, a port in use, a missing program."""

    exit_code = 8


class InterruptedByUser(TunerError):  # noqa: N818  # the user's wish, not an error
    """Ctrl-C or a termination signal: the study is intact and can be resumed."""

    exit_code = 130
