"""The space language: what can be written, what it means, and what is said when it is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
import pytest

from tuner.errors import SpaceError
from tuner.models.plan import PER_BLOCK
from tuner.space.contents import parse_seconds
from tuner.space.library import builtin_names
from tuner.space.parameters import Choice, Fixed, Float, Int
from tuner.space.reader import parse_space, read_space
from tuner.training.configuration import FAMILIES, check_space, read_configuration

from .conftest import SMALL_SPACE

ROOT = Path(__file__).parents[1]
NEAREST_POINTS = {
    "sadvisandhya": {"blocks": 3, "filters_1": 32, "filters_2": 64, "filters_3": 128, "dense_units": 128},
    "sadvisandhya-code": {
        "blocks": 2, "filters_1": 32, "filters_2": 64, "convs_1": 2, "convs_2": 2, "norm": "batch", "dropout_conv": 0.2,
        "dense_units": 128, "dropout_dense": 0.2, "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 512,
    },
    "ruhi": {
        "blocks": 3, "filters_1": 32, "filters_2": 64, "filters_3": 128, "padding": "valid", "norm": "none",
        "dropout_conv": 0.2, "dropout_dense": 0.5, "dense_units": 128, "optimizer": "adam", "batch_size": 128,
    },
    "myamiri-code": {
        "blocks": 1, "filters_1": 32, "padding": "valid", "norm": "none", "dropout_conv": 0.2, "dense_units": 32,
        "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 512,
    },
    "chaerim-code": {
        "blocks": 2, "filters_1": 32, "filters_2": 64, "norm": "none", "dropout_conv": 0.25, "dense_units": 256,
        "dropout_dense": 0.3, "optimizer": "rmsprop", "learning_rate": 1e-3, "batch_size": 128,
    },
    "mahinmiyurcee": {
        "blocks": 3, "filters_1": 32, "filters_2": 64, "filters_3": 64, "padding": "valid", "norm": "none",
        "dropout_conv": 0.0, "dropout_dense": 0.0, "dense_units": 64, "optimizer": "adam", "batch_size": 32,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NEAREST_POINTS)
def test_the_built_in_space_holds_the_nearest_point_to_each_published_cnn(name: str) -> None:
    space = read_space("cnn").space

    space.check_values(NEAREST_POINTS[name])

    read_configuration(NEAREST_POINTS[name]).plan((28, 28, 1), 10)


@pytest.mark.parametrize("name", builtin_names())
def test_a_built_in_space_is_read_by_its_family(name: str) -> None:
    check_space(read_space(name).space)


def test_the_documentation_of_the_family_names_every_parameter_and_its_default() -> None:
    rows = [line.split(" | ") for line in (ROOT / "docs" / "cnn.md").read_text("utf-8").splitlines() if "| `" in line]
    documented = {}
    for row in rows:
        names = re.findall(r"`(\w+)`", row[0])
        for name in [names[0], *(f"{names[0][:-1]}{k}" for k in (2, 3, 4) if len(names) == 2)]:
            documented[name] = row[2].strip(" `")

    configuration = read_configuration({})
    defaults = {**vars(configuration.architecture), **vars(configuration.recipe), "blocks": 3}
    defaults |= {f"{name}_{k}": default for name, (_, default) in PER_BLOCK.items() for k in (1, 2, 3, 4)}
    assert set(documented) == set(FAMILIES["cnn"])
    for name, text in documented.items():
        assert text == str(defaults[name]).lower() or float(text) == defaults[name], name


def test_the_example_in_the_readme_is_a_space_that_the_family_reads() -> None:
    text = (ROOT / "README.md").read_text("utf-8").partition("```toml\n")[2].partition("```")[0]

    check_space(parse_space("readme", text).space)


def test_every_start_with_entry_names_a_value_for_every_parameter_that_it_makes_active() -> None:
    for name in builtin_names():
        space = read_space(name).space
        for entry in space.start_with:
            sampled = space.sample(optuna.trial.FixedTrial(dict(entry)))

            assert sampled == {**{k: p.value for k, p in space.parameters.items() if isinstance(p, Fixed)}, **entry}


def test_a_conditional_parameter_is_only_asked_for_under_its_condition() -> None:
    space = parse_space("small", SMALL_SPACE).space
    chosen = {"filters_1": 4, "filters_2": 4, "dense_units": 0, "learning_rate": 0.01}

    adam = space.sample(optuna.trial.FixedTrial({**chosen, "optimizer": "adam"}))
    sgd = space.sample(optuna.trial.FixedTrial({**chosen, "optimizer": "sgd", "momentum": 0.9}))

    assert "momentum" not in adam
    assert sgd["momentum"] == 0.9


def test_conditions_nest_and_may_stand_before_their_parents() -> None:
    text = """
    [parameters.kernel_2]
    type = "int"
    low = 1
    high = 5
    when = { convs_2 = [2, 3] }
    [parameters.convs_2]
    type = "int"
    low = 1
    high = 3
    when = { blocks = 2 }
    [parameters.blocks]
    type = "int"
    low = 1
    high = 2
    """
    space = parse_space("nested", text).space

    assert list(space.parameters) == ["blocks", "convs_2", "kernel_2"]
    assert space.sample(optuna.trial.FixedTrial({"blocks": 1, "convs_2": 2, "kernel_2": 3})) == {"blocks": 1}
    assert len(space.sample(optuna.trial.FixedTrial({"blocks": 2, "convs_2": 2, "kernel_2": 3}))) == 3


def test_the_grid_holds_every_configuration_once() -> None:
    text = """
    [parameters.blocks]
    type = "int"
    low = 1
    high = 2
    [parameters.convs_2]
    type = "choice"
    options = [1, 2, 3]
    when = { blocks = 2 }
    """

    grid = parse_space("grid", text).space.grid()

    assert grid == [{"blocks": 1}, *({"blocks": 2, "convs_2": k} for k in (1, 2, 3))]


def test_set_fixes_a_parameter_changes_a_bound_and_keeps_the_start_entries_valid() -> None:
    changes = ["parameters.dense_units=0", "parameters.learning_rate.low=1e-3", "search.pruner=median"]

    space_file = parse_space("small", SMALL_SPACE, changes)

    assert space_file.space.parameters["dense_units"] == Fixed(0)
    assert space_file.space.parameters["learning_rate"] == Float(1e-3, 1e-1, log=True)
    assert space_file.settings.pruner == "median"
    assert space_file.space.start_with[0]["dense_units"] == 0


@pytest.mark.parametrize(
    ("change", "entries"),
    [
        ("parameters.optimizer=adam", 3),  # weight_decay sleeps under it
        ("parameters.blocks=2", 3),  # filters_3 sleeps
        ("parameters.learning_rate.low=4e-3", 1),  # two entries are below
        ("parameters.filters_1.high=24", 1),
        ("search.epochs=3", 3),
    ],
)
def test_set_on_a_built_in_space_keeps_the_entries_that_still_lie_in_it(change: str, entries: int) -> None:
    space = read_space("cnn", [change]).space

    assert len(space.start_with) == entries
    for entry in space.start_with:
        space.check_values(entry)
        assert set(entry) == set(space.sample(optuna.trial.FixedTrial(dict(entry)))) & set(entry)


@pytest.mark.parametrize(
    "text",
    ["parameters = 3", "parameters.x = 0.1\nstart_with = [1]", "start_with = 3\nparameters.x = 1"],
)
def test_set_on_a_broken_file_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(SpaceError):
        parse_space("mine", text, ["parameters.x=2"])


def test_set_on_a_bare_value_replaces_it() -> None:
    space = parse_space("mine", "parameters.learning_rate = 0.1", ["parameters.learning_rate=0.2"]).space

    assert space.parameters["learning_rate"] == Fixed(0.2)


def test_a_space_as_searched_reads_back_as_the_same_space() -> None:
    changed = parse_space("small", SMALL_SPACE, ["parameters.dense_units=16", "limits.parameters=9000"])

    again = parse_space("small", changed.text)

    assert again.space == changed.space
    assert again.hash == changed.hash != parse_space("small", SMALL_SPACE).hash


def test_the_hash_ignores_comments_and_search_settings() -> None:
    other = SMALL_SPACE.replace("epochs = 4", "epochs = 9") + "\n# a comment\n"

    assert parse_space("small", other).hash == parse_space("small", SMALL_SPACE).hash


WRONG = {
    "parameters.x: unknown key 'hihg' (did you mean 'high'?)": '[parameters.x]\ntype="int"\nlow=1\nhihg=2',
    "parameters.x: low = 3.0 is above high = 1.0": '[parameters.x]\ntype="float"\nlow=3\nhigh=1',
    "parameters.x: 'high' is missing": '[parameters.x]\ntype="int"\nlow=3',
    "parameters.x: unknown type 'flaot' (did you mean 'float'?)": '[parameters.x]\ntype="flaot"',
    "parameters.x: options is empty": '[parameters.x]\ntype="choice"\noptions=[]',
    "parameters.x: a log scale needs low > 0": '[parameters.x]\ntype="float"\nlow=0\nhigh=1\nlog=true',
    "parameters.x: low = 'a' is not a number": '[parameters.x]\ntype="float"\nlow="a"\nhigh=1',
    "parameters.x: high = 6 is not low + a multiple": '[parameters.x]\ntype="int"\nlow=1\nhigh=6\nstep=2',
    "parameters.x.when: unknown parameter 'y'": '[parameters.x]\ntype="bool"\nwhen={y=1}',
    "x is never 7": '[parameters.x]\ntype="int"\nlow=1\nhigh=2\n[parameters.y]\ntype="bool"\nwhen={x=7}',
    "wait for each other": '[parameters.x]\ntype="bool"\nwhen={y=true}\n[parameters.y]\ntype="bool"\nwhen={x=true}',
    "limits: unknown key 'paramters'": '[parameters.x]\ntype="bool"\n[limits]\nparamters=3',
    "start_with entry 1: x = 5 is outside": '[parameters.x]\ntype="int"\nlow=1\nhigh=2\n[[start_with]]\nx=5',
    "search: unknown key 'epoch' (did you mean 'epochs'?)": '[parameters.x]\ntype="bool"\n[search]\nepoch=3',
    "search.epochs = 0 must be above 0": '[parameters.x]\ntype="bool"\n[search]\nepochs=0',
    "search.pruner = 'asah' is unknown": '[parameters.x]\ntype="bool"\n[search]\npruner="asah"',
    "search.seed = 'a' is not a whole number": '[parameters.x]\ntype="bool"\n[search]\nseed="a"',
    "[parameters] is missing": 'model="cnn"',
    "top level: unknown key 'parameter'": "[parameter.x]",
    "not TOML": "a = = 3",
}


@pytest.mark.parametrize(("said", "text"), WRONG.items())
def test_a_wrong_space_says_what_and_where(said: str, text: str) -> None:
    with pytest.raises(SpaceError) as raised:
        parse_space("mine", text, source="mine.toml")

    assert str(raised.value).startswith("mine.toml: ")
    assert said in str(raised.value)


def test_a_parameter_that_the_family_does_not_read_is_an_error() -> None:
    space = parse_space("mine", '[parameters.filtres_1]\ntype="int"\nlow=1\nhigh=2').space

    with pytest.raises(SpaceError, match="did you mean 'filters_1'"):
        check_space(space)


def test_a_value_that_the_family_cannot_build_is_an_error() -> None:
    space = parse_space("mine", '[parameters.padding]\ntype="choice"\noptions=["same","full"]').space

    with pytest.raises(SpaceError, match="'full' is not for 'cnn'"):
        check_space(space)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45m", 2700), ("1h30m", 5400), ("600s", 600), ("90", 90), ("1.5h", 5400), ("1h 30m", 5400), ("2 h 5 s", 7205)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "-3m", "0s", "1..5h", "h5", "1 30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SpaceError):
        parse_seconds(text)


def test_one_is_not_true() -> None:
    assert not Choice((False, True)).contains(1)
    assert not Int(0, 1).contains(value=True)


def test_a_missing_file_and_a_wrong_suffix_say_so(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="no such file"):
        read_space(str(tmp_path / "nowhere.toml"))
    with pytest.raises(SpaceError, match=r"ends in \.toml"):
        read_space(str(tmp_path / "space.yaml"))
