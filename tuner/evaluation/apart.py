"""A function in a process of its own: TensorFlow stays out of ours, and its memory is free again afterwards."""

from __future__ import annotations

import importlib
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import IO, TypeVar

from tuner.errors import SearchError, TunerError
from tuner.search.executors.local import worker_environment
from tuner.search.executors.processes import start

T = TypeVar("T")


def apart(  # one verb with its whole sentence
    function: Callable[..., T],
    *arguments: object,
    what: str,
    again: str,
    error: type[TunerError] = SearchError,
    alone: bool = False,
) -> T:
    """Return what a function of a module of ours returns; both travel pickled. The process ends when this one does.

    One that is to be ``alone`` has nothing loaded that the function does not load. Raises ``error``: ``what`` failed,
    with the last line that it said and the hint ``again``.
    """
    with tempfile.TemporaryFile() as log:
        process, channel = start(f"{__name__}:main", log, worker_environment(), alone=alone)
        with channel:
            try:
                channel.send((function.__module__, function.__qualname__, arguments))
                answer: tuple[T] | str = channel.recv()
            except (EOFError, OSError):
                answer = _how_it_ended(process.wait(), log)
        process.wait()
    if isinstance(answer, str):
        raise error(f"{what} failed: {answer}", hint=again)
    return answer[0]


def _how_it_ended(code: int, log: IO[bytes]) -> str:
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    log.seek(0)
    said = log.read().decode(errors="replace").strip().splitlines()
    return said[-1] if said else f"exit code {code}"


def main(channel: Connection) -> None:
    """Do what comes through the channel, and send what came out: the result, alone in a tuple, or what was wrong."""
    module, name, arguments = channel.recv()
    answer: tuple[object] | str
    try:
        answer = (getattr(importlib.import_module(module), name)(*arguments),)
    except TunerError as error:
        answer = error.message
    channel.send(answer)
