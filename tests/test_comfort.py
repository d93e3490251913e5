"""What makes the command line kind: completion, examples in every help, a forecast before an hour is spent."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.cli import run

from .conftest import Done
from .test_report import _searched

ROOT = Path(__file__).parents[1]


def _generator() -> Any:
    specification = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


GENERATOR = _generator()


@pytest.mark.parametrize("name", [name for name, _ in GENERATOR.commands()])
def test_every_command_has_an_example_of_itself_in_its_help(name: str) -> None:
    (command,) = (command for one, command in GENERATOR.commands() if one == name)

    example = re.search(r"Example: (tuner .*)", GENERATOR.help_of(name, command))

    assert example is not None
    assert example[1].startswith(name)


def _completed(words: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tuner"], cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "_TUNER_COMPLETE": "complete_bash", "COMP_WORDS": words,
             "COMP_CWORD": str(len(words.split(" ")) - 1)},
    )  # fmt: skip
    return done.stdout.split()


def test_the_shell_completes_studies_and_spaces(bench: Any, tmp_path: Path) -> None:
    _searched(bench, "autumn")
    _searched(bench, "winter")
    (tmp_path / "mine.toml").write_text("")
    where = f"--out {bench.outputs.folder}"

    assert _completed(f"tuner best {where} aut", tmp_path) == ["autumn"]
    assert _completed(f"tuner studies delete {where} ", tmp_path) == ["autumn", "winter"]
    assert _completed("tuner search ", tmp_path) == ["cnn", "tiny", "mine.toml"]
    assert _completed("tuner spaces show ti", tmp_path) == ["tiny"]
    assert _completed("tuner best nothing", tmp_path) == []


def test_a_dry_run_shows_the_space_and_what_it_would_cost_and_leaves_nothing(
    tuner: Callable[..., Done], small_folder: Path, space_path: Path, tmp_path: Path
) -> None:
    command = ["search", space_path, "--data", small_folder, "--dry-run"]
    shown, timed = tuner(*command, "--trials", 10), tuner(*command, "--time", "30m", "--json")

    assert shown.code == timed.code == 0, shown.err + timed.err
    for said in ("filters_1 int 4 … 12", "200 random configurations", "smallest", "largest", "10 trials"):
        assert said in shown.out
    document = timed.document
    small, typical, large = document["networks"]
    assert small["cost"]["multiply_adds"] < typical["cost"]["multiply_adds"] < large["cost"]["multiply_adds"]
    assert small["trial_seconds"] < large["trial_seconds"]
    assert document["trials_within_time"] > 10
    assert document["seconds"] == 1800
    assert not (tmp_path / "results").exists()


def test_a_dry_run_of_a_bad_space_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["search", str(tmp_path / "none.toml"), "--dry-run"])

    assert (code, capsys.readouterr().err.count("\n")) == (3, 1)


def test_no_color_is_heeded(tuner: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert "\x1b[3" not in tuner("spaces").out
