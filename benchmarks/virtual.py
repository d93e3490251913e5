"""Workers for the real coordinator that train nothing, on a clock that jumps from one word of theirs to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from tuner.records import EpochResult
from tuner.search.messages import Built, Done, EpochReport, Failed, FromWorker, Go, Ready, Stop, ToWorker, TrainJob

Epoch = Callable[[TrainJob, int], tuple[float, EpochResult | str]]
"""Returns the seconds that an epoch of a training takes, and what it shows, or why the training fails in it."""


class VirtualWorkers:
    """An executor whose workers do as ``epoch`` says; its clock stands still while the coordinator works."""

    def __init__(self, workers: int, epoch: Epoch, *, start_seconds: float = 0.0) -> None:
        """Have room for so many, each of which needs ``start_seconds`` from the hand-out of a training to its steps."""
        self._workers, self._epoch, self._start_seconds = workers, epoch, start_seconds
        self._skipped = 0.0
        self._coming: list[tuple[float, int, int, FromWorker]] = []
        self._said = self._started = 0
        self._jobs: dict[int, tuple[TrainJob, int]] = {}

    def now(self) -> float:
        """Return the time."""
        return self._skipped

    def start(self) -> int:
        """Be ready at once."""
        self._started += 1
        self._say(self._started, 0.0, Ready())
        return self._started

    def send(self, worker: int, message: ToWorker) -> None:
        """Hear an answer, and go on with what it says."""
        match message:
            case TrainJob():
                self._jobs[worker] = (message, 0)
                self._say(worker, self._start_seconds, Built(message.job))
            case Go():
                job, epoch = self._jobs[worker]
                self._jobs[worker] = (job, epoch + 1)
                seconds, shown = self._epoch(job, epoch + 1)
                said = Failed(job.job, shown) if isinstance(shown, str) else EpochReport(job.job, shown)
                self._say(worker, seconds, said)
            case Stop():
                self._say(worker, 0.0, Done(message.job))
            case _:
                pass

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        """Return what is said next, after the time until then: nobody says anything sooner."""
        pause = (self._coming[0][0] - self.now()) if self._coming else timeout
        if pause > 0:
            self._let_pass(pause)
        moment, found = self.now(), []
        while self._coming and self._coming[0][0] <= moment:
            due, _, worker, message = heapq.heappop(self._coming)
            self._heard(worker, message, due)
            found.append((worker, message))
        return found

    def placed(self, worker: int) -> bool:  # noqa: ARG002
        """Every worker has a machine."""
        return True

    def room(self) -> int:
        """Return how many there are."""
        return self._workers

    def kill(self, worker: int) -> None:
        """Nothing to end."""

    def memory(self, worker: int) -> int | None:  # noqa: ARG002
        """Return nothing: what trains nothing holds nothing."""
        return None

    def close(self) -> None:
        """Nothing to end."""

    def _let_pass(self, seconds: float) -> None:
        self._skipped += seconds

    def _heard(self, worker: int, message: FromWorker, due: float) -> None:
        """Note that a word that was due then is delivered."""

    def _say(self, worker: int, after: float, message: FromWorker) -> None:
        self._said += 1
        heapq.heappush(self._coming, (self.now() + after, self._said, worker, message))
