"""Test-time averaging: copies of an image, and whether they are worth it, decided on validation."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuner.evaluation.averaging import WAYS, averaged, choose

from .conftest import Done

IMAGE = np.arange(1, 17, dtype=np.uint8).reshape(1, 4, 4, 1)


def seen_by(how: str) -> list[np.ndarray]:
    """The altered copies of IMAGE that are predicted."""
    seen: list[np.ndarray] = []

    def predict(images: np.ndarray) -> np.ndarray:
        seen.append(images[0, :, :, 0])
        return np.ones((1, 2), np.float32)

    averaged(predict, IMAGE, how, np.ones((1, 2), np.float32))
    return seen


def test_the_mirror_is_the_mirror_image() -> None:
    (mirrored,) = seen_by("mirror")

    assert np.array_equal(mirrored, IMAGE[0, :, ::-1, 0])


def test_shifts_move_one_pixel_along_the_diagonal_and_black_comes_in() -> None:
    copies = seen_by("mirror and shifts")

    assert len(copies) == 5  # and the image itself
    up = next(copy for copy in copies if copy[0, 0] == 6)
    assert up.tolist() == [[6, 7, 8, 0], [10, 11, 12, 0], [14, 15, 16, 0], [0, 0, 0, 0]]
    down = next(copy for copy in copies if copy[1, 1] == 1)
    assert down.tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]


def test_probabilities_are_averaged() -> None:
    plain, mirrored = np.array([[0.9, 0.1]], np.float32), np.array([[0.2, 0.8]], np.float32)

    mean = averaged(lambda _: mirrored, IMAGE, "mirror", plain)

    assert mean.tolist() == [[pytest.approx(0.55), pytest.approx(0.45)]]


def lopsided(images: np.ndarray) -> np.ndarray:
    """A network that sees class 1 where the left half is brighter, and class 0 surely where it is not."""
    left = images[:, :, :2].mean(axis=(1, 2, 3)) > images[:, :, 2:].mean(axis=(1, 2, 3))
    return np.where(left[:, None], [[0.0, 1.0]], [[0.6, 0.4]]).astype(np.float32)


def test_what_helps_on_validation_is_chosen_and_what_does_not_is_not() -> None:
    images = np.concatenate([IMAGE, IMAGE[:, :, ::-1]])

    helped = choose(lopsided, images, np.array([1, 1]), until=math.inf, models=1)
    hurt = choose(lopsided, images, np.array([0, 1]), until=math.inf, models=1)

    assert helped is not None
    assert hurt is not None
    assert (helped.how, helped.val_accuracy_plain, helped.val_accuracy) == ("mirror", 0.5, 1.0)
    assert (hurt.how, hurt.val_accuracy_plain, hurt.val_accuracy) == ("", 1.0, 1.0)


def test_without_the_time_for_it_nothing_is_chosen() -> None:
    assert choose(lopsided, IMAGE, np.array([1]), until=time.monotonic(), models=2) is None


@pytest.mark.slow
def test_a_search_scores_with_the_chosen_averaging_beside_the_plain_score(
    tuner: Callable[..., Done], small_folder: Path, space_path: Path, tmp_path: Path
) -> None:
    done = tuner(
        "search", space_path, "--data", small_folder, "--trials", 2, "--epochs", 2, "--refit-seeds", 2, "--json"
    )

    assert done.code == 0, done.err
    report = done.document
    found, refit = report["averaged"], report["refit"]
    assert found["how"] in ("", *WAYS)
    assert found["val_accuracy"] >= found["val_accuracy_plain"]
    assert found["val_accuracy_plain"] == pytest.approx(report["best_trial"]["val_accuracy"])
    folder = tmp_path / "results" / "runs" / report["study"]
    with np.load(folder / "predictions.npz") as saved:
        right = (saved["probabilities"].argmax(axis=2) == saved["labels"]).mean(axis=1)
        assert refit["test_accuracies"] == [pytest.approx(share) for share in right]
        assert json.loads(str(saved["averaging"]))["how"] == found["how"]
        if found["how"]:
            better = (saved["averaged"].argmax(axis=2) == saved["labels"]).mean(axis=1)
            assert found["test_accuracies"] == [pytest.approx(share) for share in better]
        else:
            assert found["test_accuracies"] == []
        labels = saved["labels"]
    assert report["analysis"]["n"] == 300
    assert report["analysis"]["accuracy"] == refit["test_accuracies"][0]
    with np.load(folder / "examples.npz") as examples:
        assert examples["images"].shape[1:] == (28, 28, 1)
        assert np.array_equal(labels[examples["index"]], examples["label"])
        wrong = examples["group"] == "mistakes"
        assert (examples["label"][wrong] != examples["predicted"][wrong]).all()
