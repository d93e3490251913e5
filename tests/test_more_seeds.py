"""A refit of more seeds than before trains and scores the further ones only."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import Done


@pytest.mark.slow
def test_more_refit_seeds_are_added_to_those_that_were_scored(
    tuner: Callable[..., Done], small_folder: Path, space_path: Path, tmp_path: Path
) -> None:
    search = ["search", space_path, "--data", small_folder, "--trials", 2, "--epochs", 2, "--refit-epochs", 2, "--study", "s",
              "--deterministic", "--workers", 1]  # fmt: skip
    at_once = tuner(*search, "--refit-seeds", 3, "--out", "whole", "--json")
    first = tuner(*search, "--refit-seeds", 1, "--json")
    folder = tmp_path / "results" / "runs" / "s"
    model = (folder / "model.keras").read_bytes()

    more = tuner("search", "--resume", "--study", "s", "--refit-seeds", 3)
    again = tuner("search", "--resume", "--study", "s", "--refit-seeds", 3, "--json")

    assert at_once.code == first.code == more.code == again.code == 0, more.err
    assert "1 refit seeds of it are kept" in more.out
    assert "refit seed 0" not in more.out
    assert "refit seed 2 epoch 2" in more.out
    assert "Scoring" not in again.err + again.out
    refits = [done.document["refit"] for done in (at_once, first, again)]
    assert refits[2]["seeds"] == refits[0]["seeds"]
    assert refits[2]["test_accuracies"] == refits[0]["test_accuracies"]
    assert refits[2]["test_accuracies"][:1] == refits[1]["test_accuracies"]
    assert refits[2]["test_accuracy_mean"] == pytest.approx(np.mean(refits[0]["test_accuracies"]))
    assert (folder / "model.keras").read_bytes() == model
    whole = tmp_path / "whole" / "runs" / "s"
    with np.load(folder / "predictions.npz") as mine, np.load(whole / "predictions.npz") as theirs:
        assert np.array_equal(mine["probabilities"], theirs["probabilities"])
        assert str(mine["trainings"]) == str(theirs["trainings"])
        assert sorted(mine.files) == sorted(theirs.files)
        if "averaged" in mine.files:
            assert np.array_equal(mine["averaged"], theirs["averaged"])

    def curves(run: Path) -> list[tuple[str, str, str]]:
        with (run / "refit_curves.csv").open() as file:
            return [(row["seed"], row["epoch"], row["loss"]) for row in csv.DictReader(file)]

    assert curves(folder) == curves(whole)
    assert len(curves(folder)) == 6
