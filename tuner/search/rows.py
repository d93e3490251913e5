"""Optuna's tables, where its own calls are too slow: trials counted without reading them, and one stored whole."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import optuna
import sqlalchemy
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

TRIALS = sqlalchemy.table(
    "trials",
    sqlalchemy.column("trial_id"),
    sqlalchemy.column("study_id"),
    sqlalchemy.column("number"),
    sqlalchemy.column("state"),
    sqlalchemy.column("datetime_start", sqlalchemy.DateTime()),
)
ATTRIBUTES = sqlalchemy.table("trial_user_attributes", sqlalchemy.column("trial_id"), sqlalchemy.column("key"))
"""The columns of Optuna's tables that a count needs."""


class Tally(NamedTuple):
    """Trials of one state that have the same one of some user attributes, or none."""

    state: TrialState
    key: str | None
    trials: int
    started: datetime | None
    """When the first of them did."""


def tallied(connection: sqlalchemy.Connection, study_id: int, keys: Collection[str]) -> list[Tally]:
    """Return how many trials a study has by state and by which of ``keys`` they have, lowest number first."""
    trials, attributes = TRIALS.c, ATTRIBUTES.c
    has_one = sqlalchemy.and_(attributes.trial_id == trials.trial_id, attributes.key.in_(keys))
    query = (
        sqlalchemy.select(
            trials.state, attributes.key, sqlalchemy.func.count(), sqlalchemy.func.min(trials.datetime_start)
        )
        .select_from(TRIALS.outerjoin(ATTRIBUTES, has_one))
        .where(trials.study_id == study_id)
        .group_by(trials.state, attributes.key)
        .order_by(sqlalchemy.func.min(trials.number))
    )
    return [
        Tally(TrialState[state], key, count, _local(started))
        for state, key, count, started in connection.execute(query)
    ]


def _local(stored: datetime | None) -> datetime | None:
    """Return a time of Optuna's tables, which is UTC without saying so, as Optuna returns it: local, the same way."""
    return stored and stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def rows_of(trial: FrozenTrial, trial_id: int) -> Iterator[tuple[type[models.BaseModel], list[dict[str, Any]]]]:
    """Yield what a trial has, table by table, as Optuna keeps it."""
    own = {"trial_id": trial_id}
    stored = models.TrialValueModel.value_to_stored_repr
    values = [(number, *stored(value)) for number, value in enumerate(trial.values or ())]
    yield (
        models.TrialValueModel,
        [{**own, "objective": number, "value": value, "value_type": kind} for number, value, kind in values],
    )
    yield (
        models.TrialParamModel,
        [
            {
                **own,
                "param_name": name,
                "param_value": trial.distributions[name].to_internal_repr(value),
                "distribution_json": optuna.distributions.distribution_to_json(trial.distributions[name]),
            }
            for name, value in trial.params.items()
        ],
    )
    for model, attributes in (
        (models.TrialUserAttributeModel, trial.user_attrs),
        (models.TrialSystemAttributeModel, trial.system_attrs),
    ):
        yield model, [{**own, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
    reported = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
    reports = [(step, *reported(value)) for step, value in trial.intermediate_values.items()]
    yield (
        models.TrialIntermediateValueModel,
        [
            {**own, "step": step, "intermediate_value": value, "intermediate_value_type": kind}
            for step, value, kind in reports
        ],
    )
