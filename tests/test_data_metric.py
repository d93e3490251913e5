"""What trials are judged by: plain accuracy, or every class alike; and that it is called by its name everywhere."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tuner.cli import run
from tuner.console.live import LiveScreen
from tuner.console.plain import line_of
from tuner.console.tables import show_result, show_studies
from tuner.console.words import reason_of
from tuner.errors import SpaceError
from tuner.evaluation.averaging import choose
from tuner.evaluation.ensemble import choose_members
from tuner.evaluation.score import TestScore
from tuner.records import METRICS, Cost, EpochEnded, EpochResult, SearchStarted, TrialStarted, TrialSummary, value_of
from tuner.reporting.figures.search import history
from tuner.reporting.findings import best_so_far, last_accuracy
from tuner.reporting.markdown import as_markdown
from tuner.reporting.notes import trial_note
from tuner.reporting.report import trial_table, winner_document, write_tables
from tuner.search.storage import open_storage
from tuner.search.study import best_trial, list_studies, summaries
from tuner.space.parameters import Int
from tuner.space.settings import SearchSettings
from tuner.training.metrics import accuracy, balanced_accuracy

from . import planted
from .scripted import Bench

BALANCED = "val_balanced_accuracy"
LABELS = np.array([0] * 8 + [1, 1])
ALL_ZERO = np.zeros(10, int)


def test_every_class_counts_alike() -> None:
    assert (accuracy(ALL_ZERO, LABELS), balanced_accuracy(ALL_ZERO, LABELS)) == (0.8, 0.5)
    assert balanced_accuracy(np.array([0] * 4 + [1] * 6), LABELS) == 0.75
    assert balanced_accuracy(np.array([3, 3, 5]), np.array([3, 3, 5])) == 1.0  # classes without images are none
    assert balanced_accuracy(np.array([7, 0]), np.array([0, 0])) == 0.5


def test_a_trial_is_worth_what_the_metric_says(bench: Bench) -> None:
    study, _ = bench.search(SearchSettings(trials=6, epochs=4, metric=BALANCED))
    plain, _ = bench.search(SearchSettings(trials=6, epochs=4), name="plain")

    trials, plain_ones = summaries(study), summaries(plain)
    for trial in trials:
        last = trial.curve[-1]
        assert trial.val_accuracy == last.val_balanced_accuracy == 1 - last.val_accuracy
        assert trial.path == [(result.epoch, result.val_balanced_accuracy) for result in trial.curve]
    assert study.metric_names == ["balanced validation accuracy"]
    assert plain.metric_names == ["validation accuracy"]
    # Good curves rise, so that balanced ones fall: the pruner stops where the other search goes on.
    best = best_trial(trials)
    assert best is not None
    assert best.val_accuracy == max(t.val_accuracy for t in trials if t.state == "complete")
    assert [t.state for t in trials] != [t.state for t in plain_ones]
    rows = {row.name: row.metric for row in list_studies(open_storage(bench.outputs, create=False))}
    assert rows == {"s": BALANCED, "plain": "val_accuracy"}


def test_a_fold_is_judged_by_it_too(bench: Bench) -> None:
    settings = SearchSettings(trials=1, epochs=2, folds=2, metric=BALANCED, pruner="none")
    study, _ = bench.search(settings, lambda _: [0.5, 0.6, 0.7, 0.8])

    (trial,) = summaries(study)
    assert trial.val_accuracy == pytest.approx((0.4 + 0.2) / 2)
    best = winner_document([trial], trial, settings)
    assert best["folds"] == [pytest.approx(0.4), pytest.approx(0.2)]
    assert (best["metric"], best[BALANCED]) == (BALANCED, trial.val_accuracy)
    assert best["val_accuracy"] == pytest.approx((0.6 + 0.8) / 2)


def test_the_metric_of_a_study_stays(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.search(SearchSettings(trials=1, epochs=2, metric=BALANCED))

    code = run(["search", "--resume", "--study", "s", "--metric", "val_accuracy", "--out", str(bench.outputs.folder)])

    assert code == 5
    assert f"was searched with metric = {BALANCED}, not val_accuracy" in capsys.readouterr().err


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(
        SpaceError, match=r"search.metric = 'f1' is unknown \(one of val_accuracy, val_balanced_accuracy\)"
    ):
        SearchSettings(metric="f1")


def balanced_trials() -> list[TrialSummary]:
    """The planted trials, each as much worse on small classes as its number."""
    changed = []
    for trial in planted.SMALL_TRIALS:
        curve = tuple(
            EpochResult(
                *[getattr(one, name) for name in EpochResult.__dataclass_fields__][:7],
                (one.val_accuracy or 0) - 0.1 * trial.number,
            )
            for one in trial.curve
        )
        value = curve[-1].val_balanced_accuracy if curve else None
        changed.append(TrialSummary(trial.number, trial.state, trial.values, value, curve, trial.cost, metric=BALANCED))
    return changed


def test_tables_name_what_they_hold(tmp_path: Path) -> None:
    trials = balanced_trials()
    write_tables(tmp_path, trials, planted.SMALL)

    header, rows = trial_table(trials, planted.SMALL)
    assert header[2] == BALANCED
    assert rows[2][2] == pytest.approx(0.70)
    assert trial_table(planted.SMALL_TRIALS, planted.SMALL)[0][2] == "val_accuracy"
    with (tmp_path / "curves.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["number"] == "2")
    assert (row["val_accuracy"], row[BALANCED]) == ("0.75", "0.55")


def test_a_value_that_is_called_like_a_column_says_what_it_is() -> None:
    named = dataclasses.replace(planted.SMALL, parameters={"state": Int(1, 9), "filters_1": Int(1, 9)})

    header, rows = trial_table(planted.SMALL_TRIALS, named)

    assert header[-2:] == ["value: state", "filters_1"]
    assert len(set(header)) == len(header) == len(rows[0])


def test_a_figure_that_is_missing_is_no_0() -> None:
    epoch = EpochResult(1, 0.5, 0.8, None, None, 1e-3, 1.0)

    with pytest.raises(ValueError, match="epoch 1 has no validation accuracy"):
        value_of([epoch], 1)


def test_a_report_says_by_what_and_gives_both_accuracies_of_the_test_set() -> None:
    trials, settings = balanced_trials(), SearchSettings(epochs=4, trials=7, metric=BALANCED)
    report = planted.report_of(trials, settings)
    report["refit"]["test_balanced_accuracies"] = [0.90, 0.91, 0.92]
    report["best_trial"]["corrected"] = None
    report["averaged"]["test_balanced_accuracies"] = [0.95, 0.96, 0.97]

    said = as_markdown(report)

    assert said.startswith("# cnn-1: test accuracy 93.99 ± 0.07 %, balanced 91.00 ± 1.00 %")
    assert "balanced, every class counting alike: 90.00 %, 91.00 %, 92.00 %." in said
    assert "test accuracy 94.19 ± 0.06 %, balanced 96.00 ± 1.00 %. All other figures are without." in said
    assert "In the search it reached a balanced validation accuracy of 85.00 % after 4 epochs" in said
    assert report["best_trial"]["number"] == 0
    plain = planted.report_of(planted.SMALL_TRIALS, planted.SMALL_SETTINGS)
    plain["refit"]["test_balanced_accuracies"] = [0.90, 0.91, 0.92]
    assert "balanced" not in as_markdown(plain)


def test_the_result_the_studies_and_the_notes_call_it_by_its_name(bench: Bench) -> None:
    trials, settings = balanced_trials(), SearchSettings(epochs=4, trials=7, metric=BALANCED)
    report = planted.report_of(trials, settings)
    console = Console(file=io.StringIO(), width=120, color_system=None)

    show_result(console, report, "somewhere")
    bench.search(settings)
    show_studies(console, list_studies(open_storage(bench.outputs, create=False)))

    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "In the search: balanced validation 85.00 % after 4 epochs" in said
    assert "% balanced" in said
    note = trial_note(trials[0], {})
    assert "**Complete**: a balanced validation accuracy of 85.00 % after 4 epochs." in note
    assert "| epoch | balanced validation | training |" in note
    assert reason_of(trials[0]) == "complete: balanced validation 85.00 % after 4 epochs"
    assert (best_so_far(trials), last_accuracy(trials[2])) == ([(0, 0.85)], pytest.approx(0.70))
    assert history(trials, 0).axes[0].get_ylabel() == "balanced validation accuracy, %"
    assert history(planted.SMALL_TRIALS, 2).axes[0].get_ylabel() == "validation accuracy, %"


def test_progress_shows_the_figure_that_decides() -> None:
    result = EpochResult(1, 0.5, 0.8, 0.6, 0.9, 1e-3, 2.0, 0.7)
    console = Console(file=io.StringIO(), width=90, color_system=None)
    screen = LiveScreen(console)
    for event in (
        SearchStarted("s", "cnn", 2, 4, 20, None, (), BALANCED),
        TrialStarted(1, {}, Cost(10, 10), enqueued=False),
        EpochEnded(1, result),
    ):
        screen(event)
    console.print(screen)

    assert "balanced validation" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "70.00 %" in console.file.getvalue()  # type: ignore[attr-defined]
    assert line_of(EpochEnded(1, result), BALANCED).startswith("trial 1 epoch 1: balanced validation 70.00 %")
    assert line_of(EpochEnded(1, result)).startswith("trial 1 epoch 1: validation 90.00 %")


def probabilities(*classes: int) -> np.ndarray:
    return np.eye(2, dtype=np.float32)[list(classes)] * 0.8 + 0.1


def test_averaging_and_ensembles_are_chosen_by_it() -> None:
    # Plain: right of the eight of class 0. The mirror image: right of both of class 1, and of half the others.
    images = np.zeros((10, 2, 2, 1), np.uint8)
    images[:, 0, 0] = 1

    def predict(pixels: np.ndarray) -> np.ndarray:
        if pixels[0, 0, 0, 0]:
            return probabilities(*ALL_ZERO) * 0.5
        return probabilities(0, 0, 0, 0, 1, 1, 1, 1, 1, 1)

    plain = choose(predict, images, LABELS, np.inf, 1)
    balanced = choose(predict, images, LABELS, np.inf, 1, BALANCED)
    votes = np.stack([probabilities(*ALL_ZERO), probabilities(0, 0, 0, 0, 1, 1, 1, 1, 1, 1)])

    assert plain is not None
    assert balanced is not None
    assert (plain.how, plain.val_accuracy) == ("", 0.8)
    assert (balanced.how, balanced.val_accuracy, balanced.val_accuracy_plain) == ("mirror", 0.75, 0.5)
    assert choose_members(votes, LABELS, 1) == ([(0, 1.0)], 0.8)
    assert choose_members(votes, LABELS, 1, BALANCED) == ([(1, 1.0)], 0.75)


def test_a_score_has_both_accuracies() -> None:
    both = np.stack([probabilities(*ALL_ZERO), probabilities(*LABELS)])
    score = TestScore(both, LABELS)

    assert score.accuracies == [0.8, 1.0]
    assert score.balanced_accuracies == [0.5, 1.0]
    assert score.averaged_balanced_accuracies == []
    assert TestScore(both, LABELS, averaged=both[::-1]).averaged_balanced_accuracies == [1.0, 0.5]
    assert set(METRICS) == {"val_accuracy", BALANCED}
