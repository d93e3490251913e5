"""The study in memory and the study on disk: how often the disk is asked, and that both are the same."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tuner.data.sources import Source
from tuner.errors import StudyError
from tuner.records import count_states
from tuner.search.ledger import Ledger
from tuner.search.messages import FromWorker
from tuner.search.storage import PatientStorage, open_storage
from tuner.search.study import FACTS, list_studies, load_study, summaries, summary_of
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE
from .scripted import Bench, ScriptedWorkers, dying, good

NO_ENTRIES = SMALL_SPACE[: SMALL_SPACE.index("[[start_with]]")] + SMALL_SPACE[SMALL_SPACE.index("[search]") :]
WRITES = ("_create_new_trial", "_set_trial_param", "set_trial_state_values", "set_trial_intermediate_value",
          "set_trial_user_attr", "set_trial_system_attr")  # fmt: skip
READS = ("_get_trials", "get_trial")


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the database was asked for, by the name of the storage's method."""
    asked: list[str] = []

    def listen(name: str) -> None:
        real = getattr(PatientStorage, name)

        def method(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(PatientStorage, name, method)

    for name in (*WRITES, *READS):
        listen(name)
    return asked


def test_a_trial_costs_one_transaction_one_a_report_and_three_at_its_end(bench: Bench, transactions: list[str]) -> None:
    settings = SearchSettings(trials=6, epochs=5, sampler="tpe", startup_trials=3, pruner="median")
    study, space_file = bench.study(settings, NO_ENTRIES)
    coordinator = bench.coordinator(study, space_file, settings, ScriptedWorkers(good), workers=2)
    transactions.clear()

    coordinator.run()

    ended = summaries(study)
    reports = sum(len(trial.curve) for trial in ended)
    assert {trial.state for trial in ended} <= {"complete", "pruned"}
    assert {name: transactions.count(name) for name in WRITES} == {
        "_create_new_trial": 6, "_set_trial_param": 0, "set_trial_state_values": 6,
        "set_trial_intermediate_value": reports, "set_trial_user_attr": 6, "set_trial_system_attr": 0,
    }  # fmt: skip
    assert transactions.count("get_trial") == 0
    assert transactions.count("_get_trials") == 1  # the test's own


def test_entries_that_wait_are_not_read_again_for_every_trial(bench: Bench, transactions: list[str]) -> None:
    entries = "".join(f"\n[[start_with]]\nlearning_rate = {1e-3 * (k + 1)!r}\n" for k in range(20))
    settings = SearchSettings(trials=20, epochs=1, pruner="none")

    _, executor = bench.search(settings, text=NO_ENTRIES + entries)

    assert [job.number for job in executor.handed_out] == list(range(20))
    assert sorted(job.values["learning_rate"] for job in executor.handed_out) == [1e-3 * (k + 1) for k in range(20)]
    assert transactions.count("_get_trials") <= 2  # at the start
    assert transactions.count("get_trial") == 20


def read_anew(bench: Bench) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(storage=open_storage(bench.outputs, create=False), study_name="s").get_trials()


def without_ids(trials: list[optuna.trial.FrozenTrial]) -> list[tuple]:
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.user_attrs, t.system_attrs, t.intermediate_values)
        for t in trials
    ]


def test_memory_holds_what_another_process_reads(bench: Bench) -> None:
    text = SMALL_SPACE.replace("[[start_with]]", "[limits]\nparameters = 9000\n\n[[start_with]]")
    settings = SearchSettings(trials=12, epochs=4, startup_trials=3, seed=2)
    study, space_file = bench.study(settings, text)

    class Interrupting(ScriptedWorkers):
        def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
            bench.interruption.asked |= len(self.handed_out) > 10
            return super().receive(timeout)

    coordinator = bench.coordinator(study, space_file, settings, Interrupting(dying(1, 2)), workers=3)
    coordinator.run()

    memory = coordinator._ledger.study.get_trials()
    states = {trial.state for trial in memory}
    assert {TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE} <= states
    assert any("refused" in trial.user_attrs for trial in memory)
    assert without_ids(memory) == without_ids(read_anew(bench))


def test_a_trial_that_somebody_else_enqueues_while_the_search_runs_is_run_once(bench: Bench) -> None:
    settings = SearchSettings(trials=6, epochs=2, pruner="none")
    study, space_file = bench.study(settings, NO_ENTRIES)

    class Enqueueing(ScriptedWorkers):
        def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
            if len(self.handed_out) == 2 and not bench.interruption.asked and len(read_anew(bench)) == 2:
                other = optuna.load_study(storage=f"sqlite:///{bench.outputs.database}", study_name="s")
                other.enqueue_trial({"learning_rate": 0.0123})
            return super().receive(timeout)

    executor = Enqueueing(good)
    bench.coordinator(study, space_file, settings, executor, workers=2).run()

    trials = read_anew(bench)
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert [job.values["learning_rate"] for job in executor.handed_out].count(0.0123) == 1
    assert sorted(job.number for job in executor.handed_out) == list(range(6))


def test_a_waiting_trial_that_somebody_else_takes_is_not_run_here_too(bench: Bench) -> None:
    study, _ = bench.study(SearchSettings(trials=3))
    ledger = Ledger(study)
    optuna.load_study(storage=f"sqlite:///{bench.outputs.database}", study_name="s").ask()

    drawn = ledger.ask()

    assert drawn.number == 1
    assert ledger.trial(0).state == TrialState.RUNNING


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_new_york")  # Optuna stores UTC, and returns local times
def test_studies_are_counted_as_reading_every_trial_would(bench: Bench) -> None:
    text = SMALL_SPACE.replace("[[start_with]]", "[limits]\nparameters = 9000\n\n[[start_with]]")
    settings = SearchSettings(trials=9, epochs=4, seed=2, retries=0)
    study, space_file = bench.study(settings, text)
    storage = open_storage(bench.outputs, create=False)
    seen = []

    class Watched(ScriptedWorkers):
        def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
            if not self._inbox or self._inbox[0][0] == 1:
                seen.append((list_studies(storage)[0], read_anew(bench)))
            return super().receive(timeout)

    bench.coordinator(study, space_file, settings, Watched(dying(1)), workers=3).run()
    seen.append((list_studies(storage)[0], read_anew(bench)))

    for row, trials in seen:
        begun = [trial for trial in trials if trial.state != TrialState.WAITING]
        complete = [trial.value for trial in begun if trial.state == TrialState.COMPLETE]
        assert list(row.trials.items()) == list(count_states(map(summary_of, begun)).items())
        assert row.best_val_accuracy == max(complete, default=None)
        assert row.started == min((trial.datetime_start for trial in begun), default=None)
    assert {"complete", "pruned", "refused", "failed"} <= seen[-1][0].trials.keys()
    assert any("running" in row.trials for row, _ in seen)


def test_studies_of_others_are_listed_by_what_optuna_knows(bench: Bench) -> None:
    storage = open_storage(bench.outputs, create=True)
    theirs = optuna.create_study(storage=storage, study_name="theirs", direction="minimize")
    for value in (3.0, 1.0, 2.0):
        trial = theirs.ask()
        trial.set_user_attr("failed", True)  # their word, not ours
        theirs.tell(trial, value)
    theirs.enqueue_trial({})
    several = optuna.create_study(storage=storage, study_name="several", directions=["minimize", "maximize"])
    several.tell(several.ask(), (1.0, 2.0))
    optuna.create_study(storage=storage, study_name="empty")

    rows = list_studies(open_storage(bench.outputs, create=False))

    assert [(row.name, row.space, row.trials, row.best_val_accuracy) for row in rows] == [
        ("theirs", "-", {"complete": 3}, 1.0), ("several", "-", {"complete": 1}, None), ("empty", "-", {}, None),
    ]  # fmt: skip
    assert isinstance(rows[0].started, dt.datetime)
    assert rows[2].started is None


def test_a_large_study_is_listed_without_reading_its_trials(bench: Bench, transactions: list[str]) -> None:
    bench.search(SearchSettings(trials=5, epochs=2))
    storage = open_storage(bench.outputs, create=False)
    transactions.clear()

    (row,) = list_studies(storage)

    assert sum(row.trials.values()) == 5
    assert transactions == ["get_trial"]  # the best one


def test_a_study_whose_trials_are_stored_in_another_way_is_refused_in_one_line(bench: Bench) -> None:
    study, _ = bench.search(SearchSettings(trials=1, epochs=1))
    facts = json.loads(study.user_attrs[FACTS])
    del facts["format"]  # as before trials were stored whole
    study.set_user_attr(FACTS, json.dumps(facts))
    storage = open_storage(bench.outputs, create=False)

    with pytest.raises(StudyError, match="its trials are stored in another way") as problem:
        load_study(storage, "s")

    assert "\n" not in str(problem.value)
    assert list_studies(storage)[0].space == "-"


def test_a_resumed_search_draws_as_the_uninterrupted_one_with_a_model_over_conditional_parameters(
    tmp_path: Path, small: Source
) -> None:
    settings = SearchSettings(trials=24, epochs=1, startup_trials=4, seed=7, pruner="none")
    whole, _ = Bench(tmp_path / "whole", small).search(settings, workers=1)
    cut = Bench(tmp_path / "cut", small)
    for trials in (5, 6, 11, 17, 24):
        again, _ = cut.search(SearchSettings(**{**settings.__dict__, "trials": trials}), workers=1)

    assert [trial.params for trial in again.trials] == [trial.params for trial in whole.trials]
    assert {"momentum" in trial.params for trial in whole.trials} == {True, False}
