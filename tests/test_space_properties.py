"""The reader under hypothesis: every valid space comes back as it was, and nothing makes it raise but its own error."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import optuna
import tomli_w
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tuner.errors import SpaceError
from tuner.experiment.refusals import Pinned
from tuner.space.library import builtin_names, builtin_text
from tuner.space.parameters import Int
from tuner.space.reader import SpaceFile, parse_space, read_space

from .space_strategies import junk, near_misses, valid_spaces

quietly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
CNN = builtin_text("cnn")


def _is_sound(space_file: SpaceFile) -> None:
    """What was read can be sampled, lies in itself, and is read again from the text that a study keeps."""
    space = space_file.space
    for parameter in space.parameters.values():
        assert all(parameter.contains(value) for value in parameter.extremes())
    values = space.sample(Pinned(0, {}))
    space.check_values(values)
    again = parse_space(space.name, space_file.text)
    assert (again.space, again.settings, again.hash) == (space, space_file.settings, space_file.hash)


@given(valid_spaces(), st.integers(0, 99))
@quietly
def test_every_valid_space_round_trips(table: dict[str, Any], seed: int) -> None:
    first = parse_space("any", tomli_w.dumps(table))
    table["start_with"] = [first.space.sample(Pinned(seed, {}))]

    space_file = parse_space("any", tomli_w.dumps(table))
    written = space_file.starting_with([], "written by the tests")

    assert space_file.space.start_with == tuple(table["start_with"])
    assert list(parse_space("any", written.text).space.parameters) == list(space_file.space.parameters)
    _is_sound(space_file)
    _is_sound(written)


@given(valid_spaces())
@quietly
def test_every_valid_space_is_itself_when_it_is_extended_or_set_to_what_it_says(table: dict[str, Any]) -> None:
    space_file = parse_space("any", tomli_w.dumps(table))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "base.toml").write_text(tomli_w.dumps(table), "utf-8")
        (Path(folder) / "any.toml").write_text('extends = "base.toml"', "utf-8")

        extended = read_space(f"{folder}/any.toml")
    changed = parse_space("any", tomli_w.dumps(table), ["search.epochs=3"])

    assert extended.space == changed.space == space_file.space
    assert extended.settings == space_file.settings
    _is_sound(extended)
    _is_sound(changed)


@given(near_misses())
@settings(quietly, max_examples=400)
def test_no_table_makes_the_reader_raise_anything_but_its_own_error(table: dict[str, Any]) -> None:
    try:
        space_file = parse_space("any", tomli_w.dumps(table))
    except SpaceError:
        return
    _is_sound(space_file)


@given(
    st.lists(st.tuples(st.sampled_from(["parameters", "search", "limits", "x"]), st.sampled_from(["blocks", "filters", "filters_2", "epochs", "x", "x_1"]),
                       st.sampled_from(["", ".low", ".when", ".when.blocks", ".per", ".options", "."]), junk), max_size=3),
)  # fmt: skip
@settings(quietly, max_examples=200)
def test_no_change_makes_the_reader_raise_anything_but_its_own_error(changes: list[tuple[str, str, str, Any]]) -> None:
    written = [f"{top}.{name}{key}={tomli_w.dumps({'v': value})[4:].strip()}" for top, name, key, value in changes]
    try:
        space_file = read_space("cnn", written)
    except SpaceError:
        return
    _is_sound(space_file)


@given(st.text(), st.lists(st.text(), max_size=2))
@quietly
@example("", ["=", "\udc80=1", "parameters.x=\udc80"])
def test_no_text_makes_the_reader_raise_anything_but_its_own_error(text: str, changes: list[str]) -> None:
    for source in (text, "[parameters]\nx = 1"):
        try:
            space_file = parse_space("any", source, changes)
        except SpaceError:
            continue
        _is_sound(space_file)


@given(st.integers(0, len(CNN)), st.integers(0, 30), st.text(max_size=3))
@settings(quietly, max_examples=200)
def test_no_slip_of_the_keyboard_makes_the_reader_raise_anything_but_its_own_error(
    place: int, gone: int, typed: str
) -> None:
    try:
        space_file = parse_space("cnn", CNN[:place] + typed + CNN[place + gone :])
    except SpaceError:
        return
    _is_sound(space_file)


@given(st.binary())
@quietly
@example(b"\xef\xbb\xbf[parameters]\nx = 1")
@example(b"\xff\xfe")
def test_no_bytes_make_the_reader_raise_anything_but_its_own_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.toml"
        path.write_bytes(content)
        try:
            space_file = read_space(str(path))
        except SpaceError:
            return
    _is_sound(space_file)


@given(st.text())
@quietly
def test_no_name_makes_the_reader_raise_anything_but_its_own_error(source: str) -> None:
    assume(source not in builtin_names())
    for name in (source, f"{source}.toml", f"{source}.py"):
        try:
            read_space(name)
        except SpaceError:
            continue
        raise AssertionError(name)


@given(st.integers(-100, 100), st.integers(0, 20), st.integers(1, 9))
def test_every_value_that_a_stepped_integer_draws_lies_in_its_grid(low: int, count: int, step: int) -> None:
    parameter = Int(low, low + count * step, step)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()

    value = parameter.suggest("x", trial)

    assert parameter.contains(value)
    assert value in parameter.grid()
