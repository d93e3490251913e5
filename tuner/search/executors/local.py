"""Worker processes on this machine, one thread each, over a socket pair.

Started with a command and not with ``multiprocessing``'s own start-up, so that a user's ten-line script needs no
``__main__`` guard.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tuner.search.messages import FromWorker, Lost, Shutdown, ToWorker

CLOSING_SECONDS = 3.0
COMMAND = "from tuner.search.worker import main; main()"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Keep big tensors on the heap: with glibc's defaults every large temporary is mapped and unmapped, and its pages are
# faulted in anew at each step. About a tenth of a small CNN's step (measured, results/LOG.md).
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: Connection


class LocalExecutor:
    """Long-lived worker processes."""

    def __init__(self, log_folder: Path) -> None:
        """Start nothing yet; what workers print goes to ``worker-N.log`` in ``log_folder``."""
        self.log_folder = log_folder
        self._workers: dict[int, _Worker] = {}
        self._started = 0

    def start(self) -> int:
        """Start one worker process and return its number at once."""
        number = self._started
        self._started += 1
        ours, theirs = socket.socketpair()
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **_ONE_THREAD, **_ALLOCATOR, **os.environ}
        with (self.log_folder / f"worker-{number}.log").open("ab") as log, theirs:
            process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-c", COMMAND, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                # A group of its own: Ctrl-C in the terminal reaches the coordinator, which decides for its workers.
                start_new_session=True,
            )
        self._workers[number] = _Worker(process, Connection(ours.detach()))
        return number

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
                heard.append((number, self._workers[number].channel.recv()))
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
        """Ask every worker to end, wait a little, then kill."""
        for number in self._workers:
            self.send(number, Shutdown())
        deadline = time.monotonic() + CLOSING_SECONDS
        for number in list(self._workers):
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
        if code < 0:
            return f"the worker process was ended by {signal.Signals(-code).name}"
        return f"the worker process ended with exit code {code} (see {self.log_folder / f'worker-{number}.log'})"
