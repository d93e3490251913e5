"""How right answers are counted: every image alike, or every class alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tuner.records import VAL_BALANCED_ACCURACY


def accuracy(predicted: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]) -> float:
    """Return the share of the images whose class is predicted."""
    return float((predicted == labels).mean())


def balanced_accuracy(predicted: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]) -> float:
    """Return the mean over the classes of the share of their images that are right (recall); classes without are none.

    >>> balanced_accuracy(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
    0.5
    """
    counts = np.bincount(labels)
    right = np.bincount(labels, weights=predicted == labels)
    return float((right[counts > 0] / counts[counts > 0]).mean())


def by_metric(metric: str, predicted: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]) -> float:
    """Return what a search with this ``metric`` (a name of records.METRICS) makes of predictions."""
    return (balanced_accuracy if metric == VAL_BALANCED_ACCURACY else accuracy)(predicted, labels)
