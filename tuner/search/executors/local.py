"""Worker processes on this machine, one thread each, over a socket pair."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tuner.runs import auto_workers
from tuner.search.executors.children import load
from tuner.search.executors.processes import Process, resident_bytes, start
from tuner.search.messages import FromWorker, Lost, Shutdown, ToWorker

CLOSING_SECONDS = 3.0
WORKER = "tuner.search.worker:main"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Keep big tensors on the heap: with glibc's defaults every large temporary is mapped and unmapped, and its pages are
# faulted in anew at each step. About a tenth of a small CNN's step (measured, results/LOG.md).
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}

# A backend that takes the whole of a GPU when it starts leaves nothing to the workers that share it.
_SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def worker_environment() -> dict[str, str]:
    """Return the environment in which a worker trains; what the user has set wins."""
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **_ONE_THREAD, **_ALLOCATOR, **_SHARED_GPU, **os.environ}


def load_ahead() -> None:
    """Let the libraries of the workers be loaded from now on, where that helps those who start later."""
    if sys.platform == "linux":
        load(worker_environment())


@dataclass
class _Worker:
    process: Process
    channel: Connection
    ready: bool = False


class LocalExecutor:
    """Long-lived worker processes."""

    def __init__(self, log_folder: Path) -> None:
        """Start nothing yet; what workers print goes to ``worker-N.log`` in ``log_folder``."""
        self._log_folder = log_folder
        self._workers: dict[int, _Worker] = {}
        self._started = 0

    def start(self) -> int:
        """Start one worker process and return its number at once."""
        number = self._started
        self._started += 1
        with self._log(number).open("ab") as log:
            self._workers[number] = _Worker(*start(WORKER, log, worker_environment()))
        return number

    def _log(self, number: int) -> Path:
        return self._log_folder / f"worker-{number}.log"

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

    def placed(self, worker: int) -> bool:
        """Tell that ``worker`` has a machine: this one."""
        return worker in self._workers

    def room(self) -> int:
        """Return one worker a core, or as many as fit into the memory."""
        return auto_workers()

    def kill(self, worker: int) -> None:
        """End a worker that does not answer, also a stopped one, and say nothing more of it."""
        if worker in self._workers:
            self._workers[worker].process.kill()
            self._end(worker)

    def memory(self, worker: int) -> int | None:
        """Return the bytes that a worker holds in memory; None when it is gone, or where there is no /proc."""
        return resident_bytes(self._workers[worker].process.pid) if worker in self._workers else None

    def close(self) -> None:
        """Ask every worker to end, wait a little, then kill; those that are still loading hear nothing."""
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
        return how_it_ended(code, self._log(number))


def how_it_ended(code: int, log: Path) -> str:
    """Return what is said of a worker process that has ended."""
    if code < 0:
        return f"the worker process was ended by {signal.Signals(-code).name}"
    return f"the worker process ended with exit code {code} (see {log})"
