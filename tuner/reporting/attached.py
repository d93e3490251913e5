"""Optuna Dashboard with our material in its answers: notes, figures, tables, readable attributes.

Nothing of it is stored. It is made from the study and its run folder when a browser asks, so that a running search is
never written into, a kill leaves nothing half done, and what is shown is as of now.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.records import METRICS, TrialSummary, Value
from tuner.reporting.attachments import Attachment, Uploads, attachments_of
from tuner.reporting.notes import study_attributes, study_note, trial_attributes, trial_note
from tuner.reporting.report import Document
from tuner.runs import DAMAGED, Outputs
from tuner.search.storage import PatientStorage
from tuner.search.study import ENDS, FACTS, StudyFacts, read_facts, summary_of

# Optuna Dashboard's own addresses (optuna_dashboard/_app.py and artifact/_backend.py, 0.21).
ONE_STUDY = re.compile(r"/api/studies/(\d+)")
ONE_ARTIFACT = re.compile(r"(?:/api)?/artifacts/(\d+)/([0-9a-f-]+)")
NEW_ARTIFACT = re.compile(r"/api/artifacts/(\d+)")
MACHINERY = {"values", "start", "multiply_adds", "parameters", "attempts", "lost", "twin_of", "duplicate", *ENDS}
"""Attributes of a trial that the search keeps for itself; readable ones take their place."""

Answer: TypeAlias = tuple[str, list[tuple[str, str]], bytes]
"""Status, headers, body."""


@dataclass(frozen=True)
class _Told:
    """What is shown of a trial."""

    summary: TrialSummary
    note: str
    attributes: dict[str, Value]

    @classmethod
    def of(cls, trial: FrozenTrial, metric: str) -> _Told:
        summary = dataclasses.replace(summary_of(trial), metric=metric)  # a running one does not know it yet
        return cls(summary, trial_note(summary, trial.intermediate_values), trial_attributes(summary))


@dataclass(frozen=True)
class _Study:
    """One of our studies, as it is now."""

    number: int
    name: str
    facts: StudyFacts


class Attached:
    """Optuna Dashboard as a WSGI application, with the material of our studies in its answers."""

    def __init__(self, storage: PatientStorage, outputs: Outputs) -> None:
        """Show what ``storage`` holds, and the run folders of ``outputs``."""
        self._patient, self._outputs = storage, outputs
        self._begin()

    def _begin(self) -> None:
        from optuna_dashboard import wsgi

        # It remembers finished trials: of a long study a poll reads what has changed.
        self._storage = optuna.storages.get_storage(self._patient)
        uploads = Uploads(self._outputs.folder / "artifacts")
        self._dashboard: WSGIApplication = wsgi(self._storage, artifact_store=uploads)
        self._identities: dict[int, str | None] = {}
        self._told: dict[int, dict[int, _Told]] = {}
        """By study and number, the trials that are finished: they do not change any more."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        answer = self._answer(environ["REQUEST_METHOD"], environ["PATH_INFO"].rstrip("/"), environ)
        if answer is None:
            return self._dashboard(environ, start_response)
        status, headers, body = answer
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, method: str, path: str, environ: WSGIEnvironment) -> Answer | None:
        """Return the answer to a request to which we have something to say, or None."""
        if match := ONE_ARTIFACT.fullmatch(path):
            return self._file(int(match[1]), match[2], method)
        add: Callable[[Document], None] | None = None
        if (method, path) == ("GET", "/api/studies"):
            add = self._add_to_list
        elif match := (ONE_STUDY if method == "GET" else NEW_ARTIFACT).fullmatch(path):
            study = self._study(int(match[1]))
            add = partial(self._add_to_study, study) if study else None
        return _ask(self._dashboard, environ, add) if add else None

    def _study(self, number: int) -> _Study | None:
        """Return a study of ours; None for another's, or where there is none."""
        try:
            name, attributes = self._patient.get_study_name_from_id(number), self._patient.get_study_user_attrs(number)
        except KeyError:
            return None
        facts = read_facts(attributes.get(FACTS))
        identity = facts.identity if facts else None
        if self._identities.setdefault(number, identity) != identity:
            self._begin()  # that study was deleted, and its number given to another one: what is remembered is wrong
        return _Study(number, name, facts) if facts else None

    # What is added.

    def _add_to_list(self, body: Document) -> None:
        for row in body["study_summaries"]:
            if facts := read_facts(next((one["value"] for one in row["user_attrs"] if one["key"] == FACTS), None)):
                row["user_attrs"] = _attributes(row["user_attrs"], study_attributes(facts), {FACTS})

    def _add_to_study(self, study: _Study, body: Document) -> None:
        found = attachments_of(self._outputs.run_folder(study.name), study.facts)
        body["artifacts"] = [*(one.as_document() for one in found), *body["artifacts"]]
        if "trials" not in body:  # an upload is answered by the list of artifacts alone
            return
        told = self._tell(study)
        body["objective_names"] = [METRICS[study.facts.settings.metric]]
        body["user_attrs"] = _attributes(body["user_attrs"], study_attributes(study.facts), {FACTS})
        columns = {key: not isinstance(value, str) for one in told.values() for key, value in one.attributes.items()}
        others = [column for column in body["union_user_attrs"] if column["key"] not in MACHINERY]
        body["union_user_attrs"] = [{"key": key, "sortable": columns[key]} for key in columns] + others
        _note(body, self._study_note(study, told, found))
        for row in (*body["trials"], *body["best_trials"]):
            if one := told.get(row["number"]):
                row["user_attrs"] = _attributes(row["user_attrs"], one.attributes, MACHINERY)
                _note(row, one.note)

    def _study_note(self, study: _Study, told: dict[int, _Told], found: list[Attachment]) -> str:
        shown = {one.address(study.number): one for one in found}
        try:
            return study_note(self._outputs, study.name, study.facts, [one.summary for one in told.values()], shown)
        except DAMAGED as error:
            return f"The files in {self._outputs.run_folder(study.name)} cannot be read: {error!r}"

    def _tell(self, study: _Study) -> dict[int, _Told]:
        """Return what is shown of every trial that has begun, by number."""
        known = self._told.setdefault(study.number, {})
        trials = self._storage.get_all_trials(study.number, deepcopy=False)
        metric = study.facts.settings.metric
        begun = [trial for trial in trials if trial.state != TrialState.WAITING]
        told = {trial.number: known.get(trial.number) or _Told.of(trial, metric) for trial in begun}
        known.update({trial.number: told[trial.number] for trial in begun if trial.state.is_finished()})
        return told

    def _file(self, number: int, key: str, method: str) -> Answer | None:
        """Return a file of a run folder, or why it is not removed; None where there is no such file."""
        study = self._study(number)
        found = attachments_of(self._outputs.run_folder(study.name), study.facts) if study else []
        one = next((one for one in found if one.key == key), None)
        if one is None:
            return None
        if method == "DELETE":
            reason = f"{one.path.name}: it belongs to the study's run folder, and stays there"
            return "403 Forbidden", [("Content-Type", "application/json")], json.dumps({"reason": reason}).encode()
        headers = [
            ("Content-Type", one.kind),
            ("Cache-Control", "max-age=86400"),
        ]  # another content has another address
        return "200 OK", headers, one.path.read_bytes()


def _ask(dashboard: WSGIApplication, environ: WSGIEnvironment, add: Callable[[Document], None]) -> Answer:
    """Return Optuna Dashboard's answer with more in its document; an error stays as it is."""
    status = ""
    headers: list[tuple[str, str]] = []

    def start_response(
        said: str, with_headers: list[tuple[str, str]], _error: object = None, /
    ) -> Callable[[bytes], object]:
        nonlocal status, headers
        status, headers = said, [(name, value) for name, value in with_headers if name.lower() != "content-length"]
        return lambda _: None

    body = b"".join(dashboard(environ, start_response))
    if status.startswith("2"):
        document = json.loads(body)
        add(document)
        body = json.dumps(document).encode()
    return status, headers, body


def _note(place: Document, text: str) -> None:
    """Put our note where nobody has written one. It has no version: the first one that a user saves replaces it."""
    if not place["note"]["body"].strip():
        place["note"] = {**place["note"], "body": text}


def _attributes(stored: list[dict[str, str]], ours: dict[str, Value], hidden: set[str]) -> list[dict[str, Any]]:
    """Return attributes as Optuna Dashboard lists them, ours first."""
    return [{"key": key, "value": str(value)} for key, value in ours.items()] + [
        one for one in stored if one["key"] not in hidden
    ]
