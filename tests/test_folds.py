"""Cross-validation in a search: what a fold is, what a trial of several is worth, and which ones get their further folds."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuner.data.sources import Source
from tuner.data.splits import Cut, fold_indices, read_images
from tuner.errors import SpaceError
from tuner.records import EpochResult, fold_values, value_of
from tuner.search.messages import TrainJob
from tuner.search.pruners import folds_behind
from tuner.search.study import summaries
from tuner.space.settings import SearchSettings

from .conftest import Done
from .scripted import Bench


def test_folds_part_the_file_and_every_class_in_proportion(small: Source) -> None:
    labels = read_images(small, Cut(everything=True)).train_labels
    parts = [fold_indices(labels, fold, 5) for fold in range(5)]

    assert np.array_equal(np.sort(np.concatenate([val for _, val in parts])), np.arange(len(labels)))
    for train, val in parts:
        assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(labels)))
        shares = np.bincount(labels[val], minlength=10) / np.bincount(labels)
        assert np.abs(shares - 0.2).max() < 0.01
    assert len(read_images(small, Cut(fold=(0, 5))).val) == len(parts[0][1])


def curve(*accuracies: float) -> list[EpochResult]:
    return [EpochResult(k, 1.0, 0.5, 1.0, accuracy, 0.1, 1.0) for k, accuracy in enumerate(accuracies, 1)]


def test_a_trial_is_worth_the_mean_of_its_whole_folds_and_its_last_epoch_before_the_first_ends() -> None:
    assert value_of(curve(0.5, 0.6), 3) == 0.6
    assert value_of(curve(0.5, 0.6, 0.7), 3) == 0.7
    assert value_of(curve(0.5, 0.6, 0.7, 0.1, 0.2), 3) == 0.7
    assert value_of(curve(0.5, 0.6, 0.7, 0.1, 0.2, 0.9), 3) == pytest.approx(0.8)
    assert fold_values(curve(0.5, 0.6, 0.7, 0.1, 0.2, 0.9), 3) == [0.7, 0.9]


def test_a_trial_gets_no_further_fold_when_its_mean_is_below_the_worst_fold_of_the_best() -> None:
    best = [0.90, 0.88, 0.92]

    assert folds_behind([0.879], best) == "its mean of 1 folds is below the worst fold of the best"
    assert folds_behind([0.881], best) == ""
    assert folds_behind([0.90, 0.85], best) != ""
    assert folds_behind([0.1], []) == ""  # nothing to compare with


def test_a_search_of_folds_prunes_in_the_first_one_and_between_folds_and_tells_the_mean(bench: Bench) -> None:
    ends = {0: [0.8, 0.9, 0.85], 1: [0.79, 0.5, 0.5], 2: [0.84, 0.75, 0.99], 3: [0.9, 0.9, 0.9]}

    def script(job: TrainJob) -> list[float | str]:
        assert job.folds == 3
        return [share for end in ends[job.number] for share in (end - 0.2, end)]

    settings = SearchSettings(trials=4, epochs=2, folds=3, pruner="none", workers=1)
    study, _ = bench.search(settings, script, workers=1)

    trials = summaries(study)
    assert [trial.state for trial in trials] == ["complete", "pruned", "pruned", "complete"]
    assert trials[0].val_accuracy == pytest.approx(0.85)
    assert trials[1].reason == "stopped after epoch 2: its mean of 1 folds is below the worst fold of the best"
    assert trials[2].reason == "stopped after epoch 4: its mean of 2 folds is below the worst fold of the best"
    assert trials[3].val_accuracy == pytest.approx(0.9)
    assert [len(trial.curve) for trial in trials] == [6, 2, 4, 6]


def test_halving_decides_in_the_first_fold_only(bench: Bench) -> None:
    ends = [0.9, 0.8, 0.7, 0.6, 0.5]
    settings = SearchSettings(trials=5, epochs=3, folds=2, first_rung=1, reduction=3, workers=1)

    study, _ = bench.search(settings, lambda job: [ends[job.number]] * 6, workers=1)

    stopped = [trial for trial in summaries(study) if trial.state == "pruned"]
    assert stopped
    assert {len(trial.curve) for trial in stopped} <= {1, 3}
    assert "behind the others at this rung" in stopped[-1].reason


@pytest.mark.parametrize("folds", [0, -1])
def test_settings_refuse_folds_that_are_none(folds: int) -> None:
    with pytest.raises(SpaceError, match="folds"):
        SearchSettings(folds=folds)


@pytest.mark.slow
def test_killed_between_two_folds_a_search_goes_on_to_the_same_end(
    tuner: Callable[..., Done], small_folder: Path, space_path: Path, tmp_path: Path
) -> None:
    command = ["search", str(space_path), "--data", str(small_folder), "--trials", "2", "--epochs", "2", "--workers", "1",
               "--deterministic", "--no-refit", "--set", "search.folds=3", "--study", "s"]  # fmt: skip
    undisturbed = tuner(*command, "--out", "whole")
    with subprocess.Popen(
        [sys.executable, "-m", "tuner", *command], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if "trial 0 epoch 4" in line:
                break
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL

    resumed = tuner(*command, "--resume")

    assert undisturbed.code == resumed.code == 0, undisturbed.err + resumed.err

    def table(out: str, name: str) -> list[dict[str, str]]:
        with (tmp_path / out / "runs" / "s" / name).open() as file:
            return [
                {key: row[key] for key in row if key not in ("seconds", "attempts", "peak_memory_mib")}
                for row in csv.DictReader(file)
            ]

    assert table("results", "curves.csv") == table("whole", "curves.csv")
    assert table("results", "trials.csv") == table("whole", "trials.csv")
    first = [row for row in table("whole", "curves.csv") if row["number"] == "0"]
    assert [row["epoch"] for row in first] == ["1", "2", "3", "4", "5", "6"]
    ends = [float(first[k]["val_accuracy"]) for k in (1, 3, 5)]
    assert float(table("whole", "trials.csv")[0]["val_accuracy"]) == pytest.approx(sum(ends) / 3)
    assert len(set(ends)) > 1
