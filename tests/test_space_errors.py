"""Everything that is wrong with a file is said at once: what, where, and what next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.errors import SpaceError
from tuner.search.request import read_checked
from tuner.space.reader import parse_space, read_space

from .conftest import Done

MANY = """
modle = "cnn"
description = 3

[parameters.blocks]
type = "choice"
options = [1, 2]

[parameters.filters_1]
type = "int"
low = 64
hihg = 8

[parameters.filtres_2]
type = "int"
low = 8
high = 64

[parameters.dropout_conv]
type = "flaot"

[parameters.learning_rate]
type = "float"
low = 0.0
high = inf
log = true
step = 0.1

[parameters.momentum]
type = "float"
low = 0.5
high = 0.9
when = { optimiser = "sgd", blocks = 7 }

[limits]
paramters = 5
multiply_adds = 0

[[start_with]]
blocks = 3
filters_1 = 5
flop = true

[search]
epochs = 0
sampler = "bayes"
seed = "none"
trails = 3
time = "soon"
"""
SAID = """\
mine.toml has 19 errors:
top level: unknown key 'modle' (did you mean 'model'?)
description is not a text (write description = "…")
parameters.filters_1: unknown key 'hihg' (did you mean 'high'?)
parameters.dropout_conv: unknown type 'flaot' (did you mean 'float'?)
parameters.learning_rate: low and high must be finite
parameters.learning_rate: a log scale needs low > 0, not 0.0
parameters.learning_rate: 'log' and 'step' exclude each other (drop one of them)
parameters.momentum.when: unknown parameter 'optimiser' (there are: blocks, filtres_2, momentum)
parameters.momentum.when: blocks is never 7 (allowed: 1 | 2)
parameters.filtres_2: the model 'cnn' does not read it (did you mean 'filters_2'?)
limits: unknown key 'paramters' (did you mean 'parameters'?)
limits: multiply_adds must be above 0
start_with entry 1: unknown parameter 'flop' (there are: blocks, filtres_2, momentum, dropout_conv, filters_1, learning_rate)
start_with entry 1: blocks = 3 is outside the space (allowed: 1 | 2)
search: unknown key 'trails' (did you mean 'trials'?)
search: time 'soon' is not a duration (e.g. 45m, 1h30m or 600s)
search.seed = 'none' is not a whole number
search.epochs = 0 must be above 0, and finite
search.sampler = 'bayes' is unknown (one of tpe, random, qmc, grid)"""


def test_all_of_a_files_errors_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(MANY, "utf-8")

    with pytest.raises(SpaceError) as raised:
        read_checked("mine.toml")

    assert "\n".join(raised.value.lines) == SAID


def test_what_follows_from_another_error_is_not_said() -> None:
    text = """
    [parameters.blocks]
    type = "int"
    low = 1
    [parameters.filters]
    type = "int"
    low = 1
    high = 9
    per = "blocks"
    [parameters.filters_2]
    low = 2
    [parameters.flip]
    type = "bool"
    when = { blocks = 7, filters_3 = 2 }
    [[start_with]]
    blocks = 3
    filters_2 = 4
    filters = 5
    """

    with pytest.raises(SpaceError) as raised:
        parse_space("mine", text)

    assert [str(part) for part in raised.value.parts] == ["mine: parameters.blocks: 'high' is missing"]


def test_a_repeated_parameter_that_the_family_does_not_take_is_said_once(tmp_path: Path) -> None:
    text = """
    [parameters.blocks]
    type = "int"
    low = 1
    high = {blocks}
    [parameters.{name}]
    type = "int"
    low = 1
    high = 9
    per = "blocks"
    """
    said = []
    for blocks, name in ((3, "filtres"), (9, "filters")):
        (tmp_path / "mine.toml").write_text(text.format(blocks=blocks, name=name), "utf-8")
        with pytest.raises(SpaceError) as raised:
            read_checked(str(tmp_path / "mine.toml"))
        said.append([str(part).partition("mine.toml: ")[2] for part in raised.value.parts])

    assert said == [
        ["parameters.filtres: the model 'cnn' does not read it (did you mean 'filters'?)"],
        ["parameters.blocks: 9 is not for 'cnn' (allowed: 1 … 4)"],
    ]


def test_several_wrong_changes_are_said_at_once() -> None:
    with pytest.raises(SpaceError) as raised:
        parse_space("mine", "parameters.x = 1", ["parameters.y=2", "z=3", "search.epochs=0", "limits=3"])

    assert raised.value.lines == [
        "mine has 4 errors:",
        "--set parameters.y: unknown parameter 'y' (there are: x)",
        "--set z: starts with neither parameters, limits nor search",
        "--set limits: limits is not a table (write [limits])",
        "search.epochs = 0 must be above 0, and finite",
    ]


NO_TOML = {
    "line 1, column 5": "a = = 3",
    "line 3, column 2": "a = 1\nb = 2\nb",
    "line 2, column 6": "a = [1,\n2, 3,",
    "Cannot overwrite a value (at line 2, column 6)": "a = 1\na = 2",
    "maximum recursion": f"a = {'[' * 5000}",
    "4300 digits": f"a = {'9' * 5000}",
    "parameters.x: a whole number of more than 64 bits": f"[parameters]\nx = [{'9' * 400}]",
}


@pytest.mark.parametrize(("said", "text"), NO_TOML.items())
def test_what_is_not_toml_says_where(said: str, text: str) -> None:
    with pytest.raises(SpaceError) as raised:
        parse_space("mine", text)

    assert said in str(raised.value)


def test_files_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes("# caf\u00e9".encode("latin-1"))
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")

    for name in ("folder.toml", "latin.toml", "loop.toml", "nul\0.toml", f"{'long' * 99}.toml"):
        with pytest.raises(SpaceError, match="cannot be read"):
            read_space(str(tmp_path / name))


CLOSER: dict[str, str] = {
    'parameters.optimizer: is neither a table nor a finite value (a choice is written type = "choice", options = […])':
        '[parameters]\noptimizer = ["sgd", "adam"]',
    "parameters.y.when: x is never 'SGD' (did you mean 'sgd'?)":
        '[parameters.x]\ntype = "choice"\noptions = ["sgd", "adam"]\n[parameters.y]\ntype = "bool"\nwhen = { x = "SGD" }',
    "parameters.y.when: x is never 9 (allowed: 1 … 3)":
        '[parameters.x]\ntype = "int"\nlow = 1\nhigh = 3\n[parameters.y]\ntype = "bool"\nwhen = { x = 9 }',
    "parameters.y.when: x is never 1 (allowed: false | true)":
        '[parameters.x]\ntype = "bool"\n[parameters.y]\ntype = "bool"\nwhen = { x = 1 }',
    "start_with entry 1: y is only active when x is true (leave y out)":
        '[parameters.x]\ntype = "bool"\n[parameters.y]\ntype = "bool"\nwhen = { x = true }\n[[start_with]]\nx = false\ny = true',
    "top level: 'epochs' belongs under [search]": "epochs = 3\n[parameters]\nx = 1",
    "top level: 'multiply_adds' belongs under [limits]": "multiply_adds = 3\n[parameters]\nx = 1",
    "top level: unknown key 'zzz' (there are: description, model, extends, remove, parameters, limits, start_with, search)":
        "zzz = 3\n[parameters]\nx = 1",
    "parameters.n: per = 'n' is repeated itself": '[parameters.n]\ntype = "bool"\nper = "n"',
    "per = 'n', which is at most -1 (1 to 100 can be repeated)":
        '[parameters.n]\ntype = "int"\nlow = -3\nhigh = -1\n[parameters.w]\ntype = "bool"\nper = "n"',
}  # fmt: skip
WHOLE = '[hypermodel]\npath = "x.py"\nname = ""\ntext = "x = 1"\n'


@pytest.mark.parametrize(("said", "text"), CLOSER.items())
def test_an_error_names_what_was_written_and_what_next(said: str, text: str) -> None:
    with pytest.raises(SpaceError) as raised:
        parse_space("mine", text)

    assert said in str(raised.value)
    assert len(raised.value.parts) == 1


@pytest.mark.parametrize(
    "text",
    [f"{WHOLE}[parameters]\nx = 1", f'extends = "cnn"\n{WHOLE}', f'extends = "cnn"\nmodel = "hypermodel"\n{WHOLE}', WHOLE],
    ids=["beside parameters", "with extends", "with both", "of another model"],
)  # fmt: skip
def test_a_hypermodel_that_is_written_in_toml_is_refused(text: str) -> None:
    with pytest.raises(SpaceError, match=r"named by its \.py file, not written in TOML"):
        parse_space("mine", text)


def test_a_values_problem_of_a_repeated_parameter_names_its_table(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[parameters]\nblocks = 2\n[parameters.kernel]\nvalue = 9\nper = "blocks"')

    with pytest.raises(SpaceError, match=r"parameters\.kernel: 9 is not for 'cnn' \(allowed: 1 … 7\)$"):
        read_checked(str(tmp_path / "mine.toml"))


def test_the_command_prints_a_heading_and_a_line_each(tuner: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        "[parameters.blocks]\nhihg = 3\ntype = 'int'\nlow = 1\n[search]\nepochs = 0", "utf-8"
    )

    done = tuner("search", "mine.toml", "--dry-run")

    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines() == [
        "error: mine.toml has 2 errors:",
        "  parameters.blocks: unknown key 'hihg' (did you mean 'high'?)",
        "  search.epochs = 0 must be above 0, and finite",
    ]
