"""A coordinator's other side, for tests: workers that play a script, and a study on real SQLite for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import optuna

from tuner.data.sources import Source
from tuner.records import EpochResult, Event, Values
from tuner.runs import Interruption, Outputs
from tuner.search.budget import Clock, Pace
from tuner.search.coordinator import Coordinator
from tuner.search.crew import Crew
from tuner.search.messages import (
    Built,
    Done,
    EpochReport,
    Failed,
    FromWorker,
    Go,
    Lost,
    Ready,
    Stop,
    ToWorker,
    TrainJob,
)
from tuner.search.pruners import make_pruner
from tuner.search.samplers import make_sampler
from tuner.search.shelf import Shelf
from tuner.search.storage import open_storage
from tuner.search.study import StudyFacts, create_study, list_studies, load_study, summaries
from tuner.search.task import Rehearsed, SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.reader import SpaceFile, parse_space
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE

Script = Callable[[TrainJob], list[float | str]]
"""What a job's epochs show: accuracies, or a word: ``fail`` raises, ``die`` loses the worker. What is plainly good is
balanced bad: the balanced accuracy of an epoch is what lacks to 1."""


class ScriptedWorkers:
    """An executor whose workers play a script, one message a turn, in the order of the workers."""

    def __init__(self, script: Script, seconds: float = 1.0) -> None:
        self._script, self._seconds = script, seconds
        self._inbox: deque[tuple[int, FromWorker]] = deque()
        self._jobs: dict[int, tuple[TrainJob, deque[float | str]]] = {}
        self._epochs: dict[int, int] = {}
        self.started = 0
        self.places = 2
        self.sizes: dict[int, int] = {}
        self.handed_out: list[TrainJob] = []

    def start(self) -> int:
        self.started += 1
        self._inbox.append((self.started, Ready()))
        return self.started

    def send(self, worker: int, message: ToWorker) -> None:
        match message:
            case TrainJob():
                self.handed_out.append(message)
                self._jobs[worker] = (message, deque(self._script(message)))
                self._epochs[worker] = 0
                self._inbox.append((worker, Built(message.job)))
            case Go():
                self._go_on(worker)
            case Stop():
                self._end(worker, Done(message.job))
            case _:
                pass

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        return [self._inbox.popleft()] if self._inbox else []

    def placed(self, worker: int) -> bool:
        return True

    def room(self) -> int:
        return self.places

    def kill(self, worker: int) -> None:
        self._jobs.pop(worker, None)

    def memory(self, worker: int) -> int | None:
        return self.sizes.get(worker)

    def close(self) -> None:
        pass

    def _go_on(self, worker: int) -> None:
        job, script = self._jobs[worker]
        if not script:
            self._end(worker, Done(job.job))
            return
        step = script.popleft()
        if step == "fail":
            self._end(worker, Failed(job.job, "ValueError: no"))
        elif step == "die":
            self._end(worker, Lost("the worker process was ended by SIGKILL"))
        else:
            self._epochs[worker] += 1
            accuracy = float(step)
            result = EpochResult(self._epochs[worker], 1.0, 0.5, 1.0, accuracy, 0.1, self._seconds, 1 - accuracy)
            self._inbox.append((worker, EpochReport(job.job, result)))

    def _end(self, worker: int, message: FromWorker) -> None:
        self._jobs.pop(worker, None)
        self._inbox.append((worker, message))


def good(job: TrainJob) -> list[float | str]:
    """Curves that rise towards a level that the trial's seed decides."""
    level = 0.5 + (job.seed % 1000) / 2500
    return [level * (1 - 0.5 ** (epoch + 1)) for epoch in range(job.epochs)]


def dying(*times: int, number: int = 1) -> Script:
    """Good curves, but trial ``number`` loses its worker at its second epoch, as often as ``times`` says."""
    left = list(times)

    def script(job: TrainJob) -> list[float | str]:
        if job.number == number and left:
            left.pop()
            return [*good(job)[:1], "die"]
        return good(job)

    return script


class Bench:
    """One study in a folder, and searches on it."""

    def __init__(self, folder: Path, source: Source, storage: str | None = None) -> None:
        self.outputs = Outputs.of(str(folder), storage)
        self.source = source
        self.events: list[Event] = []
        self.interruption = Interruption()

    def study(
        self, settings: SearchSettings, text: str = SMALL_SPACE, name: str = "s"
    ) -> tuple[optuna.Study, SpaceFile]:
        space_file = parse_space("small", text)
        storage = open_storage(self.outputs, create=True)
        if name in [row.name for row in list_studies(storage)]:
            study, _ = load_study(storage, name)
        else:
            facts = StudyFacts("small", text, space_file.hash, self.source.digest, settings)
            study = create_study(storage, name, facts, space_file.space)
        study.sampler, study.pruner = make_sampler(settings, space_file.space), make_pruner(settings)
        return study, space_file

    def search(
        self, settings: SearchSettings, script: Script = good, *, workers: int = 2, text: str = SMALL_SPACE,
        seconds: float = 1.0, name: str = "s",
    ) -> tuple[optuna.Study, ScriptedWorkers]:  # fmt: skip
        study, space_file = self.study(settings, text, name)
        executor = ScriptedWorkers(script, seconds)
        self.coordinator(study, space_file, settings, executor, workers).run()
        return study, executor

    def coordinator(
        self, study: optuna.Study, space_file: SpaceFile, settings: SearchSettings, executor: ScriptedWorkers, workers: int,
        pace: float = 1e-9, rehearsed: Rehearsed | None = None,
    ) -> Coordinator:  # fmt: skip
        task = SearchTask(space_file.space, settings, self.source, 1000.0, workers, rehearsed)
        timekeeper = Timekeeper(task, Clock(time.monotonic(), settings.time), Pace(pace))
        crew = Crew(executor, workers, heartbeat=settings.heartbeat, observe=self.events.append, memory=settings.memory)
        shelf = Shelf(self.outputs.folder / "checkpoints", settings.keep)
        return Coordinator(
            study, task, crew, timekeeper, self.events.append, shelf=shelf, interruption=self.interruption
        )


def values_of(study: optuna.Study) -> list[Values]:
    return [trial.values for trial in summaries(study)]
