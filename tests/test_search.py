"""The coordinator on a real SQLite study, with workers whose curves are written down in the test."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tuner.data.sources import Source
from tuner.errors import EnvironmentProblem, SearchError, StudyError
from tuner.records import Note, TrialEnded
from tuner.reporting.report import compute_saved
from tuner.search.asking import MAX_UNTRAINED_IN_A_ROW
from tuner.search.budget import Clock, Pace, plan_refit
from tuner.search.messages import FromWorker, Lost, TrainJob
from tuner.search.storage import open_storage
from tuner.search.study import StudyFacts, create_study, summaries
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.reader import parse_space
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE
from .scripted import Bench, ScriptedWorkers, dying, good, values_of


def test_trials_are_a_total_and_every_one_of_them_is_told(bench: Bench) -> None:
    study, _ = bench.search(SearchSettings(trials=9, epochs=4))

    states = [trial.state for trial in study.get_trials()]
    assert len(states) == 9
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert sum(isinstance(event, TrialEnded) for event in bench.events) == 9


def test_a_resumed_search_counts_the_trials_that_are_there(bench: Bench) -> None:
    bench.search(SearchSettings(trials=4, epochs=2))

    study, executor = bench.search(SearchSettings(trials=7, epochs=2))

    assert len(study.get_trials()) == 7
    assert [job.number for job in executor.handed_out] == [4, 5, 6]
    assert len({str(values) for values in values_of(study)}) == 7


def test_a_trials_value_is_its_last_epochs_accuracy_not_its_best(bench: Bench) -> None:
    study, _ = bench.search(SearchSettings(trials=1, epochs=3), lambda _: [0.5, 0.9, 0.7])

    assert study.trials[0].value == 0.7


def test_the_same_seed_asks_for_the_same_values_until_the_model_starts(tmp_path: Path, small: Source) -> None:
    settings = SearchSettings(trials=12, epochs=2, seed=3, startup_trials=10)
    one, _ = Bench(tmp_path / "one", small).search(settings, workers=2)
    # Another timing: one worker, and curves that make the pruner decide otherwise.
    two, _ = Bench(tmp_path / "two", small).search(settings, lambda _: [0.3, 0.4], workers=1)

    assert values_of(one)[:10] == values_of(two)[:10]


def test_a_trials_seed_depends_on_the_study_seed_and_its_number_alone(tmp_path: Path, small: Source) -> None:
    seeds = []
    for folder, workers in (("one", 1), ("two", 3)):
        _, executor = Bench(tmp_path / folder, small).search(
            SearchSettings(trials=6, epochs=2, seed=5), workers=workers
        )
        seeds.append({job.number: job.seed for job in executor.handed_out})

    assert seeds[0] == seeds[1]
    assert len(set(seeds[0].values())) == 6


def test_a_start_with_entry_is_tried_once_and_marked(bench: Bench) -> None:
    bench.search(SearchSettings(trials=3, epochs=2))
    study, _ = bench.search(SearchSettings(trials=6, epochs=2))

    marked = [trial.number for trial in summaries(study) if trial.enqueued]
    assert marked == [0]
    assert summaries(study)[0].values["learning_rate"] == 5e-3


def test_a_configuration_over_the_limits_is_refused_apart_and_never_trained(bench: Bench) -> None:
    text = SMALL_SPACE.replace("[[start_with]]", "[limits]\nparameters = 9000\n\n[[start_with]]").replace(
        "filters_2 = 12\ndense_units = 16", "filters_2 = 4\ndense_units = 16"
    )

    study, executor = bench.search(SearchSettings(trials=8, epochs=2, startup="random"), text=text)

    states = [trial.state for trial in summaries(study)]
    assert states.count("refused") > 0
    assert len(states) - states.count("refused") == 8
    assert len(executor.handed_out) == 8
    refused = next(trial for trial in study.get_trials() if "refused" in trial.user_attrs)
    assert refused.state == TrialState.PRUNED
    assert refused.constraints["limits"] > 0
    assert "over the limit of 9,000" in refused.user_attrs["refused"]["reason"]


def test_two_hundred_refusals_in_a_row_end_the_search_with_a_hint(bench: Bench) -> None:
    text = SMALL_SPACE.replace("[[start_with]]", "[limits]\nparameters = 10\n\n[[start_with]]")

    with pytest.raises(SearchError, match=r"200 configurations in a row were refused or known.*raise \[limits\]"):
        bench.search(SearchSettings(trials=3, epochs=2), text=text)

    assert len(summaries(bench.study(SearchSettings())[0])) == MAX_UNTRAINED_IN_A_ROW


def test_a_failing_trial_keeps_its_reason_and_the_search_goes_on(bench: Bench) -> None:
    study, _ = bench.search(SearchSettings(trials=5, epochs=2), lambda job: ["fail"] if job.number == 2 else good(job))

    failed = summaries(study)[2]
    assert (failed.state, failed.reason) == ("failed", "ValueError: no")
    assert [trial.state for trial in summaries(study)].count("failed") == 1


def test_five_failures_and_nothing_else_end_the_search(bench: Bench) -> None:
    with pytest.raises(SearchError, match="the first 5 trials all failed, the last one with: ValueError: no"):
        bench.search(SearchSettings(trials=20, epochs=2), lambda _: [0.5, "fail"], workers=1)


def test_a_trial_that_loses_its_worker_is_taken_up_again_and_ends_as_if_nothing_had_happened(
    tmp_path: Path, small: Source
) -> None:
    settings = SearchSettings(trials=5, epochs=4, pruner="none")
    whole, _ = Bench(tmp_path / "whole", small).search(settings)

    study, executor = Bench(tmp_path / "lost", small).search(settings, dying(1, 2))

    assert executor.started == 4
    assert [job.number for job in executor.handed_out].count(1) == 3
    assert [summary.curve for summary in summaries(study)] == [summary.curve for summary in summaries(whole)]
    assert [trial.intermediate_values for trial in study.trials] == [t.intermediate_values for t in whole.trials]
    assert summaries(study)[1].attempts == 3


def test_a_trial_that_keeps_losing_its_worker_fails_with_the_reason(bench: Bench) -> None:
    study, executor = bench.search(SearchSettings(trials=5, epochs=2, retries=2), dying(1, 2, 3))

    lost = summaries(study)[1]
    assert (lost.state, lost.reason) == ("failed", "the worker process was ended by SIGKILL, 3 times")
    assert len(lost.curve) == 1
    assert executor.started == 5
    assert len(study.get_trials()) == 5


def test_workers_that_are_lost_with_epochs_gained_in_between_do_not_add_up(bench: Bench) -> None:
    ends = iter([1, 2, 3, 4])

    def script(job: TrainJob) -> list[float | str]:
        return [*good(job)[: next(ends)], "die"] if job.number == 1 else good(job)

    study, _ = bench.search(SearchSettings(trials=3, epochs=4, retries=1, pruner="none"), script)

    trial = summaries(study)[1]
    assert (trial.state, trial.attempts, len(trial.curve)) == ("complete", 4, 4)
    assert study.trials[1].user_attrs["lost"] == 0


def test_workers_that_die_before_they_are_ready_end_the_search(bench: Bench) -> None:
    class Dying(ScriptedWorkers):
        def start(self) -> int:
            self.started += 1
            self._inbox.append((self.started, Lost("the worker process ended with exit code 1")))
            return self.started

    settings = SearchSettings(trials=3)
    study, space_file = bench.study(settings)
    coordinator = bench.coordinator(study, space_file, settings, Dying(good), workers=1)

    with pytest.raises(EnvironmentProblem, match="die before they are ready"):
        coordinator.run()


def test_a_trial_that_a_dead_search_left_running_runs_again_under_its_number(bench: Bench) -> None:
    settings = SearchSettings(trials=4, epochs=3)
    study, space_file = bench.study(settings)
    left = study.ask()
    asked = space_file.space.sample(left)
    left.report(0.4, 1)

    study, executor = bench.search(settings)

    assert len(study.get_trials()) == 4
    assert executor.handed_out[0].number == left.number
    assert executor.handed_out[0].values == asked
    trial = study.get_trials()[left.number]
    assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    assert trial.intermediate_values[1] == 0.4  # what was stored stays


def test_the_clock_stops_running_trials_and_marks_them(bench: Bench) -> None:
    class Slow(ScriptedWorkers):
        def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
            time.sleep(0.2)
            return super().receive(timeout)

    settings = SearchSettings(time=36.0, epochs=100, pruner="none", refit_epochs=1, refit_seeds=1)
    study, space_file = bench.study(settings)
    executor = Slow(lambda _: [0.5] * 100, seconds=1e-6)
    start = time.monotonic()
    bench.coordinator(study, space_file, settings, executor, workers=1, pace=1e-15).run()

    assert [trial.state for trial in summaries(study)] == ["clock"]
    assert study.trials[0].state == TrialState.PRUNED
    assert 2.0 < time.monotonic() - start < 6.0  # 36 s less what stopping, scoring and reporting may take


def test_a_budget_that_cannot_hold_one_trial_says_so_before_training(bench: Bench) -> None:
    settings = SearchSettings(time=20.0)
    task = SearchTask(parse_space("small", SMALL_SPACE).space, settings, bench.source, 1000.0, 2)

    with pytest.raises(SearchError, match="--time 20s cannot hold one trial"):
        Timekeeper(task, Clock(time.monotonic(), 20.0), Pace(1e-9)).check_budget()


def test_a_search_that_has_a_winner_outlives_two_hundred_refusals(bench: Bench) -> None:
    bench.search(SearchSettings(trials=2, epochs=2, pruner="none"))
    shut = SMALL_SPACE.replace("[[start_with]]", "[limits]\nparameters = 10\n\n[[start_with]]")

    study, executor = bench.search(SearchSettings(trials=9, epochs=2), text=shut)

    states = [trial.state for trial in summaries(study)]
    assert (states.count("complete"), states.count("refused")) == (2, MAX_UNTRAINED_IN_A_ROW)
    assert executor.handed_out == []
    assert any("200 configurations in a row" in event.text for event in bench.events if isinstance(event, Note))


def test_an_adopted_trial_is_not_judged_again_where_it_had_gone_on(bench: Bench) -> None:
    settings = SearchSettings(trials=5, epochs=9, pruner="asha")
    study, space_file = bench.study(settings)
    left = study.ask()
    space_file.space.sample(left)
    for epoch in (1, 2, 3, 4):  # it had passed the rungs at 1 and 3
        left.report(0.01, epoch)
    others = [study.ask() for _ in range(3)]
    for other in others:
        space_file.space.sample(other)
        for epoch in (1, 2, 3):
            other.report(0.9, epoch)
        study.tell(other, state=TrialState.PRUNED)

    study, _ = bench.search(settings, lambda _: [0.01] * 9, workers=1)

    assert summaries(study)[left.number].state == "complete"


def test_without_a_refit_the_search_has_the_whole_time(bench: Bench) -> None:
    task = SearchTask(parse_space("small", SMALL_SPACE).space, SearchSettings(time=100.0), bench.source, 1000.0, 2)
    clock = Clock(time.monotonic(), 100.0)

    alone = Timekeeper(task, clock, Pace(1e-9), refit=False).search_seconds_left(None, [])
    kept_back = Timekeeper(task, clock, Pace(1e-9)).search_seconds_left(None, [])

    assert 90 < alone < 93
    assert kept_back < 68


def test_compute_saved_counts_what_the_pruner_stopped(bench: Bench) -> None:
    study, _ = bench.search(SearchSettings(trials=12, epochs=9))
    trials = summaries(study)
    trained = sum(trial.cost.multiply_adds * len(trial.curve) for trial in trials)
    full = sum(trial.cost.multiply_adds * 9 for trial in trials)

    assert compute_saved(trials, 9) == pytest.approx(1 - trained / full)
    assert 0.2 < compute_saved(trials, 9) < 0.9


def test_a_study_that_exists_is_not_overwritten(bench: Bench) -> None:
    bench.search(SearchSettings(trials=1, epochs=1))
    storage = open_storage(bench.outputs, create=True)
    space_file = parse_space("small", SMALL_SPACE)

    with pytest.raises(StudyError, match="exists"):
        create_study(storage, "s", StudyFacts("small", "", "", "", SearchSettings()), space_file.space)


def test_refit_seeds_are_dropped_before_epochs_are_cut() -> None:
    settings = SearchSettings(refit_epochs=10, refit_seeds=4)

    whole = plan_refit(settings, epoch_seconds=1.0, workers=2, left=21.0)
    fewer = plan_refit(settings, epoch_seconds=1.0, workers=2, left=15.0)
    shorter = plan_refit(settings, epoch_seconds=2.0, workers=2, left=15.0)

    assert (whole.epochs, whole.seeds, whole.note) == (10, 4, "")
    assert (fewer.epochs, fewer.seeds) == (10, 2)
    assert (shorter.epochs, shorter.seeds) == (7, 2)
    assert "2 of 4 refit seeds dropped" in fewer.note
    assert "cut to 7 of 10 epochs and 2 of 4 seeds" in shorter.note
