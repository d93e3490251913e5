"""Finished studies that nobody trained: one of a few trials with known answers, and one of realistic shape."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np

from tuner.records import Cost, EpochResult, TrialSummary, Value
from tuner.search.pruners import passes, rungs
from tuner.space.parameters import Space
from tuner.space.reader import parse_space, read_space
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EPOCHS = 9


def epoch(number: int, accuracy: float, *, validated: bool = True) -> EpochResult:
    held_out = accuracy if validated else None
    return EpochResult(
        number, 1.2 - accuracy, accuracy + 0.01, 1.3 - accuracy if validated else None, held_out, 1e-3, 10.0
    )


def trial(number: int, state: str, accuracies: list[float], size: int = 1_000_000, **values: Value) -> TrialSummary:
    """A trial of the small space whose network has ``size`` multiply-adds and a tenth as many parameters."""
    defaults: dict[str, Value] = {"blocks": 2, "filters_1": 8, "filters_2": 8, "dense_units": 16, "optimizer": "adam",
                                  "learning_rate": 1e-3, "batch_size": 32}  # fmt: skip
    curve = tuple(epoch(k, accuracy) for k, accuracy in enumerate(accuracies, start=1))
    return TrialSummary(
        number, state, {**defaults, **values}, accuracies[-1] if accuracies else None, curve, Cost(size // 10, size)
    )


SMALL = parse_space("small", SMALL_SPACE).space
SMALL_SETTINGS = SearchSettings(epochs=4, trials=7)
SMALL_TRIALS = [  # first rung after epoch 1, the next after 3
    trial(0, "complete", [0.70, 0.80, 0.84, 0.85], 2_000_000, learning_rate=5e-3),
    trial(1, "pruned", [0.30], 4_000_000, optimizer="sgd", momentum=0.9),
    trial(2, "complete", [0.75, 0.85, 0.89, 0.90], 3_000_000, filters_1=12),
    trial(3, "refused", []),
    trial(4, "pruned", [0.72, 0.78, 0.80], 1_000_000, filters_2=12),
    trial(5, "complete", [0.60, 0.80, 0.87, 0.88], 4_000_000, dense_units=0),
    trial(6, "failed", [0.10], 1_000_000, learning_rate=0.1),
    trial(7, "clock", [0.71, 0.79], 2_000_000),
]
"""Known: the best so far rises at trials 0 and 2; the front is trials 0 and 2; in units of a million multiply-adds
8 + 12 + 16 went into complete trials, 4 + 3 into pruned ones, 4 into the clock's and 1 into a failed one: 48 in all."""


class Dice:
    """A suggester that draws evenly."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            return math.exp(self._random.uniform(math.log(low), math.log(high)))
        if step:
            return round(low + step * self._random.randrange(round((high - low) / step) + 1), 10)
        return self._random.uniform(low, high)

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        return self._random.choice(choices)


def realistic(n_trials: int = 60, seed: int = 0) -> tuple[Space, SearchSettings, list[TrialSummary]]:
    """The space ``cnn``, and trials that halving pruned: the learning rate and the norm decide most."""
    space = read_space("cnn").space
    settings = SearchSettings(epochs=EPOCHS, trials=n_trials)
    stops = rungs(1, 3, EPOCHS)
    seen: dict[int, list[float]] = {stop: [] for stop in stops}
    rng = random.Random(seed)
    trials = []
    for number in range(n_trials):
        values = space.sample(Dice(seed * 100_000 + number))
        if number == 0:
            values = dict(space.start_with[0])
        size = int(10 ** rng.uniform(5.6, 7.5))
        if size > 25_000_000:
            trials.append(TrialSummary(number, "refused", values, None, cost=Cost(size // 8, size), reason="too large"))
            continue
        rate = values["learning_rate"]
        assert isinstance(rate, float)
        off = (math.log10(rate) - (-1.5 if values["optimizer"] == "sgd" else -2.6)) ** 2
        error = (
            0.058
            + 0.035 * off
            + (0.02 if values["norm"] == "none" else 0)
            + 0.012 * (7.4 - math.log10(size))
            + rng.uniform(0, 0.01)
        )
        accuracies, state = [], "complete"
        for k in range(1, EPOCHS + 1):
            accuracies.append(max(0.1, 1 - min(0.9, error * (1 + 3 / k**1.2)) + rng.gauss(0, 0.002)))
            if k in stops:
                good = passes(accuracies[-1], seen[k], 3)
                seen[k].append(accuracies[-1])
                if not good:
                    state = "pruned"
                    break
        if number == n_trials - 1:
            state, accuracies = "clock", accuracies[:2]
        curve = tuple(epoch(k, accuracy) for k, accuracy in enumerate(accuracies, start=1))
        trials.append(
            TrialSummary(number, state, values, accuracies[-1], curve, Cost(size // 8, size), enqueued=number == 0)
        )
    return space, settings, trials


MIXED_UP = ((6, 0, 0.16), (6, 4, 0.08), (6, 2, 0.09), (4, 2, 0.09), (2, 4, 0.07), (0, 6, 0.13), (4, 6, 0.06), (3, 0, 0.03),
            (7, 9, 0.04), (9, 7, 0.04), (5, 7, 0.02))  # fmt: skip
"""This class, taken for that one, this often or nearly."""


def predictions(seed: int = 0, n: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (2, n, 10) of a network that mixes up what looks alike; labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 10
    logits = rng.normal(0, 1.0, (2, n, 10))
    logits[:, np.arange(n), labels] += 6.5
    for one, other, often in MIXED_UP:
        confused = (labels == one) & (rng.random(n) < often)
        logits[:, confused, other] += rng.uniform(4, 9, (2, int(confused.sum())))
    logits = logits * rng.uniform(0.6, 1.4, (2, n, 1))
    odds = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (odds / odds.sum(axis=2, keepdims=True)).astype(np.float32), labels


def analysis(names: tuple[str, ...] = FASHION) -> dict[str, Any]:
    """The error analysis of the planted network."""
    from tuner.evaluation.analysis import analyse

    probabilities, labels = predictions()
    return analyse(probabilities[0], labels, list(names))


BASELINES = [
    {"name": "sadvisandhya", "published_test_accuracy": 0.9368, "measured_test_accuracy": 0.9312, "sd": 0.0021, "seeds": 3,
     "parameters": 468_586, "note": "code variant, 40 epochs; the README says 93.7 %", "difference": 0.0087,
     "mcnemar": {"only_ours": 281, "only_theirs": 205, "p_exact": 0.00064, "p_corrected": 0.00067}, "p_published": 0.31},
    {"name": "myamiri", "published_test_accuracy": 0.9214, "measured_test_accuracy": 0.9161, "sd": 0.0011, "seeds": 3,
     "parameters": 173_738, "note": "code variant, 50 epochs", "difference": 0.0238,
     "mcnemar": {"only_ours": 431, "only_theirs": 192, "p_exact": 3e-21, "p_corrected": 4e-21}, "p_published": 1e-7},
    {"name": "chaerim", "published_test_accuracy": 0.92, "measured_test_accuracy": 0.9297, "sd": None, "seeds": 1,
     "parameters": 824_458, "note": "stated without a recorded run", "difference": 0.0102,
     "mcnemar": {"only_ours": 301, "only_theirs": 199, "p_exact": 6e-6, "p_corrected": 6e-6}, "p_published": 1e-8},
    {"name": "ruhi", "published_test_accuracy": 0.9133, "measured_test_accuracy": None, "sd": None, "seeds": 0,
     "parameters": 241_546, "note": "70,000 images merged and split anew", "difference": 0.0266,
     "mcnemar": None, "p_published": 1e-12},
    {"name": "myamiri-readme", "published_test_accuracy": None, "measured_test_accuracy": 0.8702, "sd": 0.002, "seeds": 3,
     "parameters": 25_450, "note": "the README's network has no figure", "difference": 0.0697,
     "mcnemar": {"only_ours": 801, "only_theirs": 104, "p_exact": 1e-120, "p_corrected": 1e-120}, "p_published": None},
]  # fmt: skip


def report_of(trials: list[TrialSummary], settings: SearchSettings, **changes: object) -> dict[str, Any]:
    """A report with everything in it, about these trials; ``changes`` replace whole keys."""
    from tuner.records import count_states
    from tuner.reporting.report import compute_saved, winner_document
    from tuner.search.study import best_trial

    winner, counts = best_trial(trials), count_states(trials)
    assert winner is not None
    best = winner_document(trials, winner, settings)
    best["corrected"] = {"val_accuracy": best["val_accuracy"] - 0.0021, "subtracted": 0.0021}
    report: dict[str, Any] = {
        "study": "cnn-1", "study_identity": "0" * 32, "space": "cnn", "space_hash": "1f0c3d", "data": "fashion-mnist", "data_digest": "0" * 16,
        "classes": list(FASHION), "input_shape": [28, 28, 1], "seed": 0, "command": "tuner search cnn --time 1h --seed 0",
        "versions": {"python": "3.11.7", "tuner": "0.1.0", "keras": "3.15.1", "tensorflow": "2.21.0", "optuna": "5.0.0", "numpy": "2.3.1"},
        "n_trials": sum(trial.counted for trial in trials), "n_complete": counts.get("complete", 0),
        "n_pruned": counts.get("pruned", 0) + counts.get("clock", 0), "n_stopped_by_clock": counts.get("clock", 0),
        "n_refused": counts.get("refused", 0), "n_failed": counts.get("failed", 0), "n_duplicate": 0, "n_redrawn": 0,
        "n_taken_up_again": 0, "workers_lost": 0, "deterministic": False, "caps": {"memory_mib": None, "trial_seconds": None},
        "peaks": {"memory_mib": 812, "trial_seconds": 340.0}, "compute_saved_by_pruning": compute_saved(trials, settings.epochs),
        "best_trial": best,
        "refit": {"trial": winner.number, "epochs": 16, "seeds": [11, 12, 13], "test_accuracies": [0.9402, 0.9391, 0.9403],
                  "test_accuracy_mean": 0.93987, "test_accuracy_sd": 0.00066, "interval_95": [0.9354, 0.9447], "n_test": 10_000,
                  "seconds": 1500.0, "note": ""},
        "averaged": {"how": "mirror", "val_accuracy": 0.9432, "val_accuracy_plain": 0.9411,
                     "test_accuracies": [0.9421, 0.9413, 0.9424], "test_accuracy_mean": 0.94193, "test_accuracy_sd": 0.00057},
        "finalists": [{"number": winner.number, "values": winner.values, "val_accuracies": [0.9391, 0.9402], "mean": 0.93965},
                      {"number": 0, "values": {}, "val_accuracies": [0.9379, 0.9388], "mean": 0.93835}],
        "baselines": BASELINES, "wall_seconds": {"search": 2400.0, "refit": 1150.0, "total": 3580.0}, "cpu_seconds": 7010.0,
        "run_folder_bytes": 12_300_000,
    }  # fmt: skip
    return {**report, **changes}


def write_run(folder: Path, *, examples: bool = True, n_pixels: int = 28, channels: int = 1) -> None:
    """Write what a scored run leaves: predictions, refit curves, and images of noise to look at."""
    from tuner.runs import write_table

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.toml").write_text("", "utf-8")  # nobody reads it, but it tells that a search was here
    probabilities, labels = predictions()
    np.savez_compressed(
        folder / "predictions.npz", probabilities=probabilities, labels=labels, trainings=np.array("a,b")
    )
    rows = [[seed, k, 0.9 * 0.8**k + 0.01 * seed, 1 - 0.4 * 0.8**k - 0.005 * seed, None, None, 1e-3, 70.0]
            for seed in range(3) for k in range(1, 17)]  # fmt: skip
    header = ["seed", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
    write_table(folder / "refit_curves.csv", header, rows)
    if not examples:
        return
    said, sure = probabilities[0].argmax(axis=1), probabilities[0].max(axis=1)
    wrong = np.flatnonzero(said != labels)
    groups = {"mistakes": wrong[np.argsort(-sure[wrong])][:12], "samples": np.arange(24),
              "pairs/0": wrong[:6], "pairs/1": wrong[6:12]}  # fmt: skip
    index = np.concatenate(list(groups.values()))
    images = np.random.default_rng(0).integers(0, 256, (len(index), n_pixels, n_pixels, channels)).astype(np.uint8)
    np.savez_compressed(
        folder / "examples.npz", index=index, label=labels[index], predicted=said[index], confidence=sure[index],
        group=np.concatenate([[name] * len(at) for name, at in groups.items()]), images=images,
    )  # fmt: skip
