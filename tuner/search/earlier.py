"""The best configurations of an earlier study, for a new one to start with."""

from __future__ import annotations

from optuna.storages import BaseStorage

from tuner.errors import SpaceError, StudyError
from tuner.records import Values
from tuner.search.study import load_study, summaries
from tuner.space.parameters import Fixed, Space, describe
from tuner.space.reader import SpaceFile

BEST = 5


def starting_with_study(space_file: SpaceFile, storage: BaseStorage, name: str) -> SpaceFile:
    """Return a space that starts with the ``BEST`` best different configurations of study ``name`` that it admits.

    A complete trial's values are admitted when each parameter of the space that they name allows its value; what the
    space no longer has is left out. Raises StudyError where there are none.
    """
    study, facts = load_study(storage, name)
    space = space_file.space
    if bool(facts.hypermodel) != bool(space.hypermodel):
        raise StudyError(f"--start-with {name}: a KerasTuner hypermodel and a space share no parameters")
    ranked = sorted(
        (trial for trial in summaries(study) if trial.state == "complete"),
        key=lambda trial: (-(trial.val_accuracy or 0.0), trial.number),
    )
    entries: list[Values] = []
    refused: list[SpaceError] = []
    for trial in ranked:
        try:
            entry = _written(trial.values) if space.hypermodel else admitted(space, trial.values)
        except SpaceError as error:
            refused.append(error)
            continue
        if entry not in entries:
            entries.append(entry)
    if not entries:
        why = f"the space admits none of its {len(ranked)}: {refused[0]}" if refused else "no trial of it is complete"
        raise StudyError(f"--start-with {name}: there is no configuration to start with; {why}")
    best = entries[:BEST]
    why = f"Starts with {len(best)} of the best configurations of the study {name}."
    return space_file.starting_with(best, why)


def _written(values: Values) -> Values:
    """Return what TOML can hold: a hypermodel may fix a value at None."""
    return {name: value for name, value in values.items() if value is not None}


def admitted(space: Space, values: Values) -> Values:
    """Return those ``values`` of another space that vary in this one. Raises SpaceError where one is outside of it."""
    known: Values = {}
    for name, parameter in space.parameters.items():
        awake = all(parent not in known or known[parent] in allowed for parent, allowed in parameter.when.items())
        if name in values and awake:
            if not parameter.contains(values[name]):
                raise SpaceError(f"{name} = {values[name]!r} is not in {describe(parameter)}")
            known[name] = values[name]
        elif isinstance(parameter, Fixed):
            known[name] = parameter.value
    entry = {name: value for name, value in known.items() if not isinstance(space.parameters[name], Fixed)}
    if not entry:
        raise SpaceError("they have no parameter in common that varies")
    return entry
