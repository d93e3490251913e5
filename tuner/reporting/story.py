"""What a report is told from: its document, the trials, and what the run folder holds."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner.records import METRICS, EpochResult, TrialSummary
from tuner.reporting.examples import Example, read_examples
from tuner.reporting.report import Document
from tuner.runs import DAMAGED
from tuner.search.pruners import rungs
from tuner.space.parameters import Space
from tuner.space.settings import SearchSettings


@dataclass(frozen=True)
class Story:
    """Everything that the figures and the page are made of."""

    report: Document
    trials: Sequence[TrialSummary]
    space: Space
    settings: SearchSettings
    refit_curves: Sequence[Sequence[EpochResult]] = ()
    """One a seed."""
    examples: Mapping[str, Sequence[Example]] = field(default_factory=dict)

    @property
    def judged_by(self) -> str:
        """Return what trials were judged by, in words."""
        return METRICS[self.settings.metric]

    @property
    def winner(self) -> int:
        """Return the winner's number."""
        return int(self.report["best_trial"]["number"])

    @property
    def winner_curve(self) -> tuple[EpochResult, ...]:
        """Return the winner's curve in the search, on the first fold where there are several."""
        curve = next((trial.curve for trial in self.trials if trial.number == self.winner), ())
        return curve[: self.settings.epochs]

    @property
    def rungs(self) -> list[int]:
        """Return the epochs after which halving decides; other pruners decide after any, or none."""
        if self.settings.pruner not in ("asha", "hyperband"):
            return []
        return rungs(self.settings.first_rung, self.settings.reduction, self.settings.epochs)

    @property
    def pairs(self) -> list[tuple[Document, list[Example]]]:
        """Return the most confused pairs of classes of which there are images, with these."""
        analysis = self.report.get("analysis") or {"confused_pairs": []}
        kept = [
            example for group, examples in self.examples.items() if group.startswith("pairs") for example in examples
        ]
        found = []
        for pair in analysis["confused_pairs"]:
            of_it = [one for one in kept if {one.label, one.predicted} == set(pair["indexes"])]
            if of_it:
                found.append((pair, of_it))
        return found


def read_story(
    folder: Path, report: Document, trials: Sequence[TrialSummary], space: Space, settings: SearchSettings
) -> Story:
    """Return the story of a run; curves and images of a model only where the report tells of one."""
    if not report["refit"]:
        return Story(report, trials, space, settings)
    return Story(report, trials, space, settings, _read_curves(folder / "refit_curves.csv"), read_examples(folder))


def _read_curves(path: Path) -> list[list[EpochResult]]:
    """Return the refit's curves, one a seed; none where the file is missing or not ours."""
    curves: dict[str, list[EpochResult]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                curves.setdefault(row["seed"], []).append(
                    EpochResult(
                        epoch=int(row["epoch"]),
                        loss=float(row["loss"]),
                        accuracy=float(row["accuracy"]),
                        val_loss=float(row["val_loss"]) if row["val_loss"] else None,
                        val_accuracy=float(row["val_accuracy"]) if row["val_accuracy"] else None,
                        learning_rate=float(row["learning_rate"]),
                        seconds=float(row["seconds"]),
                    )
                )
    except DAMAGED:
        return []
    return list(curves.values())
