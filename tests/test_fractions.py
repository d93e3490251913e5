"""``tuner report --fractions``: the winner's validation accuracy by the number of training images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Done


@pytest.mark.slow
def test_the_winner_is_trained_on_parts_of_the_images_and_the_report_shows_it(
    tuner: Callable[..., Done], small_folder: Path, space_path: Path, tmp_path: Path
) -> None:
    search = tuner(
        "search", space_path, "--data", small_folder, "--trials", 2, "--epochs", 3, "--no-refit", "--study", "s"
    )

    measured = tuner("report", "s", "--fractions", "--json")
    again = tuner("report", "s", "--fractions")
    later = tuner("report", "s", "--json")

    assert search.code == measured.code == again.code == later.code == 0, search.err + measured.err
    assert "those of before" in again.out
    assert "epoch" not in again.out
    points = measured.document["fractions"]
    assert [point["train_images"] for point in points] == [50, 100, 201, 502, 1003]
    assert points[-1]["val_accuracy"] > points[0]["val_accuracy"] + 0.1
    assert later.document["fractions"] == points
    folder = tmp_path / "results" / "runs" / "s"
    assert (folder / "figures" / "fractions.png").stat().st_size > 1000
    assert not list((folder / "checkpoints").glob("fraction-*"))


def test_fractions_of_no_study_are_one_line(tuner: Callable[..., Done]) -> None:
    done = tuner("report", "nothing", "--fractions")

    assert done.code == 5
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
