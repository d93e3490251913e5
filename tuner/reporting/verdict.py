"""What a result is worth: its mistakes, its baselines, what averaging and correcting make of it."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

from tuner.data.sources import Source
from tuner.data.splits import VALIDATION_SHARE
from tuner.evaluation.analysis import analyse
from tuner.evaluation.finals import finalists_of, read_finals
from tuner.evaluation.fractions import read_fractions
from tuner.evaluation.measured import folder_of, known_baselines
from tuner.evaluation.score import TestScore, read_score
from tuner.evaluation.statistics import mean_and_sd, winners_curse
from tuner.records import VAL_ACCURACY, TrialSummary
from tuner.reporting.baselines import comparison
from tuner.reporting.report import Document
from tuner.runs import Outputs
from tuner.search.study import StudyFacts

PREDICTIONS = "predictions.npz"


def verdict(  # noqa: PLR0913
    outputs: Outputs,
    folder: Path,
    facts: StudyFacts,
    source: Source,
    trials: Sequence[TrialSummary],
    report: Document,
) -> Document:
    """Return ``report`` with what follows from the kept predictions, the finals and the measured baselines.

    ``analysis`` is of the exported model; ``averaged`` and ``finalists`` are None where there were none. Nothing is
    trained or scored: baselines that were measured after the refit count, too.
    """
    score = read_score(folder / PREDICTIONS) if report["refit"] else None
    finalists = finalists_of(trials, facts.settings)
    fresh = read_finals(folder, facts, finalists) if finalists else {}
    return {
        **report,
        "best_trial": {**report["best_trial"], "corrected": _corrected(trials, report, source, facts, fresh)},
        "finalists": [
            {
                "number": trial.number,
                "values": trial.values,
                "val_accuracy": trial.val_accuracy,
                "val_accuracies": fresh[trial.number],
                "mean": statistics.fmean(fresh[trial.number]),
            }
            for trial in finalists
        ]
        if fresh
        else None,
        "analysis": analyse(score.probabilities[0], score.labels, source.class_names) if score else None,
        "averaged": _averaged(score) if score else None,
        "fractions": fractions_document(folder, facts, report["best_trial"]["number"]),
        "baselines": comparison(score, known_baselines(folder_of(outputs), source), source),
    }


def fractions_document(folder: Path, facts: StudyFacts, winner: int) -> list[Document] | None:
    """Return the winner's accuracy by training images, where it was measured."""
    return [dataclasses.asdict(point) for point in read_fractions(folder, facts, winner)] or None


def _corrected(
    trials: Sequence[TrialSummary],
    report: Document,
    source: Source,
    facts: StudyFacts,
    fresh: dict[int, list[float]],
) -> Document | None:
    """Return the winner's validation accuracy without the luck of having been chosen; None where it is not known.

    The fresh figures of a finalist have a little of that luck left (it is the best of a few); they are not corrected.
    """
    number = report["best_trial"]["number"]
    if number in fresh or facts.settings.metric != VAL_ACCURACY:
        return None  # the noise of a balanced accuracy is another one
    values = [trial.val_accuracy for trial in trials if trial.state == "complete" and trial.val_accuracy is not None]
    folds = facts.settings.folds
    validated = source.n_train * (1 if folds > 1 else VALIDATION_SHARE)  # folds validate every image once
    curse = winners_curse(values, round(validated))
    return None if curse is None else {"val_accuracy": curse.expected, "subtracted": curse.subtracted}


def _averaged(score: TestScore) -> Document | None:
    if score.averaging is None:
        return None
    mean, sd = mean_and_sd(score.averaged_accuracies) if score.averaged is not None else (None, None)
    return {
        "how": score.averaging.how,
        "val_accuracy": score.averaging.val_accuracy,
        "val_accuracy_plain": score.averaging.val_accuracy_plain,
        "test_accuracies": score.averaged_accuracies,
        "test_balanced_accuracies": score.averaged_balanced_accuracies,
        "test_accuracy_mean": mean,
        "test_accuracy_sd": sd,
    }
