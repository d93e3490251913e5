"""Samplers and pruners: every one of them with every other, and what each promises."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from tuner.search.pruners import Halving, passes, rungs
from tuner.search.samplers import PerTrial
from tuner.search.study import summaries
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE
from .scripted import Bench, values_of


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "grid"])
@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median", "none"])
def test_every_sampler_goes_with_every_pruner(bench: Bench, sampler: str, pruner: str) -> None:
    text = SMALL_SPACE
    if sampler == "grid":
        text = text.replace(
            'type = "float"\nlow = 1e-4\nhigh = 1e-1\nlog = true', 'type = "choice"\noptions = [5e-3, 1e-2]'
        )
        text = text.replace('type = "float"\nlow = 0.5\nhigh = 0.95', 'type = "fixed"\nvalue = 0.9')

    study, _ = bench.search(
        SearchSettings(trials=14, epochs=4, sampler=sampler, pruner=pruner, startup_trials=5), text=text
    )

    states = [trial.state for trial in summaries(study)]
    assert len(states) == 14
    assert ("pruned" in states) == (pruner != "none")
    assert len({str(values) for values in values_of(study)}) == 14


def test_a_grid_ends_when_it_is_exhausted(bench: Bench) -> None:
    text = '[parameters.blocks]\ntype="int"\nlow=1\nhigh=2\n[parameters.flip]\ntype="bool"\n'

    study, _ = bench.search(SearchSettings(trials=50, epochs=2, sampler="grid"), text=text)

    assert sorted(map(str, values_of(study))) == sorted(
        str({"blocks": blocks, "flip": flip}) for blocks in (1, 2) for flip in (False, True)
    )


def test_the_rungs_and_who_passes_them() -> None:
    assert rungs(1, 3, 10) == [1, 3, 9]
    assert rungs(2, 2, 8) == [2, 4]
    assert passes(0.5, [], 3)
    assert passes(0.5, [0.6], 3)  # the first two of three
    assert not passes(0.5, [0.6, 0.1], 3)
    assert passes(0.5, [0.6, 0.4, 0.3, 0.2, 0.1], 3)
    assert not passes(0.5, [0.7, 0.6, 0.4, 0.3, 0.2], 3)
    assert passes(0.5, [0.5, 0.5], 3)  # equals are not better


def test_halving_answers_the_same_when_asked_again() -> None:
    study = optuna.create_study(direction="maximize", pruner=Halving(first_rung=1, reduction=3, epochs=9))
    for value in (0.9, 0.8, 0.1):
        trial = study.ask()
        trial.report(value, 1)
        answers = [trial.should_prune() for _ in range(3)]
        assert len(set(answers)) == 1
        study.tell(trial, state=TrialState.PRUNED) if answers[0] else None


def test_what_tpe_draws_depends_on_the_study_and_not_on_what_the_sampler_was_asked_before() -> None:
    def sample(trial: optuna.Trial, branch: str) -> dict[str, float]:
        return {name: trial.suggest_float(name, 0, 1) for name in ("x", branch)}

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=PerTrial(0, 0))
    left, right, late = study.ask(), study.ask(), study.ask()
    for trial, branch in ((left, "left"), (right, "right")):
        sample(trial, branch)
    study.tell(right, 1.0)
    sample(late, "right")  # the sampler has met the parameters of the right branch before those of the left
    study.tell(left, 0.5)
    study.tell(late, 0.7)
    again = optuna.create_study(direction="maximize", sampler=PerTrial(0, 0))
    again.add_trials(study.trials)

    assert sample(study.ask(), "left") == sample(again.ask(), "left")
