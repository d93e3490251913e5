"""The JSON Schema for editors: made from what the reader reads, and never stricter than it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings

from tuner.errors import SpaceError
from tuner.space.library import builtin_names, builtin_text, copy_builtin
from tuner.space.parameters import Float, Int
from tuner.space.reader import SCHEMA_LINE, parse_space, read_space
from tuner.space.schema import SCHEMA_NAME, schema, schema_text
from tuner.space.settings import SearchSettings
from tuner.training.configuration import FAMILIES

from .conftest import SMALL_SPACE
from .space_strategies import near_misses

ROOT = Path(__file__).parents[1]
COMMITTED = (ROOT / "search_spaces" / SCHEMA_NAME).read_text("utf-8")
takes = fastjsonschema.compile(json.loads(COMMITTED))


def test_the_committed_schema_is_what_the_types_make() -> None:
    assert schema_text(FAMILIES) == COMMITTED, "python benchmarks/readme.py writes it"


@pytest.mark.parametrize("name", builtin_names())
def test_it_takes_the_built_in_spaces_and_they_name_it(name: str) -> None:
    takes(tomllib.loads(builtin_text(name)))

    assert builtin_text(name).startswith(f"{SCHEMA_LINE}./{SCHEMA_NAME}\n")
    assert SCHEMA_LINE not in read_space(name).text


GOOD = [
    'extends = "cnn"\nremove = ["erase"]\n[parameters]\nfilters = 32\nflip = true\n[parameters.blocks]\noptions = [1, 2]',
    SMALL_SPACE,
    '[parameters.filters]\ntype = "int"\nlow = 1\nhigh = 9\nper = "blocks"\n[parameters]\nblocks = 2\n[search]\ntime = "45m"\nworkers = "auto"',
    "[parameters]\nblocks = 2\nflip = true\n[parameters.dropout_conv]\nvalue = 0.5\nwhen = { blocks = [1, 2], flip = true }\n[search]\nworkers = 2\ntime = 90",
]
WRONG = [
    "parameter = 3",
    "[parameters.filtres_1]\nlow = 3",
    "[parameters.filters_1]\nhihg = 3",
    '[parameters.filters_1]\ntype = "flaot"',
    '[parameters.filters_1]\ntype = "int"\noptions = [3]',
    '[parameters.filters_1]\ntype = "int"\nlow = 1.5',
    '[parameters.filters_1]\ntype = "choice"\noptions = []',
    '[parameters.flip]\ntype = "bool"\nlow = 0',
    "[parameters]\nfilters_1 = [1, 2]",
    "[parameters.flip]\nwhen = { blocks = [] }",
    "[limits]\nparameters = 0",
    "[search]\nepoch = 3",
    "[search]\nepochs = 0",
    '[search]\npruner = "asah"',
    "[search]\nreduction = 1",
    "start_with = 3",
]


@pytest.mark.parametrize("text", GOOD)
def test_it_takes_what_the_reader_takes(text: str) -> None:
    parse_space("mine", text)

    takes(tomllib.loads(text))


@pytest.mark.parametrize("text", WRONG)
def test_it_refuses_slips_as_the_reader_does(text: str) -> None:
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        takes(tomllib.loads(text))


ANY_NAME = schema({"cnn": {"x": Int(0, 1)}})
ANY_NAME["properties"]["parameters"]["additionalProperties"] = {"$ref": "#/definitions/parameter"}
takes_any_name = fastjsonschema.compile(ANY_NAME)


@given(near_misses())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_it_is_never_stricter_than_the_reader(table: dict[str, Any]) -> None:
    try:
        parse_space("any", tomli_w.dumps(table))
    except SpaceError:
        return
    if table.get("model", "cnn") == "cnn":  # which models there are the reader leaves to the families
        takes_any_name(table)


def test_it_tells_what_each_key_is_for_and_what_the_family_takes() -> None:
    made = schema({"cnn": {"filters_1": Int(1, 9), "rate": Float(0.0, 1.0)}})

    parameters, search = made["properties"]["parameters"]["properties"], made["properties"]["search"]["properties"]
    assert {name: one["description"] for name, one in parameters.items()} == {
        "filters": "cnn: 1 … 9", "filters_1": "cnn: 1 … 9", "rate": "cnn: 0 … 1",
    }  # fmt: skip
    assert list(search) == list(vars(SearchSettings()))
    assert search["heartbeat"] == {
        "description": "Seconds after which a worker that says nothing is given up.",
        "type": "number", "exclusiveMinimum": 0, "default": 120.0,
    }  # fmt: skip


def test_a_copy_has_the_schema_that_its_first_line_names_beside_it(tmp_path: Path) -> None:
    schema_file = copy_builtin("tiny", tmp_path / "mine.toml")

    assert schema_file == tmp_path / SCHEMA_NAME
    assert schema_file.read_text("utf-8") == COMMITTED
    first = (tmp_path / "mine.toml").read_text("utf-8").splitlines()[0]
    assert (tmp_path / first.removeprefix(SCHEMA_LINE)).samefile(schema_file)


def test_an_older_schema_of_ours_is_renewed_and_somebody_elses_file_is_left(tmp_path: Path) -> None:
    older, theirs = tmp_path / "older", tmp_path / "theirs"
    for folder, text in ((older, COMMITTED.replace("limits", "limts")), (theirs, "[1]")):
        folder.mkdir()
        (folder / SCHEMA_NAME).write_text(text, "utf-8")

    assert copy_builtin("cnn", older / "mine.toml") == older / SCHEMA_NAME
    assert (older / SCHEMA_NAME).read_text("utf-8") == COMMITTED
    assert copy_builtin("cnn", theirs / "mine.toml") is None
    assert (theirs / SCHEMA_NAME).read_text("utf-8") == "[1]"
