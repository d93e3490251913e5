"""Samplers and pruners: every one of them with every other, and what each promises."""

from __future__ import annotations

import dataclasses

import optuna
import pytest
from optuna.trial import TrialState

from tuner.search.pruners import Halving, passes, rungs
from tuner.search.samplers import ANYWHERE, PerTrial, distributions_of, make_sampler
from tuner.search.study import summaries
from tuner.space.reader import parse_space
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


def drawn_near(entries: list[dict], number: int = 300) -> list[dict]:
    """Return what is drawn before the model starts, without the trials that are drawn anywhere."""
    distributions = distributions_of(parse_space("small", SMALL_SPACE).space)
    study = optuna.create_study(direction="maximize", sampler=PerTrial(0, 1000, entries))
    drawn = [study.ask(distributions) for _ in range(number)]
    return [trial.params for trial in drawn if trial.number % ANYWHERE]


def test_trials_near_a_known_good_configuration_keep_most_of_it_and_stay_in_the_space() -> None:
    distributions = distributions_of(parse_space("small", SMALL_SPACE).space)
    entry = {"filters_1": 8, "filters_2": 12, "dense_units": 16, "optimizer": "adam", "learning_rate": 5e-3}

    drawn = drawn_near([entry])

    for name, value in entry.items():
        values = [params[name] for params in drawn]
        assert 0.5 < sum(one == value for one in values) / len(values) < 0.75, name  # 0.6
        assert all(distributions[name]._contains(distributions[name].to_internal_repr(one)) for one in values)
    assert all(any(params[name] != value for name, value in entry.items()) for params in drawn)
    rates = [params["learning_rate"] for params in drawn]
    assert min(rates) < 2e-3
    assert max(rates) > 1e-2
    assert len({params["momentum"] for params in drawn}) > 150  # the entry says nothing of it


def test_what_is_drawn_near_does_not_depend_on_the_order_in_which_an_entry_names_its_values() -> None:
    entry = {"filters_1": 8, "dense_units": 16, "optimizer": "adam"}

    assert drawn_near([entry], 30) == drawn_near([dict(reversed(entry.items()))], 30)


def test_values_that_a_parameter_may_not_have_any_more_are_drawn_anew() -> None:
    strange = {"filters_1": 100, "dense_units": "many", "optimizer": "lion", "learning_rate": "fast", "filters_2": 12}

    drawn = drawn_near([{}, strange])

    assert {params["filters_1"] for params in drawn} == {4, 8, 12}
    assert {params["optimizer"] for params in drawn} == {"sgd", "adam"}
    assert sum(params["filters_2"] == 12 for params in drawn) / len(drawn) > 0.5


def test_one_free_parameter_is_searched_and_no_trial_repeats_an_entry(bench: Bench) -> None:
    text = SMALL_SPACE
    for kind, name in (("int", "filters_1"), ("int", "filters_2")):
        text = text.replace(f'[parameters.{name}]\ntype = "{kind}"\nlow = 4\nhigh = 12\nstep = 4',
                            f'[parameters.{name}]\ntype = "fixed"\nvalue = 8')  # fmt: skip
    text = text.replace('type = "choice"\noptions = [0, 16]', 'type = "fixed"\nvalue = 16')
    text = text.replace('type = "choice"\noptions = ["sgd", "adam"]', 'type = "fixed"\nvalue = "adam"')
    text = text.replace("filters_2 = 12\ndense", "filters_2 = 8\ndense")

    study, _ = bench.search(
        SearchSettings(trials=14, epochs=2, startup="near", startup_trials=14, pruner="none"), text=text
    )

    assert [trial.state for trial in summaries(study)] == ["complete"] * 14
    assert len({trial.params["learning_rate"] for trial in study.get_trials()}) == 14


def test_trials_are_drawn_near_each_of_the_known_good_configurations_or_near_none() -> None:
    space = parse_space("small", SMALL_SPACE).space
    entries = tuple({"filters_1": 4, "filters_2": 4, "dense_units": units} for units in (0, 16))
    shares = {}
    for startup in ("near", "random"):
        settings = SearchSettings(startup=startup, startup_trials=1000)
        sampler = make_sampler(settings, dataclasses.replace(space, start_with=entries))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        drawn = [study.ask(distributions_of(space)).params for _ in range(600)]
        shares[startup] = sum(params["filters_1"] == 4 for params in drawn) / 600
        assert 0.3 < sum(params["dense_units"] == 0 for params in drawn) / 600 < 0.7

    assert shares["random"] < 0.38 < shares["near"]  # a third; two in three trials keep half of theirs
