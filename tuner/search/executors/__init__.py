"""Where workers run. An executor is small: start, end and look at workers, send, receive."""

from __future__ import annotations

from typing import Protocol

from tuner.search.messages import FromWorker, ToWorker


class Executor(Protocol):
    """What the coordinator knows of the machines."""

    def start(self) -> int:
        """Start one worker and return its number at once; it says ``Ready`` later."""

    def send(self, worker: int, message: ToWorker) -> None:
        """Send without waiting; a worker that is gone is reported by ``receive``."""

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        """Return what has arrived, waiting at most ``timeout`` seconds for the first message."""

    def kill(self, worker: int) -> None:
        """End a worker that does not answer, without its help, and say nothing more of it."""

    def memory(self, worker: int) -> int | None:
        """Return the bytes of memory that a worker holds; None where it cannot be told."""

    def close(self) -> None:
        """End every worker."""
