"""A report that is written anew loses nothing of what the run folder remembers, and disturbs no search."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tuner.cli import run
from tuner.data.sources import Source
from tuner.experiment.road import _Run
from tuner.reporting.best import refit_of
from tuner.reporting.report import Facts, build_report, read_report
from tuner.runs import IDENTITY, kept_identity, only_one, sweep_drafts, write_json
from tuner.search.budget import Clock
from tuner.search.study import StudyFacts, load_study, summaries
from tuner.space.settings import SearchSettings

from . import planted
from .conftest import SMALL_SPACE
from .scripted import Bench
from .test_report import SETTINGS, _reported


@pytest.fixture(autouse=True)
def _no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.data.sources.places", list)


def _report_again(bench: Any) -> int:
    return run(["report", "s", "--out", str(bench.outputs.folder)])


def test_beside_a_search_the_page_is_written_and_the_searchs_own_document_left_alone(bench: Any) -> None:
    folder = _reported(bench)
    before = (folder / "report.json").read_bytes()

    with only_one(folder, bench.outputs.database):
        beside = _report_again(bench)
    kept = (folder / "report.json").read_bytes()
    alone = _report_again(bench)

    assert beside == alone == 0
    assert (folder / "report.html").exists()
    assert kept == before
    assert (folder / "report.json").read_bytes() != before  # with the analysis in it


def test_the_refit_of_an_earlier_winner_is_remembered_until_another_takes_its_place(bench: Any) -> None:
    folder = _reported(bench)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    write_json(folder / "report.json", {**report, "refit": {**report["refit"], "trial": 99}})

    for _ in range(2):
        assert _report_again(bench) == 0
    written = read_report(folder)

    study, facts = load_study(bench.study(SETTINGS)[0]._storage, "s")
    again = dataclasses.replace(summaries(study)[0], number=99)
    assert written is not None
    assert (written["refit"], written["refit_before"]["trial"]) == (None, 99)
    assert refit_of(written, facts, again) == written["refit_before"]
    assert refit_of(written, facts, summaries(study)[0]) is None


def test_the_seconds_of_a_resumed_study_are_those_of_all_its_commands(bench: Any, small: Source) -> None:
    folder = _reported(bench)
    study, study_facts = load_study(bench.study(SETTINGS)[0]._storage, "s")
    trials, before = summaries(study), read_report(folder)
    assert before is not None
    facts = Facts("s", study_facts, planted.SMALL, small, 4.0, before=before)
    others = dataclasses.replace(facts, before={**before, "study_identity": "another"})

    clock = Clock(time.monotonic() - 10.0, None)

    resumed = build_report(facts, trials, trials[0], None, clock)
    new = build_report(others, trials, trials[0], None, clock)

    earlier = before["wall_seconds"]
    assert resumed["wall_seconds"]["search"] == pytest.approx(earlier["search"] + 4.0)
    assert resumed["wall_seconds"]["total"] == pytest.approx(earlier["total"] + 10.0, abs=1.0)
    assert resumed["cpu_seconds"] > before["cpu_seconds"]
    assert (new["wall_seconds"]["search"], new["wall_seconds"]["total"]) == (4.0, pytest.approx(10.0, abs=1.0))


def test_the_run_folder_of_a_study_deleted_elsewhere_is_not_taken_for_that_of_a_later_one_of_its_name(
    bench: Any, small: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, here = _reported(bench), ["--out", str(bench.outputs.folder), "--storage", bench.outputs.storage]
    (folder / IDENTITY).write_text(load_study(bench.study(SETTINGS)[0]._storage, "s")[1].identity, "utf-8")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    there = Bench(tmp_path / "there", small, bench.outputs.storage)
    assert run(["studies", "delete", "s", "--yes", "--out", str(there.outputs.folder), *here[2:]]) == 0
    there.search(SETTINGS)
    capsys.readouterr()

    codes = [
        run([*words, *here])
        for words in (["report", "s"], ["best", "s", "--trial", "0", "--export", str(tmp_path / "m")])
    ]
    refused = capsys.readouterr().err
    told = run(["best", "s", "--json", *here]), json.loads(capsys.readouterr().out)

    assert codes == [5, 7]
    assert "has no run folder there" in refused
    assert (told[0], told[1]["refit"]) == (0, None)
    assert "is not at" in told[1]["missing"]
    assert {path: path.read_bytes() for path in before} == before


def test_checkpoints_of_a_study_of_the_same_name_go_and_a_lost_space_file_costs_none(tmp_path: Path) -> None:
    search, facts = object.__new__(_Run), StudyFacts("small", SMALL_SPACE, "", "", SearchSettings())
    search.folder, kept = tmp_path, tmp_path / "checkpoints"
    kept.mkdir()

    search._write_space(facts)
    (tmp_path / "space.toml").unlink()
    search._write_space(facts)
    still = kept.exists()
    search._write_space(dataclasses.replace(facts, identity="another's"))

    assert (still, kept.exists()) == (True, False)
    assert kept_identity(tmp_path) == "another's"


@pytest.mark.parametrize("text", ["[]", "{", '"refit"', ""])
def test_a_damaged_document_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)

    assert read_report(tmp_path) is None


def test_drafts_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    for pid in (dead.pid, os.getpid(), os.getppid()):
        (tmp_path / f".report.{pid}.draft.json").write_text("half")

    sweep_drafts(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [f".report.{os.getppid()}.draft.json"]
