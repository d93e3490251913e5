"""A study's winner, for ``tuner best`` and the export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import SearchError, StudyError
from tuner.evaluation.finals import winner_of
from tuner.records import TrialSummary
from tuner.reporting.report import Document, latest_refit, read_report, winner_document
from tuner.runs import Outputs, resume_command
from tuner.search.storage import open_storage
from tuner.search.study import (
    StudyFacts,
    latest_study,
    load_study,
    summaries,
    why_no_winner,
)


@dataclass(frozen=True)
class Known:
    """A study and where its run is."""

    name: str
    facts: StudyFacts
    trials: list[TrialSummary]
    folder: Path

    def trial(self, number: int) -> TrialSummary:
        """Return a complete trial. Raises StudyError when there is none of that number."""
        for trial in self.trials:
            if trial.number == number and trial.state == "complete":
                return trial
            if trial.number == number:
                raise StudyError(f"study '{self.name}': trial {number} was not trained to its end ({trial.state})")
        raise StudyError(f"study '{self.name}' has no trial {number}", hint="trials.csv in its run folder lists them")


def known_study(outputs: Outputs, name: str | None) -> Known:
    """Return a study, the latest when ``name`` is None. Raises StudyError."""
    storage = open_storage(outputs, create=False)
    name = name or latest_study(storage)
    study, facts = load_study(storage, name)
    return Known(name, facts, summaries(study), outputs.run_folder(name))


def best_document(outputs: Outputs, known: Known, number: int | None = None) -> Document:
    """Return a study's winner for ``tuner best``: the report's fields, ``refit`` None while it was not retrained.

    ``number`` names another trial. Raises StudyError when there is no such trial, SearchError when none is complete.
    """
    name, facts, trials, folder = known.name, known.facts, known.trials, known.folder
    winner = known_winner(outputs, name, facts, trials)
    chosen = winner if number is None else known.trial(number)
    report, refit = read_report(folder) or {}, kept_refit(folder, facts, chosen)
    if not outputs.has_run(name, facts.identity):
        missing = (
            f"{not_here(outputs, name)}: what was trained again and scored is not known here, nor whether judging the "
            "best again chose another winner."
        )
    elif chosen.number == winner.number:
        # As many trials as there are: the search is over at once, and the refit follows.
        counted = sum(trial.counted for trial in trials)
        resume = resume_command(outputs, name, "--trials", str(counted))
        missing = f"It was not trained again on all images yet: '{resume}' does that, and scores it."
    else:
        missing = "It is as the search left it: not trained again on all images, and never scored on the test images."
    return {
        **{key: report.get(key) for key in ("versions", "commit", "seed", "data", "images", "classes", "input_shape")},
        "study": name,
        "space": facts.space_name,
        "hypermodel": facts.hypermodel.called if facts.hypermodel else None,
        "command": " && ".join(facts.commands),
        "best_trial": winner_document(trials, chosen, facts.settings),
        "refit": refit,
        "analysis": report.get("analysis") if refit else None,
        "missing": None if refit else missing,
    }


def not_here(outputs: Outputs, name: str) -> str:
    """Return the words for a study whose run folder is on another machine, or elsewhere on this one."""
    return f"The run folder of '{name}' is not at {outputs.run_folder(name)} on this machine"


def known_winner(outputs: Outputs, name: str, facts: StudyFacts, trials: Sequence[TrialSummary]) -> TrialSummary:
    """Return a study's winner. Raises SearchError when no trial is complete."""
    winner = winner_of(outputs.run_folder(name), facts, trials)
    if winner is None:
        hint = f"'{resume_command(outputs, name)}' goes on"
        raise SearchError(f"study '{name}': {why_no_winner(trials)}", hint=hint)
    return winner


def kept_refit(folder: Path, facts: StudyFacts, winner: TrialSummary) -> Document | None:
    """Return the refit of this winner whose model and figures are in the run folder, or None."""
    return refit_of(read_report(folder), facts, winner) if (folder / "model.keras").exists() else None


def refit_of(report: Document | None, facts: StudyFacts, winner: TrialSummary) -> Document | None:
    """Return the refit in ``report`` when it is of this very study and of this winner, else None.

    The name alone does not tell: a run folder may outlive the study that made it.
    """
    if report is None or report.get("study_identity") != facts.identity:
        return None
    refit: Document | None = latest_refit(report)
    return refit if refit and refit["trial"] == winner.number else None
