"""A function in a process of its own: TensorFlow stays out of ours, and its memory is free again afterwards."""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from tuner.errors import SearchError, TunerError
from tuner.search.worker import end_with

T = TypeVar("T")


def apart(function: Callable[..., T], *arguments: object, what: str, again: str) -> T:
    """Return what a function of a module of ours returns; both travel pickled. The process ends when this one does.

    Raises SearchError: ``what`` failed, with the last line that it said and the hint ``again``.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # A session of its own, for Ctrl-C in the terminal is the coordinator's; it ends with us by the socket.
        done = subprocess.run(  # noqa: S603  # ourselves
            [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
            input=pickle.dumps((function.__module__, function.__qualname__, arguments)),
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
            capture_output=True,
            check=False,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
        )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SearchError(f"{what} failed: {last[0]}", hint=again)
    result: T = pickle.loads(done.stdout)  # noqa: S301  # from ourselves
    return result


def main(descriptor: str) -> None:
    """Do what stands on the standard input, and write what came out to the standard output."""
    end_with(int(descriptor))
    module, name, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301  # from ourselves
    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever a library prints is no answer
    try:
        result: Any = getattr(importlib.import_module(module), name)(*arguments)
    except TunerError as error:
        sys.exit(error.message)
    answers.write(pickle.dumps(result))
    answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
