"""Processes of ours: a function of a module, at the other end of a channel. They end when this one does.

Started with a command and not with ``multiprocessing``'s own start-up, so that a user's ten-line script needs no
``__main__`` guard. On Linux they are forks of one that has loaded Keras (``forkserver``).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Protocol

COMMAND = f"from {__name__} import main; main()"
PR_SET_PDEATHSIG = 1
OOM_SCORE = 500
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Of Ctrl-C in the terminal the coordinator hears alone, and decides for the others. So it does where a container sends
# a signal to every process: the epochs end.
_ITS_OWN_TO_HEED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Process(Protocol):
    """A process that was started, as ``subprocess`` tells of it."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """Return its exit code, a signal's number below zero, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code. Raises subprocess.TimeoutExpired after ``timeout`` seconds."""

    def kill(self) -> None:
        """End it, also when it is stopped."""


def start(
    entry: str, log: IO[bytes], environment: Mapping[str, str], *, alone: bool = False
) -> tuple[Process, Connection]:
    """Let a process call ``entry`` (``module:function``) with its end of a channel, and return it with our end.

    What it prints goes to ``log``. One that stays ``alone`` is nobody's fork.
    """
    process: Process
    ours, theirs = socket.socketpair()
    with theirs:
        if sys.platform == "linux" and not alone:
            from tuner.search.executors.children import fork

            process = fork(entry, theirs, log, environment)
        else:
            process = _launch(entry, theirs, log, environment)
    return process, Connection(ours.detach())


def _launch(entry: str, channel: socket.socket, log: IO[bytes], environment: Mapping[str, str]) -> Process:
    """Start a process that has loaded nothing, which calls ``entry`` with ``channel``."""
    return subprocess.Popen(  # noqa: S603  # our own module
        [sys.executable, "-P", "-c", COMMAND, entry, str(channel.fileno())],
        pass_fds=[channel.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=dict(environment),
        start_new_session=True,
    )


def resident_bytes(pid: int) -> int | None:
    """Return the bytes that a process holds in memory; None when it is gone, or where there is no /proc."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return None


def main() -> None:
    """Call what the first argument names with the channel whose file descriptor is the second."""
    end_with_parent()  # if that has ended before, ``serve`` sees it
    serve(sys.argv[1], int(sys.argv[2]))


def serve(entry: str, descriptor: int) -> None:
    """Call ``entry`` with a channel; this process is a child, and ends when the other side of the channel is gone."""
    heed_no_signal()
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    end_with(descriptor)
    be_ended_first()
    module, _, name = entry.partition(":")
    getattr(importlib.import_module(module), name)(Connection(descriptor))


def be_ended_first() -> None:
    """Where memory runs out, let the kernel end this process, not the search; it can only be made more likely."""
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(max(OOM_SCORE, int(score.read_text("utf-8")))), "utf-8")  # Ray gives all of its own 1000


def end_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends, even if it is stopped or hangs in C.

    More exactly, with the thread that started it, which waits for it in ``Relay.run`` and ``apart``.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def heed_no_signal() -> None:
    """Ignore what a terminal or a container sends to every process."""
    for number in _ITS_OWN_TO_HEED:
        signal.signal(number, signal.SIG_IGN)


def end_with(descriptor: int) -> None:
    """End this process at once when the other side of the socket ``descriptor`` is gone, whatever it is busy with."""

    def watch() -> None:
        hung_up = select.poll()
        hung_up.register(descriptor, 0)  # no data is waited for: only the hang-up, which is always told
        hung_up.poll()
        os._exit(0)  # every file is written whole or not at all, so nothing needs an orderly end

    threading.Thread(target=watch, daemon=True).start()
