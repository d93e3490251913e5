"""Error bars, and whether a difference is more than chance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z_95 = 1.959963984540054
CALIBRATION_BINS = 15
"""As in Guo et al. 2017."""
CURSE_MIN_VALUES = 5
"""Fewer values say nothing about how the true accuracies lie."""
CURSE_REACH = 20.0
"""Values further below the best, in standard errors, say nothing about it."""
CURSE_GRID = 200
CURSE_STEPS = 100
"""Of EM. Ten times as many move the mean error by less than 0.04 point (simulated: 5 to 200 trials, 10,000 images)."""


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927).

    >>> [round(bound, 4) for bound in wilson(9400, 10000)]
    [0.9352, 0.9445]
    """
    share, z2 = correct / total, Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation; one value has none."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class McNemar:
    """Two models on the same images: what each alone got right, and how likely chance does that to equal ones."""

    only_first: int
    only_second: int
    p_exact: float
    """Two-sided binomial test of the images on which one model is right (McNemar 1947)."""
    p_corrected: float
    """Chi-square with the continuity correction of Edwards 1948."""


def mcnemar(first_right: npt.NDArray[np.bool_], second_right: npt.NDArray[np.bool_]) -> McNemar:
    """Compare two models by the same images, (images,) each, true where the model is right.

    >>> first, second = np.arange(10) != 0, np.arange(10) == 0
    >>> mcnemar(first, second).p_exact
    0.021484375
    """
    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    differ, fewer = only_first + only_second, min(only_first, only_second)
    ways = tail = 1
    for k in range(fewer):  # whole numbers: n choose k for each k up to the smaller count
        ways = ways * (differ - k) // (k + 1)
        tail += ways
    chi_square = max(0, abs(only_first - only_second) - 1) ** 2 / max(1, differ)
    p_corrected = math.erfc(math.sqrt(chi_square / 2))  # one degree of freedom
    return McNemar(only_first, only_second, min(1.0, 2 * tail / 2**differ), p_corrected)


def two_proportions(correct_1: int, total_1: int, correct_2: int, total_2: int) -> float:
    """Return the two-sided p of the pooled z test of two independent proportions (Pearson 1900).

    For a published accuracy, of which nothing but the count is known. Where both models saw the same images it knows
    less than ``mcnemar`` and finds fewer differences.

    >>> round(two_proportions(9400, 10000, 9368, 10000), 3)
    0.347
    """
    pooled = (correct_1 + correct_2) / (total_1 + total_2)
    error = math.sqrt(pooled * (1 - pooled) * (1 / total_1 + 1 / total_2))
    difference = correct_1 / total_1 - correct_2 / total_2
    return math.erfc(abs(difference) / error / math.sqrt(2)) if error else 1.0


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose confidence is above ``low`` and at most ``high``; an empty bin has no means."""

    low: float
    high: float
    count: int
    confidence_mean: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy."""

    ece: float
    """Expected calibration error, a fraction: the mean distance of the two, each bin by its count."""
    bins: tuple[CalibrationBin, ...]


def calibration(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], bins: int = CALIBRATION_BINS
) -> Calibration:
    """Return the reliability diagram of the top class (Guo et al. 2017): ``bins`` of equal width between 0 and 1.

    ``probabilities`` are (images, classes), ``labels`` (images,).
    """
    confidences, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for place in range(bins):
        members = places == place
        count = int(members.sum())
        means = (float(confidences[members].mean()), float(right[members].mean())) if count else (None, None)
        rows.append(CalibrationBin(place / bins, (place + 1) / bins, count, *means))
    gaps = np.bincount(places, weights=confidences - right, minlength=bins)
    return Calibration(float(np.abs(gaps).sum() / len(labels)), tuple(rows))


@dataclass(frozen=True)
class WinnersCurse:
    """What the best of many measured accuracies is probably worth. Fractions."""

    expected: float
    """The true accuracy of the best, in the mean over what is known."""
    subtracted: float
    """From the measured accuracy; never negative."""


def winners_curse(values: Sequence[float], total: int, *, seed_sd: float = 0.0) -> WinnersCurse | None:
    """Correct the best of a search's validation accuracies for having been chosen; None of fewer than five.

    Empirical Bayes (Efron 2011, "Tweedie's formula and selection bias"): the expectation of the best one's true
    accuracy given its measured one does not depend on its having been chosen, once it is known how the true
    accuracies lie. That is estimated from all ``values`` by maximum likelihood, without assuming a shape (Kiefer and
    Wolfowitz 1956, by EM as in Laird 1978): a normal prior, as in James-Stein, takes the long tail of bad
    configurations that every search has for the spread of the good ones, and then corrects by next to nothing. Where
    the values spread no more than their noise, all are shrunk close to their mean. In simulated searches of 5 to 200
    configurations, equal, spread and skewed, each with noise of its own on 10,000 images, the mean error of the
    corrected figure is within 0.1 point; that of one search has an SD of 0.15 to 0.25 point.

    ``values`` are fractions, each of ``total`` images, of the complete trials. The noise of each is binomial; to
    its variance comes that of ``seed_sd``, the standard deviation (a fraction) of a configuration over seeds.

    What it does not know: pruned trials are not in it, though they were candidates too. All trials see the same
    images, so that part of the noise is common to them and picks no winner, and ``seed_sd`` measured on the same
    images counts another part twice: where configurations differ for real, more is subtracted than was gained.

    >>> curse = winners_curse([0.9285, 0.9300, 0.9310, 0.9295, 0.9325, 0.9305], 10000)
    >>> round(curse.expected, 4), round(curse.subtracted, 4)
    (0.9304, 0.0021)
    """
    if len(values) < CURSE_MIN_VALUES:
        return None
    best = max(values)
    low = max(min(values), best - CURSE_REACH * float(_noise(np.array(best), total, seed_sd)))
    truths = np.linspace(low, best, CURSE_GRID)
    noise = _noise(truths, total, seed_sd)
    measured = np.sort([value for value in values if value >= low])
    likelihood = np.exp(-0.5 * ((measured[:, None] - truths) / noise) ** 2) / noise
    weights = np.full(CURSE_GRID, 1 / CURSE_GRID)
    for _ in range(CURSE_STEPS):
        weights = _posterior(likelihood, weights).mean(axis=0)
    expected = min(best, float(_posterior(likelihood, weights)[-1] @ truths))
    return WinnersCurse(expected, best - expected)


def _noise(truths: npt.NDArray[np.float64], total: int, seed_sd: float) -> npt.NDArray[np.float64]:
    shares = (truths * total + 1) / (total + 2)  # Laplace: even a measured 100 % has noise
    return np.sqrt(shares * (1 - shares) / total + seed_sd**2)


def _posterior(likelihood: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    joint = likelihood * weights
    shares: npt.NDArray[np.float64] = joint / joint.sum(axis=1, keepdims=True)
    return shares
