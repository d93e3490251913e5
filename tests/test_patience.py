"""``search.patience``: a study ends when nothing is left to gain that its validation images could show."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tuner.data.splits import validation_images
from tuner.records import Note, TrialSummary
from tuner.search.gains import last_gain, standard_error
from tuner.search.messages import TrainJob
from tuner.search.study import summaries
from tuner.space.settings import SearchSettings

from .scripted import Bench, Script

LEVELS = [0.6, 0.80, 0.801, 0.5, 0.802, 0.7, 0.7, 0.7, 0.7, 0.99]
"""What each trial reaches: those after the second gain less than chance, until the last one."""


def reaching(levels: Sequence[float | str]) -> Script:
    def script(job: TrainJob) -> list[float | str]:
        return [levels[job.number]] * job.epochs

    return script


def search(bench: Bench, levels: Sequence[float | str], workers: int = 1, **settings: object) -> list[TrialSummary]:
    asked = SearchSettings(sampler="random", pruner="none", epochs=2, trials=len(levels), **settings)  # type: ignore[arg-type]
    study, _ = bench.search(asked, reaching(levels), workers=workers)
    return summaries(study)


def ended(number: int, reached: float | None, state: str = "complete") -> TrialSummary:
    return TrialSummary(number, state, {}, reached)


def notes(bench: Bench) -> list[str]:
    return [event.text for event in bench.events if isinstance(event, Note) and event.text.startswith("No more")]


def test_a_search_ends_when_so_many_trials_gained_less_than_chance(bench: Bench) -> None:
    trials = search(bench, LEVELS, patience=4)

    error = 100 * standard_error(0.8, validation_images(bench.source))
    assert len(trials) == 6
    assert notes(bench) == [
        f"No more trials: 4 in a row were not better than trial 1 by the {error:.2f} points that chance moves "
        f"{validation_images(bench.source):,} validation images."
    ]


@pytest.mark.parametrize("patience", [0, 9])
def test_without_patience_or_with_enough_of_it_every_trial_is_trained(bench: Bench, patience: int) -> None:
    assert len(search(bench, LEVELS, patience=patience)) == len(LEVELS)
    assert notes(bench) == []


def test_a_running_trial_that_gains_lets_the_search_go_on(bench: Bench) -> None:
    # Two run, out of step because trial 1 fails in its first epoch: trial 4 is under way when trial 3 ends, the third
    # without a gain.
    levels = [0.8, "fail", 0.6, 0.6, 0.95, *[0.5] * 14]

    trials = search(bench, levels, workers=2, patience=3)

    assert ["trial 0" in text for text in notes(bench)] == [True, False]
    assert ["trial 4" in text for text in notes(bench)] == [False, True]
    assert len(trials) in (8, 9)  # one may run when the third ends


def test_resumed_it_stays_ended_until_it_is_given_more_patience(bench: Bench) -> None:
    first = len(search(bench, LEVELS, patience=4))
    again = len(search(bench, LEVELS, patience=4))
    more = len(search(bench, LEVELS, patience=9))

    assert (first, again, more) == (6, 6, len(LEVELS))


def test_gains_are_taken_by_number_and_pruned_trials_gain_nothing() -> None:
    trials = [
        ended(0, 0.9),
        ended(3, 0.95),
        ended(1, 0.901),
        ended(2, 0.97, state="pruned"),
        ended(4, None, state="refused"),
    ]

    gained, after = last_gain(trials, 10_000)

    assert gained is not None
    assert (gained.number, after) == (3, 0)
    assert last_gain(trials[:1] + trials[2:], 10_000) == (trials[0], 2)
    assert last_gain([], 10_000) == (None, 0)


@pytest.mark.parametrize(("accuracy", "images", "error"), [(0.5, 10_000, 0.005), (0.9, 10_000, 0.003), (1.0, 10, 0.0)])
def test_the_standard_error_is_the_binomial_one(accuracy: float, images: int, error: float) -> None:
    assert standard_error(accuracy, images) == pytest.approx(error)
