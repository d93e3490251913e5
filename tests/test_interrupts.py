"""Real processes and real signals: nothing is lost, nobody stays behind, nobody else gets in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.search.executors.local import LocalExecutor
from tuner.search.messages import Lost, Ready

from .conftest import Done

Tuner = Callable[..., Done]


def _start_search(folder: Path, space_path: Path, data: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tuner", "search", str(space_path), "--trials", "5", "--workers", "2", "--seed", "0",
               "--data", str(data), "--pruner", "none", "--epochs", "8", "--no-refit"]  # fmt: skip
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored; this one is to be in the foreground wherever it runs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no threads here
    )


def test_a_second_search_on_the_same_study_is_refused_while_the_first_runs(
    tuner: Tuner, space_path: Path, small_folder: Path
) -> None:
    with _start_search(space_path.parent, space_path, small_folder) as first:
        _wait_for(first, "epoch 1")

        second = tuner("search", "--resume", "--data", small_folder)

        first.kill()
    assert second.code == 5
    assert f"study 'small-1' is being searched by process {first.pid} since" in second.err


def _wait_for(process: subprocess.Popen[str], said: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if said in line:
            return
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, id="ctrl-c"), pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow)],
)
def test_an_interrupted_search_leaves_a_study_that_resume_ends(
    number: signal.Signals, tuner: Tuner, space_path: Path, small_folder: Path
) -> None:
    process = _start_search(space_path.parent, space_path, small_folder)
    _wait_for(process, "epoch 2")

    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "tuner search --resume --study small-1" in said
    assert "Traceback" not in said
    resumed = tuner("search", "--resume", "--workers", 2, "--no-refit", "--json")  # the study knows its images
    assert resumed.document["n_trials"] == resumed.document["n_complete"] == 5


def _below(pid: int | str) -> list[str]:
    """Return the processes that a process has started, and those that they have."""
    said = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [found for child in said for found in (child, *_below(child))]


@pytest.mark.slow
def test_kill_9_of_the_search_leaves_no_workers_and_a_study_that_resume_ends_the_same(
    tuner: Tuner, space_path: Path, small_folder: Path
) -> None:
    process = _start_search(space_path.parent, space_path, small_folder)
    _wait_for(process, "epoch 3")
    workers = _below(process.pid)

    process.kill()
    process.communicate()

    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(workers) == 3  # with the process that they are forks of
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    resumed = tuner("search", "--resume", "--workers", 2, "--data", small_folder, "--no-refit", "--json").document
    whole = tuner("search", space_path, "--study", "whole", "--trials", 5, "--workers", 2, "--seed", 0, "--pruner", "none",
                  "--epochs", 8, "--data", small_folder, "--no-refit", "--json").document  # fmt: skip
    assert resumed["n_trials"] == resumed["n_complete"] == 5
    assert resumed["best_trial"] == whole["best_trial"]


def test_a_search_that_is_refused_leaves_no_worker_behind(tuner: Tuner, tmp_path: Path) -> None:
    refused = tuner("search", "nosuch")

    assert refused.code == 3
    left = [
        link for link in Path("/proc").glob("[0-9]*/cwd") if os.access(link, os.R_OK) and link.resolve() == tmp_path
    ]
    assert left == []


def test_a_worker_process_starts_answers_and_is_reported_when_it_is_killed(tmp_path: Path) -> None:
    executor = LocalExecutor(tmp_path)
    number = executor.start()
    heard: list[object] = []
    deadline = time.monotonic() + 60
    while not heard and time.monotonic() < deadline:
        heard = executor.receive(1.0)

    assert heard[0][0] == number
    assert isinstance(heard[0][1], Ready)
    process = executor._workers[number].process
    log = tmp_path / f"worker-{number}.log"
    assert {Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (1, 2)} == {log}
    for polite in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the coordinator's to heed
        os.kill(process.pid, polite)
    assert executor.receive(0.5) == []
    process.kill()
    lost = executor.receive(5.0)
    assert lost == [(number, Lost("the worker process was ended by SIGKILL"))]
    executor.close()
