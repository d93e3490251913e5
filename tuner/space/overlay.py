"""One space put over another: what an extending file and ``--set`` change, and what no longer fits then."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from tuner.errors import SpaceError
from tuner.records import Values
from tuner.space.draft import Draft, drafted, load
from tuner.space.kinds import Table, changed, kind_of
from tuner.space.parameters import Fixed, Space
from tuner.space.problems import Problems, nearest
from tuner.space.repeats import Parameters, is_repeated, owner_of, read_parameters


def overlay(base: Draft, change: Draft, problems: Problems) -> Draft:
    """Return ``base`` with ``change`` put over it, key by key; its own first entries take the place of the others."""
    parameters = dict(base.parameters)
    for name in change.remove:
        _remove(parameters, name, problems)
    for name, new in change.parameters.items():
        if is_repeated(new) and not is_repeated(parameters.get(name)):  # what it becomes is not what was numbered
            parameters = {other: raw for other, raw in parameters.items() if owner_of(other, {name: new}) is None}
    for name, new in change.parameters.items():
        _put(parameters, name, new)
    return dataclasses.replace(
        base,
        description=base.description if change.description is None else change.description,
        model=base.model if change.model is None else change.model,
        parameters=parameters,
        limits={**base.limits, **change.limits},
        start_with=base.start_with if change.start_with is None else change.start_with,
        search={**base.search, **change.search},
        hypermodel={**base.hypermodel, **change.hypermodel},
    )


def _remove(parameters: Table, name: object, problems: Problems) -> None:
    owner = owner_of(name, parameters) if isinstance(name, str) else None
    if owner is not None:
        hint = f"remove '{owner[0]}', or give it one value: parameters.{name} = …"
        problems.add(f"remove: '{name}' is one of the repeated '{owner[0]}'", hint=hint)
    elif not isinstance(name, str) or name not in parameters:
        problems.add(f"remove: there is no parameter {name!r} to remove", hint=nearest(str(name), parameters))
    else:
        for one in _ones_of(name, parameters):
            del parameters[one]
        del parameters[name]


def _ones_of(name: str, parameters: Table) -> list[str]:
    """Return the tables that change one of a repeated parameter each."""
    return [other for other in parameters if (owner_of(other, parameters) or ("", 0))[0] == name]


def _put(parameters: Table, name: str, new: object) -> None:
    """Put one parameter's changes into ``parameters``; those of a repeated one hold for all that it becomes."""
    old = parameters.get(name)
    if is_repeated(old):
        replaced = not isinstance(new, dict) or kind_of(new) not in (None, kind_of(old))
        for one in _ones_of(name, parameters):
            table = parameters[one]
            if isinstance(table, dict) and isinstance(new, dict) and not replaced:
                table = {key: value for key, value in table.items() if key not in new}
            if replaced or table == {}:
                del parameters[one]
            else:
                parameters[one] = table
    if name not in parameters:
        parameters[name] = copy.deepcopy(new)
        return
    owner = owner_of(name, parameters)
    parameters[name] = changed(old, new, kind=kind_of(parameters[owner[0]]) if owner else None)


def settled(draft: Draft, base: Draft, changes: Sequence[Draft]) -> Draft:
    """Return ``draft``, which is ``base`` with ``changes``, without conditions of ``base`` that can never be met now.

    A parameter goes that is woken by nothing any more, unless a change names it: that is a mistake, for the reader.
    """
    named = {name for change in changes for name in change.parameters}
    own = {
        name for change in changes for name, new in change.parameters.items() if isinstance(new, dict) and "when" in new
    }
    own |= named - set(base.parameters)
    parameters = draft.parameters
    while True:
        found = read_parameters(parameters, Problems())
        left = {}
        for name, raw in parameters.items():
            owner = owner_of(name, parameters)
            if owner and name not in named and owner[1] > found.highest(owner[0]):
                continue
            kept = raw if name in own else _possible(raw, parameters, found)
            if kept is not None or owner or name in named:
                left[name] = raw if kept is None else kept
        if left == parameters:
            return dataclasses.replace(draft, parameters=left)
        parameters = left


def gone(whole: Draft, draft: Draft) -> list[str]:
    """Say which parameters a ``draft`` lost when it was settled from the ``whole``; numbers of a repeated one apart."""
    lost = [name for name in whole.parameters if name not in draft.parameters]
    return [f"{name} left out: nothing can wake it any more" for name in lost if not owner_of(name, whole.parameters)]


def _possible(raw: object, parameters: Table, found: Parameters) -> object:
    """Return a raw parameter with those values of its conditions that can be; None when one has none left.

    A fixed parent's are left: a parameter that sleeps under it wakes when it is set to another value.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("when"), dict):
        return raw
    when = {}
    for parent, allowed in raw["when"].items():
        domain, owner = found.read.get(parent), owner_of(parent, parameters)
        if domain is None and owner and owner[1] > found.highest(owner[0]):
            return None
        when[parent] = allowed
        if domain is not None and not isinstance(domain, Fixed):
            values = allowed if isinstance(allowed, list) else [allowed]
            left = [value for value in values if domain.contains(value)]
            if values and not left:
                return None
            when[parent] = left if len(left) < len(values) else allowed
    return {**raw, "when": when}


def fitting(space: Space, entries: Iterable[Values]) -> list[Values]:
    """Return those first entries that a changed space still holds, without what is not there or asleep now."""
    if space.hypermodel:  # what it will ask for is not known
        return list(entries)
    kept = []
    for entry in entries:
        known: Values = {}
        for name, parameter in space.parameters.items():
            met = all(parent not in known or known[parent] in allowed for parent, allowed in parameter.when.items())
            if isinstance(parameter, Fixed):
                known[name] = parameter.value
            elif name in entry and met:
                known[name] = entry[name]
        own = {name: value for name, value in known.items() if name in entry}
        if all(space.parameters[name].contains(value) for name, value in own.items()):
            kept.append(own)
    return kept


def change_of(text: str, base: Draft, names: Collection[str]) -> Draft:
    """Return what one ``--set`` says, ``KEY=VALUE``, as what is put over ``base``, whose parameters are ``names``.

    Raises SpaceError naming the key.
    """
    path, equals, written = text.partition("=")
    path = path.strip()
    keys = path.split(".")
    if not equals or not all(keys) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise SpaceError(f"--set {text}: not KEY=VALUE", hint="e.g. --set parameters.dropout=0.3")
    if base.hypermodel and keys[0] == "parameters":
        raise SpaceError(f"--set {path}: a hypermodel asks for its own values", hint="change them in its file")
    allowed = ("limits", "search", "hypermodel") if base.hypermodel else ("parameters", "limits", "search")
    if keys[0] not in allowed:
        raise SpaceError(f"--set {path}: starts with neither {', '.join(allowed[:-1])} nor {allowed[-1]}")
    if keys[0] == "parameters" and len(keys) > 1 and keys[1] not in names:
        raise SpaceError(f"--set {path}: unknown parameter '{keys[1]}'", hint=nearest(keys[1], names))
    value = _value_of(written)
    for depth in range(len(keys) - 1, 0, -1):
        value = {keys[depth]: value}
        if keys[0] == "parameters" and depth > 2:  # noqa: PLR2004  # parameters.NAME.when.PARENT: the others stay
            beside = base.parameters.get(keys[1])
            for key in keys[2:depth]:
                beside = beside.get(key) if isinstance(beside, dict) else None
            value = {**(beside if isinstance(beside, dict) else {}), **value}
    problems = Problems()
    change = drafted({keys[0]: value}, problems)
    if problems.found:
        raise SpaceError.of(problems.found).at(f"--set {path}")
    return change


def change_text(path: str, value: object) -> str:
    """Return what ``--set`` takes to put ``value`` at ``path``: TOML in one line. Raises SpaceError.

    >>> change_text("parameters.rate", {"low": 1e-3, "log": True})
    'parameters.rate={"low" = 0.001, "log" = true}'
    """
    try:
        return f"{path}={_toml(value)}"
    except TypeError:
        said = f"--set {path}: {value!r} is no text, number, true or false, nor a list or table of these"
        raise SpaceError(said, hint="what is not to be set is left out") from None


def _toml(value: object) -> str:
    """Return ``value``, Python's or NumPy's, as TOML in one line. Raises TypeError."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_toml(str(key))} = {_toml(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if not isinstance(value, bool | int | float | str):
        raise TypeError
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _value_of(written: str) -> object:
    try:
        return load(f"value = {written}")["value"]
    except SpaceError:
        return written.strip()  # a bare word is meant as text: --set search.pruner=median
