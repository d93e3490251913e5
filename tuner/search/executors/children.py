"""Processes that are forks of one that has loaded Keras: the user's side of ``forkserver``."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

COMMAND = "from tuner.search.executors.forkserver import main; main()"
NUMBER = struct.Struct("!i")
"""The first words about a child: its process's number."""
ENDED = struct.Struct("!id")
"""The last ones: its exit code, and the processor seconds that it took."""
LIMITS = sorted(value for name, value in vars(resource).items() if name.startswith("RLIMIT_"))
MOMENT_SECONDS = 0.5
CHANGES_EVERY_TIME = "PYTEST_CURRENT_TEST"
"""A variable that a program's tests set all the time, and that no library reads."""


class Child:
    """A process that a fork server has started, or will when it has loaded."""

    def __init__(self, server: _Server, line: socket.socket) -> None:
        """Know nothing of it but its line."""
        self._server, self._line = server, line
        self._pid: int | None = None
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """Its number, as soon as it has one; 0 when it never had."""
        if self._pid is None and self.returncode is None:
            self._read_number()
        return self._pid or 0

    def poll(self) -> int | None:
        """Return its exit code, a signal's number below zero, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code. Raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        while self.returncode is None:
            if not _readable(self._line, timeout):
                raise subprocess.TimeoutExpired(COMMAND, timeout or 0.0)
            if self._pid is None:
                self._read_number()
            else:
                self._read_end()
        return self.returncode

    def kill(self) -> None:
        """End it, also when it is stopped; it never begins when it had not."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        if self._pid is None and self.returncode is None and not _readable(self._line, 0.0):
            self._has_ended(-signal.SIGKILL, 0.0)  # the server still loads, and will see that nobody wants this one

    def _read_number(self) -> None:
        words = _read(self._line, NUMBER.size)
        if words:
            (self._pid,) = NUMBER.unpack(words)
        else:
            self._has_ended(self._server.code() or -signal.SIGKILL, 0.0)  # it died while it loaded, or was ended

    def _read_end(self) -> None:
        words = _read(self._line, ENDED.size)
        self._has_ended(*(ENDED.unpack(words) if words else (-signal.SIGKILL, 0.0)))  # it died with its server

    def _has_ended(self, code: int, cpu_seconds: float) -> None:
        self.returncode = code
        self._line.close()
        self._server.told_cpu_seconds += cpu_seconds


class _Server:
    """A fork server as its user knows it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it; it loads from now on."""
        self._made_for = _circumstances(environment)
        self.told_cpu_seconds = 0.0
        """What its children that have ended took, and it for them."""
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, "-P", "-c", COMMAND, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what cannot be loaded is said again by the child, into its own log
                env=dict(environment),
                start_new_session=True,
            )

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Tell whether what it has loaded is what a new process with this ``environment`` would load."""
        return not self.ended() and self._made_for == _circumstances(environment)

    def fork(self, entry: str, channel: socket.socket, log: IO[bytes], environment: Mapping[str, str]) -> Child:
        """Ask for a child. Raises ConnectionError when the server has just ended."""
        folder = None
        with contextlib.suppress(OSError):  # it was deleted
            folder = str(Path.cwd())
        request = pickle.dumps((entry, dict(environment), folder))
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"."], [theirs.fileno(), channel.fileno(), log.fileno()])
                theirs.close()
                ours.sendall(request)
            except BaseException:
                ours.close()
                raise
        return Child(self, ours)

    def let_go(self) -> None:
        """Let it end when its children have."""
        self._control.close()

    def ended(self) -> bool:
        """Tell whether it has ended."""
        return self._process.poll() is not None

    def code(self) -> int | None:
        """Return its exit code, None while it runs; what it has been killed by is told a moment later."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(MOMENT_SECONDS)
        return self._process.poll()

    def kill(self) -> None:
        """End it with its children."""
        self._control.close()
        self._process.kill()
        self._process.wait()


_here: _Server | None = None
_let_go: list[_Server] = []
"""Those of before, as long as they have children."""
_lock = threading.Lock()


def load(environment: Mapping[str, str]) -> None:
    """Let the libraries be loaded for children that will have this ``environment``, and return at once."""
    with _lock:
        _server_for(environment)


def fork(entry: str, channel: socket.socket, log: IO[bytes], environment: Mapping[str, str]) -> Child:
    """Start a process that calls ``entry`` (``module:function``) with ``channel`` and prints into ``log``."""
    with _lock:
        try:
            return _server_for(environment).fork(entry, channel, log, environment)
        except ConnectionError:  # it ended between two looks, for it was idle: another one loads
            _forget()
            return _server_for(environment).fork(entry, channel, log, environment)


def cpu_seconds() -> float:
    """Return the processor time of children that have ended; of a server that has, ``resource`` tells it."""
    with _lock:
        return sum(server.told_cpu_seconds for server in _servers() if not server.ended())


def _servers() -> list[_Server]:
    return [*_let_go, *([_here] if _here else [])]


def _server_for(environment: Mapping[str, str]) -> _Server:
    global _here  # noqa: PLW0603  # one for all searches of a process: that is what it is for
    if _here is None or not _here.fits(environment):
        _forget()
        _here = _Server(environment)
    return _here


def _forget() -> None:
    global _here  # noqa: PLW0603
    _let_go[:] = [server for server in _let_go if not server.ended()]
    if _here is not None:
        _here.let_go()
        _let_go.append(_here)
    _here = None


def _circumstances(environment: Mapping[str, str]) -> object:
    """Return what a new process would be given, and a fork has from its server."""
    status = Path("/proc/self/status").read_text("utf-8")
    return (
        {name: value for name, value in environment.items() if name != CHANGES_EVERY_TIME},
        next((line for line in status.splitlines() if line.startswith("Umask")), ""),
        os.nice(0),
        os.sched_getaffinity(0),
        [resource.getrlimit(limit) for limit in LIMITS],
    )


@atexit.register
def _kill() -> None:
    for server in _servers():
        server.kill()


def _in_a_fork() -> None:
    """Know nothing of servers in a process that a user's program forks: they are its parent's."""
    global _here, _lock
    for server in _servers():
        server.let_go()
    _here, _lock = None, threading.Lock()
    _let_go.clear()


os.register_at_fork(after_in_child=_in_a_fork)


def _readable(line: socket.socket, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(None if timeout is None else 1000 * timeout))


def _read(line: socket.socket, size: int) -> bytes:
    with contextlib.suppress(OSError):
        words = line.recv(size, socket.MSG_WAITALL)
        if len(words) == size:
            return words
    return b""
