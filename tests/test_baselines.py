"""The five published networks: as published, trained and scored once, kept, compared with."""

from __future__ import annotations

import csv
import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images
from tuner.evaluation.measured import Measured, known_baselines, place_of, read_measured, write_measured
from tuner.evaluation.score import TestScore
from tuner.models.baselines import BASELINES, PUBLISHED, baseline_named, nearest_entries
from tuner.models.cnn import build_network
from tuner.models.plan import Dropout, Norm
from tuner.records import EpochResult
from tuner.reporting.baselines import as_table, baseline_documents, comparison
from tuner.search.request import read_checked
from tuner.training.checkpoint import read_checkpoint
from tuner.training.configuration import read_configuration

from .conftest import Done

SMALL = ("myamiri", "mahinmiyurcee")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("sadvisandhya-code", 468_586),
        ("ruhi", 241_546),
        ("myamiri", 25_450),
        ("myamiri-code", 173_738),
        ("chaerim-code", 824_458),
        ("mahinmiyurcee", 93_322),
        # Of the READMEs alone, nobody published a count: ours, so that nobody changes them unnoticed.
        ("sadvisandhya", 1_421_194),
        ("chaerim", 953_098),
    ],
)
def test_each_network_has_the_published_number_of_parameters(name: str, parameters: int) -> None:
    plan = BASELINES[name].plan((28, 28, 1), 10)

    assert plan.cost.parameters == parameters
    assert build_network(plan, scale=(0.0, 1.0), seed=0).count_params() == parameters


@pytest.mark.parametrize(
    ("name", "optimizer", "batch_size", "epochs", "held_back", "published"),
    [
        ("sadvisandhya-code", "adam", 1000, 40, 12_000, 0.9368),
        ("ruhi", "adam", 128, 10, 6_000, 0.9133),
        ("myamiri-code", "adam", 512, 50, 12_000, 0.9214),
        ("chaerim-code", "rmsprop", 128, 15, 12_000, 0.92),
        ("mahinmiyurcee", "adam", 32, 10, 12_000, 0.9041),
    ],
)
def test_each_is_trained_as_published(
    name: str, optimizer: str, batch_size: int, epochs: int, held_back: int, published: float, fashion: Source
) -> None:
    baseline, recipe = BASELINES[name], read_configuration({"baseline": name}).recipe
    images = read_images(fashion, baseline.cut)

    assert (recipe.optimizer, recipe.batch_size, recipe.learning_rate) == (optimizer, batch_size, 1e-3)
    assert (recipe.schedule, recipe.weight_decay, recipe.flip, recipe.erase) == ("constant", 0.0, False, 0)
    assert (baseline.epochs, baseline.test_accuracy) == (epochs, published)
    assert (len(images.train), len(images.val)) == (60_000 - held_back, held_back)
    assert baseline in PUBLISHED


def test_the_tutorial_network_holds_back_the_last_images_of_the_file(small: Source) -> None:
    everything = read_images(small, Cut(everything=True))
    images = read_images(small, BASELINES["mahinmiyurcee"].cut)

    assert np.array_equal(images.val, everything.train[-240:])
    assert np.array_equal(images.train, everything.train[:-240])


def test_pixels_are_divided_by_255_and_weights_begin_as_keras_begins_them() -> None:
    plan = BASELINES["mahinmiyurcee"].plan((28, 28, 1), 10)
    network = build_network(plan, scale=(0.3, 0.4), seed=0)
    reference = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    reference.set_weights(network.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1)).astype(np.float32)

    assert np.allclose(network.predict(pixels, verbose=0), reference.predict(pixels, verbose=0), atol=1e-5)
    kernels = [layer.kernel.numpy() for layer in network.layers if hasattr(layer, "kernel")]
    for kernel in kernels:  # Glorot & Bengio 2010: uniform within the root of 6 / (inputs + outputs)
        field = np.prod(kernel.shape[:-2])
        bound = np.sqrt(6 / (field * (kernel.shape[-2] + kernel.shape[-1])))
        assert 0.9 * bound < np.abs(kernel).max() <= bound


def test_the_norms_and_dropouts_stand_where_the_code_has_them() -> None:
    layers = BASELINES["sadvisandhya-code"].layers
    kinds = [type(layer).__name__ for layer in layers]

    assert kinds == [*["Conv", "Relu", "Norm"] * 2, "Pool", "Dropout", *["Conv", "Relu", "Norm"] * 2, "Pool", "Dropout",
                     "Flatten", "Dense", "Relu", "Dropout"]  # fmt: skip
    assert {layer.momentum for layer in layers if isinstance(layer, Norm)} == {0.99}
    rates = {name: [x.rate for x in BASELINES[name].layers if isinstance(x, Dropout)] for name in BASELINES}
    assert rates["ruhi"] == [0.2, 0.2, 0.5]
    assert rates["chaerim-code"] == [0.25, 0.25, 0.3]
    assert rates["mahinmiyurcee"] == []


def test_the_nearest_points_lie_in_the_space_and_come_first() -> None:
    space_file = read_checked("cnn")
    entries = nearest_entries(space_file.space)

    longer = space_file.starting_with(entries, "why")

    for entry in entries:
        space_file.space.check_values(entry)
    assert len(entries) == 5
    assert entries[4] == {**entries[4], "blocks": 3, "filters_1": 32, "filters_2": 64, "filters_3": 64, "dense_units": 64,
                          "norm": "none", "optimizer": "adam", "learning_rate": 1e-3, "flip": False}  # fmt: skip
    assert entries[0]["batch_size"] == 512  # the space has no 1000
    assert longer.space.start_with[:5] == tuple(entries)
    assert longer.space.start_with[5:] == space_file.space.start_with
    assert longer.hash != space_file.hash


def measured(source: Source, name: str = "ruhi", right: int = 200, seeds: int = 2) -> Measured:
    """Figures whose first ``right`` test images are right in each seed."""
    baseline = BASELINES[name]
    labels = np.arange(300, dtype=np.uint8) % 10
    predicted = np.where(np.arange(300) < right, labels, (labels + 1) % 10).astype(np.uint8)
    curve = (EpochResult(1, 1.0, 0.5, 1.0, 0.5, 1e-3, 2.0),)
    return Measured(name, baseline.epochs, baseline.digest, source.digest, 5, 2.0, {}, (curve,) * seeds,
                    np.stack([predicted] * seeds), np.zeros((seeds, 300, 10), np.float16), labels)  # fmt: skip


def test_figures_are_read_back_as_written_and_used_for_their_own_images_and_settings_only(
    small: Source, tmp_path: Path
) -> None:
    mine, path = measured(small), place_of(tmp_path, BASELINES["ruhi"])
    write_measured(path, mine)

    found = read_measured(path)

    assert found is not None
    assert found.curves == mine.curves
    assert np.array_equal(found.predicted, mine.predicted)
    assert found.accuracies == [200 / 300] * 2
    assert list(known_baselines(tmp_path, small)) == ["ruhi"]
    for change in ({"data": "0" * 16}, {"digest": "another"}, {"epochs": 3}):
        write_measured(path, dataclasses.replace(mine, **change))
        assert known_baselines(tmp_path, small) == {}
    path.write_bytes(b"PK\x03\x04 not whole")
    assert read_measured(path) is None


def test_a_damaged_file_is_no_figure_and_never_more_than_that(small: Source, tmp_path: Path) -> None:
    path = place_of(tmp_path, BASELINES["ruhi"])
    write_measured(path, measured(small))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)

    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        read_measured(path)  # raises nothing, whichever bit it is

    assert all(read_measured(_cut(path, whole, size)) is None for size in range(0, len(whole), len(whole) // 20))


def _cut(path: Path, whole: bytes, size: int) -> Path:
    path.write_bytes(whole[:size])
    return path


def test_a_result_is_compared_with_the_measured_mean_image_by_image_and_with_the_published_figure(
    fashion: Source, small: Source
) -> None:
    theirs = measured(small, right=200)
    labels = np.arange(300) % 10
    right = np.arange(300) < 230
    right[:5] = False
    probabilities = np.zeros((1, 300, 10), np.float32)
    probabilities[0, np.arange(300), np.where(right, labels, (labels + 1) % 10)] = 1.0
    ours = TestScore(probabilities, labels)

    rows = {row["name"]: row for row in comparison(ours, {"ruhi": theirs}, fashion)}
    elsewhere = comparison(ours, {"ruhi": theirs}, small)

    ruhi = rows["ruhi"]
    assert list(rows) == [baseline.name for baseline in PUBLISHED]
    assert ruhi["difference"] == pytest.approx(225 / 300 - 200 / 300)
    assert (ruhi["mcnemar"]["only_ours"], ruhi["mcnemar"]["only_theirs"]) == (30, 5)
    assert ruhi["mcnemar"]["p_exact"] == pytest.approx(2.24e-5, rel=0.01)
    assert ruhi["p_published"] == pytest.approx(9.0e-8, rel=0.01)
    assert rows["myamiri-code"]["mcnemar"] is None
    assert rows["myamiri-code"]["difference"] == pytest.approx(0.75 - 0.9214)
    assert [row["name"] for row in elsewhere] == ["ruhi"]  # published figures are of other images
    assert elsewhere[0]["published_test_accuracy"] is None


def test_the_table_has_the_published_figure_beside_the_measured_one(fashion: Source, small: Source) -> None:
    table = as_table(baseline_documents([BASELINES["ruhi"], BASELINES["myamiri"]], {"ruhi": measured(small)}, fashion))

    rows = table.splitlines()
    assert rows[2].startswith("| ruhi | 91.33 % | 66.67 ± 0.00 % | 2 | 10 | 241,546 | 70,000 images merged")
    assert rows[3].startswith("| myamiri | – | – | – | 50 | 25,450 |")


def test_networks_that_small_images_have_no_room_for_are_left_out_and_notes_are_of_the_real_images(
    small: Source,
) -> None:
    tiny = dataclasses.replace(small, input_shape=(8, 8, 1))

    rows = baseline_documents(BASELINES.values(), {}, tiny)

    names = [row["name"] for row in rows]
    assert "myamiri" in names
    assert "ruhi" not in names
    assert {row["note"] for row in rows} == {""}


def test_an_unknown_name_is_one_line_with_the_nearest_one(tuner: Callable[..., Done]) -> None:
    done = tuner("baselines", "rui")

    assert (done.code, done.out) == (2, "")
    assert done.err == "error: there is no baseline 'rui' (did you mean 'ruhi'?)\n"


@pytest.mark.slow
def test_they_are_trained_scored_and_kept_and_more_seeds_train_only_what_is_missing(
    tuner: Callable[..., Done], small_folder: Path, tmp_path: Path
) -> None:
    first = tuner("baselines", *SMALL, "--data", small_folder, "--epochs", 2, "--seeds", 1, "--json")
    again = tuner("baselines", *SMALL, "--data", small_folder, "--epochs", 2, "--seeds", 2)
    kept = tuner("baselines", "myamiri", "--data", small_folder, "--epochs", 2, "--seeds", 1, "--json")

    assert first.code == again.code == kept.code == 0, first.err + again.err + kept.err
    one = {row["name"]: row for row in first.document}
    assert list(one) == list(SMALL)
    assert set(one["myamiri"]) >= {"name", "published_test_accuracy", "measured_test_accuracy", "sd", "seeds",
                                   "parameters", "note"}  # fmt: skip
    assert one["mahinmiyurcee"]["published_test_accuracy"] is None  # of other images
    assert 0.2 < one["mahinmiyurcee"]["measured_test_accuracy"] < 1
    assert "2 baselines, 2 trainings to be done" in again.out
    assert "seed 0 " not in again.out
    assert kept.document[0]["seeds"] == 2
    file = read_measured(tmp_path / "results" / "baselines" / "myamiri-2-epochs.npz")
    assert file is not None
    assert file.accuracies[0] == one["myamiri"]["measured_test_accuracy"]
    assert file.probabilities.shape == (2, 300, 10)
    assert [len(curve) for curve in file.curves] == [2, 2]
    assert not list((tmp_path / "results" / "baselines" / "checkpoints").iterdir())


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_goes_on_at_the_epoch_to_the_same_figure(
    tuner: Callable[..., Done], small_folder: Path, tmp_path: Path
) -> None:
    command = ["baselines", "mahinmiyurcee", "--data", str(small_folder), "--epochs", "6", "--seeds", "1"]
    undisturbed = tuner(*command, "--out", "whole", "--json")
    with subprocess.Popen(
        [sys.executable, "-m", "tuner", *command], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if "epoch 3 of 6" in line:
                break
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL

    kept = max((tmp_path / "results" / "baselines" / "checkpoints").glob("mahinmiyurcee-0-*/epoch-*.ckpt"))
    before = read_checkpoint(kept)[0]
    assert tuner(*command[:5], "1", *command[6:]).code == 0  # other epochs in between

    resumed = tuner(*command, "--json")

    assert undisturbed.code == resumed.code == 0, resumed.err
    assert resumed.document == undisturbed.document
    whole, gone_on = (
        read_measured(tmp_path / out / "baselines" / "mahinmiyurcee-6-epochs.npz") for out in ("whole", "results")
    )
    assert whole is not None
    assert gone_on is not None
    assert list(gone_on.curves[0][: len(before)]) == before  # seconds included: it did not train them again
    assert [epoch.loss for epoch in gone_on.curves[0]] == [epoch.loss for epoch in whole.curves[0]]
    assert np.array_equal(gone_on.probabilities, whole.probabilities)


@pytest.mark.slow
def test_two_at_once_are_refused(tuner: Callable[..., Done], small_folder: Path, tmp_path: Path) -> None:
    command = ["baselines", "mahinmiyurcee", "--data", str(small_folder), "--epochs", "2000", "--seeds", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "tuner", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stderr is not None
        for line in first.stdout:
            if "epoch 1 of 2000" in line:
                break

        second = tuner(*command)
        first.send_signal(signal.SIGTERM)
        first.stdout.read()
        said = first.stderr.read()

    assert second.code == 5
    assert second.err.startswith(f"error: the baselines are being trained by process {first.pid} since ")
    assert first.returncode == 130
    assert "the same command goes on where it was" in said


def test_baselines_have_one_name_each_and_it_is_found() -> None:
    assert [baseline_named(name).name for name in BASELINES] == list(BASELINES)
    assert len({baseline.digest for baseline in BASELINES.values()}) == len(BASELINES)


@pytest.mark.slow
def test_a_search_tries_the_nearest_points_first_and_a_resume_remembers_them(
    tuner: Callable[..., Done], small_folder: Path, space_path: Path, tmp_path: Path
) -> None:
    options = ["--data", small_folder, "--epochs", 1, "--no-refit", "--study", "s"]

    first = tuner("search", space_path, "--start-with", "baselines", "--trials", 1, *options)
    resumed = tuner("search", "--resume", "--trials", 3, *options)

    assert first.code == resumed.code == 0, first.err + resumed.err
    with (tmp_path / "results" / "runs" / "s" / "trials.csv").open() as file:
        trials = [trial for trial in csv.DictReader(file) if trial["state"] != "duplicate"]
    assert [trial["learning_rate"] for trial in trials[:3]] == ["0.001"] * 3
    assert [trial["filters_1"] for trial in trials[:3]] == ["12"] * 3  # the nearest to 32 that this space has
    text = (tmp_path / "results" / "runs" / "s" / "space.toml").read_text()
    assert text.startswith("# Starts with the points nearest to the published networks.")
