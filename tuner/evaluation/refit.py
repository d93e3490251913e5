"""Train the winner again on all training images, once a seed, on the workers that searched."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.data.sources import Source
from tuner.errors import SearchError
from tuner.records import EpochResult, Note, Observer, RefitEpochEnded, Values, seed_for
from tuner.runs import Interruption
from tuner.search.budget import RefitPlan
from tuner.search.crew import Crew, Heard
from tuner.search.messages import Built, Done, EpochReport, Failed, Lost, TrainJob
from tuner.search.shelf import Shelf
from tuner.training.checkpoint import epochs_kept

MAX_LOST_WORKERS = 3
EPOCHS_LATER = 1.5
"""A seed that ends with the first one costs no time: only one that ends this much later is dropped for the clock."""


@dataclass(frozen=True)
class Refitted:
    """The retrained winner: one model and one curve a seed; no figure of the test set."""

    epochs: int
    seeds: tuple[int, ...]
    models: tuple[Path, ...]
    keys: tuple[str, ...]
    """What each training's bits depend on, as a digest: the same key is the same model."""
    curves: tuple[tuple[EpochResult, ...], ...]
    seconds: float
    note: str = ""
    """What was cut, before it began or on the way."""


class _Refit:
    """The jobs of one refit."""

    def __init__(  # noqa: PLR0913
        self,
        jobs: Sequence[TrainJob],
        crew: Crew,
        observe: Observer,
        *,
        left: Callable[[], float],
        patience: float,
        interruption: Interruption,
    ) -> None:
        self._crew, self._observe, self._left, self._patience = crew, observe, left, patience
        self._interruption = interruption
        self._jobs = {job.number: job for job in jobs}
        self._waiting = deque(self._jobs)
        self.unfinished = set(self._jobs)
        self._lost = 0
        self.curves: dict[int, list[EpochResult]] = {number: [] for number in self._jobs}
        self.dropped: list[int] = []

    def run(self) -> None:
        """Train every job to its end, or until an interruption. Raises SearchError when one fails."""
        while self.unfinished and not (self._interruption.asked and not self._crew.training):
            while self._waiting and self._crew.free and not self._crew.stuck and not self._interruption.asked:
                number = self._waiting.popleft()
                self.curves[number].clear()
                self._crew.hand(self._jobs[number], self._patience)
            for number, message in self._crew.hear():
                if number in self.unfinished:
                    self._handle(number, message)
            if self._interruption.asked:
                self._crew.drop_those_that_wait()
            self._keep_the_time()

    def _handle(self, number: int, message: Heard) -> None:
        match message:
            case Built():
                self._crew.go_on(number)
            case EpochReport():
                self.curves[number].append(message.result)
                self._observe(RefitEpochEnded(-1 - number, message.result))
                # After its last epoch a training still writes its model: that is not interrupted.
                if not self._interruption.asked or message.result.epoch >= self._jobs[number].epochs:
                    self._crew.go_on(number)
            case Done():
                self.unfinished.discard(number)
            case Failed():
                raise SearchError(f"the refit failed: {message.reason}", hint="'--resume' tries it again")
            case Lost():
                self._lost += 1
                if self._lost > MAX_LOST_WORKERS:
                    raise SearchError(f"the refit lost its workers: {message.reason}", hint="'--resume' tries it again")
                self._observe(Note(f"Refit seed {-1 - number} goes on from its last epoch: {message.reason}."))
                self._waiting.appendleft(number)

    def _keep_the_time(self) -> None:
        """Give up seeds that would end after the limit, and later than the first one; never the first."""
        left = self._left()
        known = [result.seconds for curve in self.curves.values() for result in curve[1:]]
        if not known or math.isinf(left):
            return
        epoch = statistics.median(known)
        ends = {n: (self._jobs[n].epochs - len(self.curves[n])) * epoch for n in self._crew.training}
        first = min(ends.values(), default=0.0)
        for number in self._waiting:
            kept = epochs_kept(Path(self._jobs[number].checkpoints or ""))
            ends[number] = first + (self._jobs[number].epochs - kept) * epoch
        for number in sorted(self.unfinished - {-1}):
            if ends.get(number, 0.0) > max(left, first + EPOCHS_LATER * epoch):
                self._crew.drop(number)
                self.unfinished.discard(number)
                self.dropped.append(number)
                self._observe(Note(f"Refit seed {-1 - number} is dropped to keep --time."))
        self._waiting = deque(number for number in self._waiting if number in self.unfinished)


def refit(  # noqa: PLR0913  # one verb with its whole sentence
    values: Values,
    source: Source,
    plan: RefitPlan,
    *,
    study_seed: int,
    shelf: Shelf,
    crew: Crew,
    left: Callable[[], float],
    patience: float,
    interruption: Interruption,
    observe: Observer,
) -> Refitted:
    """Train ``values`` from fresh seeds on all training images of ``source``; the models go to ``shelf``.

    Seeds derive from ``study_seed`` and are none of the search's; a refit that was interrupted goes on from its last
    epoch. ``left`` are the seconds until it has to end. Raises SearchError when a training fails, KeyboardInterrupt
    when it was interrupted.
    """
    start = time.monotonic()
    shelf.folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        TrainJob(
            number=-1 - number,  # trials count from 0
            values=values,
            source=source,
            epochs=plan.epochs,
            seed=seed_for(study_seed, "refit", number),
            all_images=True,
            checkpoints=shelf.place(-1 - number),
            save_to=str(shelf.folder / f"refit-{number}.keras"),
        )
        for number in range(plan.seeds)
    ]
    work = _Refit(jobs, crew, observe, left=left, patience=patience, interruption=interruption)
    work.run()
    if work.unfinished:
        raise KeyboardInterrupt
    done = [job for job in jobs if job.number not in work.dropped]
    dropped = f"{len(work.dropped)} of {plan.seeds} refit seeds dropped on the way to keep --time" * bool(work.dropped)
    return Refitted(
        epochs=plan.epochs,
        seeds=tuple(job.seed for job in done),
        models=tuple(Path(job.save_to or "") for job in done),
        keys=tuple(job.key for job in done),
        curves=tuple(tuple(work.curves[job.number]) for job in done),
        seconds=time.monotonic() - start,
        note="; ".join(note for note in (plan.note, dropped) if note),
    )
