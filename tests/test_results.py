"""Error bars and screens."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tuner.console.live import LiveScreen
from tuner.console.plain import PlainLines
from tuner.console.tables import show_result
from tuner.records import (
    Cost,
    EpochEnded,
    EpochResult,
    Note,
    RefitEpochEnded,
    RefitStarted,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    TrialSummary,
)
from tuner.reporting.markdown import as_markdown
from tuner.reporting.sentences import origin_sentence, seconds_sentence, verdict

from . import planted


def _epoch(number: int, accuracy: float | None) -> EpochResult:
    return EpochResult(number, 0.5, 0.8, 0.6 if accuracy else None, accuracy, 1e-3, 12.5)


BEST = TrialSummary(
    0, "complete", {"filters_1": 24, "optimizer": "adamw", "flip": True}, 0.8888, (_epoch(1, 0.8), _epoch(2, 0.8888))
)
EVENTS = [
    SearchStarted("cnn-1", "cnn", 2, 4, 20, 720.0),
    TrialStarted(0, BEST.values, Cost(136_738, 4_271_040), enqueued=True),
    TrialEnded(BEST, BEST),
    TrialStarted(1, {**BEST.values, "filters_1": 48}, Cost(248_410, 4_629_696), enqueued=False),
    EpochEnded(1, _epoch(1, 0.7)),
    EpochEnded(1, _epoch(2, 0.9014)),
    TrialEnded(
        TrialSummary(2, "pruned", {}, 0.3, reason="stopped after epoch 1: behind the others at this rung"), BEST
    ),
    Note("A worker was lost."),
]


def _screen(events: list, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    screen = LiveScreen(console)
    for event in events:
        screen(event)
    console.print(screen)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_live_screen_shows_running_trials_the_best_and_the_counts() -> None:
    drawn = _screen(EVENTS, 90)

    assert drawn == GOLDEN_SEARCH


GOLDEN_SEARCH = """\
╭─ tuner search · cnn-1 ─────────────────────────────────────────────────────────────────╮
│ searching: 2 of 20 trials done                                           0:00 of 12:00 │
│                                                                                    0 % │
│           epoch  validation  curve  differs from the best in                           │
│  trial 1  2/4    90.14 %     ▁█     filters_1=48                                       │
│                                                                                        │
│ best: trial 0, validation 88.88 %                                                      │
│ 1 complete · 1 pruned · 0 refused · 0 failed                                           │
│ A worker was lost.                                                                     │
╰────────────────────────────────────────────────────────────────────────────────────────╯
"""


def test_the_live_screen_shows_the_refit() -> None:
    drawn = _screen([*EVENTS, RefitStarted(BEST, 7, 2), RefitEpochEnded(0, _epoch(1, None))], 90)

    assert drawn == GOLDEN_REFIT


GOLDEN_REFIT = """\
╭─ tuner search · cnn-1 ─────────────────────────────────────────────────────────────────╮
│ retraining the winner: 2 seeds, 7 epochs                                 0:00 of 12:00 │
│                                                                                    0 % │
│                epoch  training  curve                                                  │
│  refit seed 0  1/7    80.00 %   ▁                                                      │
│  refit seed 1  0/7    –                                                                │
│                                                                                        │
│ best: trial 0, validation 88.88 %                                                      │
│ 1 complete · 1 pruned · 0 refused · 0 failed                                           │
╰────────────────────────────────────────────────────────────────────────────────────────╯
"""


@pytest.mark.parametrize("width", [40, 60, 200])
def test_the_live_screen_fits_its_terminal(width: int) -> None:
    assert max(len(line) for line in _screen(EVENTS, width).splitlines()) <= width


def test_plain_lines_are_one_line_an_event() -> None:
    lines: list[str] = []
    observe = PlainLines(lines.append)
    for event in [*EVENTS, RefitStarted(BEST, 7, 2), RefitEpochEnded(0, _epoch(1, None))]:
        observe(event)

    assert [line.partition("] ")[2] for line in lines] == [
        "Study cnn-1: space cnn, 20 trials within 12:00, 4 epochs each, 2 workers.",
        "trial 0 starts (136,738 parameters, start_with): filters_1=24 optimizer=adamw flip=True",
        "trial 0 complete: validation 88.88 % after 2 epochs; best so far 88.88 %, trial 0",
        "trial 1 starts (248,410 parameters): filters_1=48 optimizer=adamw flip=True",
        "trial 1 epoch 1: validation 70.00 %, loss 0.500, 12.5 s",
        "trial 1 epoch 2: validation 90.14 %, loss 0.500, 12.5 s",
        "trial 2 pruned: stopped after epoch 1: behind the others at this rung; best so far 88.88 %, trial 0",
        "A worker was lost.",
        "Retraining trial 0 on all training images: 7 epochs, 2 seeds.",
        "refit seed 0 epoch 1: loss 0.500, 12.5 s",
    ]


def test_the_written_report_leads_with_the_answer_and_ends_with_the_command() -> None:
    report = {
        "study": "cnn-1", "command": "tuner search", "n_trials": 20, "n_complete": 6, "n_pruned": 14, "n_refused": 3,
        "n_stopped_by_clock": 1, "n_failed": 0, "compute_saved_by_pruning": 0.44, "cpu_seconds": 1200.0,
        "n_duplicate": 2, "n_redrawn": 0, "n_taken_up_again": 1, "workers_lost": 1, "deterministic": False,
        "caps": {"memory_mib": 2000, "trial_seconds": None}, "peaks": {"memory_mib": 612, "trial_seconds": 40.2},
        "run_folder_bytes": 12_300_000,
        "best_trial": {"number": 4, "values": {"filters_1": 48}, "val_accuracy": 0.9014, "epochs": 4, "train_images": 10000,
                       "parameters": 248410, "multiply_adds": 4629696, "origin": "found", "gain_over_best_start_with": 0.0126},
        "refit": {"epochs": 7, "seeds": [1, 2], "test_accuracies": [0.927, 0.928], "test_accuracy_mean": 0.9275,
                  "test_accuracy_sd": 0.0007, "interval_95": [0.922, 0.932], "n_test": 10000, "note": ""},
        "baselines": [{"name": "ruhi", "published_test_accuracy": 0.9133, "difference": 0.0142, "note": "re-split"}],
        "wall_seconds": {"search": 260.0, "refit": 400.0, "total": 670.0},
    }  # fmt: skip

    lines = as_markdown(report).strip().splitlines()

    assert lines[0] == "# cnn-1: test accuracy 92.75 ± 0.07 %"
    assert lines[-2] == "tuner search"
    assert "| ruhi | 91.33 % | – | +1.42 | – | – | re-split |" in lines
    assert "1.26 points above" in "\n".join(lines)


def _result(**changes: object) -> str:
    console = Console(file=io.StringIO(), width=110, force_terminal=False, color_system=None)
    show_result(
        console, planted.report_of(planted.SMALL_TRIALS, planted.SMALL_SETTINGS, **changes), "results/runs/cnn-1"
    )
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_result_is_shown_with_the_answer_first() -> None:
    # given a baseline that could not be compared, as the predictions are missing
    baselines = [planted.BASELINES[0], {**planted.BASELINES[3], "difference": None, "p_published": None}]

    shown = "\n".join(line.rstrip() for line in _result(baselines=baselines).splitlines())

    assert shown == GOLDEN_RESULT


GOLDEN_RESULT = """
Test accuracy 93.99 ± 0.07 %
Trial 2 trained again on all training images, 16 epochs; by seed: 94.02 %, 93.91 %, 94.03 %.
95 % interval of the exported model: 93.54 to 94.47 %.
Averaged at test time (mirror), as validation chose (94.32 % of the validation images against 94.11 %
without): test accuracy 94.19 ± 0.06 %. All other figures are without.
In the search: validation 90.00 % after 4 epochs. The search found it.

blocks 2          filters_1 12          filters_2 8
dense_units 16    optimizer adam        learning_rate 0.001
batch_size 32     parameters 300,000    multiply_adds 3,000,000

baseline      published  measured here   ours   p
sadvisandhya  93.68 %    93.12 ± 0.21 %  +0.87  < 0.001
sadvisandhya: code variant, 40 epochs; the README says 93.7 %.

7 trials: 3 complete, 3 pruned (1 by the clock), 1 failed; 1 refused before training. The pruner saved 23 % of
the compute.
Search 40:00, refit 19:10, in all 59:40. Everything is in results/runs/cnn-1"""


def test_without_comparable_baselines_no_table_of_them_is_shown() -> None:
    assert "baseline" not in _result(refit=None, baselines=[{**planted.BASELINES[3], "difference": None}])


def test_the_seconds_of_a_study_that_was_gone_on_with_are_those_of_the_commands_that_ended() -> None:
    once = planted.report_of(planted.SMALL_TRIALS, planted.SMALL_SETTINGS)
    again = {**once, "command": f"{once['command']} && tuner search --resume --study cnn-1"}

    assert seconds_sentence(once).endswith("in all 1 h 00 min of wall clock and 1 h 57 min of processor time.")
    assert seconds_sentence(again).endswith("of processor time, in the commands that ended.")
    assert "in the commands that ended. Everything is in" in " ".join(_result(command=again["command"]).split())


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (
            {"origin": "start_with", "by_finals": True, "gain_over_best_start_with": 0.0},
            "It is one of the configurations that the space starts with; fresh seeds chose it among the finalists.",
        ),
        (
            {"origin": "found", "by_finals": True, "gain_over_best_start_with": -0.01},
            "The search found it; fresh seeds chose it among the finalists.",
        ),
        (
            {"origin": "start_with", "by_finals": False, "gain_over_best_start_with": 0.0},
            "It is one of the configurations that the space starts with: the search found nothing better.",
        ),
        ({"origin": "found", "gain_over_best_start_with": None}, "The search found it."),
    ],
)
def test_where_the_winner_comes_from_is_said(best: dict[str, object], said: str) -> None:
    assert origin_sentence(best) == said


MEASURED = {"name": "a", "difference": 0.001, "measured_test_accuracy": 0.93, "published_test_accuracy": None}
PUBLISHED = {"name": "b", "difference": 0.001, "mcnemar": None, "published_test_accuracy": 0.93}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{**MEASURED, "mcnemar": {"only_ours": 90, "only_theirs": 40, "p_exact": 1e-5}}],
         "Above the one baseline (as measured here), by more than chance explains (p < 0.05)."),
        ([{**MEASURED, "mcnemar": {"only_ours": 40, "only_theirs": 90, "p_exact": 1e-5}}],
         "Above the one baseline (as measured here), not by more than chance explains (p < 0.05)."),
        ([{**PUBLISHED, "p_published": 0.001}] * 2,
         "Above all 2 baselines (as published), none of them by more than chance explains (p < 0.05)."),
        ([{**PUBLISHED, "p_published": 0.001}, {**PUBLISHED, "published_test_accuracy": 0.91, "p_published": 0.001}],
         "Above all 2 baselines (as published), 1 of them by more than chance explains (p < 0.05)."),
        ([{**PUBLISHED, "published_test_accuracy": 0.91, "p_published": 0.001}] * 2,
         "Above all 2 baselines (as published), each by more than chance explains (p < 0.05)."),
    ],
)  # fmt: skip
def test_a_small_p_counts_only_where_the_exported_model_is_the_better_one(rows: list[object], said: str) -> None:
    # given seeds whose mean is above 93 %, and an exported model, the first of them, that is below
    report = {"baselines": rows, "refit": {"test_accuracies": [0.92, 0.942]}}

    assert verdict(report) == said
