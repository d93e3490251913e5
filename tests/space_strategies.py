"""What hypothesis draws: tables of valid spaces, and tables that miss being one by little."""

from __future__ import annotations

import copy
import datetime as dt
import math
from typing import Any

from hypothesis import strategies as st

Table = dict[str, Any]

scalars = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4)
)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="_"), max_size=3)
"""Any text is a name in TOML; an underscore would make some of them one of a repeated parameter."""


@st.composite
def integers(draw: st.DrawFn) -> Table:
    if draw(st.booleans()):
        low = draw(st.integers(1, 1000))
        return {"type": "int", "low": low, "high": low + draw(st.integers(0, 10**6)), "log": True}
    low, step = draw(st.integers(-1000, 1000)), draw(st.integers(1, 50))
    table = {"type": "int", "low": low, "high": low + step * draw(st.integers(0, 100)), "step": step}
    return table if step > 1 or draw(st.booleans()) else {key: table[key] for key in ("type", "low", "high")}


@st.composite
def floats(draw: st.DrawFn) -> Table:
    if draw(st.booleans()):
        low, count = draw(st.integers(-20, 20)), draw(st.integers(0, 40))
        return {"type": "float", "low": low / 4, "high": (low + count) / 4, "step": 0.25}
    log = draw(st.booleans())
    ends = st.floats(1e-300 if log else -1e300, 1e300)
    low, high = sorted([draw(ends), draw(ends)])
    return {"type": "float", "low": low, "high": high, "log": log}


choices = st.lists(scalars, min_size=1, max_size=4, unique_by=lambda value: (type(value), value)).map(
    lambda options: {"type": "choice", "options": options}
)
fixed = st.one_of(
    scalars, scalars.map(lambda value: {"type": "fixed", "value": value}), scalars.map(lambda value: {"value": value})
)
kinds = st.one_of(integers(), floats(), choices, st.just({"type": "bool"}), fixed)


def some_of(raw: Any) -> list[Any]:
    """Values that a parameter can have, to be the condition of another."""
    if not isinstance(raw, dict) or "value" in raw:
        return ["anything"]  # a fixed parent is asked for whatever it may be set to later
    match raw["type"]:
        case "bool":
            return [False, True]
        case "choice":
            return list(raw["options"])
        case _:
            return [raw["low"]]


@st.composite
def valid_spaces(draw: st.DrawFn) -> Table:
    """The table of a space that the reader takes: all kinds, conditions in any order, repeats, limits, settings."""
    parameters: Table = {}
    for name in draw(st.lists(names, min_size=1, max_size=6, unique=True)):
        raw = draw(kinds)
        parents = draw(st.lists(st.sampled_from(sorted(parameters)), max_size=2, unique=True)) if parameters else []
        if parents:
            raw = raw if isinstance(raw, dict) else {"value": raw}
            lists = {
                parent: st.lists(st.sampled_from(some_of(parameters[parent])), min_size=1, max_size=3)
                for parent in parents
            }
            when = {parent: draw(one) for parent, one in lists.items()}
            raw = {**raw, "when": {parent: values if len(values) > 1 else values[0] for parent, values in when.items()}}
        parameters[name] = raw
    if draw(st.booleans()):
        parameters |= draw(repeats())
    order = draw(st.permutations(sorted(parameters)))
    table: Table = {"parameters": {name: parameters[name] for name in order}}
    table |= draw(st.fixed_dictionaries({}, optional={
        "description": st.text(max_size=20),
        "model": st.just("cnn"),
        "limits": st.fixed_dictionaries({}, optional={name: st.integers(1, 2**62) for name in ("parameters", "multiply_adds")}),
        "search": st.fixed_dictionaries({}, optional={
            "epochs": st.integers(1, 99), "time": st.one_of(st.floats(1, 1e6), st.sampled_from(["45m", "1h30m"])),
            "workers": st.one_of(st.integers(1, 64), st.just("auto")), "pruner": st.sampled_from(["asha", "none"]),
        }),
    }))  # fmt: skip
    return table


@st.composite
def repeats(draw: st.DrawFn) -> Table:
    """A number of blocks, and parameters that are repeated by it; some blocks have a range of their own."""
    highest = draw(st.integers(1, 4))
    blocks = draw(st.sampled_from([
        {"type": "int", "low": draw(st.integers(-9, 0)), "high": highest}, {"type": "choice", "options": list(range(highest, 0, -1))}, highest,
    ]))  # fmt: skip
    width = {"type": "int", "low": 1, "high": 9, "per": "n_blocks"}
    own = draw(
        st.dictionaries(st.integers(1, highest), st.sampled_from([{"high": 12}, {"low": 3, "when": {}}, 5]), max_size=2)
    )
    return {"n_blocks": blocks, "width": width, **{f"width_{number}": raw for number, raw in own.items()}}


junk = st.recursive(
    st.one_of(
        scalars, st.integers(-(10**30), 10**30), st.just(math.nan), st.just(math.inf), st.just(dt.date(2026, 11, 21)),
        st.sampled_from(["int", "float", "choice", "bool", "fixed", "n_blocks", "blocks", "cnn"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "low", "high", "step", "log", "options", "value", "when", "per", "x", "x_1"]), inner, max_size=4),
    ),
    max_leaves=6,
)  # fmt: skip
"""Whatever TOML can hold, at times with the right words in the wrong places."""


@st.composite
def near_misses(draw: st.DrawFn) -> Table:
    """A valid table in which some entries were replaced, renamed, removed or added."""
    table = copy.deepcopy(draw(valid_spaces()))  # what is damaged may be drawn again
    table |= draw(st.fixed_dictionaries({}, optional={
        "start_with": st.one_of(junk, st.lists(st.dictionaries(st.sampled_from([*table["parameters"], "width", "x"]), junk, max_size=3), max_size=2)),
        "extends": st.sampled_from(["cnn", "tiny", "cmn", "here.toml", "../x"]), "remove": st.one_of(junk, st.lists(st.sampled_from(["erase", "x"]))),
    }))  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        _damage(draw, table)
    return table


def _damage(draw: st.DrawFn, table: Table) -> None:
    place: Any = table
    while isinstance(place, dict) and place:
        key = draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], dict) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        match draw(st.sampled_from(["replace", "rename", "remove", "add"])):
            case "replace":
                place[key] = draw(junk)
            case "rename":
                place[key + draw(st.sampled_from(["s", "_1", "_0", "_99"]))] = place.pop(key)
            case "remove":
                del place[key]
            case _:
                place[draw(st.sampled_from(["low", "high", "type", "per", "when", "x", "width_7"]))] = draw(junk)
        return
