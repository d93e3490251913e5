"""What a model gets wrong, and which images show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.evaluation.statistics import calibration

N_PAIRS = 6
N_PAIRS_SHOWN = 4
N_EACH_PAIR = 6
N_MISTAKES = 24
N_SAMPLES = 15
SAMPLES_SEED = 0
"""Fixed, so that every model is shown by the same images, whatever it makes of them."""


@dataclass(frozen=True)
class Example:
    """One image by its place in the set; ``confidence`` is the probability of the class predicted, a fraction."""

    index: int
    label: int
    predicted: int
    confidence: float


def analyse(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the error analysis of one model as JSON holds it. Shares are fractions.

    ``probabilities`` are (images, classes), ``labels`` (images,), at least one. The rows of ``confusion`` are the true
    classes, its columns the predicted ones. A figure that would divide by zero is None, and left out of ``macro_f1``.
    """
    confusion = _confusion(probabilities, labels)
    calibrated = calibration(probabilities, labels)
    per_class = _per_class(confusion, class_names)
    f1s = [row["f1"] for row in per_class if row["f1"] is not None]
    correct = int(confusion.trace())
    return {
        "n": len(labels),
        "correct": correct,
        "accuracy": correct / len(labels),
        "macro_f1": sum(f1s) / len(f1s),
        "per_class": per_class,
        "confusion": confusion.tolist(),
        "confused_pairs": [
            {
                "names": [class_names[first], class_names[second]],
                "indexes": [first, second],
                "count": int(confusion[first, second] + confusion[second, first]),
                "first_as_second": int(confusion[first, second]),
                "second_as_first": int(confusion[second, first]),
            }
            for first, second in _confused_pairs(confusion)[:N_PAIRS]
        ],
        "calibration": {"ece": calibrated.ece, "bins": [asdict(row) for row in calibrated.bins]},
    }


def choose_examples(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]
) -> dict[str, list[Example]]:
    """Choose the images to show; the same ones for the same ``probabilities`` (images, classes) and ``labels``.

    ``mistakes``: the most confident wrong answers. ``pairs/0`` …: the most confident mistakes, of either direction,
    within each of the most confused pairs of classes, in the order of ``confused_pairs``. ``samples``: drawn from all,
    right and wrong as they come.
    """
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)

    def examples(indexes: npt.NDArray[np.intp]) -> list[Example]:
        return [Example(int(i), int(labels[i]), int(predicted[i]), float(confidences[i])) for i in indexes]

    by_confidence = np.argsort(-confidences, kind="stable")  # of equal ones the first
    wrong = examples(by_confidence[(predicted != labels)[by_confidence]])
    shown = _confused_pairs(_confusion(probabilities, labels))[:N_PAIRS_SHOWN]
    of_pairs = {
        f"pairs/{place}": [one for one in wrong if {one.label, one.predicted} == set(pair)][:N_EACH_PAIR]
        for place, pair in enumerate(shown)
    }
    drawn = np.random.default_rng(SAMPLES_SEED).permutation(len(labels))[:N_SAMPLES]
    return {"mistakes": wrong[:N_MISTAKES], **of_pairs, "samples": examples(drawn)}


def _confusion(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    classes = probabilities.shape[1]
    cells = labels.astype(np.intp) * classes + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def _per_class(confusion: npt.NDArray[np.intp], class_names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for place, name in enumerate(class_names):
        right, count, said = (
            int(x) for x in (confusion[place, place], confusion[place].sum(), confusion[:, place].sum())
        )
        rows.append(
            {
                "name": name,
                "count": count,
                "precision": right / said if said else None,
                "recall": right / count if count else None,
                "f1": 2 * right / (count + said) if count + said else None,
            }
        )
    return rows


def _confused_pairs(confusion: npt.NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return the unordered pairs of classes that were confused at all, the most often confused first."""
    both = np.triu(confusion + confusion.T, k=1)
    pairs = [(int(first), int(second)) for first, second in np.argwhere(both)]
    return sorted(pairs, key=lambda pair: (-both[pair], pair))
