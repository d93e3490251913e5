"""Studies renamed, deleted and taken out: the database and the run folder together."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tuner.errors import StudyError
from tuner.reporting.best import known_study
from tuner.reporting.report import read_report, trial_documents, trial_table
from tuner.runs import (
    Outputs,
    as_table,
    disk_trouble_in_one_line,
    folder_bytes,
    kept_identity,
    lock_beside,
    remove_unused,
)
from tuner.search.asked import as_searched
from tuner.search.request import check_name
from tuner.search.storage import PatientStorage, alone, open_storage
from tuner.search.study import half_made_of, load_study, study_names
from tuner.space.reader import parse_space

AGAIN = "the same command goes on"


def rename_study(outputs: Outputs, old: str, new: str) -> None:
    """Rename a study and its run folder. Raises StudyError when there is no such study, it is searched, or ``new`` is.

    The folder comes first: when that is all that was done, the same call does the rest.
    """
    check_name(new)
    known = known_study(outputs, old)
    to = outputs.run_folder(new)
    of_it = (kept_identity(to), (read_report(to) or {}).get("study_identity"))  # the latter of an earlier version
    begun = not known.folder.exists() and known.facts.identity in of_it
    with _alone(outputs, old) as storage, disk_trouble_in_one_line(to, AGAIN):
        if new in study_names(storage) or half_made_of(storage, new) is not None or (to.exists() and not begun):
            raise StudyError(f"study '{new}' exists", hint="choose another name")
        storage.own(storage.get_study_id_from_name(old))  # a search that has lost its connection ends
        if moved := known.folder.exists():
            known.folder.rename(to)
        try:
            storage.rename_study(old, new)
        except StudyError:  # another machine was quicker
            if moved:
                to.rename(known.folder)
            raise
        if outputs.database:
            lock_beside(outputs.database, old).unlink(missing_ok=True)


def what_goes(outputs: Outputs, name: str) -> str:
    """Return in words what ``delete_study`` would delete. Raises StudyError when there is no such study."""
    folder = outputs.run_folder(name)
    if half_made_of(open_storage(outputs, create=False), name) is not None:
        what = f"the half-made study '{name}'"
    else:
        what = f"study '{name}' ({len(known_study(outputs, name).trials)} trials)"
    if folder.exists():
        return f"{what} and {folder} ({folder_bytes(folder) / 1e6:.1f} MB)"
    return what if outputs.database else f"{what}, not the run folder of the machine that searched it"


def delete_study(outputs: Outputs, name: str) -> None:
    """Delete a study and its run folder. Raises StudyError when there is no such study, or it is being searched.

    The study comes first: a folder that is left without one is nobody's.
    """
    stored, folder = half_made_of(open_storage(outputs, create=False), name), outputs.run_folder(name)
    stored = stored or known_study(outputs, name).name
    with _alone(outputs, name) as storage, disk_trouble_in_one_line(folder, AGAIN):
        storage.delete_study(storage.get_study_id_from_name(stored))
        if folder.exists():
            shutil.rmtree(folder)
        if outputs.database:
            lock_beside(outputs.database, name).unlink(missing_ok=True)


def exported(outputs: Outputs, name: str, *, as_json: bool) -> str:
    """Return a study's trials as CSV, or as JSON with every epoch. Raises StudyError."""
    known = known_study(outputs, name)
    if as_json:
        return json.dumps(trial_documents(known.trials), indent=2, ensure_ascii=False) + "\n"
    space = parse_space(known.facts.space_name, known.facts.space_text, source=f"study '{name}'").space
    study, _ = load_study(open_storage(outputs, create=False), name)
    return as_table(*trial_table(known.trials, as_searched(space, study)))


@contextlib.contextmanager
def _alone(outputs: Outputs, name: str) -> Iterator[PatientStorage]:
    """Hold the study, so that no search of it runs meanwhile; its folder may be gone."""
    folder: Path = outputs.run_folder(name)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with alone(outputs, name) as storage:
            if made:
                shutil.rmtree(folder)
            yield storage
    finally:
        remove_unused(folder)
