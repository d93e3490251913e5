"""The program that searches: what it says of where things are, and what it is to find as it was before."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from tuner.records import Event, Observer
from tuner.runs import Interruption

if TYPE_CHECKING:
    from tuner.console.screens import Progress

AnyPath: TypeAlias = str | os.PathLike[str]


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Have Optuna tell of no step, as in the commands; then its verbosity is the program's own again.

    What the commands leave open for their process's end is closed.
    """
    import optuna  # before the rooms that quieten it

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
        gc.collect()  # the database: its connections are held by a circle of Optuna's and SQLAlchemy's objects


@contextlib.contextmanager
def watched(progress: bool | Observer) -> Iterator[tuple[Progress, Observer, Interruption]]:  # noqa: FBT001  # as above
    """Yield what tells of a search in the end, what to tell its events, and what Ctrl-C sets."""
    from tuner.console import screens
    from tuner.console.signals import signals

    # Not SIGTERM and SIGHUP: what they mean is the program's to say, and a search that they end can be resumed.
    with signals((signal.SIGINT,)) as interruption, screens.progress(quiet=progress is not True) as shown:

        def observe(event: Event) -> None:
            shown(event)
            if not isinstance(progress, bool):
                progress(event)

        yield shown, observe, interruption


def where(out: AnyPath | None, storage: AnyPath | None) -> tuple[str, str | None]:
    """Return the folder and the storage as the commands find them."""
    folder = os.environ.get("TUNER_OUT") or "results" if out is None else os.fspath(out)
    return folder, (os.environ.get("TUNER_STORAGE") or None) if storage is None else os.fspath(storage)
