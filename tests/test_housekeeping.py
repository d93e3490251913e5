"""Studies renamed, deleted and taken out: database and run folder together, and never under a running search."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tuner.cli import run
from tuner.runs import only_one
from tuner.search.storage import open_storage
from tuner.search.study import load_study, study_names, summaries

from .test_report import _reported, _searched


def _tuner(bench: Any, *arguments: str) -> int:
    return run(["studies", *arguments, "--out", str(bench.outputs.folder)])


def _names(bench: Any) -> list[str]:
    return study_names(open_storage(bench.outputs, create=False))


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_study_is_renamed_with_its_run_folder_and_nothing_else_changes(bench: Any) -> None:
    folder = _reported(bench)
    trials, files = summaries(load_study(open_storage(bench.outputs, create=False), "s")[0]), _files(folder)

    code = _tuner(bench, "rename", "s", "autumn coats")

    to = bench.outputs.run_folder("autumn coats")
    assert code == 0
    assert (_names(bench), folder.exists()) == (["autumn coats"], False)
    assert set(files) <= set(_files(to))
    study, facts = load_study(open_storage(bench.outputs, create=False), "autumn coats")
    assert summaries(study) == trials
    assert json.loads((to / "report.json").read_text("utf-8"))["study_identity"] == facts.identity


def test_a_rename_that_was_killed_between_folder_and_study_is_ended_by_the_same_call(bench: Any) -> None:
    folder = _reported(bench)
    folder.rename(bench.outputs.run_folder("new"))

    code = _tuner(bench, "rename", "s", "new")

    assert (code, _names(bench)) == (0, ["new"])
    assert (bench.outputs.run_folder("new") / "report.json").exists()
    assert not folder.exists()


def test_a_study_is_deleted_with_its_run_folder_and_others_stay(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = _reported(bench), _searched(bench, "t")

    code = _tuner(bench, "delete", "s", "--yes")

    assert code == 0
    assert capsys.readouterr().out.startswith("deleted study 's' (6 trials) and ")
    assert (_names(bench), folder.exists(), other.exists()) == (["t"], False, True)


def test_trials_are_taken_out_as_a_table_or_with_every_epoch(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _searched(bench)
    trials = summaries(load_study(open_storage(bench.outputs, create=False), "s")[0])

    assert _tuner(bench, "export", "s") == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert _tuner(bench, "export", "s", "--format", "json") == 0
    documents = json.loads(capsys.readouterr().out)

    assert [row["state"] for row in table] == [trial.state for trial in trials] == [row["state"] for row in documents]
    assert float(table[0]["learning_rate"]) == trials[0].values["learning_rate"]
    assert [len(row["curve"]) for row in documents] == [len(trial.curve) for trial in trials]
    assert documents[0]["curve"][0]["val_accuracy"] == trials[0].curve[0].val_accuracy


BAD = {
    "rename nothing": (["rename", "x", "y"], 5, "there is no study 'x'"),
    "rename to one that exists": (["rename", "s", "t"], 5, "study 't' exists"),
    "rename to no folder's name": (["rename", "s", "a/b"], 2, "a name has letters, digits"),
    "delete nothing": (["delete", "x", "--yes"], 5, "there is no study 'x'"),
    "delete unasked": (["delete", "s"], 2, "this would delete study 's' (6 trials)"),
    "export nothing": (["export", "x"], 5, "there is no study 'x'"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_clear_line_and_changes_nothing(
    case: str, bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, said = BAD[case]
    _searched(bench)
    _searched(bench, "t")

    found = _tuner(bench, *arguments)

    line = capsys.readouterr().err
    assert (found, line.count("\n")) == (code, 1), line
    assert said in line
    assert _names(bench) == ["s", "t"]


@pytest.mark.parametrize("arguments", [["rename", "s", "new"], ["delete", "s", "--yes"]])
def test_a_study_that_is_searched_is_left_alone(
    arguments: list[str], bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _searched(bench)

    with only_one(folder, bench.outputs.database):
        code = _tuner(bench, *arguments)

    assert (code, _names(bench), folder.exists()) == (5, ["s"], True)
    assert "is being searched" in capsys.readouterr().err
