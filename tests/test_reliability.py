"""What a search does when something dies, hangs or repeats itself: the coordinator on real SQLite, workers by script."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tuner.data.sources import Source
from tuner.errors import EnvironmentProblem
from tuner.records import EpochResult, Note, TrialEnded
from tuner.search import crew
from tuner.search.messages import EpochReport, FromWorker, Go, Stop, Stuck, ToWorker, TrainJob
from tuner.search.storage import PatientStorage
from tuner.search.study import summaries
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE
from .scripted import Bench, ScriptedWorkers, dying, good

FEW_VALUES = """
model = "cnn"
[parameters.filters_1]
type = "choice"
options = [4, 8]
[parameters.blocks]
type = "fixed"
value = 1
"""


class Shuffled(ScriptedWorkers):
    """Workers whose messages arrive in an order that ``seed`` shuffles, each worker's own order kept."""

    def __init__(self, seed: int, script: Any = good) -> None:
        super().__init__(script)
        self._random = random.Random(seed)

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        if not self._inbox:
            return []
        worker = self._random.choice(sorted({worker for worker, _ in self._inbox}))
        first = next(item for item in self._inbox if item[0] == worker)
        self._inbox.remove(first)
        return [first]


def told(study: optuna.Study) -> list[tuple]:
    """What a study says of its trials, but for how often they were begun."""
    hidden = ("attempts", "lost", "seconds")
    return [
        (t.number, t.state, t.value, t.params, t.intermediate_values,
         {key: value for key, value in t.user_attrs.items() if key not in hidden})
        for t in study.get_trials()
    ]  # fmt: skip


DETERMINISTIC = SearchSettings(trials=9, epochs=9, deterministic=True, startup_trials=4, seed=1)


def search(bench: Bench, settings: SearchSettings, executor: ScriptedWorkers, workers: int = 3) -> optuna.Study:
    study, space_file = bench.study(settings)
    bench.coordinator(study, space_file, settings, executor, workers=workers).run()
    return study


def test_a_deterministic_search_is_the_same_whatever_order_messages_arrive_in(tmp_path: Path, small: Source) -> None:
    studies = [told(search(Bench(tmp_path / f"{seed}", small), DETERMINISTIC, Shuffled(seed))) for seed in range(3)]

    assert all(study == studies[0] for study in studies[1:])
    assert {state for _, state, *_ in studies[0]} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_without_it_the_order_matters(tmp_path: Path, small: Source) -> None:
    settings = SearchSettings(trials=12, epochs=9, startup_trials=4, seed=1)

    studies = [told(search(Bench(tmp_path / f"{seed}", small), settings, Shuffled(seed))) for seed in range(3)]

    assert any(study != studies[0] for study in studies[1:])


class Crash(BaseException):
    """The coordinator is gone."""


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Let the process "die" at the n-th write to the study, before or after it is committed."""
    state = {"writes": 0, "at": 0}

    def wrap(name: str) -> None:
        real = getattr(PatientStorage, name)

        def write(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
            state["writes"] += 1
            dies = state["writes"] == state["at"]
            if dies and state["writes"] % 2:
                raise Crash
            result = real(self, *args, **kwargs)
            if dies:
                raise Crash
            return result

        monkeypatch.setattr(PatientStorage, name, write)

    for name in ("_create_new_trial", "_set_trial_param", "set_trial_state_values", "set_trial_intermediate_value",
                 "set_trial_user_attr", "set_trial_system_attr"):  # fmt: skip
        assert hasattr(PatientStorage, name)
        wrap(name)
    return state


@pytest.mark.parametrize("distance", [4, 7, 11])
def test_a_coordinator_that_dies_at_any_write_ends_with_the_same_study(
    tmp_path: Path, small: Source, crashing: dict[str, int], distance: int
) -> None:
    text = SMALL_SPACE.replace("[[start_with]]", "[limits]\nparameters = 9000\n\n[[start_with]]").replace(
        "filters_2 = 12\ndense_units = 16", "filters_2 = 4\ndense_units = 16"
    )
    bench = Bench(tmp_path / "whole", small)
    study, space_file = bench.study(DETERMINISTIC, text)
    bench.coordinator(study, space_file, DETERMINISTIC, Shuffled(0), workers=2).run()
    whole = told(study)
    dying = Bench(tmp_path / "dying", small)
    study, space_file = dying.study(DETERMINISTIC, text)
    deaths = 0

    while True:
        crashing.update(writes=0, at=distance + deaths % 3)
        try:
            dying.coordinator(study, space_file, DETERMINISTIC, Shuffled(deaths), workers=2).run()
        except Crash:
            deaths += 1
            assert deaths < 100
            study, _ = dying.study(DETERMINISTIC, text)
        else:
            break

    assert deaths > 5
    assert any("refused" in attrs for *_, attrs in whole)
    assert told(study) == whole


def test_a_decision_that_was_made_is_not_made_again_after_a_crash(bench: Bench) -> None:
    settings = SearchSettings(trials=6, epochs=3)
    study, space_file = bench.study(settings)
    left = study.ask()
    space_file.space.sample(left)
    left.report(0.01, 1)  # stored, so it had passed; since then, better ones have reported
    for _ in range(4):
        other = study.ask()
        space_file.space.sample(other)
        other.report(0.9, 1)
        study.tell(other, state=TrialState.PRUNED)

    study, _ = bench.search(settings, lambda _: [0.01, 0.02, 0.03], workers=1)

    assert summaries(study)[left.number].state == "complete"


@pytest.mark.parametrize("sampler", ["qmc", "random", "grid"])
def test_every_sampler_goes_on_with_the_same_values(
    tmp_path: Path, small: Source, crashing: dict[str, int], sampler: str
) -> None:
    settings = dataclasses.replace(DETERMINISTIC, sampler=sampler, trials=5, epochs=2)
    text = SMALL_SPACE.replace("low = 1e-4\nhigh = 1e-1\nlog = true", "low = 0.01\nhigh = 0.03\nstep = 0.01").replace(
        "low = 0.5\nhigh = 0.95", "low = 0.5\nhigh = 0.9\nstep = 0.2").replace("5e-3", "0.01")  # fmt: skip
    bench = Bench(tmp_path / "whole", small)
    study, space_file = bench.study(settings, text)
    bench.coordinator(study, space_file, settings, Shuffled(0), workers=2).run()
    dying = Bench(tmp_path / "dying", small)
    again, space_file = dying.study(settings, text)
    for deaths in range(40):
        crashing.update(writes=0, at=5 + deaths)
        try:
            dying.coordinator(again, space_file, settings, Shuffled(deaths), workers=2).run()
        except Crash:
            again, _ = dying.study(settings, text)
        else:
            break

    assert told(again) == told(study)


def test_what_was_decided_before_a_crash_is_only_told_after_it(bench: Bench) -> None:
    settings = SearchSettings(trials=4, epochs=2)
    study, space_file = bench.study(settings)
    left = study.ask()
    left.set_user_attr("values", space_file.space.sample(left))
    row = dataclasses.asdict(dataclasses.replace(GHOST, epoch=1, val_accuracy=0.9))
    # Stored before the report that led to it.
    left.set_user_attr(
        "pruned", {"reason": "behind the others", "seconds": 1.0, "curve": [row], "value": row["val_accuracy"]}
    )

    study, executor = bench.search(settings, workers=1)

    told = study.trials[left.number]
    assert (told.state, told.value, told.intermediate_values) == (TrialState.PRUNED, 0.9, {1: 0.9})
    assert summaries(study)[left.number].reason == "behind the others"
    assert left.number not in [job.number for job in executor.handed_out]


def test_equal_values_of_two_trials_left_running_are_trained_once(bench: Bench) -> None:
    settings = SearchSettings(trials=2, epochs=2, pruner="none")
    study, space_file = bench.study(settings, FEW_VALUES)
    for _ in range(2):
        study.enqueue_trial({"filters_1": 4})
        space_file.space.sample(study.ask())

    study, executor = bench.search(settings, text=FEW_VALUES)

    assert [job.values["filters_1"] for job in executor.handed_out].count(4) == 1
    assert [trial.state for trial in summaries(study)].count("redrawn") >= 1


def test_redraws_are_the_same_after_a_crash(tmp_path: Path, small: Source, crashing: dict[str, int]) -> None:
    settings = dataclasses.replace(DETERMINISTIC, trials=6, epochs=2, pruner="none", startup_trials=0)
    bench = Bench(tmp_path / "whole", small)
    study, space_file = bench.study(settings, FEW_VALUES)
    bench.coordinator(study, space_file, settings, Shuffled(0), workers=4).run()
    dying = Bench(tmp_path / "dying", small)
    again, space_file = dying.study(settings, FEW_VALUES)
    deaths = 0
    while True:
        crashing.update(writes=0, at=10 + deaths % 7)
        try:
            dying.coordinator(again, space_file, settings, Shuffled(deaths), workers=4).run()
        except Crash:
            deaths += 1
            again, _ = dying.study(settings, FEW_VALUES)
        else:
            break

    assert deaths > 2
    assert told(again) == told(study)


def test_a_space_that_is_used_up_ends_a_search_by_time(bench: Bench) -> None:
    started = time.monotonic()

    study, executor = bench.search(SearchSettings(time=600.0, epochs=1, pruner="none"), text=FEW_VALUES, seconds=1e-6)

    assert len(executor.handed_out) == 2
    assert time.monotonic() - started < 60
    assert len(study.trials) < 250
    assert any("were refused or known" in event.text for event in bench.events if isinstance(event, Note))


def test_a_trial_that_failed_for_the_machines_sake_condemns_no_twin(bench: Bench) -> None:
    settings = SearchSettings(trials=6, epochs=2, pruner="none", retries=0)

    study, _ = bench.search(settings, dying(1, number=0), text=FEW_VALUES, workers=1)

    states = [trial.state for trial in summaries(study)]
    assert states[0] == "failed"
    assert states.count("failed") == 1
    assert states.count("complete") == 2


def test_values_are_not_trained_twice(bench: Bench) -> None:
    study, executor = bench.search(SearchSettings(trials=6, epochs=2, pruner="none"), text=FEW_VALUES, workers=1)

    found = summaries(study)
    assert len(executor.handed_out) == 2
    assert [trial.state for trial in found].count("duplicate") == 4
    twin = next(trial for trial in found if trial.state == "duplicate")
    original = study.trials[twin.number].user_attrs["twin_of"]
    assert twin.val_accuracy == found[original].val_accuracy
    assert study.trials[twin.number].state == TrialState.COMPLETE
    assert "not trained again" in twin.reason


def test_values_that_are_being_trained_are_drawn_again_and_a_worker_waits_when_there_are_no_others(
    bench: Bench,
) -> None:
    study, executor = bench.search(SearchSettings(trials=5, epochs=2, pruner="none"), text=FEW_VALUES, workers=4)

    states = [trial.state for trial in summaries(study)]
    assert len(executor.handed_out) == 2
    assert states.count("redrawn") > 0
    assert (states.count("complete"), states.count("duplicate")) == (2, 3)


def test_a_pruned_twin_tells_what_it_reached_and_does_not_crowd_its_rung(bench: Bench) -> None:
    levels = {4: 0.2, 8: 0.9}
    settings = SearchSettings(trials=12, epochs=3, reduction=2)
    study, _ = bench.search(
        settings, lambda job: [levels[int(job.values["filters_1"] or 0)]] * 3, text=FEW_VALUES, workers=1
    )

    for twin in (trial for trial in study.trials if "twin_of" in trial.user_attrs):
        original = study.trials[twin.user_attrs["twin_of"]]
        assert twin.state == original.state
        if twin.state == TrialState.PRUNED:
            assert list(twin.intermediate_values.items()) == list(original.intermediate_values.items())[-1:]


def test_an_interruption_lets_running_epochs_end_and_the_next_search_takes_them_up(
    tmp_path: Path, small: Source
) -> None:
    settings = SearchSettings(trials=6, epochs=4, pruner="none")
    whole = told(Bench(tmp_path / "whole", small).search(settings)[0])
    bench = Bench(tmp_path / "cut", small)
    study, space_file = bench.study(settings)

    class Interrupting(ScriptedWorkers):
        def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
            heard = super().receive(timeout)
            if any(isinstance(message, EpochReport) and message.result.epoch == 2 for _, message in heard):
                bench.interruption.asked = True
            return heard

    bench.coordinator(study, space_file, settings, Interrupting(good), workers=2).run()
    running = [trial for trial in study.get_trials() if trial.state == TrialState.RUNNING]
    bench.interruption.asked = False
    study, executor = bench.search(settings)

    assert len(running) == 2
    assert all(trial.intermediate_values for trial in running)
    assert [job.number for job in executor.handed_out][:2] == [trial.number for trial in running]
    assert [(number, value) for number, _, value, *_ in told(study)] == [
        (number, value) for number, _, value, *_ in whole
    ]
    assert any("Ctrl-C again" in event.text for event in bench.events if isinstance(event, Note))


class Silent(ScriptedWorkers):
    """Workers of which those named in ``silent`` stop talking after their first epoch, until ``come_back``."""

    def __init__(self, silent: set[int], *, come_back: bool) -> None:
        super().__init__(good)
        self.silent, self.come_back = silent, come_back
        self.held: list[tuple[int, FromWorker]] = []
        self.killed: list[int] = []
        self.told: list[tuple[int, ToWorker]] = []

    def send(self, worker: int, message: ToWorker) -> None:
        self.told.append((worker, message))
        if worker in self.silent and isinstance(message, Go | Stop) and self._epochs.get(worker):
            if isinstance(message, Stop) and self.come_back:
                self.silent.discard(worker)
                self._inbox.append((worker, EpochReport(message.job, GHOST)))
            return
        super().send(worker, message)

    def kill(self, worker: int) -> None:
        self.killed.append(worker)
        super().kill(worker)


GHOST = EpochResult(2, 1.0, 0.5, 1.0, 0.99, 0.1, 1.0)
"""A late report of a training that moved on."""


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let silence add up as if every look took long."""
    ticks = iter(range(0, 10**9, 1))
    monkeypatch.setattr(crew.time, "monotonic", lambda: float(next(ticks)))


@pytest.mark.parametrize("come_back", [False, True], ids=["never again", "comes back"])
def test_a_silent_worker_is_given_up_and_its_trial_taken_up_elsewhere(
    bench: Bench, quick_ticks: None, *, come_back: bool
) -> None:
    settings = SearchSettings(trials=4, epochs=3, pruner="none", heartbeat=20.0)
    study, space_file = bench.study(settings)
    executor = Silent({1}, come_back=come_back)

    bench.coordinator(study, space_file, settings, executor, workers=2).run()

    assert [trial.state for trial in summaries(study)] == ["complete"] * 4
    assert max(trial.attempts for trial in summaries(study)) == 2
    assert any("said nothing for" in event.text for event in bench.events if isinstance(event, Note))
    stopped = [message for worker, message in executor.told if worker == 1 and isinstance(message, Stop)]
    assert stopped  # told to drop it
    assert executor.started == 3


def test_a_trial_over_its_memory_fails_at_once_and_the_search_goes_on(bench: Bench) -> None:
    class Growing(ScriptedWorkers):
        def memory(self, worker: int) -> int:
            job = self._jobs.get(worker)
            return (3000 if job and job[0].number == 1 else 500) << 20

    settings = SearchSettings(trials=4, epochs=2, pruner="none", memory=2000.0)
    study, space_file = bench.study(settings)
    bench.coordinator(study, space_file, settings, Growing(good), workers=2).run()

    found = summaries(study)
    assert [trial.state for trial in found] == ["complete", "failed", "complete", "complete"]
    assert found[1].reason == "held 3,000 MiB, over memory = 2,000"
    assert found[1].attempts == 1  # it is not tried again
    assert [trial.peak_memory for trial in found] == [500, 3000, 500, 500]


class Leaking(ScriptedWorkers):
    """Workers that hold ``mib`` more with every training that they are handed."""

    def __init__(self, mib: int) -> None:
        super().__init__(good)
        self._mib = mib
        self.served: list[int] = []

    def memory(self, worker: int) -> int:
        return self.served.count(worker) * self._mib << 20

    def send(self, worker: int, message: ToWorker) -> None:
        if isinstance(message, TrainJob):
            self.served.append(worker)
        super().send(worker, message)


def test_under_a_cap_a_worker_that_holds_half_of_it_is_replaced_and_the_next_trial_does_not_pay(bench: Bench) -> None:
    settings = SearchSettings(trials=3, epochs=1, pruner="none", memory=2000.0)
    study, space_file = bench.study(settings)
    executor = Leaking(1400)

    bench.coordinator(study, space_file, settings, executor, workers=1).run()

    assert [trial.state for trial in summaries(study)] == ["complete"] * 3
    assert len(set(executor.served)) == 3


def test_a_trial_over_its_time_fails_and_the_search_goes_on(bench: Bench) -> None:
    settings = SearchSettings(trials=3, epochs=5, pruner="none", trial_time=25.0)
    study, space_file = bench.study(settings)
    executor = ScriptedWorkers(good, seconds=10.0)

    bench.coordinator(study, space_file, settings, executor, workers=1).run()

    assert [trial.state for trial in summaries(study)] == ["failed"] * 3
    assert summaries(study)[0].reason == "trained 30 s, over trial_time = 25"
    assert len(summaries(study)[0].curve) == 3


def test_a_worker_that_has_grown_is_replaced_between_two_trials(bench: Bench) -> None:
    settings = SearchSettings(trials=8, epochs=1, pruner="none")
    study, space_file = bench.study(settings)
    executor = Leaking(600)

    bench.coordinator(study, space_file, settings, executor, workers=1).run()

    assert (
        max(executor.served.count(worker) for worker in set(executor.served)) == 4
    )  # 600 MiB a trial, 2 GiB of growth allowed
    assert [trial.state for trial in summaries(study)] == ["complete"] * 8


def test_a_full_disk_holds_new_trials_back_and_ends_the_search_with_nothing_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(ScriptedWorkers):
        def _go_on(self, worker: int) -> None:
            if self._epochs[worker] == 1:
                self._inbox.append((worker, Stuck(self._jobs[worker][0].job, "No space left on device")))
            else:
                super()._go_on(worker)

    monkeypatch.setattr(crew, "DISK_PATIENCE_SECONDS", 0.3)
    settings = SearchSettings(trials=5, epochs=3, pruner="none")
    study, space_file = bench.study(settings)
    executor = Full(good)

    with pytest.raises(EnvironmentProblem, match=r"a checkpoint could not be written.*'--resume' goes on"):
        bench.coordinator(study, space_file, settings, executor, workers=2).run()

    assert any("No space left on device" in event.text for event in bench.events if isinstance(event, Note))
    assert len(executor.handed_out) == 2
    study, _ = bench.search(settings)
    assert [trial.state for trial in summaries(study)] == ["complete"] * 5
    assert len(study.trials) == 5


def test_a_deterministic_search_that_is_interrupted_whenever_a_trial_ends_goes_on_the_same(
    tmp_path: Path, small: Source
) -> None:
    whole = told(search(Bench(tmp_path / "whole", small), DETERMINISTIC, Shuffled(0), workers=3))
    bench = Bench(tmp_path / "cut", small)

    class Interrupting(list):
        def append(self, event: object) -> None:
            bench.interruption.asked |= isinstance(event, TrialEnded)
            super().append(event)

    bench.events = Interrupting()
    rounds = 0
    while len([trial for trial in bench.study(DETERMINISTIC)[0].trials if trial.state.is_finished()]) < len(whole):
        bench.interruption.asked = False
        search(bench, DETERMINISTIC, Shuffled(rounds), workers=3)
        rounds += 1

    assert rounds > 5
    assert told(bench.study(DETERMINISTIC)[0]) == whole
