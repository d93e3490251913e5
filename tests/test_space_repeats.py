"""``per = "blocks"``: one table for the parameters that each block has its own of."""

from __future__ import annotations

import re

import optuna
import pytest

from tuner.errors import SpaceError
from tuner.space.library import builtin_text
from tuner.space.parameters import Choice, Fixed, Int
from tuner.space.reader import SpaceFile, parse_space, read_space

BLOCKS = """
[parameters.blocks]
type = "choice"
options = [1, 2, 3]

[parameters.filters]
type = "int"
low = 8
high = 64
step = 8
per = "blocks"
"""
WRITTEN_OUT = """
[parameters.filters_1]
type = "int"
low = 8
high = 64
step = 8

[parameters.filters_2]
type = "int"
low = 16
high = 128
step = 16
when = { blocks = [2, 3] }

[parameters.filters_3]
type = "int"
low = 32
high = 192
step = 32
when = { blocks = 3 }

[parameters.convs_1]
type = "int"
low = 1
high = 2

[parameters.convs_2]
type = "int"
low = 1
high = 2
when = { blocks = [2, 3] }

[parameters.convs_3]
type = "int"
low = 1
high = 2
when = { blocks = 3 }

"""
"""What ``filters`` and ``convs`` of the space ``cnn`` stand for."""


def read(text: str, *changes: str) -> SpaceFile:
    return parse_space("mine", text, changes)


def test_a_repeated_parameter_becomes_one_for_each_block_and_sleeps_beyond_their_number() -> None:
    space = read(BLOCKS).space

    domain = {"low": 8, "high": 64, "step": 8}
    assert space.parameters == {
        "blocks": Choice((1, 2, 3)),
        "filters_1": Int(**domain),
        "filters_2": Int(**domain, when={"blocks": (2, 3)}),
        "filters_3": Int(**domain, when={"blocks": (3,)}),
    }
    two = space.sample(optuna.trial.FixedTrial({"blocks": 2, "filters_1": 8, "filters_2": 16, "filters_3": 24}))
    assert two == {"blocks": 2, "filters_1": 8, "filters_2": 16}


def test_the_built_in_space_is_the_same_with_its_repeats_written_out() -> None:
    text = builtin_text("cnn")
    before, _, rest = text.partition("[parameters.filters]")
    after = rest[rest.index("[parameters.kernel_1]") :]
    after = re.sub(r"(filters_3 = \d+\n)convs = 1\n", r"\1convs_1 = 1\nconvs_2 = 1\nconvs_3 = 1\n", after)
    after = after.replace("convs = 1\n", "convs_1 = 1\nconvs_2 = 1\n")

    written_out = parse_space("cnn", before + WRITTEN_OUT + after)

    found = read_space("cnn")
    assert list(found.space.parameters.items()) == list(written_out.space.parameters.items())
    assert found.space == written_out.space
    # The hash that studies of this space have: as long as it stays, they go on with the command that began them.
    assert found.hash == written_out.hash == "28f0aefcec6620f0"


@pytest.mark.parametrize(
    ("blocks", "woken"),
    [
        ('type = "int"\nlow = 1\nhigh = 3', {1: None, 2: (2, 3), 3: (3,)}),
        ('type = "int"\nlow = 0\nhigh = 4\nstep = 2', {1: (2, 4), 2: (2, 4), 3: (4,), 4: (4,)}),
        ('type = "int"\nlow = -5\nhigh = 1\nstep = 2', {1: (1,)}),
        ('type = "choice"\noptions = [4, 2]', {1: None, 2: None, 3: (4,), 4: (4,)}),
        ('type = "fixed"\nvalue = 2', {1: None, 2: None}),
    ],
)
def test_the_parent_may_be_any_parameter_of_whole_numbers(
    blocks: str, woken: dict[int, tuple[int, ...] | None]
) -> None:
    text = f'[parameters.blocks]\n{blocks}\n[parameters.width]\ntype = "int"\nlow = 1\nhigh = 9\nper = "blocks"'

    parameters = read(text).space.parameters

    assert {name: p.when for name, p in parameters.items() if name != "blocks"} == {
        f"width_{number}": {} if values is None else {"blocks": values} for number, values in woken.items()
    }


def test_a_repeated_parameter_sleeps_where_its_parent_does() -> None:
    text = (
        BLOCKS.replace("options = [1, 2, 3]", "options = [1, 2]\nwhen = { deep = true }")
        + '[parameters.deep]\ntype = "bool"'
    )

    space = read(text).space

    assert space.parameters["filters_1"].when == {"blocks": (1, 2)}
    assert space.sample(optuna.trial.FixedTrial({"deep": False})) == {"deep": False}


def test_its_own_condition_holds_beside_the_number_of_blocks() -> None:
    text = (
        BLOCKS
        + '[parameters.kernel]\ntype = "choice"\noptions = [3, 5]\nper = "blocks"\nwhen = { flip = true, blocks = [2, 3] }\n[parameters.flip]\ntype = "bool"'
    )

    parameters = read(text).space.parameters

    assert parameters["kernel_1"].when == {"flip": (True,), "blocks": (2, 3)}
    assert parameters["kernel_3"].when == {"flip": (True,), "blocks": (3,)}


def test_a_table_of_one_of_them_changes_that_one() -> None:
    text = BLOCKS + '[parameters.filters_2]\nhigh = 128\n[parameters.filters_3]\ntype = "choice"\noptions = [64, 96]'

    parameters = read(text).space.parameters

    assert list(parameters) == ["blocks", "filters_1", "filters_2", "filters_3"]
    assert parameters["filters_2"] == Int(8, 128, 8, when={"blocks": (2, 3)})
    assert parameters["filters_3"] == Choice((64, 96), when={"blocks": (3,)})
    assert read(BLOCKS + "[parameters]\nfilters_2 = 40").space.parameters["filters_2"] == Fixed(40, {"blocks": (2, 3)})


def test_set_changes_all_of_them_or_one() -> None:
    text = BLOCKS + "[parameters.filters_3]\nlow = 32\nhigh = 128\nstep = 32"

    all_low = read(text, "parameters.filters.low=16", "parameters.filters.step=16").space.parameters
    all_fixed = read(text, "parameters.filters=32").space.parameters
    one_fixed = read(text, "parameters.filters_2=32").space.parameters
    one_high = read(text, "parameters.filters_2.high=32").space.parameters

    assert [(p.low, p.high, p.step) for p in all_low.values() if isinstance(p, Int)] == [
        (16, 64, 16),
        (16, 64, 16),
        (16, 128, 16),
    ]
    assert all_fixed["filters_3"] == Fixed(32, {"blocks": (3,)})
    assert one_fixed["filters_2"] == Fixed(32, {"blocks": (2, 3)})
    assert one_fixed["filters_1"] == Int(8, 64, 8)
    assert (one_high["filters_2"], one_high["filters_1"]) == (Int(8, 32, 8, when={"blocks": (2, 3)}), Int(8, 64, 8))


def test_fewer_blocks_have_fewer_of_them_and_the_table_of_one_that_is_gone_goes() -> None:
    text = BLOCKS + "[parameters.filters_3]\nhigh = 96"

    assert list(read(text, "parameters.blocks=2").space.parameters) == ["blocks", "filters_1", "filters_2"]
    assert list(read(text, "parameters.blocks.options=[1]").space.parameters) == ["blocks", "filters_1"]
    assert len(read(text, "parameters.blocks.options=[1, 5]").space.parameters) == 6


def test_a_first_entry_names_each_of_them_or_all() -> None:
    entries = """
    [[start_with]]
    blocks = 2
    filters = 16
    [[start_with]]
    blocks = 3
    filters = 16
    filters_2 = 24
    [[start_with]]
    filters = 8
    """

    start_with = read(BLOCKS + entries).space.start_with

    assert start_with == (
        {"blocks": 2, "filters_1": 16, "filters_2": 16},
        {"blocks": 3, "filters_1": 16, "filters_2": 24, "filters_3": 16},
        {"filters_1": 8, "filters_2": 8, "filters_3": 8},
    )


def test_first_entries_follow_what_is_set() -> None:
    entry = "[[start_with]]\nblocks = 3\nfilters = 16\n"

    assert read(BLOCKS + entry, "parameters.filters=40").space.start_with[0]["filters_3"] == 40
    assert read(BLOCKS + entry, "parameters.filters_2=40").space.start_with[0] == {
        "blocks": 3, "filters_1": 16, "filters_2": 40, "filters_3": 16,
    }  # fmt: skip
    assert read(BLOCKS + entry, "parameters.blocks=2").space.start_with == (
        {"blocks": 2, "filters_1": 16, "filters_2": 16},
    )


def test_a_changed_space_with_repeats_reads_back_as_the_same_space() -> None:
    changed = read(BLOCKS, "parameters.filters_2.high=128", "parameters.blocks.options=[2, 3]")

    again = read(changed.text)

    assert (again.space, again.hash) == (changed.space, changed.hash)


WRONG = {
    "parameters.filters: per = 'bloks' is no parameter (did you mean 'blocks'?)": BLOCKS.replace('per = "blocks"', 'per = "bloks"'),
    "parameters.filters: per = 3 is no parameter": BLOCKS.replace('per = "blocks"', "per = 3"),
    "parameters.filters: per = 'blocks' is not always a whole number": BLOCKS.replace("[1, 2, 3]", '[1, "all"]'),
    "parameters.filters: per = 'blocks', which is at most 0": BLOCKS.replace("[1, 2, 3]", "[0]"),
    "parameters.filters: per = 'blocks', which is at most 5000000": BLOCKS.replace("[1, 2, 3]", "[5_000_000]"),
    "parameters.filters_4: blocks is at most 3": BLOCKS + "[parameters.filters_4]\nlow = 16",
    "parameters.filters_2: low = 72 is above high = 64": BLOCKS + "[parameters.filters_2]\nlow = 72",
    "parameters.filters_2: is one of the repeated 'filters'": BLOCKS + '[parameters.filters_2]\nper = "blocks"',
    "parameters.convs: per = 'filters' is repeated itself": BLOCKS + '[parameters.convs]\ntype = "bool"\nper = "filters"',
    "parameters.flip.when: 'filters' is repeated (name one of filters_1": BLOCKS + '[parameters.flip]\ntype = "bool"\nwhen = { filters = 8 }',
    "parameters.filters.when: unknown parameter 'flop'": BLOCKS + "when = { flop = true }",
    "start_with entry 1: filters_3 is only active when blocks is 3": BLOCKS + "[[start_with]]\nblocks = 2\nfilters_3 = 8",
    "start_with entry 1: unknown parameter 'filter' (did you mean 'filters'?)": BLOCKS + "[[start_with]]\nfilter = 8",
    "--set parameters.filters_9: unknown parameter": BLOCKS,
}  # fmt: skip


@pytest.mark.parametrize(("said", "text"), WRONG.items())
def test_a_wrong_repeat_says_what_and_where_once(said: str, text: str) -> None:
    with pytest.raises(SpaceError) as raised:
        read(text, *(["parameters.filters_9=8"] if said.startswith("--set") else []))

    assert said in str(raised.value)
    assert len(raised.value.parts) == 1


def test_an_entry_means_those_blocks_that_it_leaves_awake() -> None:
    text = (
        BLOCKS
        + """
    [parameters.flip]
    type = "bool"
    [parameters.kernel]
    type = "choice"
    options = [3, 5]
    per = "blocks"
    [parameters.kernel_2]
    when = { flip = true }
    [parameters.wide]
    type = "bool"
    per = "blocks"
    when = { flip = true }
    """
    )

    entry = read(f"{text}[[start_with]]\nblocks = 2\nflip = false\nkernel = 3").space.start_with[0]

    assert entry == {"blocks": 2, "flip": False, "kernel_1": 3}
    with pytest.raises(SpaceError, match="wide_1 is only active when flip is true"):
        read(f"{text}[[start_with]]\nflip = false\nwide = true")
