"""Train the winner again on all training images, once a seed, on the workers that searched."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.data.sources import Source
from tuner.errors import SearchError
from tuner.records import EpochResult, Observer, RefitEpochEnded, Values, seed_for
from tuner.search.budget import RefitPlan
from tuner.search.executors import Executor
from tuner.search.messages import Built, Done, EpochReport, Failed, FromWorker, Go, Lost, Ready, TrainJob

TICK_SECONDS = 0.5
MAX_LOST_WORKERS = 3


@dataclass(frozen=True)
class Refitted:
    """The retrained winner: one model and one curve a seed; no figure of the test set."""

    epochs: int
    seeds: tuple[int, ...]
    models: tuple[Path, ...]
    curves: tuple[tuple[EpochResult, ...], ...]
    seconds: float


class _Refit:
    """The jobs of one refit, and which worker has which."""

    def __init__(self, jobs: Sequence[TrainJob], executor: Executor, idle: Sequence[int], observe: Observer) -> None:
        self._executor, self._observe = executor, observe
        self._idle = list(idle)
        self._waiting = deque(jobs)
        self._running: dict[int, TrainJob] = {}
        self._order = [job.job for job in jobs]
        self._lost = 0
        self.curves: dict[int, list[EpochResult]] = {job.job: [] for job in jobs}

    def run(self) -> None:
        """Train every job to its end. Raises SearchError when one fails."""
        while self._waiting or self._running:
            while self._idle and self._waiting:
                worker, job = self._idle.pop(0), self._waiting.popleft()
                self._running[worker] = job
                self.curves[job.job].clear()
                self._executor.send(worker, job)
            for worker, message in self._executor.receive(TICK_SECONDS):
                self._handle(worker, message)

    def _handle(self, worker: int, message: FromWorker) -> None:
        match message:
            case Ready():
                self._idle.append(worker)
            case Built():
                self._executor.send(worker, Go(message.job))
            case EpochReport():
                self.curves[message.job].append(message.result)
                self._observe(RefitEpochEnded(self._order.index(message.job), message.result))
                self._executor.send(worker, Go(message.job))
            case Done():
                del self._running[worker]
                self._idle.append(worker)
            case Failed():
                raise SearchError(f"the refit failed: {message.reason}", hint="'--resume' tries it again")
            case Lost():
                self._lost += 1
                if self._lost > MAX_LOST_WORKERS:
                    raise SearchError(f"the refit lost its workers: {message.reason}", hint="'--resume' tries it again")
                if worker in self._running:
                    self._waiting.appendleft(self._running.pop(worker))
                if worker in self._idle:
                    self._idle.remove(worker)
                self._executor.start()


def refit(  # noqa: PLR0913  # one verb with its whole sentence
    values: Values,
    source: Source,
    plan: RefitPlan,
    *,
    study_seed: int,
    folder: Path,
    executor: Executor,
    idle: Sequence[int],
    observe: Observer,
) -> Refitted:
    """Train ``values`` from fresh seeds on all training images of ``source``; the models go to ``folder``.

    Seeds derive from ``study_seed`` and are none of the search's. Raises SearchError when a training fails.
    """
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        TrainJob(
            job=-1 - number,  # trials count from 0
            values=values,
            source=source,
            epochs=plan.epochs,
            seed=seed_for(study_seed, "refit", number),
            all_images=True,
            save_to=str(folder / f"refit-{number}.keras"),
        )
        for number in range(plan.seeds)
    ]
    work = _Refit(jobs, executor, idle, observe)
    work.run()
    return Refitted(
        epochs=plan.epochs,
        seeds=tuple(job.seed for job in jobs),
        models=tuple(Path(job.save_to or "") for job in jobs),
        curves=tuple(tuple(work.curves[job.job]) for job in jobs),
        seconds=time.monotonic() - start,
    )
