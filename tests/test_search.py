"""The coordinator on a real SQLite study, with workers whose curves are written down in the test."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tuner.data.sources import Source
from tuner.errors import EnvironmentProblem, SearchError, StudyError
from tuner.records import EpochResult, Event, Note, TrialEnded, Values
from tuner.reporting.report import compute_saved
from tuner.runs import Outputs
from tuner.search.budget import Clock, Pace, plan_refit
from tuner.search.coordinator import MAX_REFUSALS_IN_A_ROW, Coordinator
from tuner.search.messages import (
    Built,
    Done,
    EpochReport,
    Failed,
    FromWorker,
    Go,
    Lost,
    Ready,
    Stop,
    ToWorker,
    TrainJob,
)
from tuner.search.pruners import Halving, make_pruner, passes, rungs
from tuner.search.samplers import make_sampler
from tuner.search.study import StudyFacts, create_study, list_studies, load_study, open_storage, summaries
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.reader import SpaceFile, parse_space
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE

Script = Callable[[TrainJob], list[float | str]]
"""What a job's epochs show: accuracies, or a word: ``fail`` raises, ``die`` loses the worker."""


class ScriptedWorkers:
    """An executor whose workers play a script, one message a turn, in the order of the workers."""

    def __init__(self, script: Script, seconds: float = 1.0) -> None:
        self._script, self._seconds = script, seconds
        self._inbox: deque[tuple[int, FromWorker]] = deque()
        self._jobs: dict[int, tuple[TrainJob, deque[float | str]]] = {}
        self._epochs: dict[int, int] = {}
        self.started = 0
        self.handed_out: list[TrainJob] = []

    def start(self) -> int:
        self.started += 1
        self._inbox.append((self.started, Ready()))
        return self.started

    def send(self, worker: int, message: ToWorker) -> None:
        match message:
            case TrainJob():
                self.handed_out.append(message)
                self._jobs[worker] = (message, deque(self._script(message)))
                self._epochs[worker] = 0
                self._inbox.append((worker, Built(message.job)))
            case Go():
                self._go_on(worker)
            case Stop():
                self._end(worker, Done(message.job))
            case _:
                pass

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        return [self._inbox.popleft()] if self._inbox else []

    def close(self) -> None:
        pass

    def _go_on(self, worker: int) -> None:
        job, script = self._jobs[worker]
        if not script:
            self._end(worker, Done(job.job))
            return
        step = script.popleft()
        if step == "fail":
            self._end(worker, Failed(job.job, "ValueError: no"))
        elif step == "die":
            self._end(worker, Lost("the worker process was ended by SIGKILL"))
        else:
            self._epochs[worker] += 1
            result = EpochResult(self._epochs[worker], 1.0, 0.5, 1.0, float(step), 0.1, self._seconds)
            self._inbox.append((worker, EpochReport(job.job, result)))

    def _end(self, worker: int, message: FromWorker) -> None:
        self._jobs.pop(worker, None)
        self._inbox.append((worker, message))


def good(job: TrainJob) -> list[float | str]:
    """Curves that rise towards a level that the trial's seed decides."""
    level = 0.5 + (job.seed % 1000) / 2500
    return [level * (1 - 0.5 ** (epoch + 1)) for epoch in range(job.epochs)]


class Bench:
    """One study in a folder, and searches on it."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.outputs = Outputs.of(str(folder), None)
        self.source = source
        self.events: list[Event] = []

    def study(
        self, settings: SearchSettings, text: str = SMALL_SPACE, name: str = "s"
    ) -> tuple[optuna.Study, SpaceFile]:
        space_file = parse_space("small", text)
        storage = open_storage(self.outputs, create=True)
        if name in [row.name for row in list_studies(storage)]:
            study, _ = load_study(storage, name)
        else:
            facts = StudyFacts("small", text, space_file.hash, self.source.digest, settings)
            study = create_study(storage, name, facts, space_file.space)
        study.sampler, study.pruner = make_sampler(settings, space_file.space), make_pruner(settings)
        return study, space_file

    def search(
        self, settings: SearchSettings, script: Script = good, *, workers: int = 2, text: str = SMALL_SPACE,
        seconds: float = 1.0, name: str = "s",
    ) -> tuple[optuna.Study, ScriptedWorkers]:  # fmt: skip
        study, space_file = self.study(settings, text, name)
        executor = ScriptedWorkers(script, seconds)
        for _ in range(workers):
            executor.start()
        task = SearchTask(space_file.space, settings, self.source, 1000.0, workers)
        clock = Clock(time.monotonic(), settings.time)
        Coordinator(study, task, executor, Timekeeper(task, clock, Pace(1e-9)), self.events.append).run()
        return study, executor


@pytest.fixture
def bench(tmp_path: Path, small: Source) -> Bench:
    return Bench(tmp_path, small)


def values_of(study: optuna.Study) -> list[Values]:
    return [trial.values for trial in summaries(study)]


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
    assert [job.job for job in executor.handed_out] == [4, 5, 6]
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
        seeds.append({job.job: job.seed for job in executor.handed_out})

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

    study, executor = bench.search(SearchSettings(trials=8, epochs=2), text=text)

    states = [trial.state for trial in summaries(study)]
    assert states.count("refused") > 0
    assert len(states) - states.count("refused") == 8
    assert len(executor.handed_out) == 8
    refused = next(trial for trial in study.get_trials() if trial.user_attrs.get("stopped_by") == "refused")
    assert refused.state == TrialState.PRUNED
    assert refused.constraints["limits"] > 0
    assert "over the limit of 9,000" in refused.user_attrs["reason"]


def test_two_hundred_refusals_in_a_row_end_the_search_with_a_hint(bench: Bench) -> None:
    text = SMALL_SPACE.replace("[[start_with]]", "[limits]\nparameters = 10\n\n[[start_with]]")

    with pytest.raises(SearchError, match=r"200 configurations in a row were refused.*raise \[limits\]"):
        bench.search(SearchSettings(trials=3, epochs=2), text=text)

    assert len(summaries(bench.study(SearchSettings())[0])) == MAX_REFUSALS_IN_A_ROW


def test_a_failing_trial_keeps_its_reason_and_the_search_goes_on(bench: Bench) -> None:
    study, _ = bench.search(SearchSettings(trials=5, epochs=2), lambda job: ["fail"] if job.job == 2 else good(job))

    failed = summaries(study)[2]
    assert (failed.state, failed.reason) == ("failed", "ValueError: no")
    assert [trial.state for trial in summaries(study)].count("failed") == 1


def test_five_failures_and_nothing_else_end_the_search(bench: Bench) -> None:
    with pytest.raises(SearchError, match="the first 5 trials all failed, the last one with: ValueError: no"):
        bench.search(SearchSettings(trials=20, epochs=2), lambda _: [0.5, "fail"], workers=1)


def test_a_lost_worker_fails_its_trial_and_is_replaced(bench: Bench) -> None:
    study, executor = bench.search(
        SearchSettings(trials=5, epochs=2), lambda job: [0.5, "die"] if job.job == 1 else good(job)
    )

    lost = summaries(study)[1]
    assert (lost.state, lost.reason) == ("failed", "the worker process was ended by SIGKILL")
    assert len(lost.curve) == 1
    assert executor.started == 3
    assert len(study.get_trials()) == 5


def test_workers_that_die_before_they_are_ready_end_the_search(bench: Bench) -> None:
    class Dying(ScriptedWorkers):
        def start(self) -> int:
            self.started += 1
            self._inbox.append((self.started, Lost("the worker process ended with exit code 1")))
            return self.started

    settings = SearchSettings(trials=3)
    study, space_file = bench.study(settings)
    executor = Dying(good)
    executor.start()
    task = SearchTask(space_file.space, settings, bench.source, 1000.0, 1)
    coordinator = Coordinator(study, task, executor, Timekeeper(task, Clock(0.0, None), Pace(1e-9)), lambda _: None)

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
    assert executor.handed_out[0].job == left.number
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
    executor.start()
    task = SearchTask(space_file.space, settings, bench.source, 1000.0, 1)
    start = time.monotonic()
    Coordinator(study, task, executor, Timekeeper(task, Clock(start, 36.0), Pace(1e-15)), lambda _: None).run()

    assert [trial.state for trial in summaries(study)] == ["clock"]
    assert study.trials[0].state == TrialState.PRUNED
    assert 2.0 < time.monotonic() - start < 6.0  # 36 s less what stopping, scoring and reporting may take


def test_a_budget_that_cannot_hold_one_trial_says_so_before_training(bench: Bench) -> None:
    settings = SearchSettings(time=20.0)
    task = SearchTask(parse_space("small", SMALL_SPACE).space, settings, bench.source, 1000.0, 2)

    with pytest.raises(SearchError, match="--time 20s cannot hold one trial"):
        Timekeeper(task, Clock(time.monotonic(), 20.0), Pace(1e-9)).check_budget()


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


def test_a_search_that_has_a_winner_outlives_two_hundred_refusals(bench: Bench) -> None:
    bench.search(SearchSettings(trials=2, epochs=2, pruner="none"))
    shut = SMALL_SPACE.replace("[[start_with]]", "[limits]\nparameters = 10\n\n[[start_with]]")

    study, executor = bench.search(SearchSettings(trials=9, epochs=2), text=shut)

    states = [trial.state for trial in summaries(study)]
    assert (states.count("complete"), states.count("refused")) == (2, MAX_REFUSALS_IN_A_ROW)
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


def test_halving_answers_the_same_when_asked_again() -> None:
    study = optuna.create_study(direction="maximize", pruner=Halving(first_rung=1, reduction=3, epochs=9))
    for value in (0.9, 0.8, 0.1):
        trial = study.ask()
        trial.report(value, 1)
        answers = [trial.should_prune() for _ in range(3)]
        assert len(set(answers)) == 1
        study.tell(trial, state=TrialState.PRUNED) if answers[0] else None


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
