"""A hypermodel's side of a search: values asked for while it builds. The coordinator on real SQLite, workers by script."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tuner.data.sources import Source
from tuner.errors import SpaceError, StudyError
from tuner.records import Cost, Note, TrialSummary, Value, Values
from tuner.search.asked import Names, as_searched
from tuner.search.crew import Crew
from tuner.search.ledger import Ledger
from tuner.search.messages import Beat, Built, Done, Failed, FromWorker, Lost, Suggest, Suggested, ToWorker, TrainJob
from tuner.search.request import Request, claimed, planned
from tuner.search.samplers import make_sampler
from tuner.search.study import load_study, summaries
from tuner.search.task import Rehearsed
from tuner.space.asked import Asked
from tuner.space.parameters import Choice, Fixed, Float, Int
from tuner.space.reader import read_space
from tuner.space.settings import SearchSettings

from .scripted import Bench, ScriptedWorkers, good
from .test_reliability import Crash, Shuffled, crashing, told

__all__ = ["crashing"]  # a fixture

Build = Generator[Asked, Value, Cost]
CHEAP = Cost(1000, 1_000_000)
OF_DEFAULTS = Rehearsed({}, CHEAP, own_fit=False, contract="")
BY_ITSELF = Rehearsed({}, CHEAP, own_fit=True, contract="")
SETTINGS = SearchSettings(trials=8, epochs=3, startup_trials=4, seed=1)
DETERMINISTIC = SearchSettings(trials=9, epochs=9, deterministic=True, startup_trials=4, seed=1)


def conditional(_job: TrainJob) -> Build:
    """Ask as KerasTuner's conditional scopes do: 'units' means another thing in each kind."""
    kind = yield Asked("kind", Choice(("mlp", "cnn")), "cnn")
    when = {"kind": (kind,)}
    domain, default = (Choice((8, 16), when), 16) if kind == "mlp" else (Int(32, 64, 8, when=when), 32)
    units = yield Asked("units", domain, default)
    rate = yield Asked("rate", Float(1e-4, 1e-1, log=True), 1e-3)
    yield Asked("momentum", Float(0.5, 0.99, log=True), 0.9, mirrored=True)
    yield Asked("bias", Fixed(value=True), default=True)
    assert isinstance(units, int)
    assert isinstance(rate, float)
    return Cost(100 * units, 10_000 * units)


class Asking(Shuffled):
    """Workers whose hypermodel asks as ``build`` yields; ``loses`` names trials whose first build ends the worker."""

    def __init__(
        self, build: Callable[[TrainJob], Build] = conditional, seed: int = 0, *, script: Any = good,
        own_fit: bool = False, loses: set[int] | None = None, asks_later: tuple[Asked, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(seed, script)
        self._build, self._own_fit, self._loses, self._later = build, own_fit, loses or set(), asks_later
        self._builds: dict[int, Build] = {}
        self._left: dict[int, list[Asked]] = {}
        self.told: dict[int, Values] = {}
        """What each trial's build was given, by its number."""

    def send(self, worker: int, message: ToWorker) -> None:
        if isinstance(message, TrainJob):
            super().send(worker, message)
            self._inbox.pop()  # it is not built yet
            self._builds[worker] = self._build(message)
            self._left[worker] = list(self._later)
            self.told[message.number] = {}
            self._ask(worker, None)
        elif isinstance(message, Suggested):
            if worker in self._builds:
                self._ask(worker, message.value)
            else:
                self._go_on(worker)
        else:
            super().send(worker, message)

    def _ask(self, worker: int, answer: Value) -> None:
        job, build = self._jobs[worker][0], self._builds[worker]
        try:
            asked = build.send(answer)
            while asked.name in job.values:
                asked = build.send(job.values[asked.name])
        except StopIteration as stop:
            del self._builds[worker]
            self._inbox.append((worker, Built(job.job, stop.value, self._own_fit)))
        except ValueError as error:
            self._end(worker, Failed(job.job, str(error)))
        else:
            if job.number in self._loses and asked.name == "rate":
                self._loses.discard(job.number)
                self._end(worker, Lost("the worker process was ended by SIGKILL"))
                return
            self._inbox.append((worker, Suggest(job.job, asked)))

    def _go_on(self, worker: int) -> None:
        job, script = self._jobs[worker]
        if self._left[worker]:
            self._inbox.append((worker, Suggest(job.job, self._left[worker].pop(0))))
        elif self._own_fit and script and script[0] == "done":
            self._end(worker, Done(job.job))
        else:
            super()._go_on(worker)


@pytest.fixture
def text(tmp_path: Path) -> str:
    """A space around a hypermodel's file, as a study keeps it."""
    (tmp_path / "my_model.py").write_text("def build(hp): ...\n")
    return read_space(str(tmp_path / "my_model.py")).text


def search(
    bench: Bench, text: str, settings: SearchSettings = SETTINGS, executor: Asking | None = None, *, workers: int = 2,
    rehearsed: Rehearsed = OF_DEFAULTS, name: str = "s",
) -> tuple[optuna.Study, list[TrialSummary]]:  # fmt: skip
    study, space_file = bench.study(settings, text, name)
    executor = executor or Asking()
    bench.coordinator(study, space_file, settings, executor, workers=workers, rehearsed=rehearsed).run()
    study, _ = load_study(study._storage, name)
    return study, summaries(study)


def test_the_first_trial_has_the_defaults_and_the_others_what_the_sampler_says(bench: Bench, text: str) -> None:
    study, trials = search(bench, text)

    assert trials[0].values == {"kind": "cnn", "units": 32, "rate": 1e-3, "momentum": pytest.approx(0.9), "bias": True}
    assert trials[0].enqueued
    assert [trial.number for trial in trials] == list(range(8))
    assert all(trial.state in ("complete", "pruned") for trial in trials)
    assert len({trial.values["rate"] for trial in trials}) == 8
    first = study.get_trials()[0]
    assert first.params["momentum (mirrored)"] == pytest.approx(0.5 + 0.99 - 0.9)


def test_the_best_of_an_earlier_study_come_after_the_defaults_and_what_a_changed_file_refuses_is_its_default(
    bench: Bench, text: str, tmp_path: Path
) -> None:
    _, earlier = search(bench, text)
    ranked = sorted((one for one in earlier if one.state == "complete"), key=lambda one: -(one.val_accuracy or 0.0))
    request = Request(space=str(tmp_path / "my_model.py"), out=str(bench.outputs.folder), start_with="s")

    def narrower(job: TrainJob) -> Build:
        cost = yield from conditional(job)
        yield Asked("units", Int(0, 1), 0)
        return cost

    settings = dataclasses.replace(SETTINGS, trials=6, pruner="none")
    best = [one.values for one in ranked][:5]
    _, found = search(bench, planned(request)[0].text, settings, name="new")
    _, changed = search(bench, planned(request)[0].text, settings, Asking(narrower), name="changed")

    assert found[0].values == earlier[0].values  # the defaults
    assert [one.values for one in found if one.enqueued][1:] == best
    assert {one.values["units"] for one in changed if one.enqueued} == {0}


def test_one_name_under_two_conditions_is_two_parameters_in_the_study_and_one_in_the_report(
    bench: Bench, text: str
) -> None:
    study, trials = search(bench, text)

    named = {name for trial in study.get_trials() for name in trial.params}
    assert {"units [kind = mlp]", "units [kind = cnn]"} <= named
    assert {"units"} == {name for trial in trials for name in trial.values if name.startswith("units")}
    seen = as_searched(bench.study(SETTINGS, text)[1].space, study).parameters
    assert set(seen) == {"kind", "units", "rate", "momentum", "bias"}
    assert seen["momentum"] == Float(0.5, 0.99)
    assert seen["rate"] == Float(1e-4, 1e-1, log=True)
    assert seen["bias"] == Fixed(value=True)
    for trial in trials:
        assert all(seen[name].contains(value) for name, value in trial.values.items())


def test_a_name_that_comes_with_other_choices_gets_a_number() -> None:
    names, study = Names(), optuna.create_study()

    first = names.draw(Asked("x", Choice((1, 2)), 1), study.ask())
    other = names.draw(Asked("x", Choice((3, 4)), 3), study.ask())
    again = Names(study.get_trials()).draw(Asked("x", Choice((3, 4)), 3), study.ask())

    assert (first[0], other[0], again[0]) == ("x", "x (2)", "x (2)")
    assert first[1] in (1, 2)
    assert {other[1], again[1]} <= {3, 4}


def test_a_network_over_the_limits_is_refused_when_it_stands(bench: Bench, text: str) -> None:
    limited = text.replace("[hypermodel]", "[limits]\nparameters = 4000\n\n[hypermodel]")

    _, trials = search(bench, limited)

    refused = [trial for trial in trials if trial.state == "refused"]
    assert refused
    assert all(int(trial.values["units"] or 0) > 40 and not trial.curve for trial in refused)
    assert sum(trial.counted for trial in trials) == 8


def few(_job: TrainJob) -> Build:
    yield Asked("units", Choice((8, 16)), 8)
    return CHEAP


def test_the_same_values_are_told_their_twins_result(bench: Bench, text: str) -> None:
    _, trials = search(bench, text, executor=Asking(few), workers=1)

    states = [trial.state for trial in trials]
    assert states.count("duplicate") == 6
    assert {trial.values["units"] for trial in trials if trial.state != "duplicate"} == {8, 16}


def test_a_worker_lost_while_it_builds_costs_nothing(tmp_path: Path, small: Source, text: str) -> None:
    undisturbed, _ = search(Bench(tmp_path / "whole", small), text, DETERMINISTIC)
    bench = Bench(tmp_path / "lossy", small)

    lossy, trials = search(bench, text, DETERMINISTIC, Asking(loses={1, 4}))

    assert told(lossy) == told(undisturbed)
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert sum("is built again" in event.text for event in bench.events if isinstance(event, Note)) == 2


def test_a_deterministic_search_is_the_same_in_whatever_order_messages_arrive(
    tmp_path: Path, small: Source, text: str
) -> None:
    studies = [
        told(search(Bench(tmp_path / f"{seed}", small), text, DETERMINISTIC, Asking(seed=seed), workers=3)[0])
        for seed in range(3)
    ]

    assert all(study == studies[0] for study in studies[1:])
    assert {state for _, state, *_ in studies[0]} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize("distance", [5, 9, 14])
def test_a_coordinator_that_dies_at_any_write_ends_with_the_same_study(
    tmp_path: Path, small: Source, text: str, crashing: dict[str, int], distance: int
) -> None:
    whole = told(search(Bench(tmp_path / "whole", small), text, DETERMINISTIC)[0])
    dying, deaths = Bench(tmp_path / "dying", small), 0

    while True:
        dying.study(DETERMINISTIC, text)
        crashing.update(writes=0, at=distance + deaths % 3)
        try:
            study, _ = search(dying, text, DETERMINISTIC, Asking(seed=deaths))
        except Crash:
            deaths += 1
            assert deaths < 100
        else:
            break

    assert deaths > 5
    assert told(study) == whole


def test_an_interrupted_build_is_drawn_again(bench: Bench, text: str) -> None:
    class Interrupting(Asking):
        def _ask(inner, worker: int, answer: Value) -> None:  # noqa: N805
            super()._ask(worker, answer)
            if inner._jobs[worker][0].number == 3:
                bench.interruption.asked = True

    search(bench, text, executor=Interrupting(), workers=1)
    bench.interruption.asked = False
    _, trials = search(bench, text, workers=1)

    assert [trial.number for trial in trials] == list(range(8))
    assert all(trial.state in ("complete", "pruned") for trial in trials)


def test_a_hypermodel_that_cannot_be_built_fails_its_trial_and_no_more(bench: Bench, text: str) -> None:
    def picky(job: TrainJob) -> Build:
        units = yield Asked("units", Int(1, 100), 16)
        if job.number == 2:
            raise ValueError(f"my_model.py: it cannot be built: ValueError: {units} (line 7)")
        return CHEAP

    _, trials = search(bench, text, executor=Asking(picky))

    assert trials[2].state == "failed"
    assert "line 7" in trials[2].reason
    assert trials[2].values["units"]
    assert all(trial.state in ("complete", "pruned") for trial in trials if trial.number != 2)


def shortening(job: TrainJob) -> list[float | str]:
    """A fit that ends after one epoch, or when it is told."""
    return [0.6, "done"] if job.number == 1 else good(job)


def test_a_fit_of_its_own_may_end_before_its_time_and_ask_for_values_on_the_way(bench: Bench, text: str) -> None:
    later = (Asked("batch_size", Choice((32, 64)), 32),)
    executor = Asking(few, own_fit=True, script=shortening, asks_later=later)

    study, trials = search(bench, text, executor=executor, rehearsed=BY_ITSELF)

    assert trials[1].state == "complete"
    assert len(trials[1].curve) == 1
    assert trials[1].val_accuracy == 0.6
    assert trials[0].values == {"units": 8, "batch_size": 32}
    assert all(set(trial.values) == {"units", "batch_size"} for trial in trials)  # twins are trained: nobody knew
    assert all(set(trial.params) == {"units", "batch_size"} for trial in study.get_trials())


def test_a_fit_of_its_own_begins_anew_after_a_crash_and_says_so(bench: Bench, text: str) -> None:
    begun: list[int] = []

    def dies(job: TrainJob) -> list[float | str]:
        begun.append(job.number)
        return [*good(job)[:2], "die"] if job.number == 2 and begun.count(2) == 1 else good(job)

    settings = SearchSettings(trials=4, epochs=3, pruner="none", seed=1)

    _, trials = search(bench, text, settings, Asking(own_fit=True, script=dies), rehearsed=BY_ITSELF)

    assert [result.epoch for result in trials[2].curve] == [1, 2, 3]
    assert trials[2].attempts == 2
    notes = [event.text for event in bench.events if isinstance(event, Note)]
    assert any("Trial 2 begins anew" in note for note in notes)


def test_a_fit_that_ends_sooner_when_it_begins_anew_is_worth_what_it_showed_then(bench: Bench, text: str) -> None:
    begun: list[int] = []

    def dies(job: TrainJob) -> list[float | str]:
        begun.append(job.number)
        if job.number != 1:
            return good(job)
        return [0.5, 0.6, 0.9, "die"] if begun.count(1) == 1 else [0.5, 0.2, "done"]

    settings = SearchSettings(trials=3, epochs=6, pruner="none", seed=1)

    study, trials = search(bench, text, settings, Asking(own_fit=True, script=dies), rehearsed=BY_ITSELF, workers=1)

    assert [result.val_accuracy for result in trials[1].curve] == [0.5, 0.2]
    assert (trials[1].state, trials[1].val_accuracy, study.get_trials()[1].value) == ("complete", 0.2, 0.2)


def test_a_resumed_search_names_the_setting_that_differs_where_the_file_is_the_same(
    bench: Bench, text: str, tmp_path: Path
) -> None:
    search(bench, text, dataclasses.replace(SETTINGS, trials=1))
    file = tmp_path / "my_model.py"

    def again(*changes: str) -> str:
        request = Request(space=str(file), study="s", out=str(bench.outputs.folder), resume=True, changes=changes)
        with pytest.raises(StudyError) as error, claimed(request):
            pass
        return str(error.value)

    assert "was searched with hypermodel.batch_size = 32, not 64" in again("hypermodel.batch_size=64")
    assert "was made with another space" in again("limits.parameters=9")
    file.write_text("def build(hp): return hp\n")
    assert "made with another my_model.py, before it was changed" in again("hypermodel.batch_size=64")


def test_a_worker_that_computes_on_and_does_not_hear_that_its_training_was_taken_is_ended(small: Source) -> None:
    class Deaf(ScriptedWorkers):
        def send(inner, worker: int, message: ToWorker) -> None:  # noqa: N805
            if isinstance(message, TrainJob):
                inner._jobs[worker] = (message, deque())

        def receive(inner, timeout: float) -> list[tuple[int, FromWorker]]:  # noqa: N805
            time.sleep(0.005)
            beats = [(worker, Beat(job.job)) for worker, (job, _) in inner._jobs.items()]
            return super().receive(timeout) or beats

    executor = Deaf(good)
    crew = Crew(executor, 1, heartbeat=0.1, observe=lambda _: None)
    crew.hear()
    crew.hand(TrainJob(7, {}, small, epochs=1, seed=0))
    until = time.monotonic() + 0.3
    while time.monotonic() < until:  # its thread says that it computes: it is not silent
        assert crew.hear() == []
    assert executor.started == 1

    crew.drop(7)
    until = time.monotonic() + 5
    while executor.started == 1 and time.monotonic() < until:
        crew.hear()

    assert executor.started == 2


@pytest.mark.parametrize("sampler", ["grid", "qmc"])
def test_samplers_that_need_the_space_before_are_refused(bench: Bench, text: str, sampler: str) -> None:
    _, space_file = bench.study(SETTINGS, text)

    with pytest.raises(SpaceError, match=f"sampler = {sampler} needs to know the space before"):
        make_sampler(SearchSettings(sampler=sampler), space_file.space)


def test_a_trial_that_somebody_adds_meanwhile_keeps_its_number_and_the_drafts_theirs(bench: Bench, text: str) -> None:
    class Adding(Asking):
        def _ask(inner, worker: int, answer: Value) -> None:  # noqa: N805
            if inner._jobs[worker][0].number == 3 and not added:
                added.append(True)
                study.add_trial(optuna.trial.create_trial(value=0.1))
            super()._ask(worker, answer)

    added: list[bool] = []
    study, space_file = bench.study(SETTINGS, text)

    bench.coordinator(study, space_file, SETTINGS, Adding(), workers=2, rehearsed=OF_DEFAULTS).run()

    found = load_study(study._storage, "s")[0].get_trials()
    assert [trial.number for trial in found] == list(range(len(found)))
    assert all(trial.state != TrialState.RUNNING for trial in found)
    assert sum(trial.value == 0.1 for trial in found) == 1
    assert Ledger(study).readings == 1
