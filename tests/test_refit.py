"""The refit on scripted workers: lost, interrupted or slow; and which checkpoints stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import SearchError
from tuner.evaluation.refit import Refitted, refit
from tuner.experiment.ending import _as_good
from tuner.records import RefitEpochEnded, TrialSummary
from tuner.runs import Interruption
from tuner.search.budget import END_SECONDS, REFIT_MARGIN, RefitPlan, plan_refit
from tuner.search.crew import Crew
from tuner.search.messages import EpochReport, FromWorker, TrainJob
from tuner.search.shelf import Shelf
from tuner.space.settings import SearchSettings

from .scripted import Bench, ScriptedWorkers, dying, good


def _refit(
    bench: Bench, executor: ScriptedWorkers, left: Any, *, seeds: int, workers: int = 2,
    interruption: Interruption | None = None, done: Sequence[int] = (),
) -> Refitted:  # fmt: skip
    team = Crew(executor, workers, heartbeat=120.0, observe=bench.events.append)
    shelf = Shelf(bench.outputs.folder / "checkpoints", 3)
    return refit({"filters_1": 8}, bench.source, RefitPlan(4, seeds), study_seed=0, shelf=shelf, crew=team, left=left,
                 patience=0.0, interruption=interruption or Interruption(), observe=bench.events.append,
                 done=done)  # fmt: skip


def test_a_refit_trains_the_seeds_that_are_missing_whichever_those_are(bench: Bench) -> None:
    workers = ScriptedWorkers(good)
    whole = _refit(bench, ScriptedWorkers(good), lambda: 1e9, seeds=4)

    missing = _refit(bench, workers, lambda: 1e9, seeds=4, done=(whole.seeds[0], whole.seeds[2]))

    assert missing.seeds == (whole.seeds[1], whole.seeds[3])
    assert missing.keys == (whole.keys[1], whole.keys[3])
    assert sorted(job.number for job in workers.handed_out) == [-4, -2]


@pytest.mark.parametrize(
    ("epochs", "seeds", "enough"),
    [(4, 2, True), (4, 3, True), (4, 1, False), (3, 9, False), (5, 1, True)],
)
def test_an_earlier_refit_is_kept_when_it_is_longer_or_has_as_many_seeds(
    epochs: int, seeds: int, *, enough: bool
) -> None:
    assert _as_good({"epochs": epochs, "seeds": [1] * seeds}, RefitPlan(4, 2)) == enough


def test_a_refit_that_turns_out_slow_drops_the_seeds_that_would_end_late_and_never_the_first(bench: Bench) -> None:
    waves = _refit(bench, ScriptedWorkers(good, seconds=10.0), lambda: 50.0, seeds=4, workers=2)
    beside = _refit(bench, ScriptedWorkers(good, seconds=10.0), lambda: 1.0, seeds=2, workers=2)
    in_time = _refit(bench, ScriptedWorkers(good, seconds=10.0), lambda: 100.0, seeds=4, workers=2)

    assert len(waves.seeds) == 2
    assert waves.note == "2 of 4 refit seeds dropped on the way to keep --time"
    assert len(beside.seeds) == 2  # both end together: dropping one would gain nothing
    assert (len(in_time.seeds), in_time.note) == (4, "")
    assert waves.seeds == in_time.seeds[:2]


def test_a_refit_whose_worker_is_lost_goes_on(bench: Bench) -> None:
    refitted = _refit(bench, ScriptedWorkers(dying(1, number=-2)), lambda: 1e9, seeds=2, workers=2)

    assert [len(curve) for curve in refitted.curves] == [4, 4]


def test_a_machine_that_goes_costs_each_of_its_trainings_one_worker_and_epochs_gained_count(bench: Bench) -> None:
    handed_out: Counter[int] = Counter()

    def script(job: TrainJob) -> list[float | str]:
        handed_out[job.number] += 1
        return [*good(job)[: handed_out[job.number]], *["die"] * (handed_out[job.number] < job.epochs)]

    refitted = _refit(bench, ScriptedWorkers(script), lambda: 1e9, seeds=4, workers=4)

    assert [len(curve) for curve in refitted.curves] == [4] * 4
    assert set(handed_out.values()) == {4}


def test_a_seed_that_loses_four_workers_and_gains_no_epoch_ends_the_refit(bench: Bench) -> None:
    with pytest.raises(SearchError, match="Refit seed 1 lost its workers: the worker process was ended by SIGKILL"):
        _refit(bench, ScriptedWorkers(dying(1, 2, 3, 4, number=-2)), lambda: 1e9, seeds=2)


def test_an_interrupted_refit_stops_between_epochs(bench: Bench) -> None:
    interruption = Interruption()

    class Interrupting(ScriptedWorkers):
        def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
            heard = super().receive(timeout)
            interruption.asked = (
                any(isinstance(m, EpochReport) and m.result.epoch == 2 for _, m in heard) or interruption.asked
            )
            return heard

    with pytest.raises(KeyboardInterrupt):
        _refit(bench, Interrupting(good), lambda: 1e9, seeds=2, workers=2, interruption=interruption)

    epochs = [event.result.epoch for event in bench.events if isinstance(event, RefitEpochEnded)]
    assert max(epochs) <= 3


@pytest.mark.parametrize("limit", [300.0, 660.0, 3600.0])
@pytest.mark.parametrize("epoch_seconds", [1.0, 12.0, 40.0])
def test_time_is_kept_while_refit_epochs_take_at_most_1_3_times_what_was_measured(
    limit: float, epoch_seconds: float
) -> None:
    settings = SearchSettings(time=limit, refit_epochs=16, refit_seeds=4)
    waves_of = lambda plan: -(-plan.seeds // 2)  # noqa: E731
    for spent in (0.3, 0.5, 0.8):  # wherever the search ended
        left = limit * (1 - spent) - END_SECONDS
        plan = plan_refit(settings, epoch_seconds=REFIT_MARGIN * epoch_seconds, workers=2, left=left)

        ends = limit * spent + waves_of(plan) * plan.epochs * 1.3 * epoch_seconds + END_SECONDS

        assert ends <= limit + max(0.05 * limit, 20.0) or (plan.epochs, plan.seeds) == (1, 2)


def test_the_checkpoints_of_the_best_stay_and_those_of_running_trials(tmp_path: Path) -> None:
    best = [TrialSummary(k, "complete", {}, accuracy) for k, accuracy in enumerate([0.5, 0.9, 0.7, 0.7, 0.8])]
    shelf = Shelf(tmp_path, keep=2)
    for number in range(7):
        Path(shelf.place(number)).mkdir()

    shelf.tidy([*best, TrialSummary(5, "pruned", {}, 0.99)])  # trial 6 still runs

    assert sorted(path.name for path in tmp_path.iterdir()) == ["trial-00001", "trial-00004", "trial-00006"]
