"""Workers that are killed, trials that go wrong and disks that are full: the trials beside them end as if nothing had happened.

Real processes and faults, as in test_faults.py.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from .conftest import SMALL_SPACE
from .faults.harness import Fault, Search, differences, start_anew
from .faults.searches import (
    CHECKPOINTS,
    COMMON,
    REPLACE,
    ROAD,
    WORKER,
    again,
    assert_same_end,
    folder,
    named,
)

__all__ = ["folder"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

UNPRUNED = ("--trials", 21, "--pruner", "none")

# Trial k's worker dies at the k-th of these, on its first attempt.
WORKER_DEATHS: dict[str, Fault] = {
    "job received": {"at": WORKER + "_serve"},
    "before the network is built": {"at": "tuner.models.cnn:build_network"},
    "on the first attempt of two": {"at": WORKER + "_send", "kind": "EpochReport", "epoch": 2},
    "network built": {"at": "tuner.models.cnn:build_network", "when": "after"},
    "before Built is sent": {"at": WORKER + "_send", "kind": "Built"},
    "Built is sent": {"at": WORKER + "_send", "when": "after", "kind": "Built"},
    "first epoch under way": {"at": WORKER + "_stopped", "delay": 0.2},
    "second epoch under way": {"at": WORKER + "_stopped", "nth": 3, "delay": 0.02},
    "before evaluation": {"at": ROAD + "logits", "nth": 2},
    "before the checkpoint": {"at": CHECKPOINTS + "save", "nth": 2},
    "inside the checkpoint's write": {"at": REPLACE, "path": ".ckpt", "nth": 2, "do": "halve"},
    "checkpoint drafted but not renamed": {"at": REPLACE, "path": ".ckpt", "nth": 2},
    "checkpoint renamed": {"at": REPLACE, "when": "after", "path": ".ckpt", "nth": 2},
    "before the older checkpoint goes": {"at": "pathlib:Path.unlink", "path": "/epoch-0001.ckpt"},
    "checkpointed but not reported": {"at": CHECKPOINTS + "save", "when": "after", "nth": 2},
    "reported but not answered": {"at": WORKER + "_send", "when": "after", "kind": "EpochReport", "epoch": 2},
    "answered": {"at": WORKER + "_ask", "when": "after", "kind": "EpochReport", "epoch": 2},
    "last epoch reported": {"at": WORKER + "_send", "when": "after", "kind": "EpochReport", "epoch": 4},
    "last epoch answered": {"at": WORKER + "_ask", "when": "after", "kind": "EpochReport", "epoch": 4},
    "before Done": {"at": WORKER + "_send", "kind": "Done"},
    # The last trial, for a worker that dies with nothing to do takes the next trial's first attempt with it.
    "after Done": {"at": WORKER + "_send", "when": "after", "kind": "Done"},
}
OTHER_WORKER_DEATHS: dict[str, Fault] = {
    "second attempt has its checkpoint": {"at": CHECKPOINTS + "load", "when": "after", "result": True, "trial": 2},
    "just ready": {"at": WORKER + "_receive", "trial": None},
}
REFIT_DEATHS: dict[str, Fault] = {
    "before the refit's checkpoint": {"at": CHECKPOINTS + "save", "trial": -1, "nth": 2},
    "refit's checkpoint written": {"at": CHECKPOINTS + "save", "when": "after", "trial": -2, "nth": 2},
    "idle": {"at": WORKER + "_receive", "trial": None, "quiet": 0.2},
    "so that another idles": {"at": ROAD + "epoch", "trial": -3, "nth": 2, "do": "wait", "for": "idle"},
    "inside the model's write": {"at": REPLACE, "path": ".keras", "trial": -1, "do": "halve"},
    "model drafted but not renamed": {"at": REPLACE, "path": ".keras", "trial": -2},
    "model renamed": {"at": REPLACE, "when": "after", "path": ".keras", "trial": -3},
}

# Checkpoints of about ten megabytes, beside which a small study is small.
BIG_SPACE = SMALL_SPACE.replace("options = [0, 16]", "options = [2048]").replace(
    "dense_units = 16", "dense_units = 2048"
)
BIG_SPACE = BIG_SPACE.replace(
    """[parameters.filters_2]
type = "int"
low = 4
high = 12
step = 4
""",
    """[parameters.filters_2]
type = "fixed"
value = 12
""",
)


@pytest.fixture(scope="module")
def unpruned(folder: Path, small_folder: Path) -> Search:
    """Every trial runs to its end; nothing happens."""
    search = start_anew(
        folder / "unpruned", SMALL_SPACE, *COMMON, *UNPRUNED, "--refit-seeds", 3, "--data", small_folder
    )
    ended = search.run()
    assert ended.code == 0, ended.err
    return search


def test_workers_killed_at_every_step_of_a_training_change_nothing(unpruned: Search) -> None:
    search = again(unpruned, "worker-deaths")
    deaths = [{"trial": number, **fault} for number, fault in enumerate(named(WORKER_DEATHS))]

    searched = search.run(*deaths, *named(OTHER_WORKER_DEATHS), more=["--no-refit"])
    assert searched.code == 0, searched.err
    assert search.fired() == WORKER_DEATHS.keys() | OTHER_WORKER_DEATHS.keys()
    assert search.report()["n_taken_up_again"] >= 17  # those that died after their last report may be through

    refitted = search.run(*named(REFIT_DEATHS), resume=True)
    assert refitted.code == 0, refitted.err
    assert REFIT_DEATHS.keys() <= search.fired()
    assert_same_end(unpruned, search)


# Trials that go wrong.


@pytest.fixture(scope="module")
def capped(unpruned: Search) -> Search:
    """Trial 1 allocates without end, trial 3 takes too long, trial 5's loss is NaN at epoch 2."""
    search = again(unpruned, "capped")
    grow = {"name": "grow", "at": WORKER + "_ask", "kind": "EpochReport", "trial": 1, "nth": 2, "do": "allocate"}
    late = {"name": "late", "at": ROAD + "epoch", "trial": 3, "nth": 3, "do": "sleep", "seconds": 20}
    nan = {"name": "nan", "at": ROAD + "epoch", "when": "after", "trial": 5, "nth": 2, "do": "nan"}
    caps = ["--set", "search.memory=2000", "--set", "search.trial_time=15"]
    ended = search.run(grow, late, nan, more=["--trials", "8", "--no-refit", *caps])
    assert ended.code == 0, ended.err
    assert search.fired() == {"grow", "late", "nan"}
    return search


@pytest.mark.parametrize(
    ("trial", "said"),
    [(1, "over memory = 2,000"), (3, "over trial_time = 15"), (5, "the loss is nan at epoch 2")],
    ids=["memory", "time", "NaN"],
)
def test_a_trial_that_goes_wrong_fails_with_the_reason(trial: int, said: str, capped: Search) -> None:
    found = capped.trials()[trial]

    assert found["state"] == "FAIL"
    assert said in found["attributes"]["failed"]["reason"]


def test_trials_beside_one_that_goes_wrong_are_unharmed(unpruned: Search, capped: Search) -> None:
    whole, found = unpruned.trials(), capped.trials()

    assert len(found) == 8
    for trial in (0, 2, 4, 6, 7):
        found[trial]["attributes"].pop("start")  # the virtual clock knows of the failures
        whole[trial]["attributes"].pop("start")
        assert differences(whole[trial], found[trial]) == []
    assert capped.leftovers() == []


def test_the_report_holds_the_caps_and_the_peaks(capped: Search) -> None:
    report = capped.report()

    assert report["n_failed"] == 3
    assert report["caps"] == {"memory_mib": 2000.0, "trial_seconds": 15.0}
    assert report["peaks"]["memory_mib"] > 2000


def test_a_search_whose_trials_all_fail_says_so_in_one_line(unpruned: Search) -> None:
    search = again(unpruned, "failing")
    fail = {"name": "fail", "at": "tuner.models.cnn:build_network", "nth": "every", "do": "fail"}

    ended = search.run(fail)

    assert ended.code == 6
    assert "the first 5 trials all failed, the last one with: RuntimeError: this layer cannot be built" in ended.err
    assert len(ended.err.splitlines()) <= 2  # and the hint
    assert "Traceback" not in ended.out + ended.err
    assert search.leftovers() == []


# Full disks.


@pytest.fixture(scope="module")
def big(folder: Path, small_folder: Path) -> Search:
    """Few trials with big checkpoints; nothing happens."""
    common = (*COMMON, "--trials", 3, "--pruner", "none", "--no-refit", "--data", small_folder)
    search = start_anew(folder / "big", BIG_SPACE, *common)
    ended = search.run()
    assert ended.code == 0, ended.err
    return search


def test_checkpoints_that_cannot_be_written_end_the_search_in_one_line_and_resume_ends_the_same(big: Search) -> None:
    search = start_anew(big.folder.with_name("big-limited"), BIG_SPACE, *big.arguments[1:])
    patience = {"name": "patience", "at": "tuner.search.crew:DISK_PATIENCE_SECONDS", "do": "assign", "value": 4.0}

    ended = search.run(patience, before="ulimit -f 6144")

    assert ended.code == 8, ended.err
    assert "A checkpoint cannot be written: File too large" in ended.out
    assert "a checkpoint could not be written for 4 s" in ended.err
    assert len(ended.err.splitlines()) <= 2  # and the hint
    assert "Traceback" not in ended.out + ended.err
    assert search.run(resume=True).code == 0
    assert_same_end(big, search)


def test_a_full_disk_is_waited_out_and_room_lets_the_search_go_on(big: Search) -> None:
    search = start_anew(big.folder.with_name("big-full"), BIG_SPACE, *big.arguments[1:])
    disk = search.folder / "results"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {tried.stderr.strip()}")

    try:
        running = search.start()
        running.wait_for("A checkpoint cannot be written: No space left on device")
        time.sleep(2)
        subprocess.run(["mount", "-o", "remount,size=500m", str(disk)], check=True)
        ended = running.ended()

        assert ended.code == 0, ended.err
        assert "Checkpoints can be written again" in ended.out
        assert_same_end(big, search)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
