"""The study: created, read and kept. Beside it only ``ledger`` touches Optuna's storage, which ``storage`` opens."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import uuid
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import SpaceError, StudyError
from tuner.records import METRICS, VAL_ACCURACY, Cost, EpochResult, TrialSummary, Values, count_states
from tuner.runs import Outputs
from tuner.search.storage import PatientStorage, own
from tuner.space.hypermodel_file import HypermodelFile
from tuner.space.parameters import Fixed, Space
from tuner.space.reader import hypermodel_in
from tuner.space.settings import SearchSettings

FACTS = "tuner"
"""The study's user attribute that holds what it was made with."""
HALF_MADE = " (half-made)"
"""Ends the name of a study until it has all that it begins with: nobody can call one so, and it is seen from every
machine when the search that made it died over it."""
FORMAT = 2
"""How trials are stored; another one is not read."""
ENDS = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "clock": TrialState.PRUNED,
    # A violated constraint told PRUNED teaches TPE where not to look; told FAIL it would teach nothing.
    "refused": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    # A sampler learns nothing from it, and there is nothing to learn.
    "redrawn": TrialState.FAIL,
}
"""What Optuna is told of a trial, by our word for its end; a ``duplicate`` is told what its twin was.

The word is also the name of the user attribute that holds the rest (reason, curve, ...): an end is stored in one
transaction, and trials are counted by it without reading what it holds.
"""
ENTRY = "entry"
"""The user attribute of a hypermodel's first trials that holds the values they are to have, where it asks for them."""
UNTRAINED = ("refused", "duplicate", "redrawn")

optuna.logging.set_verbosity(optuna.logging.WARNING)  # tuner.library gives a program its own back


@dataclass(frozen=True)
class StudyFacts:
    """What a study was made with, kept in the database with it."""

    space_name: str
    space_text: str
    space_hash: str
    data: str
    """The digest of the data set."""
    settings: SearchSettings
    """As the last search on it had them."""
    data_folder: str | None = None
    """What ``--data`` said, with absolute paths; None is Fashion-MNIST, wherever it lies."""
    commands: tuple[str, ...] = ()
    """The command lines that searched it, oldest first."""
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells a study from an earlier one of the same name, whose run folder may still be there."""

    @property
    def hypermodel(self) -> HypermodelFile | None:
        """Return the KerasTuner file that was searched, as it was then."""
        return hypermodel_in(self.space_text)


@dataclass(frozen=True)
class StudyRow:
    """One line of ``tuner studies``."""

    name: str
    space: str
    trials: dict[str, int]
    """Trials by state, in the words of :class:`TrialSummary`."""
    best_val_accuracy: float | None
    """By ``metric``."""
    started: datetime | None
    metric: str = VAL_ACCURACY

    def as_document(self) -> dict[str, Any]:
        """Return the row as JSON can hold it."""
        return {
            **dataclasses.asdict(self),
            "started": self.started.isoformat(timespec="seconds") if self.started else None,
        }


@contextlib.contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna calls experimental without a warning to the user, who did not choose it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def create_study(storage: PatientStorage, name: str, facts: StudyFacts, space: Space) -> optuna.Study:
    """Create a study, with the space's ``start_with`` entries waiting. Raises StudyError when it exists.

    It gets its name last. What an earlier search has half made of it is thrown away.
    """
    left, half_made = half_made_of(storage, name), name + HALF_MADE
    if left is not None:
        optuna.delete_study(study_name=left, storage=storage)
    elif name in study_names(storage):
        raise StudyError(f"study '{name}' exists", hint="--resume goes on with it; --study NAME makes another")
    study = optuna.create_study(storage=storage, study_name=half_made, direction="maximize")
    own(study)
    with experimental():
        study.set_metric_names([METRICS[facts.settings.metric]])
    if space.hypermodel:  # its defaults, whatever they are
        for entry in ({}, *space.start_with):
            study.enqueue_trial({}, user_attrs={"start_with": True, **({ENTRY: entry} if entry else {})})
    elif facts.settings.sampler != "grid":  # the grid holds them already
        queue_entries(study, space)
    study.set_user_attr(FACTS, _to_json(facts))
    storage.rename_study(half_made, name)
    return optuna.load_study(storage=storage, study_name=name)


def queue_entries(study: optuna.Study, space: Space) -> None:
    """Let the ``start_with`` entries of a space wait in a study."""
    for entry in space.start_with:
        varying = {key: value for key, value in entry.items() if not isinstance(space.parameters[key], Fixed)}
        study.enqueue_trial(varying, user_attrs={"start_with": True})


def half_made_of(storage: optuna.storages.BaseStorage, name: str) -> str | None:
    """Return under what name a study ``name`` stands that a search died over before it was made, or None.

    Earlier versions made a study under its own name: without facts, only first entries waiting in it.
    """
    names = _names(storage)
    if name not in names:
        return name + HALF_MADE if name + HALF_MADE in names else None
    study = optuna.load_study(storage=storage, study_name=name)
    if study.user_attrs:
        return None
    trials = study.get_trials(deepcopy=False)
    ours = all(t.state == TrialState.WAITING and t.user_attrs.get("start_with") for t in trials)
    return name if trials and ours else None  # an empty one may be somebody else's


def begun_in_vain(storage: optuna.storages.BaseStorage, space: str) -> str | None:
    """Return the name of the half-made study of ``space``, "" when a younger one was made, None for neither."""
    for name in reversed(_names(storage)):
        begun = name.removesuffix(HALF_MADE)
        if re.fullmatch(rf"{re.escape(space)}-\d+", begun) and half_made_of(storage, begun) == name:
            return begun
        facts = _facts_or_none(storage, name) if begun == name else None
        if facts is not None and facts.space_name == space:
            return ""
    return None


def keep_facts(study: optuna.Study, facts: StudyFacts) -> None:
    """Take a study up, and store what a resumed search was told."""
    own(study)
    study.set_user_attr(FACTS, _to_json(facts))


def load_study(storage: optuna.storages.BaseStorage, name: str) -> tuple[optuna.Study, StudyFacts]:
    """Return a study of ours and its facts. Raises StudyError."""
    names = study_names(storage)
    if half_made_of(storage, name) is not None:
        hint = f"'tuner search SPACE --study {name}' begins it, 'tuner studies delete' deletes it"
        raise StudyError(f"study '{name}' is half-made: a search died over it", hint=hint)
    if name not in names:
        hint = f"there are: {', '.join(names)}" if names else "there are none yet"
        raise StudyError(f"there is no study '{name}'", hint=hint)
    study = optuna.load_study(storage=storage, study_name=name)
    raw = study.user_attrs.get(FACTS)
    if raw is None:
        raise StudyError(f"study '{name}' was not made by tuner", hint="'tuner studies' lists those that were")
    try:
        return study, _from_json(raw)
    except (SpaceError, TypeError, KeyError, ValueError) as error:
        said = f"study '{name}' cannot be read by this version of tuner: {error}"
        raise StudyError(said, hint="the version that made it does; or start a new study") from None


def study_names(storage: optuna.storages.BaseStorage) -> list[str]:
    """Return the names of all studies, oldest first; not of those that are being made."""
    return [name for name in _names(storage) if not name.endswith(HALF_MADE)]


def _names(storage: optuna.storages.BaseStorage) -> list[str]:
    return [study.study_name for study in sorted(storage.get_all_studies(), key=lambda study: study._study_id)]  # noqa: SLF001  # Optuna shows the order no other way


def latest_study(storage: optuna.storages.BaseStorage, space: str | None = None) -> str:
    """Return the youngest study, of ``space`` when given. Raises StudyError when there is none."""
    for name in reversed(study_names(storage)):
        facts = _facts_or_none(storage, name)
        if facts is not None and space in (None, facts.space_name):
            return name
    raise StudyError(
        "there is no study yet" + (f" of the space '{space}'" if space else ""), hint="'tuner search' makes one"
    )


def study_page(storage: optuna.storages.BaseStorage, name: str | None) -> str:
    """Return the path of a study's page in Optuna Dashboard, or of the list of all. Raises StudyError."""
    if name is None:
        return "/dashboard"
    load_study(storage, name)
    return f"/dashboard/studies/{storage.get_study_id_from_name(name)}"


def free_name(storage: optuna.storages.BaseStorage, outputs: Outputs, space: str, taken: Collection[str] = ()) -> str:
    """Return ``SPACE-N`` with the first number above those that a study or a run folder has used, or that are taken."""
    runs = outputs.run_folder(space).parent.glob("*/space.toml")
    names = {*taken, *study_names(storage), *(path.parent.name for path in runs)}
    used = [re.fullmatch(rf"{re.escape(space)}-(\d+)", name) for name in names]
    return f"{space}-{1 + max((int(match[1]) for match in used if match), default=0)}"


def list_studies(storage: PatientStorage) -> list[StudyRow]:
    """Return one row a study, oldest first; studies of others have no space."""
    rows = []
    for name in study_names(storage):
        facts = _facts_or_none(storage, name)
        study_id = storage.get_study_id_from_name(name)
        trials: dict[str, int] = {}
        started = []
        for found in storage.tally(study_id, (*ENDS, "duplicate") if facts else ()):
            if found.state != TrialState.WAITING:
                word = _word_for(found.state, found.key)
                trials[word] = trials.get(word, 0) + found.trials
            started += [found.started] if found.started else []
        rows.append(
            StudyRow(
                name=name,
                space=facts.space_name if facts else "-",
                trials=trials,
                best_val_accuracy=_best_value(storage, study_id),
                started=min(started, default=None),
                metric=facts.settings.metric if facts else VAL_ACCURACY,
            )
        )
    return rows


def _best_value(storage: PatientStorage, study_id: int) -> float | None:
    with contextlib.suppress(ValueError, RuntimeError):  # no trial is complete; more than one objective
        return storage.get_best_trial(study_id).value
    return None


def summaries(study: optuna.Study) -> list[TrialSummary]:
    """Return every trial as the report shows it, by number; those that only wait in the queue are left out."""
    trials = study.get_trials(deepcopy=False)
    return [summary_of(trial) for trial in trials if trial.state != TrialState.WAITING]


def end_of(trial: FrozenTrial) -> str | None:
    """Return our word for how a trial ends, once that is stored; it may not be told yet."""
    return next((word for word in (*ENDS, "duplicate") if word in trial.user_attrs), None)


def _word_for(state: TrialState, end: str | None) -> str:
    """Return our word for a trial's state."""
    if not state.is_finished():
        return "running"
    return end or {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(state, "failed")


def summary_of(trial: FrozenTrial) -> TrialSummary:
    """Return one trial as the report shows it."""
    attrs, end = trial.user_attrs, end_of(trial)
    outcome = attrs[end] if end else {}
    values: Values = attrs.get("values", dict(trial.params))
    cost = Cost(attrs["parameters"], attrs["multiply_adds"]) if "parameters" in attrs else None
    last = trial.intermediate_values[trial.last_step] if trial.last_step is not None else None
    return TrialSummary(
        number=trial.number,
        state=_word_for(trial.state, end),
        values=values,
        val_accuracy=trial.value if trial.state == TrialState.COMPLETE else outcome.get("value", last),
        curve=tuple(EpochResult(**row) for row in outcome.get("curve", [])),
        cost=cost,
        reason=outcome.get("reason", ""),
        enqueued=bool(attrs.get("start_with")),
        attempts=attrs.get("attempts", 1),
        peak_memory=outcome.get("peak_memory"),
        by_machine=bool(outcome.get("by_machine")),
        metric=outcome.get("metric", VAL_ACCURACY),
    )


def best_trial(trials: Sequence[TrialSummary]) -> TrialSummary | None:
    """Return the complete trial of the highest value (the earliest of equals), or None."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.val_accuracy is not None]
    return max(complete, key=lambda trial: (trial.val_accuracy or 0.0, -trial.number), default=None)


def why_no_winner(trials: Sequence[TrialSummary]) -> str:
    """Return the sentence for a study without a complete trial."""
    counts = ", ".join(f"{count} {state}" for state, count in count_states(trials).items()) or "none was started"
    failures = [trial.reason for trial in trials if trial.state == "failed"]
    last = f"; the last failure: {failures[-1]}" if failures else ""
    return f"no trial was trained to its last epoch ({counts}{last})"


def _facts_or_none(storage: optuna.storages.BaseStorage, name: str) -> StudyFacts | None:
    return read_facts(storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(FACTS))


def read_facts(raw: str | None) -> StudyFacts | None:
    """Return the facts that a study's attribute holds; None where it is not ours, or of another version of ours."""
    with contextlib.suppress(SpaceError, TypeError, KeyError, ValueError):
        return None if raw is None else _from_json(raw)
    return None


def _to_json(facts: StudyFacts) -> str:
    return json.dumps({"format": FORMAT, **dataclasses.asdict(facts)})


def _from_json(raw: str) -> StudyFacts:
    table = json.loads(raw)
    if table.pop("format", 1) != FORMAT:
        raise ValueError("its trials are stored in another way")
    settings = SearchSettings(**table["settings"])
    return StudyFacts(**{**table, "settings": settings, "commands": tuple(table.get("commands", ()))})
