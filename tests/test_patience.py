"""``search.patience``: a study ends when nothing is left to gain that its validation images could show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tuner.data.splits import validation_images
from tuner.records import VAL_ACCURACY, VAL_BALANCED_ACCURACY, Note, TrialSummary
from tuner.search.gains import last_gain, standard_error
from tuner.search.messages import TrainJob
from tuner.search.rehearsal import NO_IMAGES
from tuner.search.study import summaries
from tuner.space.settings import SearchSettings

from .scripted import Bench, Script

LEVELS = [0.6, 0.80, 0.801, 0.5, 0.802, 0.7, 0.7, 0.7, 0.7, 0.99]
"""What each trial reaches: those after the second gain less than chance, until the last one."""
COUNTS = (1000,) * 10


def reaching(levels: Sequence[float | str]) -> Script:
    def script(job: TrainJob) -> list[float | str]:
        return [levels[job.number]] * job.epochs

    return script


def search(bench: Bench, levels: Sequence[float | str], workers: int = 1, **settings: Any) -> list[TrialSummary]:
    asked = {"sampler": "random", "pruner": "none", "epochs": 2, "trials": len(levels), **settings}
    study, _ = bench.search(SearchSettings(**asked), reaching(levels), workers=workers)
    return summaries(study)


def ended(number: int, reached: float | None, state: str = "complete", *, by_machine: bool = False) -> TrialSummary:
    return TrialSummary(number, state, {}, reached, by_machine=by_machine)


def notes(bench: Bench) -> list[str]:
    return [event.text for event in bench.events if isinstance(event, Note) and event.text.startswith("No more")]


def test_a_search_ends_when_so_many_trials_gained_less_than_chance(bench: Bench) -> None:
    trials = search(bench, LEVELS, patience=4)

    images = validation_images(bench.source)
    error = 100 * (0.8 * 0.2 / images) ** 0.5
    assert len(trials) == 6
    assert notes(bench) == [
        f"No more trials: 4 in a row were not better than trial 1 by the {error:.2f} points that chance moves "
        f"{images:,} validation images; '--resume --set search.patience=0' goes on without this end."
    ]


@pytest.mark.parametrize("patience", [0, 9])
def test_without_patience_or_with_enough_of_it_every_trial_is_trained(bench: Bench, patience: int) -> None:
    assert len(search(bench, LEVELS, patience=patience)) == len(LEVELS)
    assert notes(bench) == []


def test_patience_alone_is_an_end_and_no_number_of_trials_is_put_beside_it() -> None:
    assert SearchSettings().total_trials == 30
    assert SearchSettings(patience=40).total_trials is None
    assert SearchSettings(patience=40, trials=50).total_trials == 50


def test_a_running_trial_that_gains_lets_the_search_go_on(bench: Bench) -> None:
    # Two run, out of step because trial 1 fails in its first epoch: trial 4 is under way when trial 3 ends, the second
    # without a gain.
    levels = [0.8, "fail", 0.6, 0.6, 0.95, *[0.5] * 14]

    trials = search(bench, levels, workers=2, patience=2)

    assert ["trial 0" in text for text in notes(bench)] == [True, False]
    assert ["trial 4" in text for text in notes(bench)] == [False, True]
    assert len(trials) in (7, 8)  # one may run when the second ends


def test_trials_that_were_pruned_while_a_good_one_trained_do_not_count_against_it(bench: Bench) -> None:
    # Of two workers one has the good trial for 27 epochs; meanwhile the other's are pruned at their first rung.
    levels = [0.7, 0.6, 0.95, *[0.5] * 60]

    trials = search(bench, levels, workers=2, patience=10, pruner="asha", epochs=27)

    assert max(trial.val_accuracy or 0.0 for trial in trials if trial.state == "complete") == 0.95
    assert "trial 2" in notes(bench)[-1]
    assert "'--resume --set search.patience=0' goes on" in notes(bench)[-1]


@pytest.mark.parametrize("mode", [{}, {"deterministic": True}], ids=["as they come", "deterministic"])
def test_resumed_it_stays_ended_until_it_is_given_more_patience(bench: Bench, mode: dict[str, bool]) -> None:
    def trials(patience: int) -> int:
        return len(search(bench, LEVELS, workers=2, patience=patience, **mode))

    first, again, more = trials(4), trials(4), trials(9)

    assert first in (6, 7)
    assert (again, more) == (first, len(LEVELS))


def test_gains_are_taken_in_the_order_in_which_trials_ended() -> None:
    trials = [ended(0, 0.9), ended(1, 0.901), ended(4, 0.97, "pruned"), ended(2, 0.95), ended(3, None, "refused")]

    gained, after = last_gain(trials, COUNTS, VAL_ACCURACY)

    assert gained is not None
    assert (gained.number, after) == (2, 0)
    assert last_gain(trials[:3], COUNTS, VAL_ACCURACY) == (trials[0], 2)
    assert last_gain([], COUNTS, VAL_ACCURACY) == (None, 0)


def test_what_the_clock_or_the_machine_ended_says_nothing() -> None:
    cut = [ended(k, 0.5, "clock") for k in range(1, 9)]

    assert last_gain([ended(0, 0.9), *cut, ended(9, None, "failed", by_machine=True)], COUNTS, VAL_ACCURACY)[1] == 0
    assert last_gain([ended(0, 0.9), ended(9, None, "failed")], COUNTS, VAL_ACCURACY)[1] == 1


@pytest.mark.parametrize(("accuracy", "images", "error"), [(0.5, 10_000, 0.005), (0.9, 10_000, 0.003), (1.0, 10, 0.0)])
def test_the_standard_error_is_the_binomial_one(accuracy: float, images: int, error: float) -> None:
    assert standard_error(accuracy, [images // 2] * 2, VAL_ACCURACY) == pytest.approx(error)


def test_a_balanced_accuracy_is_as_uncertain_as_its_small_classes() -> None:
    assert standard_error(0.8, COUNTS, VAL_BALANCED_ACCURACY) == pytest.approx(0.004)
    uneven = standard_error(0.8, (9900, 25, 25, 25, 25), VAL_BALANCED_ACCURACY)
    assert uneven == pytest.approx(0.4 * (1 / 9900 + 4 / 25) ** 0.5 / 5)
    assert uneven > 5 * standard_error(0.8, (9900, 25, 25, 25, 25), VAL_ACCURACY)


def test_what_stands_for_the_images_validates_on_as_many() -> None:
    assert validation_images(NO_IMAGES) == 10_000
