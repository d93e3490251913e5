"""KerasTuner's own tuners, and ours: the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import optuna
import pytest

from tuner.records import Value, Values
from tuner.search.asked import Names
from tuner.search.rehearsal import by_default
from tuner.search.worker import prepare_backend
from tuner.space.asked import Asked
from tuner.space.hypermodel import AskingHyperParameters

from .everything import ask_everything

prepare_backend()


def draws_of_kerastuner(folder: Path, count: int) -> tuple[list[Values], Any]:
    def build(hp: Any) -> keras.Model:
        ask_everything(hp)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(loss="mse")
        return model

    own = keras_tuner.RandomSearch(build, objective="val_loss", max_trials=count, seed=0, directory=folder)
    trials = [own.oracle.create_trial(f"t{k}") for k in range(count)]
    for trial in trials:
        trial.hyperparameters.ensure_active_values()
    return [dict(trial.hyperparameters.values) for trial in trials], own.oracle.get_space()


def draws_of_ours(count: int) -> list[Values]:
    names, study, found = Names(), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), []
    for _ in range(count):
        trial = study.ask()

        def answer(asked: Asked, trial: optuna.Trial = trial) -> Value:
            return names.draw(asked, trial)[1]

        hp = AskingHyperParameters({}, answer)
        ask_everything(hp)
        found.append(dict(hp.values))
    return found


def test_optuna_and_kerastuners_own_tuner_draw_from_the_same_domains(tmp_path: Path) -> None:
    ours, (theirs, space) = draws_of_ours(400), draws_of_kerastuner(tmp_path, 400)

    assert {frozenset(values) for values in ours} == {frozenset(values) for values in theirs}
    by_name: dict[str, list[Any]] = {}
    for parameter in space.space:
        by_name.setdefault(parameter.name, []).append(parameter)
    for name, parameters in by_name.items():
        mine, other = ([values[name] for values in all_ if name in values] for all_ in (ours, theirs))
        assert {type(value) for value in mine} == {type(value) for value in other}, name
        if name in ("val_accuracy", "f_log", "f_reverse"):
            (parameter,) = parameters
            for drawn in (mine, other):
                assert all(parameter.min_value <= value <= parameter.max_value for value in drawn)
                assert np.mean([parameter.value_to_prob(value) for value in drawn]) == pytest.approx(0.5, abs=0.06), (
                    name
                )
        else:
            assert {_rounded(value) for value in mine} == {_rounded(value) for value in other}, name


def _rounded(value: Value) -> Value:
    return round(value, 9) if isinstance(value, float) else value


def test_one_name_under_two_conditions_has_the_domain_of_the_one_that_holds() -> None:
    """KerasTuner promises it, and its own tuners raise a KeyError."""
    names, study = Names(), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: dict[str, set[Any]] = {"mlp": set(), "cnn": set()}
    for _ in range(30):
        trial = study.ask()

        def answer(asked: Asked, trial: optuna.Trial = trial) -> Value:
            return names.draw(asked, trial)[1]

        hp = AskingHyperParameters({}, answer)
        kind = hp.Choice("kind", ["mlp", "cnn"])
        first = hp.Choice("width", [1, 2], parent_name="kind", parent_values=["mlp"])
        second = hp.Int("width", 30, 32, parent_name="kind", parent_values=["cnn"])
        assert (first is None) != (second is None)
        seen[kind].add(first or second)

    assert seen == {"mlp": {1, 2}, "cnn": {30, 31, 32}}


def test_every_default_is_kerastuners_own() -> None:
    own, ours = keras_tuner.HyperParameters(), AskingHyperParameters({}, by_default)

    ask_everything(own)
    ask_everything(ours)

    assert ours.values == own.values


def test_values_that_are_known_are_not_asked_for() -> None:
    (values,) = draws_of_ours(1)

    def nobody(asked: Asked) -> Value:
        raise AssertionError(asked.name)

    again = AskingHyperParameters(values, nobody)
    ask_everything(again)

    assert again.values == values
