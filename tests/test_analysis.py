"""The error analysis of models whose every mistake is planted."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from tuner.evaluation.analysis import Example, analyse, choose_examples

NAMES = ["Shirt", "Coat", "Bag", "Boot"]
PLANTED = [  # images of which class, said to be which, with which confidence; nothing is a Boot
    *[(0, 0, 0.9)] * 6,
    (0, 1, 0.5),
    (0, 1, 0.7),
    (0, 2, 0.6),
    *[(1, 1, 0.9)] * 4,
    (1, 0, 0.8),
    *[(2, 2, 0.9)] * 5,
]


def _planted(rows: list[tuple[int, int, float]], classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels: what the confidence leaves is shared by the other classes."""
    probabilities = np.array([np.full(classes, (1 - sure) / (classes - 1)) for _, _, sure in rows])
    for row, (_, predicted, sure) in zip(probabilities, rows, strict=True):
        row[predicted] = sure
    return probabilities, np.array([label for label, _, _ in rows])


def test_every_figure_of_a_planted_analysis_is_known() -> None:
    found = analyse(*_planted(PLANTED), NAMES)

    assert (found["n"], found["correct"], found["accuracy"]) == (19, 15, 15 / 19)
    assert found["confusion"] == [[6, 2, 1, 0], [1, 4, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0]]
    assert found["per_class"] == [
        {"name": "Shirt", "count": 9, "precision": 6 / 7, "recall": 6 / 9, "f1": 12 / 16},
        {"name": "Coat", "count": 5, "precision": 4 / 6, "recall": 4 / 5, "f1": 8 / 11},
        {"name": "Bag", "count": 5, "precision": 5 / 6, "recall": 1.0, "f1": 10 / 11},
        {"name": "Boot", "count": 0, "precision": None, "recall": None, "f1": None},
    ]
    assert found["macro_f1"] == pytest.approx((12 / 16 + 8 / 11 + 10 / 11) / 3)
    assert found["confused_pairs"] == [
        {"names": ["Shirt", "Coat"], "indexes": [0, 1], "count": 3, "first_as_second": 2, "second_as_first": 1},
        {"names": ["Shirt", "Bag"], "indexes": [0, 2], "count": 1, "first_as_second": 1, "second_as_first": 0},
    ]


def test_the_calibration_of_a_planted_analysis_is_known() -> None:
    found = analyse(*_planted(PLANTED), NAMES)["calibration"]

    # All 15 right ones are 90 % sure; the wrong ones are 50, 60, 70 and 80 % sure, each in a bin of its own.
    assert found["ece"] == pytest.approx((15 * 0.1 + 0.5 + 0.6 + 0.7 + 0.8) / 19)
    assert len(found["bins"]) == 15
    assert [row["count"] for row in found["bins"]] == [0] * 7 + [1, 1, 0, 1, 1, 0, 15, 0]
    assert found["bins"][0] == {"low": 0.0, "high": 1 / 15, "count": 0, "confidence_mean": None, "accuracy": None}
    assert found["bins"][13] == {
        "low": 13 / 15, "high": 14 / 15, "count": 15, "confidence_mean": pytest.approx(0.9), "accuracy": 1.0,
    }  # fmt: skip


def test_a_class_that_is_never_predicted_has_a_recall_and_no_precision() -> None:
    found = analyse(*_planted([(0, 0, 0.9), (1, 0, 0.9)], classes=2), ["Shirt", "Coat"])

    assert found["per_class"][1] == {"name": "Coat", "count": 1, "precision": None, "recall": 0.0, "f1": 0.0}
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_an_analysis_comes_back_from_json_as_it_went() -> None:
    probabilities, labels = _planted(PLANTED)
    found = analyse(probabilities.astype(np.float32), labels.astype(np.uint8), NAMES)

    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_labels_of_a_byte_count_more_than_256_cells() -> None:
    rows = [(label, label, 0.9) for label in range(20)]
    probabilities, labels = _planted(rows, classes=20)

    assert analyse(probabilities, labels.astype(np.uint8), [str(k) for k in range(20)])["correct"] == 20


def test_a_model_without_a_mistake_has_no_confused_pairs() -> None:
    right = [(k, k, 0.9) for k in range(4)]

    assert analyse(*_planted(right), NAMES)["confused_pairs"] == []
    assert set(choose_examples(*_planted(right))) == {"mistakes", "samples"}


def test_six_pairs_are_listed_and_the_most_confused_come_first() -> None:
    # Given five classes with ten pairs: 0 and 1 confused ten times, 0 and 2 nine times, … 3 and 4 once, and of the
    # first five pairs only the second class taken for the first,
    pairs = [(a, b) for a in range(5) for b in range(a + 1, 5)]
    rows = [(*(pair[::-1] if n < 5 else pair), 0.9) for n, pair in enumerate(pairs) for _ in range(10 - n)]

    found = analyse(*_planted(rows, classes=5), list("abcde"))["confused_pairs"]

    assert [tuple(row["indexes"]) for row in found] == pairs[:6]
    assert [row["count"] for row in found] == [10, 9, 8, 7, 6, 5]
    assert [row["first_as_second"] for row in found] == [0, 0, 0, 0, 0, 5]
    assert [row["second_as_first"] for row in found] == [10, 9, 8, 7, 6, 0]


# Forty images of class 0 taken for 1 or the reverse, ten each of four other pairs, and a hundred right ones.
CROWD = [
    *[(k % 2, 1 - k % 2, 0.50 + k / 100) for k in range(40)],
    *[(a, b, 0.40 + k / 100) for a, b in ((0, 2), (0, 3), (1, 2), (1, 3)) for k in range(10)],
    *[(k % 4, k % 4, 0.95) for k in range(100)],
]


def test_the_24_most_confident_mistakes_are_chosen() -> None:
    found = choose_examples(*_planted(CROWD))["mistakes"]

    assert [one.index for one in found] == list(range(39, 15, -1))
    assert found[0] == Example(39, label=1, predicted=0, confidence=pytest.approx(0.89))  # type: ignore[arg-type]


def test_of_each_of_the_four_most_confused_pairs_six_mistakes_are_chosen() -> None:
    found = choose_examples(*_planted(CROWD))

    assert list(found) == ["mistakes", "pairs/0", "pairs/1", "pairs/2", "pairs/3", "samples"]
    assert [(one.index, one.label, one.predicted) for one in found["pairs/0"]] == [
        (39, 1, 0), (38, 0, 1), (37, 1, 0), (36, 0, 1), (35, 1, 0), (34, 0, 1),
    ]  # fmt: skip
    assert [one.index for one in found["pairs/1"]] == [49, 48, 47, 46, 45, 44]
    assert [(one.label, one.predicted) for one in found["pairs/3"]] == [(1, 2)] * 6  # ties: the lower classes


def test_of_equally_confident_mistakes_the_first_images_are_chosen() -> None:
    found = choose_examples(*_planted([(0, 1, 0.9), (0, 1, 0.8)] * 500))

    assert [one.index for one in found["mistakes"]] == list(range(0, 48, 2))
    assert [one.index for one in found["pairs/0"]] == list(range(0, 12, 2))


def test_samples_are_fifteen_different_images_that_do_not_depend_on_the_model() -> None:
    probabilities, labels = _planted(CROWD)
    found = choose_examples(probabilities, labels)["samples"]
    others = choose_examples(probabilities[:, ::-1], labels)["samples"]

    assert len({one.index for one in found}) == 15
    assert [one.index for one in found] == [one.index for one in others]
    assert [one.index for one in found] != list(range(15))
    assert Counter(one.label == one.predicted for one in found).keys() == {True, False}
    assert all(one.label == labels[one.index] for one in found)
    assert all(one.predicted == probabilities[one.index].argmax() for one in found)


def test_fewer_images_than_samples_are_all_of_them() -> None:
    found = choose_examples(*_planted([(0, 0, 0.9), (1, 1, 0.8), (0, 1, 0.7)]))["samples"]

    assert {one.index for one in found} == {0, 1, 2}
