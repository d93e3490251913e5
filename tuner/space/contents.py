"""From a draft to a space and its search settings, everything that is wrong with it noted on the way."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from tuner.errors import SpaceError
from tuner.records import Values
from tuner.space.conditions import parents_first
from tuner.space.draft import Draft
from tuner.space.hypermodel_file import HYPERMODEL, HypermodelFile, not_in_toml
from tuner.space.kinds import Table, is_value, whole
from tuner.space.parameters import Fixed, Limits, Parameter, Space, describe, quoted
from tuner.space.problems import Problems, closest, nearest
from tuner.space.repeats import Parameters, read_parameters
from tuner.space.settings import SearchSettings

Family: TypeAlias = Callable[[str, Mapping[str, Parameter], Mapping[str, str]], Iterable[tuple[str, SpaceError]]]
"""What the model family of that name has against parameters, each with its name; errors call them by their labels."""
DEFAULT_MODEL = "cnn"
_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"(?:{_NUMBER} *h)? *(?:{_NUMBER} *m)? *(?:{_NUMBER} *s?)?")


def read_contents(name: str, draft: Draft, problems: Problems, family: Family) -> tuple[Space, SearchSettings]:
    """Return what a draft says. Raises one SpaceError of all ``problems``, those that were found before among them."""
    hypermodel = _read_hypermodel(draft, problems) if draft.hypermodel else None
    if not draft.parameters and not draft.hypermodel and not problems.mention("parameters"):
        problems.add("[parameters] is missing or empty", hint="'tuner spaces show cnn' is an example")
    found = read_parameters(draft.parameters, problems)
    _check_conditions(found, problems)
    model = DEFAULT_MODEL if draft.model is None else draft.model
    if not draft.hypermodel:
        _check_family(found, dict(family(model, found.read, found.labels)), problems)
    known = {
        name: dataclasses.replace(p, when={parent: p.when[parent] for parent in p.when if parent in found.read})
        for name, p in found.read.items()
    }
    with problems.gathering():
        known = parents_first(known)
    limits = _read_limits(draft.limits, problems)
    space = Space(name, draft.description or "", model, known, limits, hypermodel=hypermodel)
    entries = draft.start_with or []
    if not hypermodel:  # which asks for them, if its file is still as it was
        entries = [_read_entry(number, raw, found, space, problems) for number, raw in enumerate(entries, 1)]
    settings = _read_settings(draft.search, problems)
    problems.raise_any()
    return dataclasses.replace(space, start_with=tuple(entries)), settings


def _read_hypermodel(draft: Draft, problems: Problems) -> HypermodelFile | None:
    problems.unknown(draft.hypermodel, [field.name for field in dataclasses.fields(HypermodelFile)], HYPERMODEL)
    with problems.gathering():
        if draft.parameters or draft.extends or draft.model != HYPERMODEL:
            raise not_in_toml()
        return HypermodelFile.of(draft.hypermodel)
    return None


def _check_conditions(found: Parameters, problems: Problems) -> None:
    for name, parameter in found.read.items():
        where = f"parameters.{found.labels.get(name, name)}.when"
        for parent, allowed in parameter.when.items():
            if parent in found.repeats:
                hint = f"name one of {', '.join(found.repeats[parent])}"
                problems.add(f"{where}: '{parent}' is repeated", hint=hint)
            elif parent not in found.read and not found.excused(parent):
                problems.add(f"{where}: unknown parameter '{parent}'", hint=nearest(parent, found.read))
            elif parent in found.read:
                domain = found.read[parent]
                never = [] if isinstance(domain, Fixed) else [value for value in allowed if not domain.contains(value)]
                for value in never:
                    texts = [one for one in domain.extremes() if isinstance(one, str)]
                    close = closest(value, texts) if isinstance(value, str) else None
                    hint = f"did you mean '{close}'?" if close else f"allowed: {describe(domain)}"
                    problems.add(f"{where}: {parent} is never {quoted(value)}", hint=hint)


def _check_family(found: Parameters, wrong: Mapping[str, SpaceError], problems: Problems) -> None:
    """Note what a family says; the same of a repeated parameter once, and not what follows from too many blocks."""
    owners = {one: name for name, made in found.repeats.items() for one in made}
    for name, error in wrong.items():
        owner = owners.get(name)
        if owner is None or found.parents[owner] not in wrong:
            problems.take(error)


def _read_limits(raw: Table, problems: Problems) -> Limits:
    names = [field.name for field in dataclasses.fields(Limits)]
    problems.unknown(raw, names, "limits")
    read = {}
    for name in names:
        if name in raw:
            with problems.gathering("limits"):
                read[name] = whole(name, raw[name])
                if read[name] < 1:
                    raise SpaceError(f"{name} must be above 0")
    return Limits(**read)


def _read_entry(number: int, raw: object, found: Parameters, space: Space, problems: Problems) -> Values:
    """Return a first entry; what it says of a repeated parameter holds for each block that it has."""
    where = f"start_with entry {number}"
    if not isinstance(raw, dict):
        problems.add(f"{where} is not a table", hint="write [[start_with]]")
        return {}
    entry: Values = {}
    repeated: Values = {}
    for key, value in raw.items():
        if not is_value(value):
            problems.add(f"{where}: {key} must be a scalar")
        elif key in found.repeats:
            repeated[key] = value
        elif key in space.parameters:
            entry[key] = value
        elif not found.excused(key):
            names = [*space.parameters, *found.repeats, *sorted(found.unread)]
            problems.add(f"{where}: unknown parameter '{key}'", hint=nearest(key, names))
    entry = _with_repeated(entry, repeated, found, space)
    for error in space.value_problems(entry):
        problems.take(error.at(where))
    return entry


def _with_repeated(entry: Values, repeated: Values, found: Parameters, space: Space) -> Values:
    """Return ``entry`` with the values of ``repeated`` parameters, for those blocks that it does not put to sleep."""
    values = {name: value for key, value in repeated.items() for name in found.repeats[key]}
    known = {name: domain.value for name, domain in space.parameters.items() if isinstance(domain, Fixed)} | entry
    for name, parameter in space.parameters.items():
        met = all(parent not in known or known[parent] in allowed for parent, allowed in parameter.when.items())
        if name in values and name not in entry and met:
            entry = {**entry, name: values[name]}
            known[name] = values[name]
    for key, value in repeated.items():
        names = found.repeats[key]
        if names and not any(name in entry for name in names):  # asleep in all blocks: that is to be said
            entry = {**entry, names[0]: value}
    return entry


def _read_settings(raw: Table, problems: Problems) -> SearchSettings:
    names = [field.name for field in dataclasses.fields(SearchSettings)]
    problems.unknown(raw, names, "search")
    read = {key: value for key, value in raw.items() if key in names}
    with problems.gathering("search"):
        if isinstance(read.get("time"), str):
            read["time"] = parse_seconds(read.pop("time"))
    with problems.gathering():
        return SearchSettings().merged(read)
    return SearchSettings()


def parse_seconds(text: str) -> float:
    """Return the seconds of ``1h30m``, ``1h 30m``, ``45m``, ``600s``, ``90`` (seconds).

    >>> parse_seconds("1h30m")
    5400.0
    """
    match = _DURATION.fullmatch(text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise SpaceError(f"time '{text}' is not a duration", hint="e.g. 45m, 1h30m or 600s")
    return total


def written_seconds(seconds: float) -> str:
    """Return seconds as they are written in a file.

    >>> written_seconds(5400.0), written_seconds(2700), written_seconds(90.5)
    ('1h30m', '45m', '1m30.5s')
    """
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = [f"{hours}h" * bool(hours), f"{minutes}m" * bool(minutes), f"{rest:g}s" * bool(rest)]
    return "".join(parts)
