"""A new study that starts with the best of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.errors import StudyError
from tuner.records import Values
from tuner.search.earlier import BEST, admitted
from tuner.search.request import Request, planned
from tuner.search.study import load_study, summaries
from tuner.space.reader import SpaceFile, parse_space
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE
from .scripted import Bench

ALL_TRAINED = SearchSettings(trials=9, epochs=4, pruner="none")
FIXED = ("blocks", "batch_size")
OWN_ENTRY = parse_space("small", SMALL_SPACE).space.start_with[0]


def best_first(bench: Bench, name: str = "s") -> list[Values]:
    study, _ = load_study(bench.study(ALL_TRAINED, name=name)[0]._storage, name)
    ranked = sorted(summaries(study), key=lambda trial: -(trial.val_accuracy or 0.0))
    return [
        {name: value for name, value in trial.values.items() if name not in FIXED}
        for trial in ranked
        if trial.state == "complete"
    ]


def asked(bench: Bench, folder: Path, text: str, name: str = "s", *changes: str) -> SpaceFile:
    (folder / "mine.toml").write_text(text, "utf-8")
    request = Request(space=str(folder / "mine.toml"), out=str(bench.outputs.folder), start_with=name, changes=changes)
    return planned(request)[0]


def test_the_best_different_configurations_come_first_and_the_spaces_own_after_them(
    bench: Bench, tmp_path: Path
) -> None:
    bench.search(ALL_TRAINED)

    space_file = asked(bench, tmp_path, SMALL_SPACE)

    entries = list(space_file.space.start_with)
    assert entries[:BEST] == best_first(bench)[:BEST]
    assert entries[BEST:] == [entry for entry in [OWN_ENTRY] if entry not in entries[:BEST]]
    assert parse_space("again", space_file.text).space.start_with == space_file.space.start_with
    assert space_file.text.startswith("# Starts with 5 of the best configurations of the study s.\n")


def test_the_new_study_really_tries_them_first(bench: Bench, tmp_path: Path) -> None:
    bench.search(ALL_TRAINED)
    best = best_first(bench)[:BEST]

    bench.search(ALL_TRAINED, text=asked(bench, tmp_path, SMALL_SPACE).text, name="new")

    new = summaries(load_study(bench.study(ALL_TRAINED, name="new")[0]._storage, "new")[0])
    tried = [{name: value for name, value in trial.values.items() if name not in FIXED} for trial in new]
    assert tried[:BEST] == best
    assert all(trial.enqueued for trial in new[:BEST])


def test_what_a_changed_space_no_longer_admits_is_passed_over(bench: Bench, tmp_path: Path) -> None:
    bench.search(ALL_TRAINED)
    best = best_first(bench)
    left_out = [values for values in best if values["optimizer"] == "sgd"]
    assert left_out
    assert len(left_out) < len(best)

    fixed = asked(bench, tmp_path, SMALL_SPACE, "s", "parameters.optimizer=adam")

    expected = [
        {name: value for name, value in values.items() if name != "optimizer"}
        for values in best
        if values["optimizer"] == "adam"
    ]
    assert list(fixed.space.start_with)[: len(expected[:BEST])] == expected[:BEST]


def test_a_space_without_a_parameter_takes_the_others(bench: Bench, tmp_path: Path) -> None:
    bench.search(ALL_TRAINED)
    text = SMALL_SPACE.replace("dense_units = 16\n", "").replace(
        '[parameters.dense_units]\ntype = "choice"\noptions = [0, 16]\n', ""
    )
    assert "dense_units" not in text

    entries = asked(bench, tmp_path, text).space.start_with

    assert len(entries) >= BEST
    assert all("dense_units" not in entry and "learning_rate" in entry for entry in entries)


def test_a_parameter_that_sleeps_in_the_new_space_is_left_out() -> None:
    space = parse_space("small", SMALL_SPACE, ["parameters.optimizer=sgd"]).space

    assert admitted(space, {"optimizer": "sgd", "momentum": 0.9, "filters_1": 8}) == {"momentum": 0.9, "filters_1": 8}
    asleep = parse_space("small", SMALL_SPACE, ["parameters.optimizer=adam"]).space
    assert admitted(asleep, {"momentum": 0.9, "filters_1": 8}) == {"filters_1": 8}


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("nobody", [], "there is no study 'nobody'"),
        ("s", ["parameters.learning_rate.high=1.01e-4"], "the space admits none of its "),
        ("empty", [], "no trial of it is complete"),
    ],
)
def test_a_study_with_nothing_to_start_with_is_one_line(
    bench: Bench, tmp_path: Path, name: str, changes: list[str], said: str
) -> None:
    bench.search(ALL_TRAINED)
    bench.study(ALL_TRAINED, name="empty")

    with pytest.raises(StudyError, match=said):
        asked(bench, tmp_path, SMALL_SPACE.split("[[start_with]]")[0], name, *changes)


def test_a_hypermodel_and_a_space_start_with_nothing_of_each_other(bench: Bench, tmp_path: Path) -> None:
    bench.search(ALL_TRAINED)
    (tmp_path / "my_model.py").write_text("def build(hp): ...\n")

    with pytest.raises(StudyError, match="share no parameters"):
        planned(Request(space=str(tmp_path / "my_model.py"), out=str(bench.outputs.folder), start_with="s"))
