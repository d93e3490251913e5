"""Where the checkpoints of a search lie, and which of them stay."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tuner.records import TrialSummary
from tuner.runs import folder_bytes


class Shelf:
    """One folder a trial; those of the best ``keep`` complete trials outlast the search."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Lay checkpoints into ``folder``."""
        self.folder, self._keep = folder.absolute(), keep
        self._best: list[TrialSummary] = []

    def place(self, number: int) -> str:
        """Return the folder of a trial, or of a refit's seed (-1, -2, …)."""
        return str(self.folder / (f"trial-{number:05d}" if number >= 0 else f"refit-{-1 - number}"))

    def refit_bytes(self) -> int:
        """Return the size of what a refit left."""
        return sum(folder_bytes(path) if path.is_dir() else path.stat().st_size for path in self.folder.glob("refit*"))

    def clear_refit(self) -> None:
        """Remove what a refit left, when its result is in."""
        for path in self.folder.glob("refit*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def clear_finals(self) -> None:
        """Remove what finalists left, when their figures are kept."""
        for path in self.folder.glob("final-*"):
            shutil.rmtree(path)

    def tidy(self, ended: Iterable[TrialSummary]) -> None:
        """Remove the checkpoints of the trials that have ended, but the best complete ones."""
        for trial in ended:
            self.put(trial)

    def put(self, trial: TrialSummary) -> None:
        """Hear that a trial has ended: keep its checkpoints while it is among the best, and no longer."""
        self._best = [other for other in self._best if other.number != trial.number]
        if trial.state == "complete":
            self._best.append(trial)
            self._best.sort(key=lambda other: (-(other.val_accuracy or 0.0), other.number))
        out = self._best[self._keep :] if trial.state == "complete" else [trial]
        del self._best[self._keep :]
        for other in out:
            shutil.rmtree(self.place(other.number), ignore_errors=True)
