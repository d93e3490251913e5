"""What the coordinator adds to Optuna's own calls, and how fast ``tuner studies`` answers.

    python benchmarks/coordinator.py [--trials 2000] [--reports 50] [--sizes 500 1000 2000] [--pruner median]
                                     [--json FILE]

One real search (Coordinator, Asker, Crew, SQLite through ``open_storage``) over ten parameters with workers that train
nothing. Just before each size is reached, every trial of ours is paired with one of plain Optuna, in the same process
and in turn: ``study.ask`` with ten suggests, ``report`` with ``should_prune``, ``study.tell``, with an
``RDBStorage`` in WAL and a TPE sampler that live, on a copy of the same study (same trials, same eight RUNNING ones,
our attributes removed). Ours: ``Asker.next``, every ``_handle`` that does not end a trial, and ``_end`` with all it
stores, the last epoch's report among it. The whole trial of ours is all that the coordinator does, messages included.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import json
import math
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.event

from tuner.data.sources import Source
from tuner.records import EpochResult
from tuner.runs import Interruption, Outputs
from tuner.search.asking import Asker
from tuner.search.budget import Clock, Pace
from tuner.search.coordinator import Coordinator
from tuner.search.crew import Crew
from tuner.search.messages import Built, Done, EpochReport, FromWorker, Go, Ready, Stop, ToWorker, TrainJob
from tuner.search.pruners import make_pruner
from tuner.search.samplers import distributions_of, make_sampler
from tuner.search.shelf import Shelf
from tuner.search.storage import open_storage
from tuner.search.study import StudyFacts, create_study
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.reader import parse_space
from tuner.space.settings import SearchSettings

RANGES = {
    "filters_1": ("int", 8, 64),
    "filters_2": ("int", 16, 128),
    "dense_units": ("int", 0, 256),
    "dropout_conv": ("float", 0.0, 0.5),
    "dropout_dense": ("float", 0.0, 0.6),
    "learning_rate": ("float", 1e-4, 1e-1),
    "weight_decay": ("float", 1e-5, 1e-1),
    "l2": ("float", 1e-6, 1e-3),
    "label_smoothing": ("float", 0.0, 0.2),
    "clip_norm": ("float", 0.5, 5.0),
}
SPACE = 'model = "cnn"\n[parameters.blocks]\ntype = "fixed"\nvalue = 2\n' + "".join(
    f'[parameters.{name}]\ntype = "{kind}"\nlow = {low}\nhigh = {high}\n' for name, (kind, low, high) in RANGES.items()
)
Sample = tuple[float, float]
"""Wall and CPU seconds of one call."""
Samples = dict[str, list[Sample]]


class NoTraining:
    """An executor whose workers answer at once; all curves are level, so that nothing is pruned, but for their end.

    Answers come in random order, so that the running trials are at different epochs, as in life.
    """

    def __init__(self, between: Callable[[], None]) -> None:
        """Call ``between`` whenever the coordinator listens."""
        self._between = between
        self._random = random.Random(0)  # noqa: S311  # no secret
        self._inbox: list[tuple[int, FromWorker]] = []
        self._jobs: dict[int, tuple[TrainJob, int]] = {}
        self._workers = 0

    def start(self) -> int:
        """Be ready at once."""
        self._workers += 1
        self._inbox.append((self._workers, Ready()))
        return self._workers

    def send(self, worker: int, message: ToWorker) -> None:
        """Answer it."""
        match message:
            case TrainJob():
                self._jobs[worker] = (message, 0)
                self._inbox.append((worker, Built(message.job)))
            case Go():
                job, epoch = self._jobs[worker]
                self._jobs[worker] = (job, epoch + 1)
                self._inbox.append((worker, EpochReport(job.job, result_of(job.seed, epoch + 1, job.epochs))))
            case Stop():
                self._inbox.append((worker, Done(message.job)))
            case _:
                pass

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:  # noqa: ARG002
        """Return one message: slow workers' reports come one by one."""
        self._between()
        return [self._inbox.pop(self._random.randrange(len(self._inbox)))] if self._inbox else []

    def placed(self, worker: int) -> bool:  # noqa: ARG002
        """Every worker has a machine."""
        return True

    def room(self) -> int:
        """Return how many there are."""
        return self._workers

    def kill(self, worker: int) -> None:
        """Nothing to end."""

    def memory(self, worker: int) -> int | None:  # noqa: ARG002
        """Return what this process holds: as dear to ask as a worker's."""
        return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """Nothing to end."""


def result_of(seed: int, epoch: int, epochs: int) -> EpochResult:
    """Return a made-up epoch."""
    value = 0.5 + (seed % 100_003) / 250_000 if epoch == epochs else 0.5
    return EpochResult(epoch, 1.0 / 3, 0.1234567890123, 2.0 / 3, value, 0.012345678901234, 12.3456789)


class Stopwatch:
    """Times calls while it is on; of nested ones the outermost."""

    def __init__(self) -> None:
        """Start off."""
        self.on = False
        self.samples: Samples = collections.defaultdict(list)
        self._deep = False

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Call and take the time."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            if self.on:
                self.samples[name].append((time.perf_counter() - wall, time.process_time() - cpu))

    def watch(self, owner: type, method: str, name: str) -> None:
        """Take the time of every outermost call of a method."""
        real = getattr(owner, method)

        @functools.wraps(real)
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if self._deep:
                return real(*args, **kwargs)
            self._deep = True
            try:
                return self.call(name, real, *args, **kwargs)
            finally:
                self._deep = False

        setattr(owner, method, timed)


def watch_handling(watch: Stopwatch) -> None:
    """Tell a report's handling apart from a trial's end within it."""
    handle, ends = Coordinator._handle, Stopwatch()  # noqa: SLF001
    ends.on = True
    ends.watch(Coordinator, "_end", "end")

    def timed(self: Coordinator, running: Any) -> None:  # noqa: ANN401
        wall, cpu = time.perf_counter(), time.process_time()
        handle(self, running)
        if not watch.on:
            ends.samples.clear()
            return
        whole = (time.perf_counter() - wall, time.process_time() - cpu)
        if ends.samples:
            watch.samples["tell"] += ends.samples["end"]
            watch.samples["last report and tell"].append(whole)
        else:
            watch.samples["report"].append(whole)
        ends.samples.clear()

    Coordinator._handle = timed  # type: ignore[method-assign]  # noqa: SLF001


class Floor:
    """Plain Optuna on a copy of the study."""

    def __init__(self, database: Path, copy: Path, pruner: str, reports: int) -> None:
        """Copy the study without our attributes, and open it as a user of Optuna would."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(database)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            target.execute("DELETE FROM trial_user_attributes")
            target.commit()
        storage = optuna.storages.RDBStorage(f"sqlite:///{copy}")
        sqlalchemy.event.listen(storage.engine, "connect", write_ahead)
        storage.engine.dispose()
        pruners = {
            "median": optuna.pruners.MedianPruner(5, 2),
            "asha": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
            "none": optuna.pruners.NopPruner(),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=0)
        self._study = optuna.load_study(study_name="s", storage=storage, sampler=sampler, pruner=pruners[pruner])
        self._study.get_trials(deepcopy=False)  # its cache is warm, as in a process that made them all
        self._reports = reports
        self._distributions = distributions_of(parse_space("bench", SPACE).space)

    def trial(self, watch: Stopwatch) -> None:
        """Go through one trial."""
        trial = watch.call("ask", self._ask)
        for epoch in range(1, self._reports + 1):
            value = result_of(trial.number * 7919, epoch, self._reports).val_accuracy
            watch.call("report", self._report, trial, value, epoch)
        watch.call("tell", self._study.tell, trial, value)

    def _ask(self) -> optuna.Trial:
        trial = self._study.ask()
        for name, spread in self._distributions.items():
            trial._suggest(name, spread)  # noqa: SLF001  # what each suggest_* calls
        return trial

    def _report(self, trial: optuna.Trial, value: float, epoch: int) -> None:
        trial.report(value, epoch)
        trial.should_prune()


def write_ahead(connection: sqlite3.Connection, _: object) -> None:
    """Put a connection into the mode that ours are in."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class Pairs:
    """Pairs ours with Optuna's in the trials before each size."""

    def __init__(self, folder: Path, asked: argparse.Namespace, ours: Stopwatch) -> None:
        """Wait for the first size."""
        self._folder, self._asked, self._ours = folder, asked, ours
        self._sizes = deque(sorted(size for size in asked.sizes if size <= asked.trials))
        self._floor: Floor | None = None
        self._ended = self._paired = self._floor_trials = self._first = 0
        self._floors = Stopwatch()
        self._floors.on = True
        self._since = (0.0, 0.0)
        self._spent = [0.0, 0.0]
        self.found: dict[int, dict[str, Samples]] = {}

    def ended(self) -> None:
        """Hear that a trial of ours has ended."""
        self._ended += 1

    def step(self) -> None:
        """Look, between two messages of ours, whether one of Optuna's trials is due."""
        if not self._sizes or self._ended < self._sizes[0] - self._asked.pairs:
            return
        if self._floor is None:
            print(f"{self._ended} trials: comparing …", file=sys.stderr, flush=True)
            self._floor = Floor(
                self._folder / "studies.db", self._folder / "floor.db", self._asked.pruner, self._asked.reports
            )
            self._ours.on, self._paired, self._first, self._floor_trials = True, self._ended, self._ended, 0
            self._since, self._spent = now(), [0.0, 0.0]
        elif self._ended > self._paired:
            self._paired = self._ended
            self._spend()
            self._floor.trial(self._floors)
            self._floor_trials += 1
            self._since = now()
            if self._ended >= self._sizes[0]:
                self._close(self._sizes.popleft())

    def _spend(self) -> None:
        self._spent = [spent + b - a for spent, a, b in zip(self._spent, self._since, now(), strict=True)]

    def _close(self, size: int) -> None:
        floors = self._floors.samples
        wall, cpu = (spent / (self._ended - self._first) for spent in self._spent)
        self._ours.samples["whole trial"] = [(wall, cpu)]
        wall, cpu = (sum(one[k] for group in floors.values() for one in group) / self._floor_trials for k in (0, 1))
        floors["whole trial"] = [(wall, cpu)]
        self.found[size] = {"ours": dict(self._ours.samples), "optuna": dict(floors)}
        self._ours.samples.clear()
        floors.clear()
        self._ours.on, self._floor = False, None


def now() -> Sample:
    """Return wall and CPU seconds."""
    return time.perf_counter(), time.process_time()


def search(folder: Path, asked: argparse.Namespace) -> dict[int, dict[str, Samples]]:
    """Search with workers that train nothing, and return what was measured by size of study."""
    ours = Stopwatch()
    ours.watch(Asker, "next", "ask")
    watch_handling(ours)
    pairs = Pairs(folder, asked, ours)
    end = Coordinator._end  # noqa: SLF001

    def counted(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        end(*args, **kwargs)
        pairs.ended()

    Coordinator._end = counted  # type: ignore[method-assign]  # noqa: SLF001
    settings = SearchSettings(trials=asked.trials, epochs=asked.reports, pruner=asked.pruner, workers=8)
    space_file = parse_space("bench", SPACE)
    source = Source("made-up", folder, "", (28, 28, 1), tuple("abcdefghij"), 60_000, 10_000, (1000,) * 10)
    facts = StudyFacts("bench", SPACE, space_file.hash, source.digest, settings)
    study = create_study(open_storage(Outputs.of(str(folder), None), create=True), "s", facts, space_file.space)
    study.sampler, study.pruner = make_sampler(settings, space_file.space), make_pruner(settings)
    task = SearchTask(space_file.space, settings, source, 54_000.0, 8)
    timekeeper = Timekeeper(task, Clock(time.monotonic(), None), Pace(1e-9))
    crew = Crew(NoTraining(pairs.step), 8, heartbeat=120.0, observe=lambda _: None)
    shelf = Shelf(folder / "checkpoints", 3)
    Coordinator(study, task, crew, timekeeper, lambda _: None, shelf=shelf, interruption=Interruption()).run()
    pairs.step()  # nobody listens after the last trial
    return pairs.found


def tuner_studies(folder: Path) -> Sample:
    """Return the seconds of the whole command, the median of three."""
    seen = []
    for _ in range(3):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "tuner", "studies", "--out", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        seen.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return statistics.median(wall for wall, _ in seen), statistics.median(cpu for _, cpu in seen)


def summary(samples: list[Sample]) -> dict[str, float]:
    """Return medians and 90th percentiles in ms."""
    found: dict[str, float] = {"calls": len(samples)}
    for kind, values in zip(("wall", "cpu"), zip(*samples, strict=True), strict=True):
        ordered = sorted(1000 * value for value in values)
        found[f"{kind}_ms"] = round(statistics.median(ordered), 3)
        found[f"{kind}_p90_ms"] = round(ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)))], 3)
        found[f"{kind}_mean_ms"] = round(statistics.fmean(ordered), 3)
    return found


def lines(size: int, ours: dict[str, Any], floor: dict[str, Any]) -> Iterator[str]:
    """Yield what was found at one size."""
    for name in ("ask", "report", "tell", "whole trial"):
        mine, its = ours[name], floor[name]
        yield (
            f"{size:6} trials  {name:12} ours {mine['wall_ms']:8.2f} (p90 {mine['wall_p90_ms']:8.2f}, CPU"
            f" {mine['cpu_ms']:8.2f}) ms  Optuna {its['wall_ms']:8.2f} (p90 {its['wall_p90_ms']:8.2f}, CPU"
            f" {its['cpu_ms']:8.2f}) ms  ratio {mine['wall_ms'] / its['wall_ms']:5.2f} wall,"
            f" {mine['cpu_ms'] / its['cpu_ms']:5.2f} CPU  added {mine['wall_ms'] - its['wall_ms']:+7.2f} ms"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--reports", type=int, default=50)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--pairs", type=int, default=20, help="trials compared before each size")
    parser.add_argument("--pruner", choices=("median", "asha", "none"), default="median")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="keep the study in this folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = asked.keep or Path(name)
        start = now()
        found = search(folder, asked)
        wall, cpu = (b - a for a, b in zip(start, now(), strict=True))
        document: dict[str, Any] = {"sizes": {}, "asked": {**vars(asked), "json": None, "keep": None}}
        for size, sides in found.items():
            sums = {side: {key: summary(values) for key, values in samples.items()} for side, samples in sides.items()}
            document["sizes"][size] = sums
            print(*lines(size, sums["ours"], sums["optuna"]), sep="\n")
        document["tuner_studies"] = dict(zip(("wall_s", "cpu_s"), tuner_studies(folder), strict=True))
        document["whole_run"] = {"wall_s": wall, "cpu_s": cpu}
    seconds = document["tuner_studies"]
    print(
        f"tuner studies, the whole command: {seconds['wall_s']:.2f} s wall, {seconds['cpu_s']:.2f} s CPU;"
        f" this run: {wall:.0f} s wall, {cpu:.0f} s CPU"
    )
    if asked.json:
        asked.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
