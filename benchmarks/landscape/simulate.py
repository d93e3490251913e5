"""Every strategy from every seed, on several processes, and the tables that this leaves."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.landscape import coordinated, pausing, peers
from benchmarks.landscape.account import Account, Run
from benchmarks.landscape.measure import WITHIN, answers, moments, quartiles, reached
from benchmarks.landscape.replay import Replay
from benchmarks.landscape.strategies import STRATEGIES, Ours
from benchmarks.landscape.table import START_SECONDS, Table, read_landscape
from tuner.records import Values
from tuner.runs import commit, versions, write_table, write_text
from tuner.search.rehearsal import NO_IMAGES
from tuner.search.task import SearchTask
from tuner.space.reader import SpaceFile

RUNS, ANYTIME, SUMMARY, ABOUT = "runs.csv", "anytime.csv", "summary.csv", "about.json"


@dataclass(frozen=True)
class Landscape:
    """The files of a recorded table."""

    space: Path
    curves: Path

    def read(self) -> tuple[SpaceFile, Table]:
        """Return the space and the table, read once a process. Raises SpaceError, UsageError."""
        return _read(self)

    def replay(self, overlay: Values) -> Replay:
        """Return what answers, its forest grown once a process and overlay."""
        return _replay(self, json.dumps(overlay, sort_keys=True))


@functools.cache
def _read(landscape: Landscape) -> tuple[SpaceFile, Table]:
    return read_landscape(landscape.space, landscape.curves)


@functools.cache
def _replay(landscape: Landscape, overlay: str) -> Replay:
    space_file, table = _read(landscape)
    return Replay(table, space_file.space, json.loads(overlay))


@dataclass(frozen=True)
class Job:
    """One search."""

    landscape: Landscape
    name: str
    seed: int
    trainings: float
    """The budget, in full trainings of a typical configuration."""


def run(job: Job) -> Run:
    """Carry out one search."""
    space_file, table = job.landscape.read()
    space, strategy = space_file.space, STRATEGIES[job.name]
    budget = job.trainings * table.full_training
    overlay = dict(strategy.overlay) if isinstance(strategy, Ours) else {}
    replay = job.landscape.replay(overlay)
    if isinstance(strategy, Ours) and not strategy.pausing:
        return coordinated.search(strategy, space, replay, job.seed, budget)
    task = SearchTask(space, space_file.settings, NO_IMAGES, table.epoch_images, 1)

    def refused(values: Values) -> bool:
        return bool(task.judge(values)[0])

    account = Account(replay, refused, budget, job.seed)
    return (
        pausing.search(strategy, space, account)
        if isinstance(strategy, Ours)
        else peers.search(strategy, space, account)
    )


def runs_of(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, Run]]:
    """Yield what came of each job, in their order."""
    if processes == 1:
        yield from ((job, run(job)) for job in jobs)
        return
    # Spawned: TensorFlow, which KerasTuner loads, does not bear forking.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from zip(jobs, pool.imap(run, jobs, chunksize=4), strict=True)


@dataclass(frozen=True)
class Experiment:
    """Every strategy from every seed."""

    landscape: Landscape
    names: Sequence[str]
    seeds: int
    trainings: float
    """The budget of a search, in full trainings of a typical configuration."""

    def jobs(self) -> list[Job]:
        """Return the searches."""
        return [Job(self.landscape, name, seed, self.trainings) for name in self.names for seed in range(self.seeds)]


def simulate(asked: Experiment, processes: int, out: Path) -> list[str]:
    """Carry out an experiment, write its tables, and return a line a strategy.

    What a folder holds of other strategies, by the same experiment, stays.
    """
    landscape, names, trainings = asked.landscape, asked.names, asked.trainings
    _, table = landscape.read()
    for strategy in map(STRATEGIES.get, names):  # what cannot be answered is said before anything is simulated
        landscape.replay(dict(strategy.overlay) if isinstance(strategy, Ours) else {})
    about: dict[str, Any] = {
        "budget_trainings": trainings,
        "full_training_seconds": round(table.full_training, 3),
        "best": table.best,
        "near_the_best": {str(points): table.near(points) for points in WITHIN},
        "configurations": len(table.configurations),
        "trainings": table.trainings,
        "seeds": asked.seeds,
        "start_seconds": START_SECONDS,
        "curves_sha256": hashlib.sha256(landscape.curves.read_bytes()).hexdigest(),
        "space": landscape.read()[0].hash,
    }
    began = time.monotonic()
    found = list(runs_of(asked.jobs(), processes))
    there = _read_about(out / ABOUT)
    if {name: there.get(name) for name in about} != about:  # of another experiment: nothing to be seen beside
        there = {}
        for name in (RUNS, ANYTIME, SUMMARY):
            (out / name).unlink(missing_ok=True)
    by_name = {name: [one for job, one in found if job.name == name] for name in names}
    _write_runs(out / RUNS, found, table)
    _write_anytime(out / ANYTIME, by_name, table, trainings)
    _write_summary(out / SUMMARY, by_name, table)
    about |= {"commits": {**there.get("commits", {}), **dict.fromkeys(names, commit())}, "versions": versions()}
    write_text(out / ABOUT, json.dumps(about, indent=1) + "\n")
    lines = [_line(name, runs, table) for name, runs in by_name.items()]
    return [*lines, f"{len(found)} searches in {time.monotonic() - began:.0f} s: {out}"]


def _read_about(path: Path) -> dict[str, Any]:
    """Return what an earlier simulation said of itself."""
    try:
        said: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write rows that begin with a strategy's name in place of those of the same strategies, in the order of all."""
    named = [*map(str, dict.fromkeys(row[0] for row in rows))]
    kept: list[Sequence[object]] = []
    if path.exists():
        kept = [row for row in list(csv.reader(path.read_text("utf-8").splitlines()))[1:] if row[0] not in named]
    order = {name: place for place, name in enumerate(STRATEGIES)}
    write_table(path, header, sorted([*kept, *rows], key=lambda row: order.get(str(row[0]), -1)))


def _write_runs(path: Path, found: Sequence[tuple[Job, Run]], table: Table) -> None:
    header = [
        "strategy",
        "seed",
        "started",
        "answering",
        "complete",
        "epochs",
        "cpu_seconds",
        "accuracy",
        "observed",
        *(f"to_{p}" for p in WITHIN),
    ]
    rows = []
    for job, one in found:
        last = one.steps[-1] if one.steps else None
        rows.append([
            job.name, job.seed, one.started, one.answering, one.complete, one.epochs, round(one.compute, 1),
            last and round(table.configurations[last.configuration].final, 5), last and round(last.observed, 5),
            *(_finite(reached(one, table, points)) for points in WITHIN),
        ])  # fmt: skip
    _write(path, header, rows)


def _write_anytime(path: Path, by_name: dict[str, list[Run]], table: Table, trainings: float) -> None:
    grid = moments(trainings * table.full_training, table.full_training)
    rows = []
    for name, runs in by_name.items():
        seen = [answers(one, table, grid) for one in runs]
        for moment, accuracies in zip(grid, zip(*seen, strict=True), strict=True):
            of = quartiles(accuracies)
            rows.append([name, f"{moment:.1f}", *(round(accuracy, 5) for accuracy in (of.low, of.median, of.high))])
    _write(path, ["strategy", "cpu_seconds", "low", "median", "high"], rows)


def _write_summary(path: Path, by_name: dict[str, list[Run]], table: Table) -> None:
    header = ["strategy"]
    header += [f"to_{points}_{which}" for points in WITHIN for which in ("low", "median", "high", "share")]
    rows = []
    for name, runs in by_name.items():
        row: list[object] = [name]
        for points in WITHIN:
            seconds = [reached(one, table, points) for one in runs]
            of = quartiles(seconds)
            share = sum(map(math.isfinite, seconds)) / len(seconds)
            row += [*map(_finite, (of.low, of.median, of.high)), round(share, 3)]
        rows.append(row)
    _write(path, header, rows)


def _finite(seconds: float) -> float | None:
    return round(seconds, 1) if math.isfinite(seconds) else None


def _line(name: str, runs: Sequence[Run], table: Table) -> str:
    cells = []
    for points in WITHIN:
        of = quartiles([reached(one, table, points) / table.full_training for one in runs])
        cells.append(f"{points:g}: {of.median:5.1f} ({of.low:.1f} to {of.high:.1f})")
    started = statistics.fmean(one.started for one in runs)
    answering = statistics.fmean(one.answering for one in runs)
    return f"{name:40} {'; '.join(cells)}; {started:.0f} trainings, {answering:.0f} different"
