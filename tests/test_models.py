"""The plan and the network are the same thing, and what is saved computes what was trained."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import optuna
import pytest

from tuner.errors import SpaceError
from tuner.models.cnn import build_network, whole_model
from tuner.models.layers import TrainingBatchNorm, TrainingDropout
from tuner.space.reader import read_space
from tuner.training.configuration import read_configuration

SCALE = (0.286, 0.353)


@pytest.mark.parametrize("name", ["cnn", "tiny"])
@pytest.mark.parametrize(("count", "seed"), [(8, 7), pytest.param(25, 8, marks=pytest.mark.slow)])
def test_the_planned_parameters_are_those_that_keras_counts(name: str, count: int, seed: int) -> None:
    space = read_space(name).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    built = 0

    while built < count:
        configuration = read_configuration(space.sample(study.ask()))
        try:
            plan = configuration.plan((28, 28, 1), 10)
        except SpaceError:
            continue  # the image shrinks to nothing
        keras.backend.clear_session()
        network = build_network(plan, scale=SCALE, seed=0)

        assert network.count_params() == plan.cost.parameters
        assert network.output_shape == (None, 10)
        built += 1


def test_the_planned_multiply_adds_are_those_of_the_published_recipe() -> None:
    # conv 32 - pool - 2x64 - pool - 2x128: 21.9 M (shared arithmetic: 784*9*32 + 196*9*(32+64)*64 + 49*9*(64+128)*128)
    values = {"blocks": 3, "filters_1": 32, "filters_2": 64, "filters_3": 128, "convs_2": 2, "convs_3": 2,
              "head": "average", "dense_units": 0}  # fmt: skip

    plan = read_configuration(values).plan((28, 28, 1), 10)

    assert plan.cost.multiply_adds == 784 * 9 * 32 + 196 * 9 * 96 * 64 + 49 * 9 * 192 * 128 + 128 * 10


def test_an_image_that_shrinks_to_nothing_is_refused_with_a_hint() -> None:
    values = {"blocks": 3, "padding": "valid", "kernel_1": 7, "kernel_2": 7, "kernel_3": 7}

    with pytest.raises(SpaceError, match="shrinks to nothing"):
        read_configuration(values).plan((28, 28, 1), 10)


def test_the_training_batch_norm_computes_what_keras_computes() -> None:
    x = np.random.default_rng(0).normal(2.0, 3.0, (16, 7, 7, 5)).astype("float32")
    ours, theirs = TrainingBatchNorm(momentum=0.9), keras.layers.BatchNormalization(momentum=0.9)

    trained = ours(x, training=True), theirs(x, training=True)

    np.testing.assert_allclose(*trained, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-5, atol=1e-6)
    # The fused op estimates the variance without bias: n/(n-1) of Keras's.
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1 / 700)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x, training=False), theirs(x, training=False), rtol=1e-6)


def test_the_model_that_leaves_takes_raw_pixels_and_gives_the_trained_networks_probabilities(tmp_path: Path) -> None:
    values = {"blocks": 2, "filters_1": 4, "filters_2": 8, "convs_2": 2, "residual": True, "dropout_dense": 0.5}
    plan = read_configuration(values).plan((28, 28, 1), 10)
    network = build_network(plan, scale=SCALE, seed=3)
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)

    whole_model(plan, network, scale=SCALE).save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = keras.ops.softmax(network(images.astype("float32"), training=False))
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-6)
    assert not any("Training" in type(layer).__name__ for layer in loaded.layers)


@pytest.mark.parametrize("shape", [(1, 3), (64, 7, 7, 5), (200, 501)])
def test_training_dropout_drops_the_rate_scales_up_the_rest_and_takes_another_rate(shape: tuple[int, ...]) -> None:
    layer = TrainingDropout(0.25, seed=1)
    ones = np.ones(shape, dtype=np.float32)

    first, second = (np.asarray(layer(ones, training=True)) for _ in range(2))
    layer.rate_now.assign(0.6)
    third = np.asarray(layer(ones, training=True))

    for found, rate in ((first, 0.25), (second, 0.25), (third, 0.6)):
        assert set(np.unique(found)) <= {np.float32(0.0), np.float32(1.0) / (np.float32(1.0) - np.float32(rate))}
        assert abs((found == 0).mean() - rate) < 4 * (rate * (1 - rate) / ones.size) ** 0.5 + 2**-16
    assert ones.size < 10 or not np.array_equal(first == 0, second == 0)
    assert np.array_equal(layer(ones, training=False), ones)


def test_neighbouring_activations_are_dropped_independently() -> None:
    dropped = np.asarray(TrainingDropout(0.5, seed=3)(np.ones((1000, 1000), np.float32), training=True)).ravel() == 0

    for distance in (1, 2, 3, 1000):
        assert abs(np.corrcoef(dropped[:-distance], dropped[distance:])[0, 1]) < 0.005
