"""Worker processes on this machine, one thread each, over a socket pair.

Started with a command and not with ``multiprocessing``'s own start-up, so that a user's ten-line script needs no
``__main__`` guard.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO

from tuner.search.messages import FromWorker, LogTo, Lost, Shutdown, ToWorker

CLOSING_SECONDS = 3.0
COMMAND = "from tuner.search.worker import main; main()"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Keep big tensors on the heap: with glibc's defaults every large temporary is mapped and unmapped, and its pages are
# faulted in anew at each step. About a tenth of a small CNN's step (measured, results/LOG.md).
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


def worker_environment() -> dict[str, str]:
    """Return the environment in which a worker trains; what the user has set wins."""
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **_ONE_THREAD, **_ALLOCATOR, **os.environ}


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    channel: Connection
    early_log: IO[bytes] | None = None
    """What it printed before its log had a place."""
    ready: bool = False


class LocalExecutor:
    """Long-lived worker processes."""

    def __init__(self, log_folder: Path | None = None) -> None:
        """Start nothing yet; what workers print goes to ``worker-N.log`` in ``log_folder``."""
        self.log_folder = log_folder
        self._workers: dict[int, _Worker] = {}
        self._warm: list[_Worker] = []
        self._started = 0

    def warm(self, count: int) -> None:
        """Let ``count`` processes load their libraries before it is known what for; ``start`` takes them first."""
        for _ in range(count):
            log = tempfile.TemporaryFile()  # noqa: SIM115  # kept as long as the process
            self._warm.append(dataclasses.replace(_launch(log), early_log=log))

    def start(self) -> int:
        """Start one worker process and return its number at once."""
        number = self._started
        self._started += 1
        if self._warm:
            worker = self._warm.pop(0)
            worker.channel.send(LogTo(str(self._log(number).absolute())))
        else:
            with self._log(number).open("ab") as log:
                worker = _launch(log)
        self._workers[number] = worker
        return number

    def let_go(self) -> None:
        """End the warm processes that nobody wants."""
        while self._warm:
            worker = self._warm.pop()
            worker.process.kill()
            worker.process.wait()
            worker.channel.close()
            if worker.early_log is not None:
                worker.early_log.close()

    def _log(self, number: int) -> Path:
        if self.log_folder is None:
            raise AssertionError("log_folder is to be set before the first start")
        return self.log_folder / f"worker-{number}.log"

    def send(self, worker: int, message: ToWorker) -> None:
        """Send without waiting; a worker that is gone is reported by ``receive``."""
        if worker in self._workers:
            with contextlib.suppress(OSError):
                self._workers[worker].channel.send(message)

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        """Return what has arrived, waiting at most ``timeout`` seconds for the first message."""
        by_channel = {worker.channel: number for number, worker in self._workers.items()}
        if not by_channel:
            time.sleep(min(timeout, 0.05))
            return []
        heard: list[tuple[int, FromWorker]] = []
        for channel in wait(list(by_channel), timeout):
            number = by_channel[channel]  # type: ignore[index]  # only our own connections are waited for
            try:
                message = self._workers[number].channel.recv()
                self._workers[number].ready = True
                heard.append((number, message))
            except (EOFError, OSError):
                heard.append((number, Lost(self._end(number))))
        return heard

    def kill(self, worker: int) -> None:
        """End a worker that does not answer, also a stopped one, and say nothing more of it."""
        if worker in self._workers:
            self._workers[worker].process.kill()
            self._end(worker)

    def memory(self, worker: int) -> int | None:
        """Return the bytes that a worker holds in memory; None when it is gone, or where there is no /proc."""
        if worker not in self._workers:
            return None
        try:
            resident = Path(f"/proc/{self._workers[worker].process.pid}/statm").read_text("utf-8").split()[1]
        except (OSError, IndexError):
            return None
        return int(resident) * _PAGE_BYTES

    def close(self) -> None:
        """Ask every worker to end, wait a little, then kill; those that are still loading hear nothing."""
        self.let_go()
        for number in self._workers:
            self.send(number, Shutdown())
        deadline = time.monotonic() + CLOSING_SECONDS
        for number in sorted(self._workers, key=lambda number: self._workers[number].ready):
            if not self._workers[number].ready:
                self._workers[number].process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._workers[number].process.wait(max(0.0, deadline - time.monotonic()))
            self._end(number)

    def _end(self, number: int) -> str:
        """Make sure that the worker is gone, and return how it ended."""
        worker = self._workers.pop(number)
        worker.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(0.5)
        if worker.process.poll() is None:
            worker.process.kill()
        code = worker.process.wait()
        if worker.early_log is not None:
            with contextlib.suppress(OSError), worker.early_log as early, self._log(number).open("ab") as log:
                early.seek(0)
                shutil.copyfileobj(early, log)
        if code < 0:
            return f"the worker process was ended by {signal.Signals(-code).name}"
        return f"the worker process ended with exit code {code} (see {self._log(number)})"


def _launch(log: IO[bytes]) -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-P", "-c", COMMAND, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=worker_environment(),
            # A group of its own: Ctrl-C in the terminal reaches the coordinator, which decides for its workers.
            start_new_session=True,
        )
    return _Worker(process, Connection(ours.detach()))
