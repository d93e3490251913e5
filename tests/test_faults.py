"""Kill it anywhere, type the same command with --resume, and the end is the same as if nothing had happened.

Real processes, real signals, real images; the faults come from ``faults/sitecustomize.py``. What is compared is all
that a study and a run folder hold, weights and optimizer slots to the bit, with the run of the same command to which
nothing happened. A fault that never happened fails its test.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import SMALL_SPACE
from .faults.harness import Ended, Fault, Running, Search, start_anew
from .faults.searches import (
    CHECKPOINTS,
    COMMON,
    COORDINATOR,
    CREW,
    LEDGER,
    LOCKED_SECONDS,
    ROAD,
    STORAGE,
    STUDY,
    WORKER,
    again,
    assert_same_end,
    folder,
)

__all__ = ["folder"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HALVED = ("--trials", 12, "--set", "search.startup_trials=4")

# One command after the other dies at the next of these.
COORDINATOR_DEATHS: dict[str, Fault] = {
    "study made, and nothing in it": {
        "at": "optuna.study.study:create_study",
        "when": "after",
        "caller": "create_study",
    },
    "known-good entries waiting": {"at": STUDY + "enqueue_trial", "when": "after", "caller": "queue_entries"},
    "facts not stored": {"at": STUDY + "set_user_attr", "key": "tuner"},
    "facts stored": {"at": STUDY + "set_user_attr", "when": "after", "key": "tuner"},
    # The first trial waited in the queue: it is taken from there, and written piece by piece.
    "before ask": {"at": LEDGER + "ask"},
    "taken from the queue": {"at": STORAGE + "set_trial_state_values", "when": "after", "state": "RUNNING"},
    "between two values": {"at": STORAGE + "_set_trial_param", "when": "after", "nth": 2},
    "values stored": {"at": STORAGE + "set_trial_user_attr", "when": "after", "key": "values"},
    # The others are drawn in memory and stored whole.
    "drawn, not stored": {"at": STORAGE + "_create_new_trial"},
    "stored whole": {"at": STORAGE + "_create_new_trial", "when": "after"},
    "before the hand-out": {"at": CREW + "hand"},
    "handed out": {"at": CREW + "hand", "when": "after", "nth": 2},
    "before the pruner is asked": {"at": LEDGER + "stops"},
    "told to go on, not stored": {"at": LEDGER + "stops", "when": "after", "result": False},
    "going on stored, not answered": {"at": STORAGE + "set_trial_intermediate_value", "when": "after"},
    "answered": {"at": COORDINATOR + "_answer", "when": "after", "caller": "_handle"},
    "told to stop, not stored": {"at": LEDGER + "stops", "when": "after", "result": True},
    "a pruned trial's end stored, not its last report": {
        "at": STORAGE + "set_trial_user_attr",
        "when": "after",
        "key": "pruned",
    },
    "before a pruned trial is told": {"at": STORAGE + "set_trial_state_values", "state": "PRUNED"},
    "a pruned trial is told": {"at": STORAGE + "set_trial_state_values", "when": "after", "state": "PRUNED"},
    "asking the model": {"at": "tuner.search.samplers:PerTrial.sample_relative", "when": "after", "result": True},
    "before a complete trial's end is stored": {"at": STORAGE + "set_trial_user_attr", "key": "complete"},
    "a complete trial's end stored, not its last report": {
        "at": STORAGE + "set_trial_user_attr",
        "when": "after",
        "key": "complete",
    },
    "before a complete trial is told": {"at": STORAGE + "set_trial_state_values", "state": "COMPLETE"},
    "a complete trial is told": {"at": STORAGE + "set_trial_state_values", "when": "after", "state": "COMPLETE"},
    "before the checkpoints are tidied": {"at": "tuner.search.shelf:Shelf.tidy", "nth": 2},
    "checkpoints tidied": {"at": "tuner.search.shelf:Shelf.tidy", "when": "after", "nth": 2},
    "searched, not refitted": {"at": COORDINATOR + "run", "when": "after"},
    "during the refit": {"at": "tuner.evaluation.trainings:Trainings._handle", "kind": "EpochReport", "nth": 3},
    "before the score": {"at": "tuner.evaluation.score:score"},
    "scored, not reported": {"at": "tuner.evaluation.score:score", "when": "after"},
    "before the report is written": {"at": "tuner.reporting.writing:write_everything"},
    "report written, the refit's checkpoints still there": {"at": "tuner.search.shelf:Shelf.clear_refit"},
}


@pytest.fixture(scope="module")
def halved(folder: Path, small_folder: Path) -> Search:
    """Pruned by halving, modelled by TPE; nothing happens."""
    search = start_anew(folder / "halved", SMALL_SPACE, *COMMON, *HALVED, "--data", small_folder)
    ended = search.run()
    assert ended.code == 0, ended.err
    return search


@pytest.mark.timeout(900)  # 34 searches begin, one after the other
def test_a_coordinator_killed_at_every_step_resumes_to_the_same_end(halved: Search) -> None:
    search = again(halved, "coordinator-deaths")

    for number, (name, fault) in enumerate(COORDINATOR_DEATHS.items()):
        ended = search.run({"name": name, **fault}, resume=number > 0)
        assert ended.code == -signal.SIGKILL, (name, ended.err, ended.out)
        assert name in search.fired()
    assert search.run(resume=True).code == 0

    assert_same_end(halved, search)


def test_everything_killed_at_random_times_resumes_to_the_same_end(halved: Search) -> None:
    search = again(halved, "random-deaths")
    seed = int(os.environ.get("FAULTS_SEED", time.time()))
    print(f"FAULTS_SEED={seed}")  # noqa: T201  # pytest shows it when the test fails
    chance = random.Random(seed)

    kills, code = 0, None
    while code != 0:
        running = search.start(resume=search.exists)
        if kills < 4:
            with contextlib.suppress(Exception):
                running.process.wait(chance.uniform(0.5, 10.0))
            kills += kill_all(search, chance)
        code = running.ended().code
        assert code in (0, -signal.SIGKILL), running.said

    report = search.report()
    assert report["n_trials"] == 12
    assert report["n_complete"] + report["n_pruned"] == 12
    assert_same_end(halved, search)


def kill_all(search: Search, chance: random.Random) -> bool:
    """Kill the coordinator and its workers at once, in any order."""
    processes = search.processes()
    chance.shuffle(processes)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return bool(processes)


# Workers that hang.


def test_workers_that_hang_are_given_up_and_their_trials_end_the_same(halved: Search) -> None:
    search = again(halved, "hanging")
    stopped = {"name": "stopped", "at": WORKER + "_send", "kind": "EpochReport", "epoch": 2, "trial": 1, "do": "stop"}
    # These two run side by side.
    sleep = {"name": "sleep", "at": WORKER + "_ask", "kind": "EpochReport", "trial": 5, "do": "sleep", "seconds": 60}
    loop = {"name": "loop", "at": "keras.src.layers.core.dense:Dense.call", "trial": 6, "nth": 2, "do": "loop"}

    running = search.start(stopped, sleep, loop, more=["--set", "search.heartbeat=5"])
    running.wait_for("Trial 1 goes on from epoch 1: its worker said nothing for")
    time.sleep(1)
    os.kill(int((search.faults / "stopped.fired").read_text("utf-8")), signal.SIGCONT)  # and it says its word, too late
    ended = running.ended()

    assert ended.code == 0, ended.err
    assert search.fired() == {"stopped", "loop", "sleep"}
    for trial in (5, 6):
        assert f"Trial {trial} goes on from epoch 0: its worker said nothing for" in ended.out
    assert_same_end(halved, search)


# Damaged files.


def test_damaged_checkpoints_are_trained_again_and_a_damaged_space_file_is_written_anew(halved: Search) -> None:
    search = again(halved, "damaged")
    late = [number for number, trial in halved.trials().items() if trial["state"] == "COMPLETE"][-1]

    # Each waits with its third checkpoint written, and is killed there.
    waits = {"at": CHECKPOINTS + "save", "when": "after", "nth": 3, "do": "sleep", "seconds": 60}
    running = search.start({"name": "wait 0", "trial": 0, **waits}, {"name": "wait 1", "trial": 1, **waits})
    kill_with_third_epochs(running, search, 0, 1)
    damage_checkpoint(search, 0, 3, whole=False)
    damage_checkpoint(search, 1, 3)
    running = search.start({"name": "wait late", "trial": late, **waits}, resume=True)
    kill_with_third_epochs(running, search, late)
    damage_checkpoint(search, late, 3)
    damage_checkpoint(search, late, 2)
    (search.run_folder / "space.toml").write_text("[param", "utf-8")
    assert search.run(resume=True).code == 0

    logs = "".join(path.read_text("utf-8") for path in search.run_folder.glob("worker-*.log"))
    assert logs.count("is left out: not whole") == 4
    assert (search.run_folder / "space.toml").read_bytes() == (halved.run_folder / "space.toml").read_bytes()
    assert_same_end(halved, search)


def checkpoint(search: Search, trial: int, epoch: int) -> Path:
    return search.run_folder / f"checkpoints/trial-{trial:05d}/epoch-{epoch:04d}.ckpt"


def kill_with_third_epochs(running: Running, search: Search, *trials: int) -> None:
    deadline = time.monotonic() + 60
    while not all(checkpoint(search, trial, 3).exists() for trial in trials):
        assert time.monotonic() < deadline, running.said
        assert running.process.poll() is None, running.said
        time.sleep(0.05)
    running.process.kill()
    running.process.wait()


def damage_checkpoint(search: Search, trial: int, epoch: int, *, whole: bool = True) -> None:
    path = checkpoint(search, trial, epoch)
    if whole:
        path.write_bytes(os.urandom(5000))
    else:
        os.truncate(path, path.stat().st_size // 2)


# The world around.


def test_a_system_clock_that_jumps_an_hour_either_way_changes_nothing(halved: Search) -> None:
    """time.time and datetime are shifted from inside; a real step leaves CLOCK_MONOTONIC alone just so."""
    search = again(halved, "clock")
    shift = {"do": "shift the clock"}
    ahead = {"name": "ahead", "at": COORDINATOR + "_handle", "nth": 6, "seconds": 3600, **shift}
    behind = {"name": "behind", "at": COORDINATOR + "_handle", "nth": 15, "seconds": -7200, **shift}
    worker = {"name": "a worker", "at": ROAD + "epoch", "nth": 5, "seconds": 3600, **shift}

    ended = search.run(ahead, behind, worker)

    assert ended.code == 0, ended.err
    assert search.fired() == {"ahead", "behind", "a worker"}
    assert search.report()["wall_seconds"]["total"] < 600
    assert_same_end(halved, search)


def test_a_database_that_another_program_locks_for_a_minute_does_not_end_the_search(halved: Search) -> None:
    search = again(halved, "locked")

    running = search.start()
    running.wait_for("trial 1 starts")
    with contextlib.closing(
        sqlite3.connect(search.folder / "results" / "studies.db", timeout=30, isolation_level=None)
    ) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(LOCKED_SECONDS)
        said = running.said
        other.execute("ROLLBACK")
    ended = running.ended()

    assert ended.code == 0, ended.err
    assert "is locked by another program" in said
    assert said.count("is locked by another program") <= 1 + LOCKED_SECONDS // 30
    assert_same_end(halved, search)


def test_a_dashboard_that_polls_does_not_harm_the_search(halved: Search) -> None:
    search = again(halved, "watched")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    running = search.start()
    running.wait_for("Study s")
    with polled(search.folder, port) as answers:
        ended = running.ended()

    assert ended.code == 0, ended.err
    assert len(answers) > 5
    assert all(answer["name"] == "s" for answer in answers)
    notes = [{row["number"]: row["note"]["body"] for row in answer["trials"]} for answer in answers]
    assert any(note.startswith("**Running**") for shown in notes for note in shown.values())
    assert any(note.startswith("**Pruned**") for note in notes[-1].values())
    assert_same_end(halved, search)


@contextlib.contextmanager
def polled(folder: Path, port: int) -> Iterator[list[Any]]:
    """Ask a dashboard for a study, with all that it shows of it, again and again, and collect what it answers."""
    answers: list[Any] = []
    done = threading.Event()

    def poll() -> None:
        while not done.wait(0.05):
            with (
                contextlib.suppress(OSError),  # not up yet
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies/1", timeout=10) as answer,
            ):
                answers.append(json.load(answer))

    command = [sys.executable, "-m", "tuner", "dashboard", "--port", str(port)]
    asking = threading.Thread(target=poll)
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dashboard:
        asking.start()
        try:
            yield answers
        finally:
            done.set()
            asking.join()
            dashboard.kill()


def test_interrupted_searches_end_between_epochs_or_at_once_and_resume_to_the_same_end(halved: Search) -> None:
    search = again(halved, "interrupted")

    # Once: when the running epochs have ended.
    for number, moment in ((signal.SIGINT, "trial 1 epoch 2"), (signal.SIGHUP, "trial 6 epoch 1")):
        running = search.start(resume=search.exists)
        running.wait_for(moment)
        running.process.send_signal(number)
        assert_interrupted(running.ended(30))

    # Twice, in an epoch that takes long: at once.
    slow = {"name": "slow", "at": ROAD + "epoch", "trial": 9, "nth": 2, "do": "sleep", "seconds": 60}
    running = search.start(slow, resume=True)
    running.wait_for("trial 9 epoch 1")
    running.process.send_signal(signal.SIGINT)
    running.wait_for("Ctrl-C again stops at once")
    time.sleep(1)
    assert running.process.poll() is None  # it waits for the epoch
    second = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    assert_interrupted(running.ended(30))
    assert time.monotonic() - second < 5  # workers have 3 s to end by themselves

    # In the refit.
    running = search.start(resume=True)
    running.wait_for("refit seed 0 epoch 1")
    running.process.send_signal(signal.SIGINT)
    assert_interrupted(running.ended(30))

    assert search.run(resume=True).code == 0
    assert_same_end(halved, search)


def assert_interrupted(ended: Ended) -> None:
    assert ended.code == 130, ended.err
    assert "Interrupted. " in ended.err
    assert " complete" in ended.err
    assert "'tuner search --resume --study s' goes on with it" in ended.err
    assert "Traceback" not in ended.err
