"""How far one coordinator goes: what trials and reports cost it, and for how long 8, 64 and 256 workers wait for it.

    python benchmarks/scaling.py [--storage URL] [--workers 8 64 256] [--seconds 0 1 10] [--clock wall]
                                 [--json FILE]

A real search each time (Coordinator, Asker, Crew, Ledger, TPE over ten parameters, the default epochs and pruner, the
storage held as ``tuner search`` holds it) with workers that train nothing: an epoch takes them ``--seconds`` on a
simulated clock, give or take a half. That clock goes on by what the coordinator takes, and where the coordinator has
nothing to do it jumps to the next worker's word. ``--clock`` says by what: ``wall``, everything, also what else the
machine does; ``cpu``, the coordinator's processor seconds and those of the server's process that answers it, if that
is on this machine, as on a machine with nothing else to do and a disk that takes no time; ``real`` sleeps instead of
jumping, as a check. Epochs of 0 s keep the coordinator busy all the time: what it does then is all that it can. Counted
is from the moment when every worker has its first trial to the one when the last trial is handed out.

What is not in it: sending messages to processes or to a cluster.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.event
from coordinator import SPACE, Stopwatch, now, watch_handling
from virtual import VirtualWorkers

from tuner.data.sources import Source
from tuner.records import EpochResult
from tuner.runs import Interruption, Outputs, commit, machine, versions
from tuner.search.asking import Asker
from tuner.search.budget import Clock, Pace
from tuner.search.coordinator import Coordinator
from tuner.search.crew import Crew
from tuner.search.messages import Done, FromWorker, Ready, ToWorker, TrainJob
from tuner.search.pruners import Halving, make_pruner
from tuner.search.samplers import PerTrial, make_sampler
from tuner.search.shelf import Shelf
from tuner.search.storage import PatientStorage, alone, open_storage
from tuner.search.study import StudyFacts, create_study
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.reader import parse_space
from tuner.space.settings import SearchSettings

MIB = 2**20
SAMPLER = ("before_trial", "infer_relative_search_space", "sample_relative", "sample_independent")
PARTS = ("storage", "sampler", "pruner")


class Simulated(VirtualWorkers):
    """Workers that train for a while of a clock of their own, and note for how long they wait."""

    def __init__(  # noqa: PLR0913  # a whole experiment
        self,
        seconds: float,
        workers: int,
        jobs: int,
        counting: Callable[[bool], None],
        clock: Callable[[], float],
        *,
        real: bool,
    ) -> None:
        """Tell ``counting`` when every worker has a job, and when the last of ``jobs`` is handed out."""
        super().__init__(workers, self._trained)
        self._clock = clock
        self._seconds, self._last, self._counting = seconds, jobs, counting
        self._real = real
        self._random = random.Random(0)  # noqa: S311  # no secret
        self._waiting: dict[int, tuple[str, float]] = {}
        self._handed = 0
        self.window: list[float] = []
        self.idle = 0.0
        """Seconds for which the coordinator had nothing to do."""
        self.heard: Counter[str] = Counter()
        self.waits: list[tuple[str, float, float]] = []
        """What a worker waited for, since when and until when."""

    def _trained(self, job: TrainJob, epoch: int) -> tuple[float, EpochResult | str]:
        """Return a curve's next value, after the seconds of an epoch, give or take a half."""
        takes = self._seconds * self._random.uniform(0.5, 1.5)
        return takes, result_of(job.seed, epoch, takes)

    def now(self) -> float:
        """Return the time: the coordinator's, and what was jumped over."""
        return self._clock() + self._skipped

    def send(self, worker: int, message: ToWorker) -> None:
        """Note until when the worker waited."""
        moment = self.now()
        if worker in self._waiting:
            self.waits.append((*self._waiting.pop(worker), moment))
        if isinstance(message, TrainJob):
            self._handed += 1
            if self._handed in (self._workers, self._last):
                self.window.append(moment)
                self._counting(self._handed == self._workers)
        super().send(worker, message)

    def memory(self, worker: int) -> int | None:  # noqa: ARG002
        """Return a size; it costs nothing to ask, as on Ray."""
        return 500 * MIB

    def _let_pass(self, seconds: float) -> None:
        if self._real:
            time.sleep(seconds)
        else:
            super()._let_pass(seconds)
        if len(self.window) == 1:
            self.idle += seconds

    def _heard(self, worker: int, message: FromWorker, due: float) -> None:
        self._waiting[worker] = ("a trial" if isinstance(message, Ready | Done) else "an answer", due)
        if len(self.window) == 1:
            self.heard[type(message).__name__] += 1


def result_of(seed: int, epoch: int, seconds: float) -> EpochResult:
    """Return an epoch of a curve that rises towards a level which the trial's seed decides."""
    value = (0.5 + (seed % 100_003) / 250_000) * (1 - 0.5 ** (epoch + 1))
    return EpochResult(epoch, 1.0 / 3, 0.1234567890123, 2.0 / 3, value, 0.012345678901234, seconds)


def watched() -> tuple[Stopwatch, Stopwatch]:
    """Return watches of the coordinator's three calls, and of the parts that they spend their time in."""
    calls, parts = Stopwatch(), Stopwatch()
    calls.watch(Asker, "next", "ask")
    watch_handling(calls)
    for name in dir(PatientStorage):
        if hasattr(getattr(PatientStorage, name), "__wrapped__"):
            parts.watch(PatientStorage, name, "storage")
    for name in SAMPLER:
        parts.watch(PerTrial, name, "sampler")
    parts.watch(Halving, "prune", "pruner")
    return calls, parts


def one(
    asked: argparse.Namespace, workers: int, seconds: float, watches: tuple[Stopwatch, Stopwatch]
) -> dict[str, Any]:
    """Search once, and return what it cost."""
    trials = 2 * workers + 100
    settings = SearchSettings(trials=trials, workers=workers, pruner=asked.pruner, epochs=asked.epochs)
    space_file = parse_space("bench", SPACE)
    name, spent, sent = f"bench-{uuid.uuid4().hex[:8]}", [(0.0, 0.0, 0.0)] * 2, Counter[str]()

    def counting(on: bool) -> None:  # noqa: FBT001  # the one thing that is told
        for watch in watches:
            watch.on = on
        spent[0 if on else 1] = (*now(), server())

    with tempfile.TemporaryDirectory() as place:
        outputs = Outputs.of(place, asked.storage)
        outputs.run_folder(name).mkdir(parents=True)
        open_storage(outputs, create=True).engine.dispose()
        with alone(outputs, name) as storage:
            source = Source("made-up", Path(place), "", (28, 28, 1), tuple("abcdefghij"), 60_000, 10_000, (1000,) * 10)
            facts = StudyFacts("bench", SPACE, space_file.hash, source.digest, settings)
            study = create_study(storage, name, facts, space_file.space)
            study.sampler, study.pruner = make_sampler(settings, space_file.space), make_pruner(settings)
            for event, word in (("before_cursor_execute", "statements"), ("commit", "transactions")):
                sqlalchemy.event.listen(storage.engine, event, counter(sent, word, watches[1]))
            server = server_seconds(storage)
            clock = (lambda: time.process_time() + server()) if asked.clock == "cpu" else time.perf_counter
            executor = Simulated(seconds, workers, trials, counting, clock, real=asked.clock == "real")
            task = SearchTask(space_file.space, settings, source, 54_000.0, workers)
            timekeeper = Timekeeper(task, Clock(time.monotonic(), None), Pace(1e-9))
            crew = Crew(executor, workers, heartbeat=120.0, observe=lambda _: None)
            shelf = Shelf(Path(place) / "checkpoints", 3)
            Coordinator(study, task, crew, timekeeper, lambda _: None, shelf=shelf, interruption=Interruption()).run()
            if asked.storage:
                optuna.delete_study(study_name=name, storage=storage)
    wall, cpu, there = (after - before for before, after in zip(*spent, strict=True))
    wall -= executor.idle * (asked.clock == "real")
    figures = found(executor, watches, sent, wall, cpu)
    figures["server_cpu_ms_per_trial"] = round(1000 * there / figures["trials"], 2)
    return {"workers": workers, "epoch_seconds": seconds, **figures}


def server_seconds(storage: PatientStorage) -> Callable[[], float]:
    """Return what tells the processor seconds of the server's process, 0 where there is none on this machine."""
    if storage.on_server:
        with storage.engine.connect() as connection:
            process = Path(f"/proc/{connection.exec_driver_sql('SELECT pg_backend_pid()').scalar()}")
        if (process / "comm").exists() and "postgres" in (process / "comm").read_text("utf-8"):
            return lambda: int((process / "schedstat").read_text("utf-8").split()[0]) / 1e9
    return lambda: 0.0


def counter(sent: Counter[str], word: str, watch: Stopwatch) -> Callable[..., None]:
    """Return what counts an event while the watch is on."""

    def count(*_: object) -> None:
        sent[word] += watch.on

    return count


def found(
    executor: Simulated, watches: tuple[Stopwatch, Stopwatch], sent: Counter[str], wall: float, cpu: float
) -> dict[str, Any]:
    """Return one search's figures: times in milliseconds, of the part that counts."""
    calls, parts = ({name: list(times) for name, times in watch.samples.items()} for watch in watches)
    for watch in watches:
        watch.samples.clear()
    since, until = executor.window
    trials, reports = executor.heard["Done"], executor.heard["EpochReport"]
    share = {
        word: sum(max(0.0, min(end, until) - max(begin, since)) for what, begin, end in executor.waits if what == word)
        / ((until - since) * executor.room())
        for word in ("an answer", "a trial")
    }
    answers = sorted(
        1000 * (end - begin) for what, begin, end in executor.waits if what == "an answer" and since < end <= until
    )
    split = {name: total(parts.get(name, [])) for name in PARTS}
    split["rest"] = tuple(1000 * whole - sum(split[name][k] for name in PARTS) for k, whole in enumerate((wall, cpu)))
    return {
        "trials": trials,
        "reports": reports,
        "busy_wall_s": round(wall, 3),
        "busy_cpu_s": round(cpu, 3),
        "busy_share": round(1 - executor.idle / (until - since), 4),
        "trials_per_second": round(trials / (until - since), 2),
        "reports_per_second": round(reports / (until - since), 2),
        "wall_ms_per_trial": round(1000 * wall / trials, 2),
        "cpu_ms_per_trial": round(1000 * cpu / trials, 2),
        "per_trial_of": {name: each(both, trials) for name, both in split.items()},
        "calls": {name: each(total(times), len(times)) for name, times in calls.items()},
        "statements_per_trial": round(sent["statements"] / trials, 1),
        "transactions_per_trial": round(sent["transactions"] / trials, 1),
        "waiting_for_answers": round(share["an answer"], 4),
        "waiting_for_trials": round(share["a trial"], 4),
        "answer_ms": round(statistics.median(answers), 2),
        "answer_p90_ms": round(answers[math.ceil(0.9 * len(answers)) - 1], 2),
    }  # fmt: skip


def total(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Return wall and CPU milliseconds."""
    return 1000 * sum(wall for wall, _ in times), 1000 * sum(cpu for _, cpu in times)


def each(both: tuple[float, ...], count: int) -> dict[str, float]:
    """Return wall and CPU milliseconds of one of so many."""
    return {kind: round(spent / count, 2) for kind, spent in zip(("wall_ms", "cpu_ms"), both, strict=True)}


def line(run: dict[str, Any]) -> str:
    """Return one search in one line."""
    parts = ", ".join(f"{name} {both['wall_ms']:.1f}" for name, both in run["per_trial_of"].items())
    return (
        f"{run['workers']:4} workers, epochs of {run['epoch_seconds']:g} s: {run['wall_ms_per_trial']:6.1f} ms a trial"
        f" (CPU {run['cpu_ms_per_trial']:.1f} + {run['server_cpu_ms_per_trial']:.1f}; {parts};"
        f" {run['statements_per_trial']:.0f} statements) with"
        f" {run['reports'] / run['trials']:.1f} reports of {run['calls']['report']['wall_ms']:.1f} ms;"
        f" {run['reports_per_second']:.1f} reports/s; busy {run['busy_share']:.1%}; workers wait"
        f" {run['waiting_for_answers']:.1%} for answers (p90 {run['answer_p90_ms']:.0f} ms),"
        f" {run['waiting_for_trials']:.1%} for trials"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="any storage URL of Optuna's; SQLite in a temporary folder when left out")
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.0, 1.0, 10.0], help="that an epoch takes")
    parser.add_argument("--epochs", type=int, default=SearchSettings().epochs)
    parser.add_argument("--pruner", choices=("asha", "none"), default="asha")
    parser.add_argument("--clock", choices=("wall", "cpu", "real"), default="wall", help="what the coordinator takes")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    watches, runs = watched(), []
    for workers in asked.workers:
        for seconds in asked.seconds:
            runs.append(one(asked, workers, seconds, watches))
            print(line(runs[-1]), flush=True)
    if asked.json:
        where = "sqlite" if asked.storage is None else asked.storage.partition(":")[0]
        document = {
            "storage": where, "clock": asked.clock, "pruner": asked.pruner, "epochs": asked.epochs, "runs": runs,
            "machine": machine(), "versions": versions(), "commit": commit(),
        }  # fmt: skip
        asked.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
