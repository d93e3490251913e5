"""Error bars and tests of a difference, against textbook values; the winner's curse, against simulated searches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from tuner.evaluation.statistics import (
    CalibrationBin,
    calibration,
    mcnemar,
    mean_and_sd,
    two_proportions,
    wilson,
    winners_curse,
)

N_IMAGES = 10_000


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),  # the third one's mirror image
    ],
)
def test_the_wilson_interval_is_that_of_the_textbook(correct: int, total: int, low: float, high: float) -> None:
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)


def test_one_value_has_a_mean_and_no_standard_deviation() -> None:
    assert mean_and_sd([0.9]) == (0.9, None)
    assert mean_and_sd([0.90, 0.92, 0.94]) == pytest.approx((0.92, 0.02))


def _answers(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Who was right on the images of a two-by-two table."""
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_mcnemar_is_that_of_the_textbook() -> None:
    # Agresti, Categorical Data Analysis, 1990, p. 350: 1600 people approved of the President's performance, or not,
    # twice. Chi-square is 64**2 / 236 = 17.356 without the correction and 63**2 / 236 = 16.818 with it, p = 4.115e-05
    # (R: mcnemar.test, whose example this is).
    found = mcnemar(*_answers(794, 150, 86, 570))

    assert (found.only_first, found.only_second) == (150, 86)
    assert found.p_corrected == pytest.approx(chi2.sf(63**2 / 236, df=1), rel=1e-9)
    assert found.p_corrected == pytest.approx(4.115e-5, abs=5e-9)
    assert found.p_exact == pytest.approx(binomtest(86, 236).pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_exact", "chi_square"),
    [
        (1, 9, 2 * (1 + 10) / 2**10, 4.9),  # 0.021484375; (8 - 1)**2 / 10
        (9, 1, 2 * (1 + 10) / 2**10, 4.9),
        (0, 6, 2 / 2**6, 25 / 6),
        (2, 4, 2 * (1 + 6 + 15) / 2**6, 1 / 6),
        (5, 5, 1.0, 0.0),  # both tails hold the middle: no more than certain
        (0, 0, 1.0, 0.0),
    ],
)
def test_mcnemar_is_what_a_hand_computes(only_first: int, only_second: int, p_exact: float, chi_square: float) -> None:
    found = mcnemar(*_answers(50, only_first, only_second, 7))

    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_exact == p_exact
    assert found.p_corrected == pytest.approx(chi2.sf(chi_square, df=1), rel=1e-9)


def test_mcnemar_of_models_that_differ_almost_everywhere_is_no_overflow() -> None:
    far, near = mcnemar(*_answers(0, 9000, 1000, 0)), mcnemar(*_answers(0, 4900, 5100, 0))

    assert far.p_exact == 0
    assert near.p_exact == pytest.approx(binomtest(4900, 10_000).pvalue, rel=1e-9)


def test_at_three_percent_discordant_a_difference_needs_34_images() -> None:  # of 10,000: the protocol's figure
    assert mcnemar(*_answers(9500, 167, 133, 200)).p_exact < 0.06
    assert mcnemar(*_answers(9500, 168, 132, 200)).p_exact < 0.05
    assert mcnemar(*_answers(9500, 165, 135, 200)).p_exact > 0.05


def test_two_proportions_are_compared_by_the_pooled_z_test() -> None:
    # The Physicians' Health Study (Agresti, table 2.3): heart attacks, 189 of 11,034 on placebo, 104 of 11,037 on
    # aspirin; its chi-square, which is z squared, is 25.01.
    assert two_proportions(189, 11_034, 104, 11_037) == pytest.approx(chi2.sf(25.01, df=1), rel=0.01)
    # By hand: 45 and 55 of 100 each, pooled a half, standard error sqrt(1 / 200), z = -sqrt(2).
    assert two_proportions(45, 100, 55, 100) == pytest.approx(0.157299, abs=1e-6)
    assert two_proportions(55, 100, 45, 100) == two_proportions(45, 100, 55, 100)


@pytest.mark.parametrize("correct", [0, 100])
def test_two_models_without_a_difference_or_a_variance_are_equal(correct: int) -> None:
    assert two_proportions(correct, 100, correct, 100) == 1


def test_the_calibration_error_is_what_a_hand_computes() -> None:
    # Given five images whose confidences fall into three of five bins,
    confidences = np.array([0.55, 0.60, 0.65, 0.90, 1.00])
    right = np.array([True, False, True, True, False])
    probabilities = np.stack([confidences, 1 - confidences], axis=1)

    found = calibration(probabilities, np.where(right, 0, 1), bins=5)

    # then 0.6 belongs to the bin below it, 1 to the last one, and the error is 2/5·.075 + 1/5·.35 + 2/5·.45.
    assert found.bins[:2] == (CalibrationBin(0.0, 0.2, 0, None, None), CalibrationBin(0.2, 0.4, 0, None, None))
    assert [row.count for row in found.bins] == [0, 0, 2, 1, 2]
    assert [row.confidence_mean for row in found.bins[2:]] == pytest.approx([0.575, 0.65, 0.95])
    assert [row.accuracy for row in found.bins[2:]] == [0.5, 1.0, 0.5]
    assert found.ece == pytest.approx(0.4 * 0.075 + 0.2 * 0.35 + 0.4 * 0.45)


def test_a_confidence_that_rounds_above_one_falls_into_the_last_of_fifteen_bins() -> None:
    found = calibration(np.array([[np.float32(1.0000001), 0.0]]), np.array([0]))

    assert [row.count for row in found.bins] == [0] * 14 + [1]
    assert found.bins[-1].high == 1


def _mean_errors(draw: Callable[[np.random.Generator], np.ndarray], seed_sd: float = 0.0) -> tuple[float, float]:
    """How much too good the best looks as measured, and as corrected: the means of 200 searches, in points."""
    rng = np.random.default_rng(5)
    measured, corrected = [], []
    for _ in range(200):
        truths = draw(rng)
        seeded = np.clip(truths + rng.normal(0, seed_sd, len(truths)), 0, 1) if seed_sd else truths
        values = rng.binomial(N_IMAGES, seeded) / N_IMAGES
        best = int(values.argmax())
        curse = winners_curse(values.tolist(), N_IMAGES, seed_sd=seed_sd)
        assert curse is not None
        assert curse.expected + curse.subtracted == pytest.approx(values[best])
        measured.append(values[best] - truths[best])
        corrected.append(curse.expected - truths[best])
    return 100 * float(np.mean(measured)), 100 * float(np.mean(corrected))


def test_the_best_of_fifty_equal_configurations_is_not_better_than_they_are() -> None:
    measured, corrected = _mean_errors(lambda _: np.full(50, 0.93))

    assert 0.45 < measured < 0.65  # the protocol's half a point
    assert corrected == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("sd", [0.0025, 0.005, 0.01])
def test_what_configurations_differ_by_is_not_taken_from_the_best(sd: float) -> None:
    measured, corrected = _mean_errors(lambda rng: rng.normal(0.93, sd, 50))

    assert measured > 0.08
    assert corrected == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: np.append(rng.uniform(0.80, 0.93, 20), np.full(30, 0.93)),
        lambda rng: 0.935 - rng.exponential(0.01, 50),
        lambda _: np.append(np.full(49, 0.93), 0.10),
    ],
    ids=["poor-ones", "a-long-tail", "one-that-diverged"],
)
def test_bad_configurations_do_not_hide_the_curse_of_the_good_ones(
    draw: Callable[[np.random.Generator], np.ndarray],
) -> None:
    measured, corrected = _mean_errors(draw)

    assert measured > 0.35  # a normal prior takes these tails for spread, and leaves 0.3 to 0.55 of it
    assert corrected == pytest.approx(0, abs=0.15)


def test_a_configuration_that_stands_out_keeps_its_lead() -> None:
    _, corrected = _mean_errors(lambda _: np.append(np.full(49, 0.93), 0.945))

    assert corrected == pytest.approx(0, abs=0.1)


def test_the_noise_of_seeds_is_part_of_the_curse_when_it_is_given() -> None:
    measured, corrected = _mean_errors(lambda _: np.full(50, 0.93), seed_sd=0.003)

    assert measured > 0.75
    assert corrected == pytest.approx(0, abs=0.2)


def test_fewer_than_five_values_say_nothing_about_the_curse() -> None:
    assert winners_curse([0.91, 0.92, 0.93, 0.94], N_IMAGES) is None
    assert winners_curse([0.91, 0.92, 0.93, 0.94, 0.95], N_IMAGES) is not None


@pytest.mark.parametrize("value", [0.0, 0.93, 1.0])
def test_equal_values_are_what_they_are(value: float) -> None:
    curse = winners_curse([value] * 6, N_IMAGES)

    assert curse is not None
    assert curse.expected == pytest.approx(value)
    assert 0 <= curse.subtracted < 1e-9


def test_more_noise_takes_more_from_the_best() -> None:
    values = [0.926, 0.928, 0.930, 0.932, 0.934, 0.938]
    taken = [curse.subtracted for total in (100_000, 10_000, 1000) if (curse := winners_curse(values, total))]

    assert taken == sorted(taken)
    assert 0 <= taken[0] < 0.001
    assert taken[-1] == pytest.approx(0.938 - np.mean(values), abs=0.001)  # all of it noise: the mean
