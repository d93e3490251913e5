"""Plain Optuna, as its examples write a search with pruning: one process, TPE, the median pruner, plain ``if``s.

Its ``timeout`` is looked at between trials only: the budget is kept from outside, epoch by epoch. A configuration over
the limits is pruned before its training; one whose loss is no longer finite fails, and the study goes on. With the
space's ``start_with`` entries waiting, as ``enqueue_trial`` has it, it is the control that tells what those give from
what a search does.
"""

from __future__ import annotations

import optuna

from benchmarks.live.events import COMPLETE, FAILED, PRUNED, REFUSED, Told
from benchmarks.live.training import Training
from tuner.records import EpochResult
from tuner.training.fit import TrainingFailed


def search(told: Told, *, seed: int, epochs: int, train_images: int | None, entries: bool = False) -> None:
    """Search until the budget is spent, with the space's ``entries`` first. Raises Spent."""
    training = Training(seed=seed, epochs=epochs, train_images=train_images)

    def objective(trial: optuna.Trial) -> float:
        values = training.space.sample(trial)  # asks for what the values so far make active, and for no more
        if reason := training.refused(values):
            told.ended(trial.number, REFUSED, None, values)
            raise optuna.TrialPruned(reason)
        accuracies: list[float] = []

        def after_epoch(result: EpochResult) -> bool:
            accuracies.append(result.figure("val_accuracy"))
            told.epoch(trial.number, result.epoch, accuracies[-1], values)
            trial.report(accuracies[-1], step=result.epoch)
            if trial.should_prune():
                told.ended(trial.number, PRUNED, accuracies[-1], values)
                raise optuna.TrialPruned
            return True

        try:
            training.train(training.build(values, trial.number), after_epoch)
        except TrainingFailed:
            told.ended(trial.number, FAILED, None, values)
            raise
        told.ended(trial.number, COMPLETE, accuracies[-1], values)
        return accuracies[-1]

    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner()
    )
    for entry in training.space.start_with if entries else ():
        study.enqueue_trial(dict(entry))
    study.optimize(objective, catch=(TrainingFailed,))
