"""Every strategy from every seed, on several processes, and the tables that this leaves."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import itertools
import json
import math
import multiprocessing
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.landscape import coordinated, pausing, peers
from benchmarks.landscape.account import Account, Run
from benchmarks.landscape.measure import WITHIN, answers, moments, quartiles, reached
from benchmarks.landscape.replay import Answers, Replay
from benchmarks.landscape.strategies import STRATEGIES, Ours
from benchmarks.landscape.table import START_SECONDS, Table, read_landscape
from tuner.errors import UsageError
from tuner.records import Values
from tuner.runs import versions, write_table, write_text
from tuner.search.rehearsal import NO_IMAGES
from tuner.search.task import SearchTask
from tuner.space.reader import SpaceFile

RUNS, ANYTIME, SUMMARY, ABOUT = "runs.csv", "anytime.csv", "summary.csv", "about.json"
ROOT = Path(__file__).parents[2]
SOURCE = ("tuner", "benchmarks/landscape", "benchmarks/virtual.py", "requirements.lock", "benchmarks/requirements.txt")
DIRTY = "-dirty"
"""After the commit of code that is not as it was committed, as git says it."""


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
    once: bool
    """Whether a recorded configuration answers once, as long as there are others."""


def run(job: Job) -> Run:
    """Carry out one search."""
    space_file, table = job.landscape.read()
    space, strategy = space_file.space, STRATEGIES[job.name]
    budget = job.trainings * table.full_training
    overlay = dict(strategy.overlay) if isinstance(strategy, Ours) else {}
    replies = Answers(job.landscape.replay(overlay), once=job.once)
    if isinstance(strategy, Ours) and not strategy.pausing:
        return coordinated.search(strategy, space, replies, job.seed, budget)
    task = SearchTask(space, space_file.settings, NO_IMAGES, table.epoch_images, 1)

    def refused(values: Values) -> bool:
        return bool(task.judge(values)[0])

    account = Account(replies, refused, budget, job.seed)
    return (
        pausing.search(strategy, space, account)
        if isinstance(strategy, Ours)
        else peers.search(strategy, space, account)
    )


def runs_of(jobs: Sequence[Job], processes: int) -> Iterator[Run]:
    """Yield what came of each job, in their order."""
    if processes == 1:
        yield from map(run, jobs)
        return
    # Spawned: TensorFlow, which KerasTuner loads, does not bear forking.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(run, jobs)


@dataclass(frozen=True)
class Experiment:
    """Every strategy from every seed."""

    landscape: Landscape
    names: Sequence[str]
    seeds: int
    trainings: float
    """The budget of a search, in full trainings of a typical configuration."""
    once: bool = True
    """Whether a recorded configuration answers once in a search, as long as there are others."""

    def jobs(self, name: str) -> list[Job]:
        """Return a strategy's searches."""
        return [Job(self.landscape, name, seed, self.trainings, self.once) for seed in range(self.seeds)]

    def about(self) -> dict[str, Any]:
        """Return what makes it this experiment, whatever the strategies: other figures do not stand beside its own."""
        space_file, table = self.landscape.read()
        return {
            "budget_trainings": self.trainings,
            "full_training_seconds": round(table.full_training, 3),
            "best": table.best,
            "near_the_best": {str(points): table.near(points) for points in WITHIN},
            "configurations": len(table.configurations),
            "trainings": table.trainings,
            "seeds": self.seeds,
            "answers": "once" if self.once else "any",
            "start_seconds": START_SECONDS,
            "curves_sha256": hashlib.sha256(self.landscape.curves.read_bytes()).hexdigest(),
            "space": space_file.hash,
        }


def simulate(asked: Experiment, processes: int, out: Path) -> Iterator[str]:
    """Carry out an experiment, and yield a line as each strategy is done and written.

    What the folder holds of other strategies, by the same experiment, stays; a strategy that the same code has done is
    not done again. Raises UsageError where the folder holds another experiment.
    """
    about, code, began, count = asked.about(), source(), time.monotonic(), 0
    commits = _earlier(out, about)
    for strategy in map(STRATEGIES.get, asked.names):  # what cannot be answered is said before anything is simulated
        asked.landscape.replay(dict(strategy.overlay) if isinstance(strategy, Ours) else {})
    known = code is not None and not code.endswith(DIRTY)
    left = [name for name in asked.names if not known or commits.get(name) != code]
    yield from (f"{name:40} is there, by {code}" for name in asked.names if name not in left)
    if left:
        _write_about(out, about, commits)
    coming = runs_of([job for name in left for job in asked.jobs(name)], processes)
    for name in left:
        runs = list(itertools.islice(coming, asked.seeds))
        _write_tables(out, name, runs, asked)
        commits[name] = code  # last: what has one is whole
        _write_about(out, about, commits)
        count += len(runs)
        yield _line(name, runs, asked.landscape.read()[1])
    yield f"{count} searches in {time.monotonic() - began:.0f} s: {out}"


def source() -> str | None:
    """Return the last commit that changed what a simulation depends on, or None outside of git."""
    try:
        dirty = DIRTY if _git("status", "--porcelain", "--", *SOURCE) else ""
        return _git("log", "-1", "--format=%h", "--abbrev=12", "--", *SOURCE) + dirty
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    said = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True, text=True)  # noqa: S607
    return said.stdout.strip()


def _earlier(out: Path, about: Mapping[str, Any]) -> dict[str, str | None]:
    """Return by which commit each strategy of the folder was done. Raises UsageError for another experiment's."""
    there: dict[str, Any] = {}
    if (out / ABOUT).exists() or (out / RUNS).exists():
        with contextlib.suppress(OSError, ValueError):
            there = json.loads((out / ABOUT).read_text("utf-8"))
        if unlike := [name for name in about if there.get(name) != about[name]]:
            said = f"{out} holds another experiment: it differs in {', '.join(unlike)}"
            raise UsageError(said, hint="another --out, or remove that folder")
    return dict(there.get("commits", {}))


def _write_about(out: Path, about: Mapping[str, Any], commits: Mapping[str, str | None]) -> None:
    whole = {**about, "commits": commits, "versions": versions()}
    write_text(out / ABOUT, json.dumps(whole, indent=1) + "\n")


def _write_tables(out: Path, name: str, runs: Sequence[Run], asked: Experiment) -> None:
    table = asked.landscape.read()[1]
    _write_runs(out / RUNS, name, runs, table)
    _write_anytime(out / ANYTIME, name, runs, table, asked.trainings)
    _write_summary(out / SUMMARY, name, runs, table)


def _write(path: Path, name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a strategy's rows in place of those that it had, all in the order of ``STRATEGIES``."""
    kept: list[Sequence[object]] = []
    if path.exists():
        kept = [row for row in list(csv.reader(path.read_text("utf-8").splitlines()))[1:] if row[0] != name]
    order = {name: place for place, name in enumerate(STRATEGIES)}
    own = ((name, *row) for row in rows)
    write_table(path, ["strategy", *header], sorted([*kept, *own], key=lambda row: order.get(str(row[0]), -1)))


def _write_runs(path: Path, name: str, runs: Sequence[Run], table: Table) -> None:
    header = ["seed", "started", "answering", "complete", "epochs", "cpu_seconds", "accuracy", "observed"]
    rows = []
    for seed, one in enumerate(runs):
        last = one.steps[-1] if one.steps else None
        rows.append([
            seed, one.started, one.answering, one.complete, one.epochs, round(one.compute, 1),
            last and round(table.configurations[last.configuration].final, 5), last and round(last.observed, 5),
            *(_finite(reached(one, table, points)) for points in WITHIN),
        ])  # fmt: skip
    _write(path, name, [*header, *(f"to_{points}" for points in WITHIN)], rows)


def _write_anytime(path: Path, name: str, runs: Sequence[Run], table: Table, trainings: float) -> None:
    grid = moments(trainings * table.full_training, table.full_training)
    seen = [answers(one, table, grid) for one in runs]
    rows = []
    for moment, accuracies in zip(grid, zip(*seen, strict=True), strict=True):
        of = quartiles(accuracies)
        rows.append([f"{moment:.1f}", *(round(accuracy, 5) for accuracy in (of.low, of.median, of.high))])
    _write(path, name, ["cpu_seconds", "low", "median", "high"], rows)


def _write_summary(path: Path, name: str, runs: Sequence[Run], table: Table) -> None:
    header = [f"to_{points}_{which}" for points in WITHIN for which in ("low", "median", "high", "share")]
    row: list[float | None] = []
    for points in WITHIN:
        seconds = [reached(one, table, points) for one in runs]
        of = quartiles(seconds)
        share = sum(map(math.isfinite, seconds)) / len(seconds)
        row += [*map(_finite, (of.low, of.median, of.high)), round(share, 3)]
    _write(path, name, header, [row])


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
