"""Our own search on the table: the real coordinator, asker, crew and ledger, with workers on a virtual clock."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from unittest import mock

import optuna

from benchmarks.landscape.account import Run, Step, curve_of
from benchmarks.landscape.replay import Answers
from benchmarks.landscape.strategies import Ours
from benchmarks.landscape.table import START_SECONDS
from benchmarks.virtual import VirtualWorkers
from tuner.errors import SearchError
from tuner.records import EpochResult, Event, TrialEnded
from tuner.runs import Interruption
from tuner.search import samplers
from tuner.search.budget import Clock, Pace
from tuner.search.coordinator import Coordinator
from tuner.search.crew import Crew
from tuner.search.messages import Built, FromWorker, TrainJob
from tuner.search.pruners import make_pruner
from tuner.search.rehearsal import NO_IMAGES
from tuner.search.samplers import make_sampler
from tuner.search.shelf import Shelf
from tuner.search.study import queue_entries
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.parameters import Space


class ReplayingWorkers(VirtualWorkers):
    """Workers whose trainings are those of the table, until the budget is spent: then the search is interrupted."""

    def __init__(self, workers: int, answers: Answers, budget: float, interruption: Interruption) -> None:
        """Have ``budget`` CPU seconds, in which nobody waits for free."""
        super().__init__(workers, self._trained, start_seconds=START_SECONDS)
        self._answers, self._budget, self._interruption = answers, budget, interruption
        self._promised = 0.0
        self.answering: dict[int, int] = {}
        """By trial, the number of the configuration that answers for it."""
        self.begun = self.epochs = 0

    @property
    def spent(self) -> float:
        """Return the CPU seconds that workers have computed until now."""
        now = self.now()
        return self._promised - sum(due - now for due, *_ in self._coming if due > now)

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        """Return what is said next; the budget is looked at then."""
        heard = super().receive(timeout)
        if self.spent >= self._budget:
            self._interruption.asked = True
        return heard

    def _say(self, worker: int, after: float, message: FromWorker) -> None:
        self._promised += after
        self.begun += isinstance(message, Built)
        super()._say(worker, after, message)

    def _trained(self, job: TrainJob, epoch: int) -> tuple[float, EpochResult | str]:
        if job.number not in self.answering:
            self.answering[job.number] = self._answers.to(job.values)
        replay = self._answers.replay
        recorded = replay.configuration(self.answering[job.number])
        curve, seconds = curve_of(recorded, job.seed), replay.table.epoch_seconds(recorded)
        self.epochs += 1
        if epoch > len(curve):
            return seconds, "its loss is no longer finite"
        return seconds, EpochResult(epoch, 0.0, 0.0, None, curve[epoch - 1], 0.0, seconds)


def search(ours: Ours, space: Space, answers: Answers, seed: int, budget: float) -> Run:
    """Search until ``budget`` CPU seconds are spent."""
    table, searched = answers.replay.table, ours.space(space)
    settings = ours.settings(seed, table.epochs)
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(),
        study_name=f"landscape-{seed}",
        direction="maximize",
        sampler=make_sampler(settings, searched),
        pruner=make_pruner(settings),
    )
    queue_entries(study, searched)
    interruption, steps, complete = Interruption(), list[Step](), 0
    workers = ReplayingWorkers(ours.workers, answers, budget, interruption)

    def observe(event: Event) -> None:
        nonlocal complete
        if not isinstance(event, TrialEnded) or workers.spent > budget:
            return
        complete += event.trial.state == "complete"
        best = event.best
        if best is not None and best.number in workers.answering and best.val_accuracy is not None:
            step = Step(workers.spent, workers.answering[best.number], best.val_accuracy)
            if not steps or (step.configuration, step.observed) != (steps[-1].configuration, steps[-1].observed):
                steps.append(step)

    task = SearchTask(searched, settings, NO_IMAGES, table.epoch_images, ours.workers)
    timekeeper = Timekeeper(task, Clock(time.monotonic(), None), Pace(table.pace))
    crew = Crew(workers, ours.workers, heartbeat=settings.heartbeat, observe=observe)
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder), settings.keep)
        # The constant is no setting: it takes a strategy's own number for as long as it is searched.
        anywhere = mock.patch.object(samplers, "ANYWHERE", ours.anywhere)
        with anywhere, contextlib.suppress(SearchError):  # the first trials all failed: it has ended, as a user's does
            Coordinator(study, task, crew, timekeeper, observe, shelf=shelf, interruption=interruption).run()
    answering = len(set(workers.answering.values()))
    return Run(tuple(steps), workers.begun, answering, complete, workers.epochs, workers.spent)
