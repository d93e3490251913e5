"""The study: created, read and kept. Nothing else in the project touches Optuna's storage, which ``storage`` opens."""

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
from tuner.records import Cost, EpochResult, TrialSummary, Values, count_states
from tuner.runs import Outputs
from tuner.space.parameters import Fixed, Space
from tuner.space.settings import SearchSettings

FACTS = "tuner"
"""The study's user attribute that holds what it was made with."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


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
    """What ``--data`` named, absolute; None is Fashion-MNIST, wherever it lies."""
    commands: tuple[str, ...] = ()
    """The command lines that searched it, oldest first."""
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells a study from an earlier one of the same name, whose run folder may still be there."""


@dataclass(frozen=True)
class StudyRow:
    """One line of ``tuner studies``."""

    name: str
    space: str
    trials: dict[str, int]
    """Trials by state, in the words of :class:`TrialSummary`."""
    best_val_accuracy: float | None
    started: datetime | None

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


def create_study(storage: optuna.storages.BaseStorage, name: str, facts: StudyFacts, space: Space) -> optuna.Study:
    """Create a study, with the space's ``start_with`` entries waiting. Raises StudyError when it exists.

    The facts come last: a study without them, in which nothing has run, was left by a search that died here.
    """
    if name in study_names(storage):
        if not is_stillborn(storage, name):
            raise StudyError(f"study '{name}' exists", hint="--resume goes on with it; --study NAME makes another")
        optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    with experimental():
        study.set_metric_names(["val_accuracy"])
    if facts.settings.sampler != "grid":  # the grid holds them already
        for entry in space.start_with:
            varying = {key: value for key, value in entry.items() if not isinstance(space.parameters[key], Fixed)}
            study.enqueue_trial(varying, user_attrs={"start_with": True})
    study.set_user_attr(FACTS, _to_json(facts))
    return study


def is_stillborn(storage: optuna.storages.BaseStorage, name: str) -> bool:
    """Tell whether a study has no facts of ours, nor anything that somebody else may have put into it."""
    study = optuna.load_study(storage=storage, study_name=name)
    ours = all(
        t.state == TrialState.WAITING and t.user_attrs.get("start_with") for t in study.get_trials(deepcopy=False)
    )
    return ours and not study.user_attrs


def keep_facts(study: optuna.Study, facts: StudyFacts) -> None:
    """Store what a resumed search was told."""
    study.set_user_attr(FACTS, _to_json(facts))


def load_study(storage: optuna.storages.BaseStorage, name: str) -> tuple[optuna.Study, StudyFacts]:
    """Return a study of ours and its facts. Raises StudyError."""
    names = study_names(storage)
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
        said = f"study '{name}' has settings that this version of tuner does not read: {error}"
        raise StudyError(said, hint="the version that made it does; or start a new study") from None


def study_names(storage: optuna.storages.BaseStorage) -> list[str]:
    """Return the names of all studies, oldest first."""
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


def is_of_space(storage: optuna.storages.BaseStorage, name: str, space: str) -> bool:
    """Tell whether a study is one of ours of ``space``."""
    facts = _facts_or_none(storage, name)
    return facts is not None and facts.space_name == space


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


def list_studies(storage: optuna.storages.BaseStorage) -> list[StudyRow]:
    """Return one row a study, oldest first; studies of others have no space."""
    rows = []
    for name in study_names(storage):
        study = optuna.load_study(storage=storage, study_name=name)
        facts = _facts_or_none(storage, name)
        trials = summaries(study)
        best = max(
            (t.val_accuracy for t in trials if t.state == "complete" and t.val_accuracy is not None), default=None
        )
        started = min((t.datetime_start for t in study.get_trials(deepcopy=False) if t.datetime_start), default=None)
        rows.append(StudyRow(name, facts.space_name if facts else "-", count_states(trials), best, started))
    return rows


def summaries(study: optuna.Study) -> list[TrialSummary]:
    """Return every trial as the report shows it, by number; those that only wait in the queue are left out."""
    trials = study.get_trials(deepcopy=False)
    return [summary_of(trial) for trial in trials if trial.state != TrialState.WAITING]


def summary_of(trial: FrozenTrial) -> TrialSummary:
    """Return one trial as the report shows it."""
    attrs = trial.user_attrs
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    state = attrs.get("stopped_by", states[trial.state]) if trial.state in states else "running"
    if trial.state == TrialState.COMPLETE and state != "duplicate":
        state = "complete"
    values: Values = attrs.get("values", dict(trial.params))
    cost = Cost(attrs["parameters"], attrs["multiply_adds"]) if "parameters" in attrs else None
    last = trial.intermediate_values[trial.last_step] if trial.last_step is not None else None
    return TrialSummary(
        number=trial.number,
        state=state,
        values=values,
        val_accuracy=trial.value if trial.state == TrialState.COMPLETE else last,
        curve=tuple(EpochResult(**row) for row in attrs.get("curve", [])),
        cost=cost,
        reason=attrs.get("reason", ""),
        enqueued=bool(attrs.get("start_with")),
        attempts=attrs.get("attempts", 1),
        peak_memory=attrs.get("peak_memory"),
        by_machine=bool(attrs.get("by_machine")),
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


def left_running(study: optuna.Study) -> Iterator[optuna.Trial]:
    """Yield the trials that a dead or interrupted search left RUNNING, by number: they are taken up as they are.

    One by one: each prepares the sampler for itself.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        yield optuna.Trial(study, trial._trial_id)  # noqa: SLF001  # Optuna's own way needs the id


def _facts_or_none(storage: optuna.storages.BaseStorage, name: str) -> StudyFacts | None:
    raw = storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(FACTS)
    with contextlib.suppress(SpaceError, TypeError, KeyError, ValueError):  # of another version of ours
        return None if raw is None else _from_json(raw)
    return None


def _to_json(facts: StudyFacts) -> str:
    return json.dumps(dataclasses.asdict(facts))


def _from_json(raw: str) -> StudyFacts:
    table = json.loads(raw)
    settings = SearchSettings(**table["settings"])
    return StudyFacts(**{**table, "settings": settings, "commands": tuple(table.get("commands", ()))})
