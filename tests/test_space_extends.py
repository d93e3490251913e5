"""``extends``: a space that is another one with changes, and a study that depends on neither file afterwards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import SpaceError, StudyError
from tuner.runs import Outputs
from tuner.search.request import Request, claimed
from tuner.search.storage import open_storage
from tuner.search.study import StudyFacts, create_study
from tuner.space.parameters import Choice, Fixed, Float, Int
from tuner.space.reader import SpaceFile, parse_space, read_space

BASE = """
description = "the base"

[parameters.blocks]
type = "choice"
options = [1, 2, 3]

[parameters.width]
type = "int"
low = 8
high = 64
step = 8

[parameters.optimizer]
type = "choice"
options = ["sgd", "adam", "adamw"]

[parameters.momentum]
type = "float"
low = 0.5
high = 0.9
when = { optimizer = "sgd" }

[parameters.weight_decay]
type = "float"
low = 0.0
high = 0.1
when = { optimizer = ["sgd", "adamw"] }

[limits]
parameters = 5000
multiply_adds = 90000

[[start_with]]
blocks = 1
width = 8
optimizer = "sgd"
momentum = 0.9

[[start_with]]
blocks = 2
width = 64
optimizer = "adam"

[search]
epochs = 5
refit_epochs = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE, "utf-8")
    return tmp_path


def extended(folder: Path, changes: str, *set_: str) -> SpaceFile:
    (folder / "mine.toml").write_text(f'extends = "base.toml"\n{changes}', "utf-8")
    return read_space(str(folder / "mine.toml"), set_)


def test_a_file_that_only_extends_is_the_same_space(folder: Path) -> None:
    base, mine = read_space(str(folder / "base.toml")), extended(folder, "")

    assert mine.hash == base.hash
    assert mine.settings == base.settings
    assert mine.space.description == "the base"


def test_tables_merge_key_by_key_and_a_bare_value_fixes(folder: Path) -> None:
    changes = """
    description = "mine"
    [parameters]
    blocks = 2
    flip = true
    [parameters.width]
    high = 32
    [limits]
    parameters = 4000
    [search]
    epochs = 6
    """

    mine = extended(folder, changes)

    parameters = mine.space.parameters
    assert list(parameters) == ["blocks", "width", "optimizer", "momentum", "weight_decay", "flip"]
    assert (parameters["blocks"], parameters["width"], parameters["flip"]) == (Fixed(2), Int(8, 32, 8), Fixed(True))
    assert (mine.space.limits.parameters, mine.space.limits.multiply_adds) == (4000, 90000)
    assert (mine.settings.epochs, mine.settings.refit_epochs) == (6, 7)
    assert mine.space.description == "mine"


def test_another_type_replaces_the_domain_and_keeps_the_condition(folder: Path) -> None:
    mine = extended(
        folder, '[parameters.momentum]\ntype = "choice"\noptions = [0.0, 0.9]\n[parameters.width]\nvalue = 16'
    )

    assert mine.space.parameters["momentum"] == Choice((0.0, 0.9), {"optimizer": ("sgd",)})
    assert mine.space.parameters["width"] == Fixed(16)


def test_a_condition_is_replaced_as_a_whole(folder: Path) -> None:
    mine = extended(folder, "[parameters.momentum]\nwhen = { blocks = 1 }\n[parameters.weight_decay]\nwhen = {}")

    assert mine.space.parameters["momentum"].when == {"blocks": (1,)}
    assert mine.space.parameters["weight_decay"].when == {}


def test_what_the_changed_parents_can_no_longer_wake_is_left_out(folder: Path) -> None:
    mine = extended(folder, '[parameters.optimizer]\noptions = ["adam", "adamw"]')

    assert "momentum" not in mine.space.parameters
    assert mine.space.parameters["weight_decay"] == Float(0.0, 0.1, when={"optimizer": ("adamw",)})
    assert parse_space("mine", mine.text).space == mine.space


def test_a_condition_of_its_own_that_is_never_met_is_still_an_error(folder: Path) -> None:
    with pytest.raises(SpaceError, match=r"parameters\.momentum\.when: optimizer is never 'sdg'"):
        extended(folder, '[parameters.momentum]\nwhen = { optimizer = "sdg" }')


def test_a_parameter_that_is_changed_and_can_no_longer_wake_is_an_error(folder: Path) -> None:
    narrowed = '[parameters.optimizer]\noptions = ["adam", "adamw"]\n'

    with pytest.raises(SpaceError, match=r"parameters\.momentum\.when: optimizer is never 'sgd'"):
        extended(folder, f"{narrowed}[parameters.momentum]\nlow = 0.6")
    with pytest.raises(SpaceError, match=r"parameters\.momentum\.when: optimizer is never 'sgd'"):
        extended(folder, "", 'parameters.optimizer.options=["adam", "adamw"]', "parameters.momentum=0.6")
    woken = extended(folder, f"{narrowed}[parameters.weight_decay]\nlow = 0.05").space
    assert woken.parameters["weight_decay"] == Float(0.05, 0.1, when={"optimizer": ("adamw",)})


def test_removed_parameters_are_gone_and_inherited_entries_go_on_without_them(folder: Path) -> None:
    mine = extended(folder, 'remove = ["momentum", "blocks"]')

    assert list(mine.space.parameters) == ["width", "optimizer", "weight_decay"]
    assert mine.space.start_with == ({"width": 8, "optimizer": "sgd"}, {"width": 64, "optimizer": "adam"})


def test_a_removed_parameter_that_is_named_again_is_a_new_one(folder: Path) -> None:
    mine = extended(folder, 'remove = ["width"]\n[parameters.width]\ntype = "bool"')

    assert mine.space.parameters["width"] == Choice((False, True))


def test_first_entries_of_its_own_take_the_place_of_the_others(folder: Path) -> None:
    mine = extended(folder, "[[start_with]]\nblocks = 3")

    assert mine.space.start_with == ({"blocks": 3},)
    assert extended(folder, "start_with = []").space.start_with == ()


def test_inherited_entries_that_no_longer_fit_go(folder: Path) -> None:
    assert [entry["width"] for entry in extended(folder, "[parameters.width]\nhigh = 56").space.start_with] == [8]


def test_repeats_of_the_base_are_changed_all_at_once_or_one(folder: Path) -> None:
    base = BASE.replace(
        "[parameters.optimizer]", 'per = "blocks"\n[parameters.width_2]\nhigh = 128\n[parameters.optimizer]'
    )
    (folder / "base.toml").write_text(base.replace("width = 64", "width = 64\nwidth_2 = 128"), "utf-8")

    all_high = extended(folder, "[parameters.width]\nhigh = 72").space.parameters
    one = extended(folder, "[parameters]\nwidth_2 = 72").space
    gone = extended(folder, 'remove = ["width"]').space.parameters

    assert [all_high[f"width_{number}"].extremes() for number in (1, 2, 3)] == [[8, 72]] * 3
    assert one.parameters["width_2"] == Fixed(72, {"blocks": (2, 3)})
    assert one.start_with[1] == {"blocks": 2, "width_1": 64, "width_2": 72, "optimizer": "adam"}
    assert not any(name.startswith("width") for name in gone)
    with pytest.raises(SpaceError, match=r"remove: 'width_2' is one of the repeated 'width' \(remove 'width', or give"):
        extended(folder, 'remove = ["width_2"]')


def test_set_is_put_over_the_whole(folder: Path) -> None:
    mine = extended(folder, "[parameters.width]\nhigh = 32", "parameters.width.low=16", "search.epochs=2")

    assert mine.space.parameters["width"] == Int(16, 32, 8)
    assert mine.settings.epochs == 2


def test_a_chain_is_followed_relative_to_each_file(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "middle.toml").write_text('extends = "../base.toml"\n[parameters]\nblocks = 1', "utf-8")
    (folder / "top.toml").write_text('extends = "deep/middle.toml"\n[parameters]\nwidth = 16', "utf-8")

    parameters = read_space(str(folder / "top.toml")).space.parameters

    assert (parameters["blocks"], parameters["width"]) == (Fixed(1), Fixed(16))


def test_a_built_in_space_is_extended_by_its_name() -> None:
    cnn = read_space("cnn").space

    mine = parse_space("mine", 'extends = "cnn"\nremove = ["erase"]').space

    assert set(cnn.parameters) - set(mine.parameters) == {"erase"}
    assert mine.limits == cnn.limits


def test_the_text_that_a_study_keeps_depends_on_no_other_file(folder: Path) -> None:
    mine = extended(folder, 'remove = ["momentum"]\n[parameters]\nblocks = 2\n[search]\nepochs = 6')
    for file in folder.iterdir():
        file.unlink()

    again = parse_space("mine", mine.text)

    assert (again.space, again.settings, again.hash) == (mine.space, mine.settings, mine.hash)
    assert "extends =" not in mine.text
    assert "which extends base.toml" in mine.text.splitlines()[0]


def test_a_name_with_a_line_break_does_not_break_the_text(folder: Path) -> None:
    (folder / "a\nb.toml").write_text('extends = "base.toml"', "utf-8")

    mine = read_space(str(folder / "a\nb.toml"), ["parameters.width=8 # eight\n"])

    assert parse_space("mine", mine.text).space.parameters["width"] == Fixed(8)


CIRCLES: dict[str, dict[str, str]] = {
    "mine.toml extends base.toml extends mine.toml: a circle": {"base.toml": 'extends = "mine.toml"'},
    "mine.toml extends base.toml extends base.toml: a circle": {"base.toml": 'extends = "./base.toml"'},
}
WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "extends: {folder}/bas.toml: no such file": ('extends = "bas.toml"', {}),
    "extends: there is no built-in space 'cmn' (did you mean 'cnn'?)": ('extends = "cmn"', {}),
    "extends: base.yaml: a space file ends in .toml": ('extends = "base.yaml"', {}),
    "extends is not a text": ("extends = 3\n[parameters]\nx = 1", {}),
    "remove: there is no parameter 'widht' to remove (did you mean 'width'?)": ('extends = "base.toml"\nremove = ["widht"]', {}),
    "remove: is for a file that extends another": ('remove = ["width"]\n[parameters]\nx = 1', {}),
    "momentum.when: unknown parameter 'optimizer'": ('extends = "base.toml"\nremove = ["optimizer", "weight_decay"]', {}),
    "base.toml: limits: parameters must be above 0": ('extends = "base.toml"', {"base.toml": "[parameters]\nx = 1\n[limits]\nparameters = 0"}),
    "parameters.width: low = 72 is above high = 64": ('extends = "base.toml"\n[parameters.width]\nlow = 72', {}),
}  # fmt: skip


@pytest.mark.parametrize("said", CIRCLES)
def test_a_circle_is_one_clear_error(said: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name, text in CIRCLES[said].items():
        (folder / name).write_text(text, "utf-8")

    with pytest.raises(SpaceError) as raised:
        read_space_of("mine.toml", 'extends = "base.toml"')

    assert raised.value.message == said


@pytest.mark.parametrize("said", WRONG)
def test_a_wrong_extension_says_what_and_where(said: str, folder: Path) -> None:
    text, files = WRONG[said]
    for name, other in files.items():
        (folder / name).write_text(other, "utf-8")

    with pytest.raises(SpaceError) as raised:
        read_space_of(folder / "mine.toml", text)

    assert said.format(folder=folder) in str(raised.value)
    assert len(raised.value.parts) == 1


def read_space_of(path: Any, text: str) -> SpaceFile:
    Path(path).write_text(text, "utf-8")
    return read_space(str(path))


def test_a_repeated_parameter_takes_the_place_of_the_numbered_ones_of_the_base(folder: Path) -> None:
    (folder / "base.toml").write_text(BASE.replace("width", "width_1"), "utf-8")
    repeated = '[parameters.width]\ntype = "int"\nlow = 1\nhigh = 9\nper = "blocks"\n'

    mine = extended(folder, f"{repeated}[parameters.width_2]\nhigh = 5").space.parameters

    assert [mine[f"width_{number}"].extremes() for number in (1, 2, 3)] == [[1, 9], [1, 5], [1, 9]]


def test_what_there_is_no_room_for_is_said(folder: Path) -> None:
    middle = extended(folder, '[parameters.optimizer]\noptions = ["adam", "adamw"]')

    assert middle.dropped == (
        "momentum left out: nothing can wake it any more",
        "1 inherited first entry left out: no longer in the space",
    )
    (folder / "top.toml").write_text('extends = "mine.toml"', "utf-8")
    assert read_space(str(folder / "top.toml")).dropped == middle.dropped
    assert extended(folder, "", "parameters.optimizer=adam").dropped == ()


def test_a_long_chain_and_a_hypermodel_as_a_base_are_one_clear_error_each(folder: Path) -> None:
    for number in range(60):
        (folder / f"c{number}.toml").write_text(f'extends = "c{number + 1}.toml"', "utf-8")
    (folder / "c60.toml").write_text(BASE, "utf-8")

    assert read_space(str(folder / "c10.toml")).space.description == "the base"
    with pytest.raises(SpaceError, match=r"c9\.toml: more than 50 files that extend one another"):
        read_space(str(folder / "c9.toml"))
    with pytest.raises(SpaceError, match=r"extends: my\.py: only a \.toml or built-in space can be extended"):
        read_space_of(folder / "mine.toml", 'extends = "my.py"')


NOW = """
[parameters.blocks]
type = "choice"
options = [1, 2, 3]
[parameters.filters]
type = "int"
low = 8
high = 64
per = "blocks"
[parameters.residual]
type = "bool"
when = { filters_3 = [8, 16] }
"""
THEN = """
[parameters.blocks]
type = "fixed"
value = {blocks}
[parameters.filters_1]
type = "int"
low = 8
high = {high}
[parameters.filters_2]
type = "int"
low = 8
high = 64
when = {{ blocks = [2, 3] }}
[parameters.filters_3]
type = "int"
low = 8
high = 64
when = {{ blocks = 3 }}
[parameters.residual]
type = "bool"
when = {{ filters_3 = [8, 16] }}
"""
"""What a study of an earlier version keeps, with what sleeps for ever."""


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_study_of_an_earlier_version_is_resumed_by_its_own_command(tmp_path: Path, blocks: int) -> None:
    (tmp_path / "mine.toml").write_text(NOW, "utf-8")
    outputs = Outputs.of(str(tmp_path / "results"), None)
    storage = open_storage(outputs, create=True)
    for name, high in (("same", 64), ("other", 32)):
        then = parse_space("mine", THEN.format(blocks=blocks, high=high))
        create_study(storage, name, StudyFacts("mine", then.text, then.hash, "", then.settings), then.space)
    request = Request(
        space=str(tmp_path / "mine.toml"), out=str(tmp_path / "results"), resume=True, changes=(f"parameters.blocks={blocks}",)
    )  # fmt: skip

    with claimed(dataclasses.replace(request, study="same")) as (opened, *_):
        assert opened.resumed
    with (
        pytest.raises(StudyError, match="study 'other' was made with another space"),
        claimed(dataclasses.replace(request, study="other")),
    ):
        pass
