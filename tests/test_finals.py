"""The best trials judged again from fresh seeds: the winner is who is best then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.evaluation.finals import finalists_of, judge_finalists, read_finals, winner_of
from tuner.records import Cost, FinalEpochEnded, FinalsStarted, Note, TrialSummary
from tuner.reporting.report import winner_document
from tuner.runs import Interruption
from tuner.search.crew import Crew
from tuner.search.messages import TrainJob
from tuner.search.shelf import Shelf
from tuner.search.study import StudyFacts
from tuner.space.settings import SearchSettings

from .conftest import Done
from .scripted import Bench, ScriptedWorkers

SETTINGS = SearchSettings(trials=4, epochs=2, top=3, top_seeds=2)


def trial(number: int, accuracy: float, state: str = "complete") -> TrialSummary:
    return TrialSummary(number, state, {"filters_1": 8}, accuracy, cost=Cost(1000, 1000))


TRIALS = [trial(0, 0.90), trial(1, 0.93), trial(2, 0.92), trial(3, 0.91), trial(4, 0.99, "pruned")]
FRESH = {0: [0.9, 0.9], 1: [0.90, 0.91], 2: [0.92, 0.94], 3: [0.95, 0.80]}


def facts(settings: SearchSettings = SETTINGS) -> StudyFacts:
    return StudyFacts("small", "", "", "", settings, identity="one")


def judge(bench: Bench, of: StudyFacts, left: Callable[[], float] = lambda: 1e9, once: float = 0.0) -> ScriptedWorkers:
    finalists = finalists_of(TRIALS, of.settings)
    seeds: dict[int, int] = {}

    def script(job: TrainJob) -> list[float | str]:
        at = Path(job.checkpoints or "").name.split("-")
        seeds[job.number] = job.seed
        assert not job.cut.everything
        return [0.5, FRESH[int(at[1])][int(at[2])]]

    workers: Any = ScriptedWorkers(script, seconds=10.0)
    crew = Crew(workers, 2, heartbeat=120.0, observe=bench.events.append)
    shelf = Shelf(bench.outputs.folder / "checkpoints", 3)
    judge_finalists(finalists, of, bench.source, bench.outputs.folder, shelf=shelf, crew=crew, left=left, once=once, patience=0.0,
                    interruption=Interruption(), observe=bench.events.append)  # fmt: skip
    assert len(set(seeds.values())) == len(seeds)  # fresh, each its own
    return workers


def test_the_best_complete_trials_are_the_finalists() -> None:
    assert [one.number for one in finalists_of(TRIALS, SETTINGS)] == [1, 2, 3]
    assert finalists_of(TRIALS, SearchSettings(top=1)) == []
    assert finalists_of(TRIALS[:1], SETTINGS) == []  # alone there is nothing to judge


def test_the_winner_is_the_finalist_of_the_best_fresh_mean(bench: Bench) -> None:
    of, folder = facts(), bench.outputs.folder
    before = winner_of(folder, of, TRIALS)

    judge(bench, of)

    after = winner_of(folder, of, TRIALS)
    assert before is not None
    assert after is not None
    assert (before.number, after.number) == (1, 2)
    assert read_finals(folder, of, finalists_of(TRIALS, SETTINGS)) == {
        1: [0.90, 0.91],
        2: [0.92, 0.94],
        3: [0.95, 0.80],
    }
    started = next(event for event in bench.events if isinstance(event, FinalsStarted))
    assert (started.trials, started.seeds) == ((1, 2, 3), 2)
    assert sum(isinstance(event, FinalEpochEnded) for event in bench.events) == 12


def test_finals_are_kept_and_not_repeated(bench: Bench) -> None:
    judge(bench, facts())

    again = judge(bench, facts())

    assert again.handed_out == []


def test_finals_of_another_study_or_of_other_finalists_do_not_count(bench: Bench) -> None:
    judge(bench, facts())
    other = StudyFacts("small", "", "", "", SETTINGS, identity="two")
    better = [*TRIALS, trial(5, 0.95)]

    assert winner_of(bench.outputs.folder, other, TRIALS).number == 1  # type: ignore[union-attr]
    assert winner_of(bench.outputs.folder, facts(), better).number == 5  # type: ignore[union-attr]


def test_without_time_for_a_fresh_figure_of_each_the_searchs_own_best_wins(bench: Bench) -> None:
    judge(bench, facts(), left=lambda: 1.0)

    assert not (bench.outputs.folder / "finals.json").exists()
    assert winner_of(bench.outputs.folder, facts(), TRIALS).number == 1  # type: ignore[union-attr]
    assert any(isinstance(event, Note) and "no time to judge every finalist" in event.text for event in bench.events)


def test_finals_that_cannot_end_in_time_are_not_begun(bench: Bench) -> None:
    workers = judge(bench, facts(), left=lambda: 30.0, once=40.0)

    assert workers.handed_out == []
    assert [event.text for event in bench.events if isinstance(event, Note)] == [
        "There is no time to judge every finalist again: the search's own best wins."
    ]


def test_a_finalist_that_fresh_seeds_chose_is_said_to_be_so() -> None:
    assert winner_document(TRIALS, TRIALS[2], SETTINGS)["by_finals"] is True
    assert winner_document(TRIALS, TRIALS[1], SETTINGS)["by_finals"] is False


@pytest.mark.slow
def test_a_search_with_finals_and_folds_reports_them_and_best_agrees(
    tuner: Callable[..., Done], small_folder: Path, space_path: Path, tmp_path: Path
) -> None:
    done = tuner("search", space_path, "--data", small_folder, "--trials", 3, "--epochs", 2, "--top", 2, "--pruner", "none",
                 "--refit-seeds", 1, "--refit-epochs", 1, "--json")  # fmt: skip

    assert done.code == 0, done.err
    report = done.document
    means = {row["number"]: row["mean"] for row in report["finalists"]}
    assert len(means) == 2
    assert report["best_trial"]["number"] == max(means, key=lambda number: means[number])
    assert all(len(row["val_accuracies"]) == 2 for row in report["finalists"])
    assert report["best_trial"]["corrected"] is None
    kept = json.loads((tmp_path / "results" / "runs" / report["study"] / "finals.json").read_text())
    assert set(kept["val_accuracies"]) == {str(number) for number in means}
    assert tuner("best", "--json").document["best_trial"]["number"] == report["best_trial"]["number"]
    assert not list((tmp_path / "results" / "runs" / report["study"] / "checkpoints").glob("final-*"))
