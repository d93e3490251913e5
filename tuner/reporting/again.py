"""A study's report, told again from what the study and its run folder hold: nothing is trained or scored."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.storages import BaseStorage

from tuner.data.sources import Source, find, short_name
from tuner.errors import DataError, EnvironmentProblem, StudyError
from tuner.evaluation.analysis import analyse
from tuner.evaluation.fractions import Point, measure_fractions
from tuner.evaluation.score import read_score
from tuner.records import Note, Observer, TrialSummary
from tuner.reporting.best import known_winner, refit_of
from tuner.reporting.report import Document, latest_refit, read_report, study_document
from tuner.reporting.story import Story, read_story
from tuner.reporting.verdict import PREDICTIONS, fractions_document, verdict
from tuner.reporting.writing import write_story
from tuner.runs import Interruption, Outputs, folder_bytes, make_writable, versions
from tuner.search.asked import as_searched
from tuner.search.storage import alone, open_storage
from tuner.search.study import StudyFacts, latest_study, load_study, summaries
from tuner.space.reader import parse_space


@dataclass(frozen=True)
class Told:
    """A study with its report as of now."""

    folder: Path
    story: Story


def find_stories(outputs: Outputs, names: Sequence[str | None]) -> list[Told]:
    """Return the stories of studies, each once, None being the latest one.

    Raises StudyError when there is no such study or no run folder of it, SearchError when no trial is complete.
    """
    storage = open_storage(outputs, create=False)
    found = dict.fromkeys(latest_study(storage) if name is None else name for name in names)
    return [_find(storage, outputs, name) for name in found]


def write_anew(outputs: Outputs, name: str | None) -> tuple[Path, Document]:
    """Write a study's report anew into its run folder, and return the page and the document. Raises as the above.

    While a search of it runs, report.json is left alone: it is that search's memory of its refit.
    """
    storage = open_storage(outputs, create=False)
    name = latest_study(storage) if name is None else name
    with contextlib.ExitStack() as held:
        undisturbed = True
        if outputs.has_run(name, load_study(storage, name)[1].identity):
            make_writable(outputs.run_folder(name))
            try:
                held.enter_context(alone(outputs, name))
            except StudyError:
                undisturbed = False
        (told,) = find_stories(outputs, [name])
        return write_story(told.folder, told.story, document=undisturbed), told.story.report


def measure_fractions_of(
    outputs: Outputs, name: str | None, interruption: Interruption, observe: Observer
) -> list[Point]:
    """Train a study's winner on parts of its images, for its report. Raises what a search raises."""
    storage = open_storage(outputs, create=False)
    name = latest_study(storage) if name is None else name
    _, facts = load_study(storage, name)
    folder = outputs.run_folder(name)
    _see_run(outputs, name, facts)
    make_writable(folder)
    with alone(outputs, name):
        trials = summaries(load_study(storage, name)[0])
        winner = known_winner(outputs, name, facts, trials)
        source = find(facts.data_folder, lambda text: observe(Note(text)))
        if source.digest != facts.data:
            raise StudyError(
                f"study '{name}' was searched on other images (digest {facts.data}, now {source.digest})",
                hint="bring them back to where they were",
            )
        return measure_fractions(winner, facts, source, folder, interruption=interruption, observe=observe)


def _find(storage: BaseStorage, outputs: Outputs, name: str) -> Told:
    study, facts = load_study(storage, name)
    trials, folder = summaries(study), outputs.run_folder(name)
    winner = known_winner(outputs, name, facts, trials)
    _see_run(outputs, name, facts)
    space = as_searched(parse_space(facts.space_name, facts.space_text, source=f"study '{name}'").space, study)
    report, source = as_of_now(name, facts, trials, winner, folder), images_here(facts)
    if source is not None:
        report = verdict(outputs, folder, facts, source, trials, report)
    elif report["refit"] and report["analysis"] is None:  # of an earlier version
        score = read_score(folder / PREDICTIONS)
        report["analysis"] = analyse(score.probabilities[0], score.labels, report["classes"]) if score else None
    return Told(folder, read_story(folder, report, trials, space, facts.settings))


def _see_run(outputs: Outputs, name: str, facts: StudyFacts) -> None:
    if not outputs.has_run(name, facts.identity):
        hint = f"--out names the folder that it was searched in; 'tuner best {name}' needs none"
        raise StudyError(f"{outputs.run_folder(name)}: study '{name}' has no run folder there", hint=hint)


def as_of_now(name: str, facts: StudyFacts, trials: list[TrialSummary], winner: TrialSummary, folder: Path) -> Document:
    """Return the report that the search left, with what has changed in the study since, while it runs too."""
    before = read_report(folder)
    if before is not None and before.get("study_identity") != facts.identity:
        before = None  # of an earlier study of that name
    old, refit = before or {}, refit_of(before, facts, winner)
    now = study_document(name, facts, trials, winner)
    ended = all(old.get(key) == now[key] for key in ("n_trials", "n_complete", "command"))
    kept = old if refit else {}
    return {
        **now,
        "best_trial": {**now["best_trial"], "corrected": kept.get("best_trial", {}).get("corrected")},
        "data": old.get("data", short_name(facts.data_folder)),
        "images": old.get("images"),
        "classes": old.get("classes", []),
        "input_shape": old.get("input_shape", []),
        "versions": old.get("versions", versions()),
        "commit": old.get("commit"),
        "workers_lost": old.get("workers_lost", 0),
        "refit": refit,
        "refit_before": None if refit else latest_refit(old),
        **{key: kept.get(key) for key in ("analysis", "averaged", "finalists")},
        "fractions": fractions_document(folder, facts, winner.number),
        "baselines": kept.get("baselines", []),
        "wall_seconds": old.get("wall_seconds") if ended else None,
        "cpu_seconds": old.get("cpu_seconds") if ended else None,
        "run_folder_bytes": old.get("run_folder_bytes") if ended else folder_bytes(folder),
    }


def images_here(facts: StudyFacts) -> Source | None:
    """Return the study's images where they are on this machine, or None: nothing is fetched for a report."""
    with contextlib.suppress(DataError, EnvironmentProblem):  # no room for a copy of them
        source = find(facts.data_folder, download=False)
        if source.digest == facts.data:
            return source
    return None
