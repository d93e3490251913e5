"""``tuner spaces``: a space drawn, looked over and copied."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.cli import run
from tuner.errors import SpaceError
from tuner.experiment import checkup
from tuner.experiment.checkup import CheckUp, check_up
from tuner.experiment.refusals import Pinned, always_refused, points_of, refused_with
from tuner.records import Values
from tuner.search.budget import Pace
from tuner.search.rehearsal import NO_IMAGES
from tuner.search.task import draw, summed_up
from tuner.space.conditions import never_met
from tuner.space.library import builtin_names
from tuner.space.parameters import Float, Int
from tuner.space.reader import parse_space, read_space

from .conftest import SMALL_SPACE, Done

TREE = """\
mine for the tests
├── filters_1 int 4 … 12, step 4
├── optimizer choice sgd | adam
│   └── momentum float 0.5 … 0.9  when optimizer = sgd
├── blocks choice 1 | 2 | 3
│   ├── filters_2 int 4 … 12, step 4  when blocks = 2 | 3
│   ├── filters_3 int 4 … 12, step 4  when blocks = 3
│   └── residual choice false | true  when optimizer = sgd, blocks = 2
├── flip fixed = true
├── limits parameters 50,000
├── start_with 1 known-good configuration(s)
└── search time 1h30m, epochs 4
"""
SPACE = """
description = "for the tests"
[parameters.filters]
type = "int"
low = 4
high = 12
step = 4
per = "blocks"
[parameters.optimizer]
type = "choice"
options = ["sgd", "adam"]
[parameters.momentum]
type = "float"
low = 0.5
high = 0.9
when = { optimizer = "sgd" }
[parameters.residual]
type = "bool"
when = { optimizer = "sgd", blocks = 2 }
[parameters.blocks]
type = "choice"
options = [1, 2, 3]
[parameters]
flip = true
[limits]
parameters = 50_000
[[start_with]]
blocks = 1
[search]
epochs = 4
time = "1h 30m"
"""


def test_a_space_is_drawn_with_conditions_under_their_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("mine.toml").write_text(SPACE, "utf-8")

    assert run(["spaces", "show", "mine.toml"]) == 0

    assert capsys.readouterr().out == TREE


# Its limits allow 32 units behind 14x14 positions of 8 filters, never 512; and at most two convolutions.
LIMITED = """
[parameters]
filters_1 = 8
blocks = 1
[parameters.dense_units]
type = "choice"
options = [0, 16, 32, 512]
[parameters.convs_1]
type = "int"
low = 1
high = 4
[parameters.kernel_1]
type = "choice"
options = [3, 5]
[parameters.rotation]
type = "float"
low = 0.0
high = 9.0
[limits]
parameters = 60_000
multiply_adds = 800_000
[[start_with]]
dense_units = 512
[[start_with]]
dense_units = 16
convs_1 = 1
kernel_1 = 3
"""


def test_options_and_ends_of_ranges_that_the_limits_refuse_are_found() -> None:
    space = parse_space("mine", LIMITED).space
    drawn = draw(space)
    share = sum(bool(one.refused) for one in drawn) / len(drawn)

    found = list(always_refused(space, share))

    assert [(one.name, one.part) for one in found] == [("dense_units", "= 512"), ("convs_1", "from 3 up")]
    assert found[0].reason.endswith(" parameters are over the limit of 60,000")
    assert not any(
        one.values.get("dense_units") == 512 or one.values["convs_1"] >= 3 for one in drawn if not one.refused
    )


def test_what_one_in_a_hundred_configurations_is_accepted_with_is_not_called_refused() -> None:
    space = read_space("cnn", ["limits.parameters=30_000"]).space
    share = sum(bool(one.refused) for one in draw(space)) / 200

    found = list(always_refused(space, share))

    # By arithmetic: 3x3x16x192 weights lead to 192 filters, where there were never fewer than 16.
    assert [(one.name, one.part) for one in found] == [("filters_3", "from 192 up")]
    assert "over the limit of 30,000" in found[0].reason


def test_networks_that_can_hardly_be_built_are_not_called_refused() -> None:
    text = """
    [parameters]
    padding = "valid"
    [parameters.blocks]
    type = "int"
    low = 1
    high = 4
    [parameters.kernel]
    type = "choice"
    options = [3, 5, 7]
    per = "blocks"
    [parameters.convs]
    type = "int"
    low = 1
    high = 2
    per = "blocks"
    """

    parts = [(one.name, one.part) for one in always_refused(parse_space("mine", text).space, 0.5)]

    assert ("blocks", "from 4 up") in parts  # 28, 26, 13, 11, 5, 3, 1
    assert ("kernel_3", "= 5") in parts
    assert ("kernel_3", "= 3") not in parts


def test_a_first_entry_is_refused_when_nothing_with_it_is_accepted_and_a_whole_one_is_planned_once() -> None:
    space = read_space("cnn", ["limits.parameters=30_000"]).space
    whole = {name: (value,) for name, value in space.start_with[0].items()}

    assert refused_with(space, {"blocks": (3,)}) == ""
    assert refused_with(space, {"blocks": (3,), "filters_3": (192,)}).endswith("over the limit of 30,000")
    assert refused_with(space, whole, tries=10**12).endswith("over the limit of 30,000")


def test_a_space_without_anything_to_train_says_by_how_much_it_missed() -> None:
    space = parse_space("mine", "[parameters]\nblocks = 2\n[limits]\nparameters = 10").space

    with pytest.raises(
        SpaceError, match=r"are refused, even the nearest: 211,882 parameters are over the limit of 10 "
    ):
        summed_up(space, draw(space))


def test_sizes_are_those_for_the_images_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def built(work: object, ends: list[tuple[Values, tuple[int, int, int], int]], **_: object) -> list[int]:
        asked.extend(end[1:] for end in ends)
        return [0, 0]

    monkeypatch.setattr(checkup, "apart", built)
    monkeypatch.setattr(checkup.Pace, "guess", lambda: Pace(1e-10))  # it is measured anew each time
    source = dataclasses.replace(NO_IMAGES, name="birds", input_shape=(32, 32, 3), n_train=600, class_names=("a", "b"))
    space_file = read_space("tiny", ["parameters.blocks=1"])

    fashion, birds = check_up(space_file, lambda _: None), check_up(space_file, lambda _: None, source)

    assert (birds.data, birds.input_shape, birds.n_classes, birds.n_train) == ("birds", (32, 32, 3), 2, 600)
    assert asked[-2:] == [((32, 32, 3), 2)] * 2
    assert birds.networks[0].values == fashion.networks[0].values
    assert birds.networks[0].estimate.cost != fashion.networks[0].estimate.cost
    there, here = birds.networks[2].estimate, fashion.networks[2].estimate
    assert there.refit_seconds / here.refit_seconds == pytest.approx(600 / 60_000 * there.cost.units / here.cost.units)


def test_nothing_is_called_refused_in_a_space_without_limits() -> None:
    assert (
        list(
            always_refused(
                parse_space(
                    "mine", LIMITED.replace("[limits]\nparameters = 60_000\nmultiply_adds = 800_000", "")
                ).space,
                0.0,
            )
        )
        == []
    )


def test_nothing_of_the_built_in_spaces_is_never_there_or_always_refused() -> None:
    for name in builtin_names():
        space = read_space(name).space
        drawn = draw(space)

        assert never_met(space.parameters) == {}
        assert list(always_refused(space, sum(bool(one.refused) for one in drawn) / len(drawn))) == [], name


def test_conditions_that_are_never_met_are_found_exactly() -> None:
    text = """
    [parameters]
    optimizer = "adam"
    [parameters.a]
    type = "choice"
    options = [1, 2]
    [parameters.b]
    type = "bool"
    when = { a = 1 }
    [parameters.c]
    type = "bool"
    when = { b = true, a = 2 }
    [parameters.d]
    type = "bool"
    when = { c = true }
    [parameters.momentum]
    type = "bool"
    when = { optimizer = ["sgd", "rmsprop"] }
    """

    assert never_met(parse_space("mine", text).space.parameters) == {
        "c": "its conditions ask for different values of a",
        "d": "its conditions ask for different values of a",
        "momentum": "optimizer is fixed at adam, and would have to be sgd or rmsprop",
    }


def test_draws_with_pinned_values_lie_in_the_space_and_have_them() -> None:
    space = read_space("cnn").space

    for seed in range(50):
        values: Values = space.sample(Pinned(seed, {"blocks": (2, 3), "filters_2": (48,), "learning_rate": (3e-3,)}))

        space.check_values(values)
        assert values["blocks"] in (2, 3)
        assert (values["filters_2"], values["learning_rate"]) == (48, 3e-3)


@pytest.mark.parametrize(
    "parameter", [Int(1, 10**6), Int(1, 10**6, log=True), Float(1e-4, 1.0, log=True), Float(0, 1, 1 / 8), Int(3, 3)]
)
def test_the_points_of_a_range_lie_in_it_from_end_to_end(parameter: Int | Float) -> None:
    points = points_of(parameter)

    assert all(parameter.contains(point) for point in points)
    assert [points[0], points[-1]] == pytest.approx(parameter.extremes())
    assert points == sorted(points)


@pytest.fixture(scope="module")
def looked_over() -> CheckUp:
    return check_up(
        parse_space(
            "mine",
            LIMITED
            + '[parameters.momentum]\ntype = "float"\nlow = 0.5\nhigh = 0.9\nwhen = { flip = true }\n[parameters.flip]\nvalue = false',
        ),
        lambda _: None,
    )


def test_a_look_over_a_space_builds_its_ends_and_names_what_never_happens(looked_over: CheckUp) -> None:
    fewest, typical, most = looked_over.networks
    sizes = [one.cost.parameters for one in draw(parse_space("mine", LIMITED).space) if one.cost and not one.refused]

    assert [one.estimate.which for one in looked_over.networks] == ["fewest parameters", "typical", "most parameters"]
    assert fewest.built_parameters == fewest.estimate.cost.parameters == min(sizes)
    assert most.built_parameters == most.estimate.cost.parameters == max(sizes)
    assert typical.built_parameters is None
    assert looked_over.sampled == 200
    assert looked_over.never_there == {"momentum": "flip is fixed at false, and would have to be true"}
    assert ("dense_units", "= 512") in [(one.name, one.part) for one in looked_over.always_refused]
    assert list(looked_over.refused_entries) == [1]
    assert not looked_over.good


@pytest.mark.slow
def test_check_prints_sizes_seconds_and_remarks(tuner: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(LIMITED, "utf-8")

    (tmp_path / "good.toml").write_text(SMALL_SPACE, "utf-8")

    shown, good = tuner("spaces", "check", "mine.toml"), tuner("spaces", "check", "good.toml")
    document = tuner("spaces", "check", "mine.toml", "--json").document

    assert good.out.startswith("good.toml is a good space. 200 random configurations, 0 of them"), good.err
    assert shown.code == 0, shown.err
    assert shown.out.startswith("mine.toml can be searched. 200 random configurations, ")
    for said in (
        "fewest parameters",
        "typical",
        "most parameters",
        "for fashion-mnist: 60,000 images of 28x28x1, 10 classes",
        "start_with entry 1 is refused",
        "dense_units = 512: refused in all of",
    ):
        assert said in shown.out
    counts = re.findall(r"with ([\d,]+) parameters", shown.out)
    networks = document["networks"]
    assert [int(count.replace(",", "")) for count in counts] == [
        networks[0]["built_parameters"],
        networks[2]["built_parameters"],
    ]
    assert networks[1]["values"]["blocks"] == 1
    assert document["always_refused"][0]["part"] == "= 512"


def test_a_copy_says_what_was_written(tuner: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "space.schema.json").write_text("{}")

    ours, theirs = tuner("spaces", "copy", "cnn", "mine.toml"), tuner("spaces", "copy", "cnn", "theirs/mine.toml")

    assert "space.schema.json tells editors its keys." in ours.out
    assert "a space.schema.json that is not tuner's lies there" in theirs.out
    assert read_space(str(tmp_path / "mine.toml")).hash == read_space("cnn").hash
