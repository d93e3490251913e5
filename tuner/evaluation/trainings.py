"""Several trainings side by side on a crew, each to its end: the seeds of a refit, the baselines."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import SearchError
from tuner.records import EpochResult, Note, Observer
from tuner.runs import Interruption
from tuner.search.crew import Crew, Heard
from tuner.search.messages import Built, Done, EpochReport, Failed, Lost, Suggest, TrainJob
from tuner.training.checkpoint import epochs_kept

MAX_LOST_WORKERS = 3
"""By one training, without an epoch that it had not come to before: a machine that goes costs each of its own one."""
EPOCHS_LATER = 1.5
"""A seed that ends with the first one costs no time: only one that ends this much later is dropped for the clock."""


@dataclass(frozen=True)
class Trained:
    """What trainings left: a model and a curve each; no figure of the test set."""

    models: tuple[Path, ...]
    keys: tuple[str, ...]
    """What each training's bits depend on, as a digest: the same key is the same model."""
    curves: tuple[tuple[EpochResult, ...], ...]


class Trainings:
    """The jobs that are to be trained."""

    def __init__(  # noqa: PLR0913  # each is somebody else's part
        self,
        jobs: Sequence[TrainJob],
        crew: Crew,
        observe: Observer,
        *,
        name: Callable[[int], str],
        heard: Callable[[int, EpochResult], None],
        interruption: Interruption,
        ended: Callable[[int], None] = lambda _: None,
        left: Callable[[], float] = lambda: math.inf,
        patience: float = 0.0,
        again: str = "'--resume' tries it again",
    ) -> None:
        """Train nothing yet.

        ``name`` says what a job's number is to the user; ``heard`` hears its epochs and ``ended`` its end. ``left`` are
        the seconds until all has to end: jobs other than the first are dropped for it. ``again`` is the hint of errors.
        """
        self._crew, self._observe, self._left, self._patience = crew, observe, left, patience
        self._name, self._heard, self._ended, self._interruption = name, heard, ended, interruption
        self._again = again
        self._jobs = {job.number: job for job in jobs}
        self._first = jobs[0].number if jobs else 0
        self._waiting = deque(self._jobs)
        self._unfinished = set(self._jobs)
        self._lost = dict.fromkeys(self._jobs, 0)
        self._furthest = dict.fromkeys(self._jobs, 0)
        """The last epoch that was ever heard of."""
        self._curves: dict[int, list[EpochResult]] = {number: [] for number in self._jobs}
        self.dropped: list[int] = []

    def run(self) -> None:
        """Train every job to its end.

        Raises SearchError when one fails, KeyboardInterrupt when it was interrupted: checkpoints are kept.
        """
        while self._unfinished and not (self._interruption.asked and not self._crew.training):
            while self._waiting and self._crew.free and not self._crew.stuck and not self._interruption.asked:
                number = self._waiting.popleft()
                self._curves[number].clear()
                self._crew.hand(self._jobs[number], self._patience)
            for number, message in self._crew.hear():
                if number in self._unfinished:
                    self._handle(number, message)
            if self._interruption.asked:
                self._crew.drop_those_that_wait()
            self._keep_the_time()
        if self._unfinished:
            raise KeyboardInterrupt

    def trained(self, numbers: Sequence[int] | None = None) -> Trained:
        """Return what the jobs with these numbers left, or all that were not dropped."""
        numbers = [number for number in self._jobs if number not in self.dropped] if numbers is None else numbers
        jobs = [self._jobs[number] for number in numbers]
        return Trained(
            models=tuple(Path(job.save_to or "") for job in jobs),
            keys=tuple(job.key for job in jobs),
            curves=tuple(tuple(self._curves[job.number]) for job in jobs),
        )

    def _handle(self, number: int, message: Heard) -> None:
        match message:
            case Built():
                self._crew.go_on(number)
            case EpochReport():
                self._curves[number].append(message.result)
                if message.result.epoch > self._furthest[number]:
                    self._furthest[number], self._lost[number] = message.result.epoch, 0
                self._heard(number, message.result)
                # After its last epoch a training still writes its model: that is not interrupted.
                if not self._interruption.asked or message.result.epoch >= self._jobs[number].all_epochs:
                    self._crew.go_on(number)
            case Done():
                self._unfinished.discard(number)
                self._ended(number)
            case Failed():
                raise SearchError(f"{self._name(number)} failed: {message.reason}", hint=self._again)
            case Suggest():
                said = f"{self._name(number)} failed: the hypermodel asks for '{message.asked.name}' now"
                raise SearchError(
                    f"{said}, which its trial did not have", hint="its code does not do the same each time"
                )
            case Lost():
                self._lost[number] += 1
                if self._lost[number] > MAX_LOST_WORKERS:
                    raise SearchError(f"{self._name(number)} lost its workers: {message.reason}", hint=self._again)
                self._observe(Note(f"{self._name(number)} goes on from its last epoch: {message.reason}."))
                self._waiting.appendleft(number)

    def _keep_the_time(self) -> None:
        """Give up jobs that would end after the limit, and later than the first one; never the first."""
        left = self._left()
        known = [result.seconds for curve in self._curves.values() for result in curve[1:]]
        if not known or math.isinf(left):
            return
        epoch = statistics.median(known)
        ends = {n: (self._jobs[n].all_epochs - len(self._curves[n])) * epoch for n in self._crew.training}
        first = min(ends.values(), default=0.0)
        for number in self._waiting:
            kept = epochs_kept(Path(self._jobs[number].checkpoints or ""))
            ends[number] = first + (self._jobs[number].all_epochs - kept) * epoch
        for number in sorted(self._unfinished - {self._first}):
            if ends.get(number, 0.0) > max(left, first + EPOCHS_LATER * epoch):
                self._crew.drop(number)
                self._unfinished.discard(number)
                self.dropped.append(number)
                self._observe(Note(f"{self._name(number)} is dropped to keep --time."))
        self._waiting = deque(number for number in self._waiting if number in self._unfinished)
