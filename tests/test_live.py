"""What the live comparison with the peers writes down, reads off it, and lets each of them search."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from benchmarks.live import __main__ as live
from benchmarks.live import events, tables
from tuner.data.sources import Source
from tuner.errors import EnvironmentProblem, SearchError, UsageError
from tuner.records import EpochResult, Values
from tuner.search.budget import RefitPlan
from tuner.search.request import read_checked
from tuner.search.task import plan_one
from tuner.space.parameters import Float, Int, Parameter

FILTERS: Values = {"filters": 8}


def epochs_of(*facts: tuple[float, float]) -> list[Any]:
    return [events.Epoch(cpu, cpu / 2, 0, number, accuracy) for number, (cpu, accuracy) in enumerate(facts, 1)]


# The events of one run.


def test_what_is_told_is_read_again(tmp_path: Path) -> None:
    with events.Told(tmp_path / "events.jsonl", math.inf) as told:
        told.ended(0, "refused", None, FILTERS)
        told.epoch(1, 1, 0.9, FILTERS)
        told.epoch(2, 1, 0.8, {"filters": 16})
        told.ended(1, "complete", 0.9, FILTERS)

    found = events.read_events(tmp_path / "events.jsonl")
    assert [(one.trial, one.epoch, one.val_accuracy) for one in found.epochs] == [(1, 1, 0.9), (2, 1, 0.8)]
    assert [(one.trial, one.state, one.value) for one in found.trials] == [
        (0, "refused", None), (1, "complete", 0.9), (2, "running", None),
    ]  # fmt: skip
    assert found.trials[2].values == {"filters": 16}


def test_a_line_that_was_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with events.Told(path, math.inf) as told:
        told.epoch(1, 1, 0.9, FILTERS)

    path.write_text(path.read_text("utf-8") + '{"cpu": 3.0, "tri', "utf-8")

    assert len(events.read_events(path).epochs) == 1


def test_an_epoch_that_ends_after_the_budget_ends_the_run_and_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with events.Told(tmp_path / "events.jsonl", 20.0) as told:
        monkeypatch.setattr(events, "cpu_seconds", lambda: 20.0)
        told.epoch(1, 1, 0.9, FILTERS)
        monkeypatch.setattr(events, "cpu_seconds", lambda: 20.01)

        with pytest.raises(events.Spent):
            told.epoch(1, 2, 0.95, FILTERS)

    assert [one.epoch for one in events.read_events(tmp_path / "events.jsonl").epochs] == [1]


def test_the_processor_seconds_of_children_count_while_they_run_and_afterwards() -> None:
    burn = "import time; t = time.process_time\nwhile t() < .3: pass\nprint(flush=True); input()"
    before = events.cpu_seconds()
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while_it_runs = events.cpu_seconds()
        child.communicate("\n")

    assert 0.25 < while_it_runs - before < 3
    assert events.cpu_seconds() >= while_it_runs - 0.02


def test_the_wall_clock_counts_from_the_start_of_the_process() -> None:
    first, now = events.wall_seconds(), time.monotonic()
    time.sleep(0.05)

    assert first > 0
    assert abs(events.wall_seconds() - first - (time.monotonic() - now)) < 0.02


# What is read off them.


def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_of_any_trial_that_reaches_it() -> None:
    epochs = epochs_of((10, 0.90), (30, 0.92), (20, 0.91), (40, 0.93))

    assert [events.seconds_to(epochs, level) for level in (0.90, 0.91, 0.92)] == [10, 20, 30]
    assert events.seconds_to(epochs, 0.94) == math.inf


def test_the_best_so_far_rises_only() -> None:
    assert events.best_so_far(epochs_of((30, 0.92), (10, 0.9), (20, 0.85), (40, 0.92))) == [(10, 0.9), (30, 0.92)]


def test_the_median_of_three_runs_begins_with_the_second_of_them() -> None:
    runs = [[(10.0, 0.9), (50.0, 0.95)], [(20.0, 0.8), (30.0, 0.92)], [(40.0, 0.91)]]

    # At 10 s: 0.9, none, none. At 20 s: 0.9, 0.8, none. At 30 s: 0.9, 0.92, none. At 40 s: 0.9, 0.92, 0.91.
    assert events.median_steps(runs) == [(20.0, 0.8), (30.0, 0.9), (40.0, 0.91), (50.0, 0.92)]


def test_the_answer_is_the_best_complete_trial_and_the_earliest_of_equals() -> None:
    trials = [
        events.Trial(0, "pruned", 0.99, FILTERS), events.Trial(1, "complete", 0.9, FILTERS),
        events.Trial(2, "complete", 0.92, FILTERS), events.Trial(3, "complete", 0.92, FILTERS),
        events.Trial(4, "running", None, FILTERS),
    ]  # fmt: skip

    assert events.Events((), tuple(trials)).answer() == trials[2]
    assert events.Events((), tuple(trials[:1])).answer() is None


# The committed tables.


def made(
    out: Path, system: str, seed: int, steps: list[tuple[float, float]], test: list[float], minutes: float = 1
) -> None:
    folder = out / f"{system}-{seed}"
    folder.mkdir(parents=True)
    lines = [
        {"cpu": cpu, "wall": cpu / 2, "trial": 1, "epoch": number, "val_accuracy": accuracy, "values": FILTERS}
        for number, (cpu, accuracy) in enumerate(steps, 1)
    ]
    refused = {"cpu": 1.0, "wall": 1.0, "trial": 0, "ended": "refused", "value": None, "values": FILTERS}
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in (refused, *lines)))
    about = {
        "system": system,
        "seed": seed,
        "space": read_checked("cnn").hash,
        "cpu_minutes": minutes,
        "epochs": 8,
        "train_images": None,
    }
    (folder / "run.json").write_text(json.dumps(about))
    if test:
        answer = {
            "trial": 1,
            "value": 0.92,
            "values": FILTERS,
            "epochs": 12,
            "test_accuracies": test,
            "run": folder.name,
        }
        (folder / "answer.json").write_text(json.dumps(answer))


def test_the_summary_is_remade_from_the_committed_tables_alone(tmp_path: Path) -> None:
    out, to = tmp_path / "runs", tmp_path / "kept"
    made(out, "optuna", 0, [(10, 0.90), (30, 0.91)], [])
    made(out, "ours", 10, [(9, 0.93)], [0.93, 0.94])
    made(out, "ours", 2, [(10, 0.90), (20, 0.925)], [0.92, 0.93])
    made(out, "ours", 3, [(15, 0.92)], [0.91, 0.92])
    (out / "keras-tuner-0").mkdir()  # one that has not ended
    table = argparse.Namespace(to=to, runs=out)
    live.table(table)
    first = (to / "table.csv").read_text()
    for path in out.rglob("*.json*"):
        path.unlink()
    (to / "table.csv").unlink()

    live.table(argparse.Namespace(to=to, runs=None))

    assert (to / "table.csv").read_text() == first
    assert first.splitlines() == [
        "system,seed,trials,refused,epochs,best_val_accuracy,cpu_seconds_to_91,cpu_seconds_to_92,cpu_seconds_to_93,"
        "answer_val_accuracy,test_accuracy_mean,test_accuracies",
        "ours,2,2,1,2,0.925,20.0,20.0,,0.92,0.925,0.9200 0.9300",
        "ours,3,2,1,1,0.92,15.0,15.0,,0.92,0.915,0.9100 0.9200",
        "ours,10,2,1,1,0.93,9.0,9.0,9.0,0.92,0.935,0.9300 0.9400",
        "ours,median,2,1,1,0.925,15.0,15.0,,0.92,0.925,",
        "optuna,0,2,1,2,0.91,30.0,,,,,",
        "optuna,median,2,1,2,0.91,30.0,,,,,",
    ]


def test_a_run_without_an_answer_counts_as_the_worst_and_one_that_is_not_scored_yet_does_not(tmp_path: Path) -> None:
    complete = {"cpu": 30.0, "wall": 15.0, "trial": 1, "ended": "complete", "value": 0.92, "values": FILTERS}
    for system in ("ours", "optuna"):
        for seed, test in enumerate(([0.93], [0.92])):
            made(tmp_path, system, seed, [(10, 0.92)], test)
            with (tmp_path / f"{system}-{seed}" / "events.jsonl").open("a") as file:
                file.write(json.dumps(complete) + "\n")
        made(tmp_path, system, 2, [], [])
    with (tmp_path / "optuna-2" / "events.jsonl").open("a") as file:
        file.write(json.dumps(complete) + "\n")
    tables.gather(tmp_path, tmp_path)

    tables.write_summary(tables.read_kept(tmp_path), tmp_path / "table.csv")

    medians = [line for line in (tmp_path / "table.csv").read_text().splitlines() if "median" in line]
    assert medians == ["ours,median,2,1,1,0.92,10.0,10.0,,0.92,0.92,", "optuna,median,2,1,1,0.92,10.0,10.0,,,,"]


def test_without_runs_there_is_one_line_of_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run has ended there"):
        tables.gather(tmp_path, tmp_path)
    with pytest.raises(UsageError, match=r"runs\.json: No such file"):
        tables.read_kept(tmp_path)


def test_runs_of_different_budgets_are_not_put_into_one_table(tmp_path: Path) -> None:
    made(tmp_path, "ours", 0, [], [])
    made(tmp_path, "optuna", 0, [], [], minutes=20)

    with pytest.raises(UsageError, match="the runs differ in cpu_minutes: 1 and 20"):
        tables.gather(tmp_path, tmp_path)


def test_the_figure_has_a_line_a_run_and_a_thicker_one_a_system(tmp_path: Path) -> None:
    draw = importlib.import_module("benchmarks.live.figure").anytime
    for seed in (0, 1, 2):
        made(tmp_path, "ours", seed, [(10 + seed, 0.2), (20, 0.925)], [])
    made(tmp_path, "keras-tuner", 0, [(30, 0.9)], [])
    made(tmp_path, "optuna", 0, [], [])  # not one epoch
    tables.gather(tmp_path, tmp_path)

    (axes,) = draw(tables.read_kept(tmp_path)).axes

    assert sorted(line.get_linewidth() for line in axes.lines) == [0.7, 0.7, 0.7, 0.7, 2, 2]
    assert axes.get_xlim() == (0, 60)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "tuner, from the space's known configurations (3 runs)", "KerasTuner Hyperband",
    ]  # fmt: skip


def test_every_system_has_an_ink_of_its_own_and_says_whether_it_starts_from_what_is_known(tmp_path: Path) -> None:
    draw = importlib.import_module("benchmarks.live.figure").anytime
    for system in events.SYSTEMS:
        made(tmp_path, system, 0, [(10, 0.9)], [])
    tables.gather(tmp_path, tmp_path)

    (axes,) = draw(tables.read_kept(tmp_path)).axes

    inks = {line.get_label(): line.get_color() for line in axes.lines if not line.get_label().startswith("_")}
    assert len(set(inks.values())) == len(events.SYSTEMS) == 4
    known = [label for label in inks if "from the space's known configurations" in label]
    assert known == [events.SYSTEMS["ours"], events.SYSTEMS["optuna-entries"]]


# Runs.


def asked_for(out: Path, **more: object) -> argparse.Namespace:
    asked = {"systems": ["ours"], "seeds": [0], "cpu_minutes": 1.0, "epochs": 8, "train_images": None, "anyway": True}
    return argparse.Namespace(**{**asked, "out": out, **more})


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The processes that are begun in place of real ones; those of Optuna fail."""
    begun: list[list[str]] = []

    def begin(command: list[str], *, check: bool) -> Any:
        begun.append(command)
        return types.SimpleNamespace(returncode=int("optuna" in command))

    monkeypatch.setattr(live.subprocess, "run", begin)
    return begun


def test_each_run_is_a_process_of_its_own_and_one_that_fails_does_not_keep_the_others(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "benchmarks.live", "run", "--epochs", "3"])

    with pytest.raises(SearchError, match="2 of 4 runs have failed: optuna-0, optuna-1"):
        live.run(asked_for(tmp_path, systems=["optuna", "ours"], seeds=[0, 1]))

    given = ["-m", "benchmarks.live", "run", "--epochs", "3"]
    assert commands == [
        [sys.executable, *given, "--systems", system, "--seeds", seed, "--anyway"]
        for seed in "01" for system in ("optuna", "ours")
    ]  # fmt: skip


def test_no_run_begins_on_a_machine_with_other_work(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.os, "getloadavg", lambda: (0.71, 0.0, 0.0))
    monkeypatch.setattr(live, "_search", pytest.fail)

    for begin in (live.run, live.run_one):
        with pytest.raises(EnvironmentProblem, match=r"the load is 0.71, above 0.7: --anyway measures all the same"):
            begin(asked_for(tmp_path, anyway=False))

    assert commands == []
    assert not list(tmp_path.iterdir())


def test_the_load_of_the_run_before_is_waited_for(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = iter([0.1, 2.0, 1.0, 0.6])
    waited: list[float] = []
    monkeypatch.setattr(live.os, "getloadavg", lambda: (next(loads), 0.0, 0.0))
    monkeypatch.setattr(live.time, "sleep", waited.append)

    live.run(asked_for(tmp_path, seeds=[0, 1], anyway=False))

    assert len(commands) == 2
    assert waited == [5, 5]


def test_a_run_of_another_protocol_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "optuna", 0, [(10, 0.9)], [])
    made(tmp_path, "ours", 0, [(10, 0.9)], [])  # one that has ended is no way round
    monkeypatch.setattr(live, "_search", pytest.fail)

    with pytest.raises(UsageError, match="this run and those there differ in epochs: 8 and 9"):
        live.run_one(asked_for(tmp_path, epochs=9))


def test_a_run_that_was_killed_is_begun_again_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(_asked: Any, told: Any, folder: Path) -> None:
        (folder / "study.db").open("x").close()
        told.epoch(searches, 1, 0.9, FILTERS)
        raise KeyboardInterrupt if searches == 1 else events.Spent

    searches = 1
    monkeypatch.setattr(live, "_search", search)
    monkeypatch.setattr(events, "cpu_seconds", lambda: 3.0)
    with pytest.raises(KeyboardInterrupt):
        live.run_one(asked_for(tmp_path))
    assert tables.whole_runs(tmp_path) == []

    searches = 2
    live.run_one(asked_for(tmp_path))

    (folder,) = tables.whole_runs(tmp_path)
    assert [one.trial for one in events.read_events(folder / "events.jsonl").epochs] == [2]


def test_a_run_that_has_ended_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, "ours", 0, [(10, 0.9)], [])
    monkeypatch.setattr(live, "_search", pytest.fail)

    live.run_one(asked_for(tmp_path))

    assert "has ended already" in capsys.readouterr().out


def test_an_answer_is_scored_once_and_all_are_trained_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = importlib.import_module("benchmarks.live.answers")
    monkeypatch.setattr(answers, "find", lambda *_: None)
    made(tmp_path, "ours", 0, [(10, 0.9)], [0.93, 0.94])
    made(tmp_path, "optuna", 0, [(10, 0.9)], [])
    ours, optunas = tables.whole_runs(tmp_path)

    with pytest.raises(UsageError, match="trained for 12 epochs from 2 seeds, not 8 from 2"):
        answers.finish([ours], RefitPlan(8, 2))
    with pytest.raises(SearchError, match="1 of 2 answers are not scored: optuna-0: no trial was complete within its"):
        answers.finish([optunas, ours], RefitPlan(12, 2))

    assert "ours-0: its answer is scored already" in capsys.readouterr().out


def test_an_answer_that_two_runs_have_found_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = importlib.import_module("benchmarks.live.answers")
    trained: list[Values] = []

    def refit(values: Values, *_: object, **__: object) -> None:
        trained.append(values)
        if values["filters"] == 16:
            raise SearchError("the loss is nan")

    monkeypatch.setattr(answers, "find", lambda *_: None)
    monkeypatch.setattr(answers, "refit", refit)
    monkeypatch.setattr(answers, "score", lambda *_, **__: types.SimpleNamespace(accuracies=[0.93, 0.94]))
    for system, filters in (("ours", 16), ("optuna", 8), ("optuna-entries", 24), ("keras-tuner", 8)):
        made(tmp_path, system, 0, [(10, 0.9)], [])
        with (tmp_path / f"{system}-0" / "events.jsonl").open("a") as file:
            ended = {
                "cpu": 10,
                "wall": 5,
                "trial": 1,
                "ended": "complete",
                "value": 0.9,
                "values": {"filters": filters},
            }
            file.write(json.dumps(ended) + "\n")

    with pytest.raises(SearchError, match="1 of 4 answers are not scored: ours-0: the loss is nan"):
        answers.finish(tables.whole_runs(tmp_path), RefitPlan(12, 2))

    assert trained == [{"filters": 16}, {"filters": 8}, {"filters": 24}]
    found = [json.loads((tmp_path / f"{name}-0" / "answer.json").read_text()) for name in ("optuna", "keras-tuner")]
    assert [(one["test_accuracies"], one["run"]) for one in found] == [([0.93, 0.94], "optuna-0")] * 2


# What each system searches.

Domain = tuple[object, ...]


def domain(parameter: Parameter) -> Domain:
    if isinstance(parameter, Float) and parameter.step is None:
        return (parameter.low, parameter.high, parameter.log)
    return finite(parameter.grid())


def finite(values: Any) -> Domain:
    return tuple(
        sorted((type(value).__name__, round(value, 9) if isinstance(value, float) else value) for value in values)
    )


def domain_of_optuna(distribution: Any) -> Domain:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return finite(distribution.choices)
    kind = Int if isinstance(distribution, optuna.distributions.IntDistribution) else Float
    return domain(kind(distribution.low, distribution.high, distribution.step, log=distribution.log))


def domain_of_keras_tuner(hp: Any) -> Domain:
    if hasattr(hp, "sampling") and hp.step is None:
        return (hp.min_value, hp.max_value, hp.sampling == "log")
    return finite(hp.values)


def test_the_three_systems_search_the_same_values() -> None:
    space = read_checked("cnn").space
    expected = {name: domain(parameter) for name, parameter in space.parameters.items()}

    study, optunas = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), {}
    for _ in range(100):
        trial = study.ask()
        space.sample(trial)
        optunas |= {name: domain_of_optuna(one) for name, one in trial.distributions.items()}
    assert optunas == expected

    keras_tuners = importlib.import_module("benchmarks.live.plain_keras_tuner")
    hp = keras_tuners.declared(space)
    assert {one.name: domain_of_keras_tuner(one) for one in hp.space} == expected
    for seed in range(100):
        hp.values = {one.name: one.random_sample(1000 * seed + number) for number, one in enumerate(hp.space)}
        values = space.sample(keras_tuners.Asked(hp))
        space.check_values(values)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, str, float | None]]]:
    """Let Optuna search with canned accuracies: of its k-th trained trial, those of the k-th list."""

    def search(curves: list[list[float]], refused: set[int], **more: bool) -> list[tuple[int, str, float | None]]:
        module = importlib.import_module("benchmarks.live.plain_optuna")
        failed = module.TrainingFailed

        class Canned:
            space = read_checked("cnn").space

            def __init__(self, **_: object) -> None:
                self.left, self.asked = list(curves), 0

            def refused(self, _values: Values) -> str:
                self.asked += 1
                return "too large" * (self.asked - 1 in refused)

            def build(self, _values: Values, trial: int) -> int:
                return trial

            def train(self, _built: int, after_epoch: Callable[[EpochResult], bool]) -> None:
                if not self.left:
                    raise events.Spent
                for epoch, accuracy in enumerate(self.left.pop(0), 1):
                    if math.isnan(accuracy):
                        raise failed("the loss is nan")
                    assert after_epoch(EpochResult(epoch, 0.1, 0.9, 0.1, accuracy, 0.01, 1.0))

        monkeypatch.setattr(module, "Training", Canned)
        path = tmp_path / "events.jsonl"
        with pytest.raises(events.Spent), events.Told(path, math.inf) as told:
            module.search(told, seed=0, epochs=2, train_images=None, **more)
        return [(one.trial, one.state, one.value) for one in events.read_events(path).trials]

    return search


def test_optuna_prunes_below_the_median_and_goes_on_after_refusals_and_failures(
    trained: Callable[..., list[tuple[int, str, float | None]]],
) -> None:
    five = [[0.5, 0.6 + k / 100] for k in range(5)]

    found = trained([*five, [0.4, 0.9], [math.nan], [0.6, 0.7]], refused={0, 6})

    assert found == [
        (0, "refused", None), *((k + 1, "complete", five[k][1]) for k in range(5)), (6, "refused", None),
        (7, "pruned", 0.4), (8, "failed", None), (9, "complete", 0.7),
    ]  # fmt: skip


def test_optuna_tries_the_entries_of_the_space_first_where_it_is_asked_to(
    trained: Callable[..., list[tuple[int, str, float | None]]], tmp_path: Path
) -> None:
    curves = [[0.5, 0.6]] * 4

    trained(curves, refused=set(), entries=True)

    entries = read_checked("cnn").space.start_with
    tried = [one.values for one in events.read_events(tmp_path / "events.jsonl").trials]
    assert len(tried) == 4
    assert tried[: len(entries)] == list(entries)


Begun = list[tuple[int, int]]


@pytest.fixture
def hyperband(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Begun]:
    """Let KerasTuner search with canned accuracies, to the end of its first bracket; return (trial, first epoch)."""
    keras = importlib.import_module("keras")
    module = importlib.import_module("benchmarks.live.plain_keras_tuner")
    space = read_checked("cnn").space

    def search(failures: dict[int, Exception] | None = None, at_build: Callable[[int], None] = lambda _: None) -> Begun:
        begun: Begun = []

        class Canned:
            def __init__(self, **_: object) -> None:
                self.space = space

            def refused(self, values: Values) -> str:
                return plan_one(space, values).refused

            def build(self, values: Values, trial: int) -> Any:
                assert not self.refused(values)
                at_build(trial)
                network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
                return types.SimpleNamespace(road=types.SimpleNamespace(network=network), trial=trial)

            def train(self, built: Any, after_epoch: Callable[[EpochResult], bool], *, first_epoch: int) -> None:
                if built.trial == 13:
                    raise events.Spent
                begun.append((built.trial, first_epoch))
                if failure := (failures or {}).get(built.trial):
                    raise failure
                epoch = first_epoch
                while after_epoch(EpochResult(epoch, 0.1, 0.9, 0.1, 0.5 + built.trial / 100, 0.01, 1.0)):
                    epoch += 1

        monkeypatch.setattr(module, "Training", Canned)
        with pytest.raises(events.Spent), events.Told(tmp_path / "events.jsonl", math.inf) as told:
            module.search(told, tmp_path, seed=0, epochs=9, train_images=None)
        return begun

    return search


OF_KERAS_TUNER = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner.*")


@pytest.mark.slow
@OF_KERAS_TUNER
def test_a_bracket_of_hyperband_is_full_for_what_is_over_the_limits_is_drawn_again(
    hyperband: Callable[..., Begun],
) -> None:
    begun = hyperband()

    assert begun == list(enumerate([1] * 9 + [2] * 3 + [4]))  # 9 of one epoch, 3 on to the third, 1 to the ninth


@pytest.mark.slow
@OF_KERAS_TUNER
def test_keras_tuner_goes_on_after_a_training_that_diverged(hyperband: Callable[..., Begun], tmp_path: Path) -> None:
    failed = importlib.import_module("tuner.training.fit").TrainingFailed

    begun = hyperband({k: failed("the loss is nan") for k in range(4)})

    assert len(begun) == 13
    states = [one.state for one in events.read_events(tmp_path / "events.jsonl").trials]
    assert states[:5] == ["failed"] * 4 + ["complete"]


@pytest.mark.slow
@OF_KERAS_TUNER
def test_any_other_failure_ends_the_run_of_keras_tuner(hyperband: Callable[..., Begun], tmp_path: Path) -> None:
    def spoil(trial: int) -> None:
        for path in tmp_path.rglob("*.weights.h5") if trial == 9 else ():
            path.write_bytes(b"")

    with pytest.raises(RuntimeError, match=r"trial 0002 failed: (.|\n)*a bug of ours"):
        hyperband({2: ValueError("a bug of ours")})
    (tmp_path / "events.jsonl").unlink()
    with pytest.raises(RuntimeError, match=r"trial 0009 failed: (.|\n)*load_weights"):
        hyperband(at_build=spoil)


TINY = """
description = "for the tests"
model = "cnn"

[parameters.filters_1]
type = "int"
low = 4
high = 12
step = 4

[parameters.norm]
type = "choice"
options = ["batch", "none"]

[parameters.batch_size]
type = "choice"
options = [32, 64]

[parameters.learning_rate]
type = "float"
low = 1e-3
high = 1e-2
log = true

[parameters.ema]
type = "choice"
options = [0.1, 0.25]
"""


@pytest.mark.slow
@OF_KERAS_TUNER
def test_a_trial_that_keras_tuner_promotes_goes_on_from_its_weights(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = importlib.import_module("benchmarks.live.training")
    roads = importlib.import_module("tuner.training.compiled").CompiledRoad
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(training, "SPACE", str(tmp_path / "tiny.toml"))
    monkeypatch.setattr(training, "find", lambda *_: small)
    began: list[list[Any]] = []
    left: list[list[Any]] = []
    accuracies: list[float] = []

    def floats(road: Any) -> list[Any]:
        return [weight.numpy() for weight in road.network.weights if "float" in weight.dtype]

    epoch, step_through = roads.epoch, roads._step_through

    def watched_epoch(road: Any, *about: Any) -> Any:
        found = epoch(road, *about)
        left.append(floats(road))
        return found

    def watched_steps(road: Any, *about: Any) -> Any:
        began.append(floats(road))
        return step_through(road, *about)

    class Short(events.Told):
        def epoch(self, trial: int, epoch: int, val_accuracy: float, values: Values) -> None:
            super().epoch(trial, epoch, val_accuracy, values)
            accuracies.append(val_accuracy)
            if trial == 3:
                raise events.Spent

    monkeypatch.setattr(roads, "epoch", watched_epoch)
    monkeypatch.setattr(roads, "_step_through", watched_steps)

    # A bracket of three trials of one epoch, of which the best goes on with its second.
    with pytest.raises(events.Spent), Short(tmp_path / "events.jsonl", math.inf) as told:
        importlib.import_module("benchmarks.live.plain_keras_tuner").search(
            told, tmp_path, seed=0, epochs=3, train_images=None
        )

    assert [(one.trial, one.epoch) for one in events.read_events(tmp_path / "events.jsonl").epochs] == [
        (0, 1), (1, 1), (2, 1), (3, 2),
    ]  # fmt: skip
    promoted = left[accuracies.index(max(accuracies[:3]))]
    for weight, kept in zip(began[3], promoted, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_no_variable_of_the_environment_leads_our_study_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("benchmarks.live.ours")
    asked: dict[str, Any] = {}
    monkeypatch.setenv("TUNER_STORAGE", "postgresql://team")
    monkeypatch.setattr(module.tuner, "run_search", lambda _, **options: asked.update(options))

    with events.Told(tmp_path / "events.jsonl", math.inf) as told:
        module.search(told, tmp_path, seed=0, epochs=9, train_images=None)

    assert asked["storage"].parent == asked["out"]
