"""When a study has nothing left to gain that its validation images could show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuner.records import VAL_BALANCED_ACCURACY, TrialSummary


def standard_error(figure: float, counts: Sequence[int], metric: str) -> float:
    """Return by how much chance moves a ``figure`` of ``metric`` (one deviation), for so many images of each class.

    It is the binomial one. A balanced accuracy is the mean of the classes', each as uncertain as its images are few.
    """
    if metric == VAL_BALANCED_ACCURACY:
        return math.sqrt(figure * (1 - figure) * sum(1 / count for count in counts)) / len(counts)
    return math.sqrt(figure * (1 - figure) / sum(counts))


def last_gain(ended: Sequence[TrialSummary], counts: Sequence[int], metric: str) -> tuple[TrialSummary | None, int]:
    """Return the trial that was the last to gain, if any, and how many had their say after it.

    ``ended`` are trials in the order in which they ended. A gain is more than chance: over the trial that gained before
    by more than a standard error. Makarova et al. 2022 ("Automatic termination for hyperparameter optimization") end a
    search when what it can still gain is below that error, which they bound by a Gaussian process; here it is the
    trials without a gain that say so, whatever draws them. Those that the clock or the machine ended say nothing.
    """
    gained: TrialSummary | None = None
    enough, after = -math.inf, 0
    for trial in ended:
        reached = trial.val_accuracy if trial.state == "complete" else None
        if reached is not None and reached > enough:
            gained, after = trial, 0
            enough = reached + standard_error(reached, counts, metric)
        else:
            after += trial.counted and trial.state != "clock" and not trial.by_machine
    return gained, after
