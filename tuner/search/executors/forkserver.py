"""A process that loads Keras once, and whose forks are all the others: each costs milliseconds, not seconds.

Loading TensorFlow takes 3.6 seconds of a core, and memory that forks share. Only a process with one thread is forked,
and it has run no operation: TensorFlow's threads, and what it knows of a GPU, begin in the child. Where loading alone
has started threads each child is a new program instead.

Server and children are bound to their user by a *line*, a socket pair for each child: the child reads from it what to
do; the server writes into it the child's number, and at the end its exit code and what it cost. When the user's side is
shut the child is killed, so that none outlives its user. The server ends with its user and its last child, or when for
a minute there was no child and nothing was asked.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

from tuner.search.executors.children import ENDED, NUMBER
from tuner.search.executors.processes import COMMAND, PR_SET_PDEATHSIG, heed_no_signal, serve

IDLE_SECONDS = 60.0
THREADS_GONE_SECONDS = 0.2
"""A thread that was joined is in the kernel a moment longer."""


def main() -> None:
    """Serve the socket whose file descriptor is the only argument."""
    heed_no_signal()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whoever started us may have blocked some
    control = socket.socket(fileno=int(sys.argv[1]))
    with _ending_with(control), contextlib.suppress(BaseException):  # each child tries again, and says what was wrong
        _load()
    gc.collect()
    gc.freeze()  # what is loaded stays, and its pages stay shared
    _Forks(control).run()


def _load() -> None:
    import keras

    import tuner.search.worker
    import tuner.training.stock

    if keras.backend.backend() == "tensorflow":
        import tuner.training.compiled  # noqa: F401


@contextlib.contextmanager
def _ending_with(control: socket.socket) -> Iterator[None]:
    """Meanwhile, end this process when its user is gone; afterwards there is one thread again."""
    loaded, told = os.pipe()

    def watch() -> None:
        either = select.poll()
        either.register(control, 0)
        either.register(loaded, select.POLLIN)
        if any(file == control.fileno() for file, _ in either.poll()):
            os._exit(0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        os.write(told, b".")
        thread.join()
        os.close(loaded)
        os.close(told)


def _is_alone() -> bool:
    """Tell whether this process has one thread."""
    deadline = time.monotonic() + THREADS_GONE_SECONDS
    while (count := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < deadline:  # noqa: PTH208
        time.sleep(0.01)
    return count == 1


def _has_looked_for_a_gpu() -> bool:
    """Tell whether loading has spoken with a GPU's driver, which bears no fork: Keras asks torch for one."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.backends.cuda.is_built()


class _Forks:
    """The children of this process, and who is told of them."""

    def __init__(self, control: socket.socket) -> None:
        """Have none yet."""
        self._control = control
        self._user = -1
        self._lines: dict[int, socket.socket] = {}
        self._told_cpu_seconds = 0.0
        self._died, self._dying = os.pipe()
        os.set_blocking(self._dying, False)
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._died, select.POLLIN)
        self._libc, self._number = ctypes.CDLL(None), os.getpid()
        self._may_fork = _is_alone() and not _has_looked_for_a_gpu()
        with contextlib.suppress(OSError):  # a copy of the control in a fork of the user's does not keep us
            self._user = os.pidfd_open(os.getppid())
            self._poll.register(self._user, select.POLLIN)

    def run(self) -> None:
        """Start children until nobody can ask for one, and wait for the last of them."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._dying)
        asked = True
        while asked or self._lines:
            events = self._poll.poll(None if self._lines else IDLE_SECONDS * 1000)
            if not events:  # nobody is kept waiting by this: from now on asking fails, and another server is started
                self._control.shutdown(socket.SHUT_RD)
            for file, _ in events:
                if file == self._died:
                    os.read(self._died, 4096)
                    self._reap()
                elif file == self._control.fileno():
                    asked = self._begin()
                elif file == self._user:
                    return  # and no child outlives this process
                else:
                    self._kill(file)
            if not asked:
                with contextlib.suppress(KeyError):
                    self._poll.unregister(self._control)

    def _begin(self) -> bool:
        """Start a child; False when nobody is there any more who could ask for one."""
        asked, files, *_ = socket.recv_fds(self._control, 1, 3)
        if not asked:
            return False
        if len(files) == 3:  # noqa: PLR2004  # else there was no room for them, and whoever asked reads that it ended
            line, channel, log = socket.socket(fileno=files[0]), files[1], files[2]
            try:
                self._fork(line, channel, log)
            except OSError as error:  # no more processes, or no memory
                os.write(log, f"it could not be started: {error.strerror}\n".encode())
                _write(line, NUMBER.pack(0) + ENDED.pack(1, 0.0))
                line.close()
            files = files[1:]
        for file in files:
            os.close(file)
        return True

    def _fork(self, line: socket.socket, channel: int, log: int) -> None:
        if _hung_up(line):
            line.close()
            return
        pid = os.fork()
        if not pid:
            self._be_child(line, channel, log)
        self._lines[pid] = line
        self._poll.register(line, select.POLLRDHUP)
        _write(line, NUMBER.pack(pid))

    def _kill(self, file: int) -> None:
        """End the child whose line was shut."""
        for pid, line in self._lines.items():
            if line.fileno() == file and _hung_up(line):  # the number may be another line's by now
                self._poll.unregister(file)
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self._lines:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            line = self._lines.pop(pid, None)
            if line is None:
                continue
            with contextlib.suppress(KeyError):
                self._poll.unregister(line)
            own = sum(os.times()[:2])
            cost = usage.ru_utime + usage.ru_stime + own - self._told_cpu_seconds
            self._told_cpu_seconds = own
            _write(line, ENDED.pack(os.waitstatus_to_exitcode(status), cost))
            line.close()

    def _be_child(self, line: socket.socket, channel: int, log: int) -> NoReturn:
        code = 1
        try:
            self._part_from_the_server(log)
            atexit._clear()  # noqa: SLF001  # what the server wants done at its own end
            with line.makefile("rb") as words:
                entry, environment, folder = pickle.load(words)  # noqa: S301  # from ourselves
            for other in (line, *self._lines.values()):
                other.close()
            if folder:
                os.chdir(folder)
            if not self._may_fork:
                os.set_inheritable(channel, True)
                os.execve(sys.executable, [sys.executable, "-P", "-c", COMMAND, entry, str(channel)], environment)  # noqa: S606
            os.environ.clear()
            os.environ.update(environment)
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed()  # not the numbers that every other child draws
            serve(entry, channel)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:  # noqa: BLE001  # as an interpreter does
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                if "multiprocessing.util" in sys.modules:  # what a user's code has started ends with it
                    sys.modules["multiprocessing.util"]._exit_function()  # noqa: SLF001  # as its own fork server does
                atexit._run_exitfuncs()  # noqa: SLF001  # TensorFlow's temporary files go
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _part_from_the_server(self, log: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._number:
            os._exit(1)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for file in (log, self._died, self._dying, *([self._user] if self._user >= 0 else [])):
            os.close(file)
        self._control.close()


def _write(line: socket.socket, words: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody wants to know any more
        line.sendall(words)


def _hung_up(line: socket.socket) -> bool:
    poll = select.poll()
    poll.register(line, select.POLLRDHUP)
    return bool(poll.poll(0))
