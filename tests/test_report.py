"""``tuner report``: a study told anew, and studies side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.cli import run
from tuner.data.sources import Place
from tuner.errors import SearchError
from tuner.evaluation.measured import Measured, folder_of, place_of, write_measured
from tuner.models.baselines import BASELINES
from tuner.reporting.again import Told, find_stories
from tuner.reporting.compare import comparison, differing, race, write_comparison
from tuner.reporting.sentences import SCALE
from tuner.reporting.story import Story
from tuner.runs import Outputs, write_json
from tuner.search.study import load_study, summaries
from tuner.space.settings import SearchSettings

from . import planted
from .conftest import SMALL_SPACE
from .test_page import Page

SETTINGS = SearchSettings(trials=6, epochs=4, seed=1)


def _searched(bench: Any, name: str = "s", settings: SearchSettings = SETTINGS) -> Path:
    """A study on disk, searched by scripted workers, with nothing but its space in its run folder."""
    bench.search(settings, name=name)
    folder: Path = bench.outputs.run_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.toml").write_text(SMALL_SPACE, "utf-8")
    return folder


def _reported(bench: Any, name: str = "s", settings: SearchSettings = SETTINGS) -> Path:
    """The same with the report and the predictions of a refit."""
    folder = _searched(bench, name, settings)
    storage = bench.study(settings, name=name)[0]._storage
    study, facts = load_study(storage, name)
    report = planted.report_of(summaries(study), settings, study=name, study_identity=facts.identity, command="")
    planted.write_run(folder)
    write_json(folder / "report.json", report)
    return folder


def _tuner(bench: Any, *arguments: str) -> int:
    return run([*arguments, "--out", str(bench.outputs.folder)])


@pytest.fixture(autouse=True)
def _no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without the study's images: what is stored is all there is."""
    monkeypatch.setattr("tuner.data.sources.places", list)


def test_a_report_is_written_anew_from_what_is_stored(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _reported(bench)

    code = _tuner(bench, "report", "s")

    page = Page((folder / "report.html").read_text("utf-8"))
    assert code == 0
    assert capsys.readouterr().out == f"wrote {folder}/report.html\n"
    assert {"report.md", "report.json", "report.html", "figures"} <= {path.name for path in folder.iterdir()}
    assert "93.99 ± 0.07 %" in page.text.replace("\xa0", " ")
    assert "figure-confusion" in {figure["id"] for figure in page.all("figure")}  # analysed from the predictions


def test_a_second_report_changes_nothing(bench: Any) -> None:
    folder = _reported(bench)
    _tuner(bench, "report")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("report.json", ".lock")]
    before = {path: path.read_bytes() for path in files}

    _tuner(bench, "report")

    assert {path: path.read_bytes() for path in before} == before


def test_a_search_that_goes_on_is_told_as_far_as_it_is(bench: Any) -> None:
    folder = _searched(bench)

    code = _tuner(bench, "report", "s")

    assert code == 0
    assert "The search has not ended: this is what there is so far." in (folder / "report.md").read_text("utf-8")


def test_a_refit_of_another_winner_is_not_told(bench: Any) -> None:
    folder = _reported(bench)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    write_json(folder / "report.json", {**report, "refit": {**report["refit"], "trial": 99}})

    _tuner(bench, "report", "s")

    assert "not yet retrained" in (folder / "report.md").read_text("utf-8").splitlines()[0]
    assert json.loads((folder / "report.json").read_text("utf-8"))["refit"] is None


def test_fractions_that_were_measured_are_told(bench: Any) -> None:
    folder = _reported(bench)
    _, facts = load_study(bench.study(SETTINGS)[0]._storage, "s")
    number = json.loads((folder / "report.json").read_text("utf-8"))["best_trial"]["number"]
    points = [{"train_images": size, "val_accuracy": accuracy} for size, accuracy in ((500, 0.8), (1000, 0.9))]
    write_json(folder / "fractions.json", {"study": facts.identity, "trial": number, "points": points})

    _tuner(bench, "report", "s")

    text = (folder / "report.md").read_text("utf-8")
    assert "80.00 % of the validation images with 500 training images, 90.00 % with 1,000." in text
    assert (folder / "figures" / "fractions.png").exists()


def test_json_is_the_document_and_nothing_else(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _reported(bench)

    _tuner(bench, "report", "s", "--json")

    assert json.loads(capsys.readouterr().out) == json.loads((folder / "report.json").read_text("utf-8"))


def test_baselines_that_were_measured_since_are_compared_with_where_the_images_are(
    bench: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _reported(bench)
    monkeypatch.setattr("tuner.data.sources.places", lambda: [Place("here", small.folder, "verified")])
    baseline = BASELINES["mahinmiyurcee"]
    with np.load(folder / "predictions.npz") as saved:
        probabilities, labels = saved["probabilities"], saved["labels"].astype(np.uint8)
    predicted = probabilities[:1].argmax(axis=2).astype(np.uint8)
    predicted[0, :40] = (labels[:40] + 1) % 10  # forty more wrong
    measured = Measured(
        baseline.name, baseline.epochs, baseline.digest, small.digest, 93_322, 60.0, {}, ((),), predicted,
        probabilities[:1].astype(np.float16), labels,
    )  # fmt: skip
    write_measured(place_of(folder_of(bench.outputs), baseline), measured)

    report = find_stories(bench.outputs, ["s"])[0].story.report

    (row,) = report["baselines"]
    assert (row["name"], row["mcnemar"]["only_theirs"], row["mcnemar"]["p_exact"] < 0.001) == (baseline.name, 0, True)
    assert row["mcnemar"]["only_ours"] == int((probabilities[0, :40].argmax(1) == labels[:40]).sum())


BAD = {
    "no studies": ([], ["report"], 5, "no studies there yet"),
    "no such study": (["s"], ["report", "t"], 5, "there is no study 't' (there are: s)"),
    "no complete trial": (
        ["failed"],
        ["report", "failed"],
        6,
        "study 'failed': no trial was trained to its last epoch",
    ),
    "no run folder": (["bare"], ["report", "bare"], 5, "study 'bare' has no run folder there (--out names the folder"),
    "compared with itself": (["s"], ["report", "--compare", "s"], 2, "--compare s: that is the study itself"),
    "compared with nothing": (["s"], ["report", "s", "--compare", "t"], 5, "there is no study 't'"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_clear_line(bench: Any, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    names, arguments, code, said = BAD[case]
    for name in names:
        if name == "failed":
            with contextlib.suppress(SearchError):
                bench.search(SETTINGS, lambda _: ["fail"], name=name)
        elif name == "bare":
            bench.search(SETTINGS, name=name)
        else:
            _searched(bench, name)

    found = _tuner(bench, *arguments)

    line = capsys.readouterr().err
    assert (found, line.count("\n")) == (code, 1)
    assert said in line


def test_studies_stand_side_by_side(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _reported(bench, "one")
    _reported(bench, "another", SearchSettings(trials=6, epochs=4, seed=2, startup="random"))
    _searched(bench, "third", SearchSettings(trials=3, epochs=4, seed=3))

    code = _tuner(bench, "report", "one", "--compare", "another", "--compare", "third")

    path = bench.outputs.folder / "reports" / "compare-one-another-third.html"
    page = Page(path.read_text("utf-8"))
    assert code == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert [figure["id"] for figure in page.all("figure")] == ["figure-trials", "figure-seconds", "figure-compute"]
    assert all(svg["aria-label"] for svg in page.all("svg"))
    assert "learning_rate" in page.text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.unclosed == []


def test_a_comparison_tests_the_exported_models_on_the_same_images(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    _reported(bench, "one")
    folder = _reported(bench, "another")
    with np.load(folder / "predictions.npz") as saved:
        arrays = dict(saved)
    wrong = arrays["probabilities"].copy()
    wrong[0, :30] = np.roll(wrong[0, :30], 1, axis=1)  # thirty images, of which some were right
    np.savez_compressed(folder / "predictions.npz", **{**arrays, "probabilities": wrong})
    was_right = int((arrays["probabilities"][0, :30].argmax(1) == arrays["labels"][:30]).sum())

    _tuner(bench, "report", "one", "--compare", "another", "--json")

    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert (pair["studies"], pair["only_first"], pair["p_exact"] < 0.001) == (["one", "another"], was_right, True)


def test_a_folder_that_cannot_be_written_is_one_clear_line(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _searched(bench, "one")
    _searched(bench, "two")
    (bench.outputs.folder / "reports").write_text("in the way")

    code = _tuner(bench, "report", "one", "--compare", "two")

    assert (code, "reports: cannot write there" in capsys.readouterr().err) == (8, True)


def test_a_full_disk_is_one_clear_line_and_keeps_the_report_that_was_there(bench: Any) -> None:
    folder = _reported(bench)
    before = (folder / "report.json").read_bytes()
    full = f"ulimit -f 4; exec {sys.executable} -m tuner report s --out {bench.outputs.folder}"  # four blocks a file

    done = subprocess.run(["sh", "-c", full], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.count("\n")) == (8, 1), done.stderr
    assert "cannot be written: File too large (nothing that was written is lost: make room, then" in done.stderr
    assert (folder / "report.json").read_bytes() == before
    assert not list(folder.rglob("*.draft*"))


def test_a_race_counts_what_every_trial_took_and_rises_with_the_complete_ones() -> None:
    steps = race(planted.SMALL_TRIALS, lambda trial: trial.seconds)

    assert steps == [(40, 0.85), (90, 0.90), (190, 0.90)]
    assert race(planted.SMALL_TRIALS[3:5], lambda _: 1.0) == []


def test_equal_winners_differ_in_nothing_and_types_count() -> None:
    assert differing([{"a": 1}, {"a": 1}]) == {}
    assert differing([{"a": 1}, {"a": True}]) == {"a": [1, True]}


def _told(folder: Path, study: str, digest: str, settings: SearchSettings = planted.SMALL_SETTINGS) -> Told:
    """A study that was scored, on images of this digest."""
    planted.write_run(folder / study)
    report = planted.report_of(planted.SMALL_TRIALS, settings, study=study, data=f"images-{digest}", data_digest=digest)
    return Told(folder / study, Story(report, planted.SMALL_TRIALS, planted.SMALL, settings))


def test_studies_of_different_images_are_not_ranked(tmp_path: Path) -> None:
    told = [_told(tmp_path, "one", "a"), _told(tmp_path, "another", "a"), _told(tmp_path, "third", "b")]

    path, document = write_comparison(Outputs.of(str(tmp_path), None), told)

    page = Page(path.read_text("utf-8"))
    said = (
        "These studies searched different images (one: images-a, another: images-a and third: images-b), so that their "
        "accuracies cannot be set against each other."
    )
    assert document["notes"] == [said]
    assert said in page.text
    assert [row["data"] for row in document["studies"]] == ["images-a", "images-a", "images-b"]
    assert [pair["studies"] for pair in document["pairs"]] == [["one", "another"]]  # though the labels are all the same
    assert not any("ours" in row.get("class", "") for row in page.all("tr"))
    assert "best test accuracy is in blue" not in page.text
    assert page.all("figure") == []


def test_studies_of_the_same_images_are_ranked_without_a_word(tmp_path: Path) -> None:
    told = [_told(tmp_path, "one", "a"), _told(tmp_path, "another", "a")]

    path, document = write_comparison(Outputs.of(str(tmp_path), None), told)

    page = Page(path.read_text("utf-8"))
    assert document["notes"] == []
    assert len([row for row in page.all("tr") if row.get("class") == "ours"]) == 1
    assert "best test accuracy is in blue" in page.text
    assert len(page.all("figure")) == 3
    assert page.text.replace("\xa0", " ").count(SCALE) == 1
    assert "the wall clock is that of the commands that ended with a report" in page.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"train_images": 500}, "500 training images"), ({"folds": 2}, "all training images in 2 folds")],
)
def test_trials_on_other_parts_of_the_images_are_compared_with_a_word(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    other = dataclasses.replace(planted.SMALL_SETTINGS, **changes)

    path, document = write_comparison(
        Outputs.of(str(tmp_path), None), [_told(tmp_path, "one", "a"), _told(tmp_path, "few", "a", other)]
    )

    note = f"Their trials were not trained alike: those of one on all training images and those of few on {said}; "
    page = Page(path.read_text("utf-8"))
    assert document["notes"] == [f"{note}accuracies and times differ for that, too."]
    assert document["notes"][0] in page.text
    assert [(row["train_images"], row["folds"]) for row in document["studies"]] == [
        (None, 1), (other.train_images, other.folds)
    ]  # fmt: skip
    assert [figure["id"] for figure in page.all("figure")] == ["figure-trials", "figure-seconds"]


def test_studies_on_fewer_images_are_not_compared_by_compute(bench: Any) -> None:
    _searched(bench, "one")
    _searched(bench, "few", SearchSettings(trials=3, epochs=4, train_images=500))

    told = find_stories(bench.outputs, ["one", "few"])
    _tuner(bench, "report", "one", "--compare", "few")

    page = Page((bench.outputs.folder / "reports" / "compare-one-few.html").read_text("utf-8"))
    assert [figure["id"] for figure in page.all("figure")] == ["figure-trials", "figure-seconds"]
    assert [row["test_accuracy_mean"] for row in comparison(told)["studies"]] == [None, None]


def test_a_search_loads_no_drawing_before_it_ends() -> None:
    code = """
import sys
from tuner.cli import run
assert run(["report", "--help"]) == 0
assert not {"matplotlib", "jinja2", "optuna", "numpy"} & set(sys.modules)
import tuner.experiment, tuner.console.screens
assert not {"matplotlib", "jinja2", "PIL"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
