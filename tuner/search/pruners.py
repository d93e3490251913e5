"""Which trials go on: pure functions of the intermediate values that the study stores.

Optuna's ``SuccessiveHalvingPruner`` writes the rung before it answers, so that it may answer differently when asked
again after a crash; these ask only what was reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.space.settings import SearchSettings

MEDIAN_STARTUP_TRIALS = 5
MEDIAN_WARMUP_EPOCHS = 2


def rungs(first: int, reduction: int, epochs: int) -> list[int]:
    """Return the epochs at which halving decides; the last epoch is no rung.

    >>> rungs(1, 3, 10)
    [1, 3, 9]
    """
    found = []
    while first < epochs:
        found.append(first)
        first *= reduction
    return found


def passes(value: float, others: Sequence[float], reduction: int) -> bool:
    """Tell whether ``value`` is among the best 1/reduction of itself and the ``others`` at its rung.

    Li et al. 2020, the early-stopping variant: a stopped trial is not taken up again when the ranks change. The first
    ``reduction`` - 1 at a rung all pass: there is no share of them to keep yet, and a search's first trials are its
    known-good ones.
    """
    count = len(others) + 1
    return count < reduction or sum(other > value for other in others) < count // reduction


class Halving(optuna.pruners.BasePruner):
    """Asynchronous successive halving (Li et al. 2020), in one bracket or in Hyperband's several."""

    def __init__(self, *, first_rung: int, reduction: int, epochs: int, brackets: int = 1) -> None:
        """Lay out the rungs; bracket ``b`` of ``brackets`` starts at the b-th rung."""
        self.rungs = rungs(first_rung, reduction, epochs)
        self._reduction = reduction
        self._brackets = max(1, min(brackets, len(self.rungs)))

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether ``trial`` stops at its last report, seen beside all reports at the same epoch."""
        epoch = trial.last_step
        if epoch is None or epoch not in self.rungs[self._bracket(trial) :]:
            return False
        others = [
            other.intermediate_values[epoch]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number
            and epoch in other.intermediate_values
            and other.state != TrialState.FAIL
            and "twin_of" not in other.user_attrs
            and self._bracket(other) == self._bracket(trial)
        ]
        return not passes(trial.intermediate_values[epoch], others, self._reduction)

    def _bracket(self, trial: FrozenTrial) -> int:
        return trial.number % self._brackets


def folds_behind(values: Sequence[float], best: Sequence[float]) -> str:
    """Return why a trial with these folds' ``values`` needs no more folds beside the ``best`` trial's; or nothing.

    The forgiving rule of Bergman et al. 2024 ("Don't waste your time: early stopping cross-validation"): it stops when
    its mean so far is below the worst fold of the best.
    """
    if not values or not best or sum(values) / len(values) >= min(best):
        return ""
    return f"its mean of {len(values)} folds is below the worst fold of the best"


def may_stop(pruner: optuna.pruners.BasePruner, epoch: int) -> bool:
    """Tell whether ``pruner`` decides anything after ``epoch``: where it does not, nobody waits for its answer."""
    match pruner:
        case Halving():
            return epoch in pruner.rungs
        case optuna.pruners.NopPruner():
            return False
        case _:
            return True


def make_pruner(settings: SearchSettings) -> optuna.pruners.BasePruner:
    """Return the pruner that ``settings`` name."""
    halving = {"first_rung": settings.first_rung, "reduction": settings.reduction, "epochs": settings.epochs}
    match settings.pruner:
        case "asha":
            return Halving(**halving)
        case "hyperband":
            # Li et al. 2018: one bracket a rung, from the most to the least eager, and trials dealt to them in turn.
            return Halving(**halving, brackets=settings.epochs)
        case "median":
            return optuna.pruners.MedianPruner(MEDIAN_STARTUP_TRIALS, MEDIAN_WARMUP_EPOCHS)
        case _:
            return optuna.pruners.NopPruner()
