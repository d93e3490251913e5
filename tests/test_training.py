"""One training: reproducible, learning, stoppable; augmentation and schedules by their definitions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from tuner.data.sources import Source
from tuner.data.splits import Images, read_images
from tuner.models.cnn import build_network
from tuner.records import EpochResult
from tuner.search import timekeeper
from tuner.training import pipeline
from tuner.training.augment import DRAWS, augment
from tuner.training.checkpoint import Checkpoints, Damaged, read_checkpoint
from tuner.training.configuration import Recipe, read_configuration
from tuner.training.fit import TrainingFailed, fit, loss_and_accuracy
from tuner.training.pipeline import Cancelled, Road, plan_epoch
from tuner.training.plain import PlainRoad
from tuner.training.schedule import learning_rates
from tuner.training.stock import make_road

VALUES = {"blocks": 2, "filters_1": 8, "filters_2": 16, "dense_units": 32, "dropout_dense": 0.3, "batch_size": 32,
          "learning_rate": 5e-3, "flip": True, "schedule": "onecycle"}  # fmt: skip


@pytest.fixture(scope="module")
def images(small: Source) -> Images:
    return read_images(small)


Make = Callable[[keras.Model, Images, Recipe], Road]


def new_road(images: Images, values: dict, seed: int = 1, make: Make = make_road) -> tuple[Road, Recipe]:
    configuration = read_configuration(values)
    network = build_network(configuration.plan((28, 28, 1), 10), scale=images.scale, seed=seed)
    return make(network, images, configuration.recipe), configuration.recipe


def train(
    images: Images, values: dict, epochs: int = 3, seed: int = 1, make: Make = make_road
) -> tuple[list[EpochResult], keras.Model]:
    road, recipe = new_road(images, values, seed, make)
    curve = fit(road, images, recipe, epochs=epochs, seed=seed, after_epoch=lambda _: True)
    return curve, road.network


def figures(curve: list[EpochResult]) -> list[tuple]:
    return [(r.epoch, r.loss, r.accuracy, r.val_loss, r.val_accuracy, r.learning_rate) for r in curve]


def test_the_same_values_and_seed_give_the_same_curve_and_weights_to_the_bit(images: Images) -> None:
    first, one = train(images, VALUES)
    second, two = train(images, VALUES)

    assert figures(first) == figures(second)
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), two.get_weights(), strict=True))


def test_the_coordinator_knows_how_far_apart_a_workers_beats_are() -> None:
    assert timekeeper.IMAGES_BETWEEN_QUESTIONS == pipeline.IMAGES_BETWEEN_QUESTIONS


def test_another_seed_gives_another_curve(images: Images) -> None:
    assert figures(train(images, VALUES, 1)[0]) != figures(train(images, VALUES, 1, seed=2)[0])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_every_optimizer_learns_with_everything_switched_on(images: Images, optimizer: str) -> None:
    rate = {"sgd": 0.03, "rmsprop": 1e-3}.get(optimizer, 4e-3)
    everything = {**VALUES, "optimizer": optimizer, "learning_rate": rate, "weight_decay": 1e-3, "l2": 1e-5, "clip_norm": 1.0,
                  "label_smoothing": 0.1, "shift": 1, "rotation": 5.0, "zoom": 0.1, "erase": 4, "schedule": "cosine"}  # fmt: skip

    curve, _ = train(images, everything, epochs=4)

    assert curve[-1].val_accuracy > 0.5
    assert curve[-1].loss < curve[0].loss


def test_the_plain_road_takes_the_same_steps_as_the_compiled_one(images: Images) -> None:
    # No dropout, whose random numbers the two roads draw in different places.
    values = {**VALUES, "dropout_dense": 0.0, "shift": 2, "erase": 4}
    epoch = plan_epoch(1, 1, len(images.train), 32)
    outcomes = []
    for make in (make_road, PlainRoad):
        road, recipe = new_road(images, values, make=make)
        rates = learning_rates(recipe, len(epoch.order))
        outcomes.append((*road.epoch(epoch.order, epoch.draws, rates, lambda: False), road.logits(images.val)))

    (loss, accuracy, logits), (plain_loss, plain_accuracy, plain_logits) = outcomes
    assert loss == pytest.approx(plain_loss, rel=1e-4)
    assert accuracy == pytest.approx(plain_accuracy, abs=1e-4)
    np.testing.assert_allclose(logits, plain_logits, atol=0.03)  # rounding, grown by 30 steps


def test_a_loss_that_is_no_longer_finite_fails_with_its_epoch(images: Images) -> None:
    with pytest.raises(TrainingFailed, match=r"(the loss is (nan|inf)|the weights are no longer finite) at epoch 1"):
        train(
            images,
            {**VALUES, "optimizer": "sgd", "learning_rate": 1e30, "norm": "none", "clip_norm": 0.0, "flip": False},
        )


def test_after_epoch_ends_the_training_and_stopped_interrupts_it(images: Images) -> None:
    road, recipe = new_road(images, VALUES)

    curve = fit(road, images, recipe, epochs=9, seed=1, after_epoch=lambda r: r.epoch < 2)

    assert len(curve) == 2
    with pytest.raises(Cancelled):
        fit(road, images, recipe, epochs=1, seed=1, after_epoch=lambda _: True, stopped=lambda: True)


def test_an_epoch_is_a_function_of_seed_and_number_and_sees_each_image_once() -> None:
    one, same, other = plan_epoch(3, 2, 1000, 64), plan_epoch(3, 2, 1000, 64), plan_epoch(3, 3, 1000, 64)

    assert np.array_equal(one.order, same.order)
    assert np.array_equal(one.draws, same.draws)
    assert not np.array_equal(one.order, other.order)
    assert one.order.shape == (15, 64)
    assert len(np.unique(one.order)) == 15 * 64


def _draws(**columns: float) -> np.ndarray:
    names = ["flip", "down", "right", "rotation", "zoom", "row", "column"]
    assert len(names) == DRAWS
    return np.array([[columns.get(name, 0.5) for name in names]], dtype=np.float32)


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1)).astype(np.float32)


def test_augmentation_that_is_off_changes_nothing() -> None:
    x = _images()

    assert augment(x, _draws(flip=0.1), Recipe()) is x


def test_a_flip_mirrors_with_and_without_the_affine_road() -> None:
    x = _images()

    plain = augment(x, _draws(flip=0.2), Recipe(flip=True))
    affine = augment(x, _draws(flip=0.2), Recipe(flip=True, shift=2))

    np.testing.assert_allclose(plain, x[:, :, ::-1], atol=1e-3)
    np.testing.assert_allclose(affine, x[:, :, ::-1], atol=1e-2)
    np.testing.assert_allclose(augment(x, _draws(flip=0.9), Recipe(flip=True)), x)


def test_a_shift_moves_by_whole_pixels_and_fills_with_black() -> None:
    x = _images()

    moved = np.asarray(augment(x, _draws(down=0.99, right=0.0), Recipe(shift=2)))

    np.testing.assert_allclose(moved[:, 2:, :-2], x[:, :-2, 2:], atol=1e-2)
    assert np.all(moved[:, :2] == 0)
    assert np.all(moved[:, :, -2:] == 0)


def test_a_rotation_turns_about_the_middle() -> None:
    x = _images()

    turned = np.asarray(augment(x, _draws(rotation=1.0), Recipe(rotation=90.0)))

    quarter = min(np.abs(turned[0, 1:-1, 1:-1, 0] - np.rot90(x[0, ..., 0], k)[1:-1, 1:-1]).max() for k in (1, 3))
    assert quarter < 0.1


def test_a_zoom_keeps_the_middle_and_enlarges() -> None:
    x = np.zeros((1, 28, 28, 1), np.float32)
    x[0, 10:18, 10:18] = 255

    larger = np.asarray(augment(x, _draws(zoom=1.0), Recipe(zoom=0.5)))

    assert 1.8 * x.sum() < larger.sum() < 2.7 * x.sum()
    assert larger[0, 14, 14, 0] == pytest.approx(255, rel=1e-3)


def test_a_hole_is_black_and_square() -> None:
    x = np.full((1, 28, 28, 1), 200.0, np.float32)

    holed = np.asarray(augment(x, _draws(row=0.5, column=0.5), Recipe(erase=8)))

    assert (holed == 0).sum() == 64
    assert np.all(holed[0, 10:18, 10:18] == 0)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle", "step"])
def test_a_schedule_stays_between_zero_and_its_rate(schedule: str) -> None:
    rates = learning_rates(Recipe(schedule=schedule, learning_rate=0.1), 1000)

    assert rates.dtype == np.float32
    assert rates.min() >= 0
    assert 0.0995 < rates.max() <= 0.1 + 1e-7


def test_schedules_end_where_their_papers_end() -> None:
    last = {name: learning_rates(Recipe(schedule=name, learning_rate=1.0), 1000)[-1]
            for name in ("constant", "cosine", "onecycle", "step")}  # fmt: skip

    assert last["constant"] == 1
    assert last["step"] == pytest.approx(0.01)
    assert last["cosine"] < 1e-4
    assert last["onecycle"] < 1e-3


def test_loss_and_accuracy_are_those_of_keras() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (50, 10)).astype(np.float32)
    labels = np.arange(50) % 10

    loss, accuracy = loss_and_accuracy(logits, labels)

    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert accuracy == (logits.argmax(1) == labels).mean()


def _resumed(
    images: Images, values: dict, folder: Path, *, until: int, epochs: int = 4, make: Make = make_road
) -> tuple[list, list]:
    """Train to ``until``, forget the network, and go on to the end with another one."""
    kept = Checkpoints(folder, "this")
    for last in (until, epochs):
        road, recipe = new_road(images, values, make=make)
        curve = fit(road, images, recipe, epochs=epochs, seed=1, keeper=kept,
                    after_epoch=lambda result, last=last: result.epoch < last)  # fmt: skip
    return figures(curve), road.network.get_weights()


DEMANDING = {**VALUES, "dropout_conv": 0.2, "shift": 1, "erase": 4, "weight_decay": 1e-3, "clip_norm": 1.0,
             "ema": 0.1}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("until", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_training_taken_up_again_ends_with_the_same_bits(
    images: Images, tmp_path: Path, optimizer: str, until: int
) -> None:
    values = {**DEMANDING, "optimizer": optimizer, "learning_rate": 3e-3}
    curve, network = train(images, values, epochs=4)

    resumed, weights = _resumed(images, values, tmp_path, until=until)

    assert resumed == figures(curve)
    assert all(np.array_equal(a, b) for a, b in zip(weights, network.get_weights(), strict=True))


def test_the_plain_road_is_taken_up_again_exactly_too(images: Images, tmp_path: Path) -> None:
    curve, network = train(images, DEMANDING, epochs=3, make=PlainRoad)

    resumed, weights = _resumed(images, DEMANDING, tmp_path, until=2, epochs=3, make=PlainRoad)

    assert resumed == figures(curve)
    assert all(np.array_equal(a, b) for a, b in zip(weights, network.get_weights(), strict=True))


@pytest.mark.parametrize("make", [make_road, PlainRoad])
def test_averaged_weights_are_those_of_every_step_by_their_share(images: Images, make: Make) -> None:
    values = {**VALUES, "dropout_dense": 0.0, "norm": "batch"}
    bare, recipe = new_road(images, values, make=make)
    averaging, _ = new_road(images, {**values, "ema": 0.25}, make=make)
    plan = plan_epoch(1, 1, len(images.train), recipe.batch_size)
    rates = learning_rates(recipe, len(plan.order))

    wanted = bare.network.get_weights()
    for step in range(len(plan.order)):
        one = slice(step, step + 1)
        bare.epoch(plan.order[one], plan.draws[one], rates[one], lambda: False)
        keep = (1 - 1 / (step + 1)) ** 4
        wanted = [keep * old + (1 - keep) * new for old, new in zip(wanted, bare.network.get_weights(), strict=True)]
    averaging.epoch(plan.order, plan.draws, rates, lambda: False)

    for found, average in zip(averaging.network.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-4, atol=1e-5)
    twins = averaging.slots[-len(wanted) :]
    for twin, last in zip(twins, bare.network.get_weights(), strict=True):  # the next epoch goes on from there
        np.testing.assert_allclose(np.asarray(twin), last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [make_road, PlainRoad])
def test_a_network_that_is_given_weights_steps_from_those_and_averages_from_there(images: Images, make: Make) -> None:
    values = {**VALUES, "dropout_dense": 0.0, "norm": "batch", "ema": 0.25}
    road, recipe = new_road(images, values, make=make)
    bare, _ = new_road(images, {**values, "ema": 0.0}, make=make)
    plan = plan_epoch(1, 1, len(images.train), recipe.batch_size)
    first = (plan.order[:1], plan.draws[:1], learning_rates(recipe, len(plan.order))[:1], lambda: False)

    for one in (bare, road):
        one.network.set_weights(new_road(images, values, seed=2)[0].network.get_weights())
    road.begin_averages()
    bare.epoch(*first)
    road.epoch(*first)

    for found, wanted in zip(road.network.get_weights(), bare.network.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)  # one step's average is that step


def test_a_damaged_checkpoint_is_left_out_for_the_one_before(images: Images, tmp_path: Path) -> None:
    curve, network = train(images, VALUES, epochs=4)
    _resumed(images, VALUES, tmp_path / "whole", until=3)
    whole = (tmp_path / "whole" / "epoch-0004.ckpt").read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]

    saved: list[int] = []

    class Watched(Checkpoints):
        def save(self, network: keras.Model, slots: list[object], curve: list[EpochResult]) -> None:
            saved.append(len(curve))
            super().save(network, slots, curve)

    for name, damaged in {"empty": b"", "garbage": b"garbage", "half": whole[:middle], "flipped": flipped}.items():
        folder = shutil.copytree(tmp_path / "whole", tmp_path / name)
        (folder / "epoch-0004.ckpt").write_bytes(damaged)
        with pytest.raises(Damaged):
            read_checkpoint(folder / "epoch-0004.ckpt")
        again, recipe = new_road(images, VALUES)
        keeper = Watched(folder, "this")
        resumed = fit(again, images, recipe, epochs=4, seed=1, keeper=keeper, after_epoch=lambda _: True)

        assert saved.pop() == 4, name
        assert not saved, name
        assert figures(resumed) == figures(curve)
        weights = zip(again.network.get_weights(), network.get_weights(), strict=True)
        assert all(np.array_equal(a, b) for a, b in weights)


def test_checkpoints_of_another_training_are_not_taken_up_and_do_not_stand_in_the_way(
    images: Images, tmp_path: Path
) -> None:
    _resumed(images, VALUES, tmp_path, until=3)

    road, _ = new_road(images, VALUES)
    network, slots = road.network, road.slots

    other = Checkpoints(tmp_path, "other")
    assert other.load(network, slots) == []
    result = EpochResult(1, 1.0, 0.5, 1.0, 0.5, 0.1, 1.0)
    other.save(network, slots, [result])
    assert other.load(network, slots) == [result]


def test_two_epochs_are_kept_and_no_drafts(images: Images, tmp_path: Path) -> None:
    _resumed(images, VALUES, tmp_path, until=3)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0003.ckpt", "epoch-0004.ckpt"]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_are_not_square_and_have_colours_are_augmented_alike(channels: int) -> None:
    """Each channel is moved as the others are, about the middle of the image, and a hole is a hole in all of them."""
    grey = np.random.default_rng(0).integers(0, 256, (4, 6, 11, 1)).astype("float32")
    x = np.concatenate([grey, grey / 2, 255 - grey][:channels], axis=3)
    strong = Recipe(flip=True, shift=2, rotation=30.0, zoom=0.3, erase=3)
    draws = np.random.default_rng(1).random((4, DRAWS), dtype="float32")

    moved = np.asarray(augment(x, draws, strong))
    flipped = np.asarray(augment(x, np.repeat(_draws(flip=0.1), 4, axis=0), Recipe(flip=True, shift=1)))
    turned = np.asarray(augment(x, np.repeat(_draws(rotation=1.0), 4, axis=0), Recipe(rotation=180.0)))

    assert moved.shape == x.shape
    np.testing.assert_allclose(moved[..., :1], np.asarray(augment(grey, draws, strong)), atol=1e-3)
    np.testing.assert_allclose(flipped, np.flip(x, axis=2), atol=1e-3)
    np.testing.assert_allclose(turned, np.flip(x, axis=(1, 2)), atol=0.05)
    if channels == 3:
        np.testing.assert_allclose(moved[..., 1], moved[..., 0] / 2, atol=1e-3)
    holes = (np.asarray(augment(np.ones_like(x), draws, Recipe(erase=3))) == 0).all(axis=3).sum(axis=(1, 2))
    assert ((holes >= 4) & (holes <= 9)).all()
