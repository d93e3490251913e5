"""What the figures are drawn from, and that each of them can be drawn, whatever the names in it."""

from __future__ import annotations

import dataclasses
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from PIL import Image

from tuner.records import TrialSummary
from tuner.reporting.examples import Example, png
from tuner.reporting.figures import compare, images, model, search, space
from tuner.reporting.figures.style import BLUE, CSS_NAMES, FAINT, INK, PAPER, RED, _ticks, as_svg, plain, write_png
from tuner.reporting.findings import (
    ENOUGH_TRIALS,
    best_so_far,
    compute_by_fate,
    importances,
    last_accuracy,
    pareto_front,
    ranking,
    reached,
    thinned,
    trained,
    varying,
)

from . import planted

TRIALS, SPACE = planted.SMALL_TRIALS, planted.SMALL
EVIL = ["<script>alert(1)</script>", "a$b$c & d", 'an "id="x" name', "衬衫", "a very long name of a class indeed"]


def test_the_best_so_far_rises_only_with_better_complete_trials() -> None:
    assert best_so_far(TRIALS) == [(0, 0.85), (2, 0.90)]
    assert best_so_far(TRIALS[3:5]) == []


def test_the_compute_is_shared_by_what_became_of_the_trials() -> None:
    shares = compute_by_fate(TRIALS)

    assert shares == pytest.approx({"complete": 36 / 48, "pruned": 7 / 48, "clock": 4 / 48, "failed": 1 / 48})
    assert compute_by_fate(TRIALS[3:4]) == {}


def test_every_epoch_counts_who_trained_it_and_who_ended_there() -> None:
    rows = [{key: count for key, count in row.items() if count} for row in reached(TRIALS, 4)]

    assert rows == [
        {"on": 5, "pruned": 1, "failed": 1},
        {"on": 4, "clock": 1},
        {"on": 3, "pruned": 1},
        {"complete": 3},
    ]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(2, 0.85), (3, 0.90), (4, 0.88)], [0, 1]),
        ([(1, 0.5), (1, 0.6)], [1]),
        ([(1, 0.9), (2, 0.9), (3, 0.8)], [0]),
    ],
)
def test_nothing_on_the_front_is_beaten_in_size_and_accuracy(
    points: list[tuple[float, float]], front: list[int]
) -> None:
    assert pareto_front(points) == front


def test_a_parameter_varies_when_the_trained_trials_had_more_than_one_value() -> None:
    found = varying(SPACE, TRIALS)

    assert found == ["filters_1", "filters_2", "dense_units", "optimizer", "learning_rate"]


def test_importances_find_what_the_planted_study_depends_on() -> None:
    space, _, trials = planted.realistic(200, seed=1)

    found = importances(space, trials)

    assert next(iter(found.shares)) == "learning_rate"
    assert found.clear == {"learning_rate", "norm"}
    assert sum(found.shares.values()) == pytest.approx(1)
    assert {"momentum", "filters_3"} <= set(found.shares)  # conditional ones are among them


def test_importances_are_no_more_than_chance_where_accuracies_are() -> None:
    space, _, trials = planted.realistic(60)
    dealt = [trial.curve for trial in trained(trials)]
    random.Random(1).shuffle(dealt)
    luck = [
        dataclasses.replace(trial, curve=curve, val_accuracy=curve[-1].val_accuracy)
        for trial, curve in zip(trained(trials), dealt, strict=True)
    ]

    assert importances(space, luck).clear == set()


def test_few_trials_have_no_importances_and_the_reason_is_said() -> None:
    assert importances(SPACE, TRIALS).missing == f"6 trained trials say too little about it: {ENOUGH_TRIALS} are needed"


def test_thinning_keeps_the_best_complete_trials_and_their_order() -> None:
    _, _, trials = planted.realistic(300)
    best = max((t for t in trials if t.state == "complete"), key=last_accuracy)

    kept = thinned(trials, 40)

    assert 20 <= len(kept) <= 41
    assert best in kept
    assert [t.number for t in kept] == sorted(t.number for t in kept)
    assert thinned(TRIALS, 40) == TRIALS


def test_accuracy_ticks_are_round_and_apart() -> None:
    assert _ticks(0.0, 1.0) == [20, 50, 70, 80, 85, 90]
    assert _ticks(1.0, 1.35) == [90, 91, 92, 93, 94, 95]
    assert _ticks(1.12, 1.23) == [92.5, 93, 93.5, 94]
    assert _ticks(1.19, 1.205) == [93.6, 93.7]


def test_sizes_and_rates_are_written_out() -> None:
    assert [plain(value) for value in (3e6, 300_000, 1500, 0.1, 3e-4)] == ["3 M", "300 k", "1.5 k", "0.1", "0.0003"]


def _words(legend: Legend | None) -> list[str]:
    return [text.get_text() for text in legend.get_texts()] if legend else []


def _marks(axes: Axes, label: str) -> list[tuple[float, float]]:
    """Where the points of the one line with this label stand."""
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def _bundles(axes: Axes) -> dict[str, list[list[tuple[float, float]]]]:
    """The paths of each collection of lines by their colour."""
    found = [one for one in axes.collections if isinstance(one, LineCollection) and len(one.get_segments())]
    return {to_hex(one.get_color()[0]): [list(map(tuple, path)) for path in one.get_segments()] for one in found}


def test_the_history_marks_every_trained_trial_by_what_became_of_it() -> None:
    (axes,) = search.history(TRIALS, 2).axes

    assert _words(axes.get_legend()) == [
        "winner", "best so far", "complete", "pruned", "by the clock", "failed"
    ]  # fmt: skip
    assert _marks(axes, "winner") == [(2, 0.90)]
    assert _marks(axes, "best so far") == [(0, 0.85), (2, 0.90), (7, 0.90)]
    assert _marks(axes, "complete") == [(0, 0.85), (2, 0.90), (5, 0.88)]
    assert _marks(axes, "pruned") == [(1, 0.30), (4, 0.80)]
    assert _marks(axes, "by the clock") == [(7, 0.79)]
    assert _marks(axes, "failed") == [(6, 0.10)]


def test_only_complete_trials_are_filled() -> None:
    (axes,) = search.history(TRIALS, 2).axes

    faces = {line.get_label(): line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"}

    assert faces == {"complete": BLUE, "pruned": "none", "by the clock": "none", "failed": "none"}


def test_every_trained_trial_has_a_curve_and_the_winner_has_its_own() -> None:
    (axes,) = search.learning_curves(TRIALS, 2, [1, 3]).axes

    curves = _bundles(axes)

    assert _words(axes.get_legend()) == ["winner, trial 2", "complete", "pruned", "by the clock", "failed"]
    assert {
        search.FATE_COLOURS[fate]: n for fate, n in (("complete", 3), ("pruned", 2), ("clock", 1), ("failed", 1))
    } == {colour: len(paths) for colour, paths in curves.items()}
    assert [(1, 0.72), (2, 0.78), (3, 0.80)] in curves[FAINT]
    assert _marks(axes, "winner, trial 2") == [(1, 0.75), (2, 0.85), (3, 0.89), (4, 0.90)]
    assert [line.get_xdata() for line in axes.lines if line.get_linestyle() == "--"] == [[1, 1], [3, 3]]  # the rungs


def test_sizes_tell_trials_apart_as_the_history_does() -> None:
    figure = search.sizes(TRIALS, 2)
    multiply_adds, parameters = figure.axes

    assert _words(figure.legends[0]) == ["complete", "pruned", "by the clock", "failed", "Pareto front", "winner"]
    assert _marks(multiply_adds, "complete") == [(2e6, 0.85), (3e6, 0.90), (4e6, 0.88)]
    assert _marks(multiply_adds, "pruned") == [(4e6, 0.30), (1e6, 0.80)]
    assert _marks(multiply_adds, "Pareto front") == [(2e6, 0.85), (3e6, 0.90)]
    assert _marks(multiply_adds, "winner") == [(3e6, 0.90)]
    assert _marks(parameters, "failed") == [(1e5, 0.10)]


def test_sizes_name_only_what_there_is() -> None:
    figure = search.sizes([TRIALS[0], TRIALS[7]], 0)

    assert _words(figure.legends[0]) == ["complete", "by the clock", "Pareto front", "winner"]


def test_parallel_lines_end_at_the_rank_of_their_trial() -> None:
    (axes,) = space.parallel(SPACE, TRIALS, ["filters_1", "momentum"], 2).axes

    lines = _bundles(axes)

    assert _words(axes.get_legend()) == ["winner", "best quarter", "the others"]
    assert lines[RED] == [[(0, 1), (1, space.ABSENT), (2, 1)]]  # of filters_1 12, the most; first of six
    assert sorted(path[-1][1] for path in lines[FAINT]) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert BLUE not in lines  # a quarter of six is the winner alone


def test_the_best_quarter_is_one_of_all_trials_however_few_are_drawn() -> None:
    wide, _, many = planted.realistic(400)
    ranked, quarter = ranking(many)
    winner = max(trained(many), key=last_accuracy).number

    (axes,) = space.parallel(wide, many, ["learning_rate"], winner).axes

    lines = _bundles(axes)
    drawn = [trial for trial in thinned(trained(many), space.MOST_LINES) if trial.state != "failed"]
    good = [trial for trial in drawn if last_accuracy(trial) >= ranked[quarter - 1]]
    least = 1 - (quarter - 1) / (len(ranked) - 1)
    assert (len(ranked) > 2 * len(drawn), quarter) == (True, len(ranked) // 4)
    assert (len(lines[RED]), len(lines[BLUE]), len(lines[FAINT])) == (1, len(good) - 1, len(drawn) - len(good))
    assert min(path[-1][1] for path in lines[BLUE]) >= least > max(path[-1][1] for path in lines[FAINT])


def test_the_forest_stands_every_baseline_where_it_was_published_and_measured() -> None:
    ours = {"mean": 0.94, "sd": 0.001, "interval": (0.935, 0.945)}

    (axes,) = model.forest(planted.BASELINES, ours).axes

    points = [(line.get_marker(), to_hex(line.get_markerfacecolor()), line.get_xdata()[0], line.get_ydata()[0])
              for line in axes.lines if line.get_marker() != "None"]  # fmt: skip
    bars = [(list(line.get_xdata()), line.get_ydata()[0]) for line in axes.lines
            if line.get_marker() == "None" and len(set(line.get_xdata())) > 1]  # fmt: skip
    assert _words(axes.get_legend()) == ["ours, mean ± SD", "measured ± SD", "published"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "this search", "sadvisandhya", "myamiri", "chaerim", "ruhi", "myamiri-readme"
    ]  # fmt: skip
    assert [(x, y) for marker, _, x, y in points if marker == "D"] == [(0.94, 0)]
    assert [(x, y) for marker, face, x, y in points if (marker, face) == ("o", PAPER)] == [
        (0.9368, 1), (0.9214, 2), (0.92, 3), (0.9133, 4)
    ]  # fmt: skip
    assert [(x, y) for marker, face, x, y in points if (marker, face) == ("o", INK)] == [
        (0.9312, 1), (0.9161, 2), (0.9297, 3), (0.8702, 5)
    ]  # fmt: skip
    assert [y for _, y in bars] == [0, 1, 2, 5]  # those with more than one seed
    assert bars[0][0] == pytest.approx([0.939, 0.941])


def _example(*, right: bool, channels: int = 1) -> Example:
    return Example(7, 0, 0 if right else 1, 0.87, np.full((8, 8, channels), 128, np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_the_page(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)

    (tmp_path / "a.png").write_bytes(png(pixels))

    with Image.open(tmp_path / "a.png") as read:
        assert np.array_equal(np.asarray(read).reshape(5, 7, channels), pixels)


def _drawings() -> dict[str, Callable[[], Figure]]:
    """Every figure function, on the small study and on the worst that can be thought of."""
    alone: list[TrialSummary] = [TRIALS[0]]
    wide, settings, many = planted.realistic(80)
    rows = reached(many, settings.epochs)
    classes = [{"name": name, "precision": 0.9, "recall": 0.8, "f1": 0.85, "count": 3} for name in EVIL]
    nothing = {**classes[0], "precision": None, "recall": None, "f1": None}
    bins = [
        {"low": k / 5, "high": (k + 1) / 5, "count": k * 12, "confidence_mean": k / 5 + 0.1, "accuracy": k / 5}
        for k in range(5)
    ]
    empty = {"low": 0, "high": 0.2, "count": 0, "confidence_mean": None, "accuracy": None}
    ours = {"mean": 0.94, "sd": None, "interval": (0.935, 0.945)}
    perfect = planted.trial(0, "complete", [0.1, 1.0])
    return {
        "history": lambda: search.history(TRIALS, 2),
        "history of one": lambda: search.history(alone, 0),
        "history of a perfect one": lambda: search.history([perfect], 0),
        "curves": lambda: search.learning_curves(TRIALS, 2, [1, 3]),
        "curves without rungs": lambda: search.learning_curves(alone, 0, []),
        "compute": lambda: search.compute(reached(TRIALS, 4), compute_by_fate(TRIALS), [1, 3]),
        "compute of long trials": lambda: search.compute(rows * 10, compute_by_fate(many), [1]),
        "sizes": lambda: search.sizes(TRIALS, 2),
        "importance": lambda: space.importance({"a": 0.7, EVIL[0]: 0.3}, {"a"}),
        "slices": lambda: space.slices(SPACE, TRIALS, varying(SPACE, TRIALS), 2),
        "slices of a wide space": lambda: space.slices(wide, many, varying(wide, many)[:6], 0),
        "rate": lambda: space.learning_rate(TRIALS, "learning_rate", "optimizer"),
        "rate alone": lambda: space.learning_rate(TRIALS, "learning_rate", None),
        "parallel": lambda: space.parallel(SPACE, TRIALS, ["learning_rate", "momentum", "optimizer"], 2),
        "training": lambda: model.training_curves(TRIALS[2].curve, [TRIALS[0].curve]),
        "training without a refit": lambda: model.training_curves(TRIALS[2].curve, []),
        "fractions": lambda: model.fractions([{"train_images": n, "val_accuracy": 0.8 + n / 1e6} for n in (2500, 50_000)]),
        "one fraction": lambda: model.fractions([{"train_images": 2500, "val_accuracy": 0.8}]),
        "confusion": lambda: model.confusion([[5, 1, 0, 0, 0]] * 4 + [[0] * 5], EVIL),
        "confusion of many": lambda: model.confusion(np.eye(60, dtype=int).tolist(), [f"class {k}" for k in range(60)]),
        "classes": lambda: model.per_class([*classes, nothing]),
        "reliability": lambda: model.reliability([*bins, empty]),
        "forest": lambda: model.forest(planted.BASELINES, ours),
        "images": lambda: images.grid([_example(right=True), _example(right=False, channels=3)], EVIL),
        "races": lambda: compare.races({name: [(1, 0.8), (2, 0.9)] for name in EVIL}, "trials"),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(_drawings()))
def test_a_figure_becomes_a_small_file_and_a_piece_of_a_page(name: str, tmp_path: Path) -> None:
    figure = _drawings()[name]()

    svg = as_svg(figure, "here", 'says "93 %" & <more>')
    write_png(figure, tmp_path / "here.png")

    root = ET.fromstring(svg)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert (root.get("role"), root.get("aria-label")) == ("img", 'says "93 %" & <more>')
    assert len(ids) == len(set(ids))
    assert all(one is not None and one.startswith("here-") for one in ids)
    referred = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert referred == set(ids)
    assert not set(CSS_NAMES) & set(re.findall(r"#[0-9a-f]{6}", svg))  # every colour is the page's to choose
    assert len(svg) < 200_000
    assert 2_000 < (tmp_path / "here.png").stat().st_size < 200_000


def test_text_stays_text_and_is_neither_markup_nor_formula() -> None:
    svg = as_svg(model.confusion([[5, 1, 0, 0, 0]] * 5, EVIL), "here", "")

    words = {"".join(element.itertext()) for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}

    assert {"a$b$c & d", 'an "id="x" name'[:13] + "…", "衬衫"} <= words
    assert "<script>" not in svg
