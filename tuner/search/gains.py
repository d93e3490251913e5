"""When a study has nothing left to gain that its validation images could show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuner.records import TrialSummary


def standard_error(accuracy: float, images: int) -> float:
    """Return by how much chance moves an ``accuracy`` that was measured on so many ``images`` (one deviation)."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def last_gain(trials: Sequence[TrialSummary], images: int) -> tuple[TrialSummary | None, int]:
    """Return the trial that was the last to gain, if any, and how many that count came after it.

    A gain is more than chance: over the trial that gained before by more than a standard error. Makarova et al. 2022
    ("Automatic termination for hyperparameter optimization") end a search when what it can still gain is below that
    error, which they bound by a Gaussian process; here it is the trials without a gain that say so, whatever draws
    them. Trials are taken by number, so that it does not matter in which order they ended.
    """
    gained, after = None, 0
    for trial in sorted(trials, key=lambda one: one.number):
        reached = trial.val_accuracy if trial.state == "complete" else None
        if reached is not None and (gained is None or reached > _enough(gained, images)):
            gained, after = trial, 0
        else:
            after += trial.counted
    return gained, after


def _enough(gained: TrialSummary, images: int) -> float:
    before = gained.val_accuracy or 0.0
    return before + standard_error(before, images)
