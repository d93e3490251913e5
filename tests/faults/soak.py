"""Kill random processes of repeated searches at random moments, for minutes: ``python -m tests.faults.soak``.

Each search is resumed until it has ended, and then compared with the same search to which nothing happened.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from tuner.data.idx import PARTS, parse_idx, read_bytes
from tuner.data.sources import find
from tuner.errors import SearchError

from ..conftest import SMALL_SPACE, write_idx  # noqa: TID252  # as the tests do
from .harness import Running, Search, differences, start_anew

ARGUMENTS = ("--trials", 10, "--workers", 2, "--seed", 0, "--deterministic", "--keep", 100,
             "--set", "search.startup_trials=4", "--set", "search.retries=100")  # fmt: skip
MAX_KILLS = 10
"""A search: then it is left alone, so that it ends."""
MAX_WORKERS_LOST = 3
"""A command: a refit bears no more."""


def main() -> int:
    """Soak, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)  # noqa: T201  # a script
    chance, deadline = random.Random(asked.seed), time.monotonic() + 60 * asked.minutes
    kills: collections.Counter[str] = collections.Counter()
    ended, found = 0, 0
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    arguments = (*ARGUMENTS, "--data", _small_folder(folder))
    whole = start_anew(folder / "whole", SMALL_SPACE, *arguments)
    assert whole.run().code == 0
    expected = whole.outcome()
    while time.monotonic() < deadline:
        search = start_anew(folder / f"search-{ended}", SMALL_SPACE, *arguments)
        lines = _until_its_end(search, chance, kills)
        lines += differences(expected, search.outcome()) + search.leftovers() if not lines else []
        for line in lines:
            print(f"{search.folder}: {line}", flush=True)  # noqa: T201
        ended, found = ended + 1, found + len(lines)
        if not lines:
            shutil.rmtree(search.folder)
    if not found:
        shutil.rmtree(folder)
    by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(kills.items()))
    print(f"{ended} searches ended; {by_kind or 'no kills'}; {found} differences")  # noqa: T201
    return int(found > 0)


def _until_its_end(search: Search, chance: random.Random, kills: collections.Counter[str]) -> list[str]:
    """Kill and resume until the search has ended; return what should not have been said."""
    killed = 0
    while True:
        running = search.start(resume=search.exists)
        lost = 0
        while killed < MAX_KILLS and _still_runs(running, chance.expovariate(1 / 3.0)):
            kind = chance.choices(("worker", "coordinator", "all", "worker paused", "all paused"), (4, 3, 2, 1, 1))[0]
            lost += kind == "worker"
            if (lost > MAX_WORKERS_LOST and kind == "worker") or not _harm(kind, running, search, chance):
                continue
            kills[kind] += 1
            killed += 1
        ended = running.ended()
        if ended.code == 0:
            return []
        scorer_killed = ended.code == SearchError.exit_code and "scoring the test set failed" in ended.err
        if ended.code != -signal.SIGKILL and not scorer_killed:
            return [f"exit code {ended.code}: {running.said[-2000:]}"]


def _still_runs(running: Running, seconds: float) -> bool:
    """Wait so long, or until the end."""
    deadline = time.monotonic() + seconds
    while running.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return running.process.poll() is None


def _harm(kind: str, running: Running, search: Search, chance: random.Random) -> bool:
    """Kill or pause; return whether there was anybody to do it to."""
    coordinator = running.process.pid
    workers = [process for process in search.processes() if process != coordinator]
    chance.shuffle(workers)
    if kind.startswith("worker"):
        victims = workers[:1]
    else:
        victims = [coordinator] if kind == "coordinator" else [coordinator, *workers]
    if kind.endswith("paused"):
        _signal(victims, signal.SIGSTOP)
        time.sleep(chance.uniform(0.1, 5.0))
        _signal(victims, signal.SIGCONT)
    else:
        _signal(victims, signal.SIGKILL)
    return bool(victims)


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _small_folder(folder: Path) -> Path:
    """Write the slice of Fashion-MNIST that the tests use."""
    source, small = find(None, print), folder / "data"
    small.mkdir()
    for part in PARTS:
        array = parse_idx(read_bytes(source.folder, part), source.folder / part)
        write_idx(small / part, array[: 1200 if part.startswith("train") else 300])
    return small


if __name__ == "__main__":
    raise SystemExit(main())
