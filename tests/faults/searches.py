"""Where faults happen, and the searches that they happen to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SMALL_SPACE
from tests.faults.harness import Fault, Search, differences, start_anew

WORKER = "tuner.search.worker:Worker."
CREW = "tuner.search.crew:Crew."
COORDINATOR = "tuner.search.coordinator:Coordinator."
CHECKPOINTS = "tuner.training.checkpoint:Checkpoints."
ROAD = "tuner.training.compiled:CompiledRoad."
LEDGER = "tuner.search.ledger:Ledger."
STORAGE = "tuner.search.storage:PatientStorage."
STUDY = "optuna.study.study:Study."
REPLACE = "pathlib:Path.replace"

LOCKED_SECONDS = 61

COMMON = ("--workers", 2, "--seed", 0, "--deterministic", "--keep", 100)


def named(faults: dict[str, Fault]) -> list[Fault]:
    return [{"name": name, **fault} for name, fault in faults.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


def again(search: Search, name: str) -> Search:
    """Return the same command in another folder."""
    return start_anew(search.folder.with_name(name), SMALL_SPACE, *search.arguments[1:])


def assert_same_end(whole: Search, search: Search) -> None:
    assert differences(whole.outcome(), search.outcome()) == []
    assert search.leftovers() == []
