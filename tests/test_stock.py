"""Compiled loops kept between trainings: reused for the same shape only, and without a trace in the result."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tuner.data.sources import Source
from tuner.data.splits import Cut, Images, read_images
from tuner.training.configuration import read_configuration
from tuner.training.fit import fit
from tuner.training.stock import KEPT, Stock, shape_of

FIRST = {"blocks": 2, "filters_1": 8, "filters_2": 16, "dense_units": 16, "dropout_conv": 0.1, "dropout_dense": 0.3,
         "optimizer": "adamw", "learning_rate": 5e-3, "weight_decay": 1e-2, "label_smoothing": 0.1, "batch_size": 32,
         "ema": 0.1, "shift": 1, "rotation": 4.0, "zoom": 0.1, "erase": 4}  # fmt: skip
SECOND = {**FIRST, "dropout_conv": 0.4, "dropout_dense": 0.1, "learning_rate": 1e-3, "weight_decay": 1e-1, "zoom": 0.2,
          "label_smoothing": 0.0, "batch_size": 64, "ema": 0.3, "shift": 3, "rotation": 9.0, "erase": 7, "schedule": "onecycle"}  # fmt: skip


@pytest.fixture(scope="module")
def images(small: Source) -> Images:
    return read_images(small)


def train(stock: Stock, images: Images, values: dict, seed: int) -> tuple[list[tuple], list[np.ndarray], keras.Model]:
    configuration = read_configuration(values)
    road = stock.take(configuration.plan((28, 28, 1), 10), images, configuration.recipe, seed)
    curve = fit(road, images, configuration.recipe, epochs=2, seed=seed, after_epoch=lambda _: True)
    return [(r.loss, r.accuracy, r.val_loss, r.val_accuracy) for r in curve], road.network.get_weights(), road.network


@pytest.fixture(scope="module")
def warm(images: Images) -> tuple[Stock, list[tuple], keras.Model]:
    """A stock that has trained FIRST, with its curve and its network."""
    stock = Stock()
    curve, _, network = train(stock, images, FIRST, 1)
    return stock, curve, network


def test_a_training_in_a_kept_loop_ends_with_the_same_bits_as_in_a_new_one(images: Images, warm: tuple) -> None:
    stock, _, kept = warm

    curve, weights, network = train(stock, images, SECOND, 2)
    new_curve, new_weights, new = train(Stock(), images, SECOND, 2)

    assert network is kept
    assert new is not kept
    assert curve == new_curve
    assert all(np.array_equal(a, b) for a, b in zip(weights, new_weights, strict=True))


def test_a_kept_loop_keeps_nothing_of_the_training_before(images: Images, warm: tuple) -> None:
    stock, first, _ = warm

    train(stock, images, SECOND, 2)

    assert train(stock, images, FIRST, 1)[0] == first


@pytest.mark.parametrize(
    "strength", ["dropout_conv", "weight_decay", "label_smoothing", "ema", "shift", "rotation", "zoom", "erase"]
)
def test_each_strength_counts_in_a_kept_loop(images: Images, warm: tuple, strength: str) -> None:
    stock, first, kept = warm

    curve, _, network = train(stock, images, {**FIRST, strength: SECOND[strength]}, 1)

    assert network is kept
    assert curve != first


@pytest.mark.parametrize(
    "other",
    [{"filters_2": 24}, {"norm": "none"}, {"optimizer": "adam"}, {"momentum": 0.8}, {"dropout_conv": 0.0}, {"shift": 0},
     {"flip": True}, {"clip_norm": 1.0}, {"l2": 1e-4}, {"weight_decay": 0.0}, {"ema": 0.0}, {"head": "average"}],
    ids=str,
)  # fmt: skip
def test_another_shape_is_another_loop(other: dict) -> None:
    one, two = (read_configuration(values) for values in (FIRST, {**FIRST, **other}))

    assert shape_of(one.plan((28, 28, 1), 10), one.recipe) != shape_of(two.plan((28, 28, 1), 10), two.recipe)


def test_the_oldest_loop_goes_when_there_are_too_many(images: Images) -> None:
    stock = Stock()
    networks = []
    for width in [*range(1, KEPT + 2), KEPT + 1, 1]:  # nothing is compiled before the first step
        configuration = read_configuration({**FIRST, "dense_units": width})
        road = stock.take(configuration.plan((28, 28, 1), 10), images, configuration.recipe, 1)
        networks.append(road.network)

    assert networks[-2] is networks[-3]
    assert networks[-1] is not networks[0]


def test_other_images_are_not_trained_on_by_a_kept_loop(images: Images, small: Source) -> None:
    stock = Stock()
    _, _, network = train(stock, images, FIRST, 1)

    _, _, other = train(stock, read_images(small, Cut(300)), FIRST, 1)

    assert other is not network
