"""A study's winner, for ``tuner best`` and the export."""

from __future__ import annotations

from tuner.errors import SearchError
from tuner.reporting.report import Document, read_report, winner_document
from tuner.runs import Outputs
from tuner.search.study import best_trial, latest_study, load_study, open_storage, summaries, why_no_winner


def find_best(outputs: Outputs, name: str | None) -> Document:
    """Return a study's winner for ``tuner best``: the report's fields, ``refit`` None while it was not retrained.

    Raises StudyError when there is no such study, SearchError when no trial is complete.
    """
    storage = open_storage(outputs, create=False)
    name = name or latest_study(storage)
    study, facts = load_study(storage, name)
    trials = summaries(study)
    winner = best_trial(trials)
    if winner is None:
        raise SearchError(
            f"study '{name}': {why_no_winner(trials)}", hint=f"'tuner search --resume --study {name}' goes on"
        )
    folder = outputs.run_folder(name)
    report = read_report(folder) or {}
    refit = report.get("refit")
    is_current = refit is not None and refit["trial"] == winner.number and (folder / "model.keras").exists()
    missing = (
        f"It was not trained again on all images yet: 'tuner search --resume --study {name}' does that and scores it."
    )
    return {
        **{key: report.get(key) for key in ("command", "versions", "seed", "data", "classes", "input_shape", "space")},
        "study": name,
        "best_trial": winner_document(trials, winner, facts.settings),
        "refit": refit if is_current else None,
        "missing": None if is_current else missing,
        "rebuild": report.get("command") or f"tuner search --resume --study {name}",
    }
