"""KerasTuner's hypermodels trained: epoch by epoch by us, or by a fit of their own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tuner.data.sources import Source
from tuner.data.splits import Cut, Images, read_images
from tuner.errors import SpaceError
from tuner.records import EpochResult
from tuner.search.worker import prepare_backend
from tuner.training.checkpoint import Checkpoints
from tuner.training.fit import TrainingFailed
from tuner.training.guests import Guest
from tuner.training.metrics import balanced_accuracy
from tuner.training.pipeline import Cancelled

from .guests import HEAD, Write, built, write

__all__ = ["write"]  # a fixture

prepare_backend()


EVERYTHING_RANDOM = """
def build(hp):
    model = keras.Sequential([
        keras.Input((28, 28, 1)), layers.RandomTranslation(0.1, 0.1), keras.Sequential([layers.Conv2D(4, 3), layers.Dropout(0.2)]),
        layers.BatchNormalization(momentum=0.9), layers.ReLU(), layers.Flatten(), layers.Dropout(0.3), layers.Dense(10, "softmax"),
    ])
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, 60)
    model.compile(keras.optimizers.AdamW(schedule), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
"""


@pytest.fixture(scope="module")
def images(small: Source) -> Images:
    return read_images(small, Cut(600))


def train(
    guest: Guest, images: Images, folder: Path | None = None, *, epochs: int = 3, after: int = 99, seed: int = 7
) -> list[EpochResult]:
    curve: list[EpochResult] = []

    def after_epoch(result: EpochResult) -> bool:
        curve.append(result)
        return result.epoch < after

    keeper = Checkpoints(folder, "key") if folder else None
    guest.train(images, epochs=epochs, seed=seed, after_epoch=after_epoch, stopped=lambda: False, keeper=keeper)
    return curve


RANDOM_ITSELF = """
class Noisy(keras.Model):
    def __init__(self):
        super().__init__()
        self.noise = keras.random.SeedGenerator(1)
        self.inner = keras.Sequential([layers.Flatten(), layers.Dense(10, "softmax")])

    def call(self, x, training=False):
        return self.inner(x + 0.1 * keras.random.normal((28, 28, 1), seed=self.noise) if training else x)

def build(hp):
    model = Noisy()
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 60)), "sparse_categorical_crossentropy")
    return model
"""


@pytest.mark.parametrize("text", [EVERYTHING_RANDOM, RANDOM_ITSELF], ids=["layers", "a model"])
def test_a_training_that_was_interrupted_ends_with_the_same_bits(
    write: Write, images: Images, tmp_path: Path, text: str
) -> None:
    file = write(HEAD + text)
    whole = built(file, seed=3)
    undisturbed = train(whole, images)

    train(built(file, seed=3), images, tmp_path / "kept", after=2)
    later = built(file, seed=11)
    resumed = train(later, images, tmp_path / "kept")

    for one, other in zip(whole.model.get_weights(), later.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [(r.loss, r.val_accuracy, r.learning_rate) for r in resumed] == [
        (r.loss, r.val_accuracy, r.learning_rate) for r in undisturbed
    ]
    assert undisturbed[-1].val_accuracy > 0.5
    assert undisturbed[2].learning_rate < undisturbed[0].learning_rate


OWN_FIT = """
def loop(model, sets, callbacks, epochs):
    for epoch in range(epochs):
        for start in range(0, len(sets[0]), 50):
            model.train_on_batch(*(one[start : start + 50] for one in sets))
        for callback in callbacks:
            callback.on_epoch_end(epoch, dict())

class Mine(keras_tuner.HyperModel):
    def build(self, hp):
        return compiled(net(layers.MaxPooling2D(), layers.Dropout(0.1)))

    def fit(self, hp, model, *args, **kwargs):
        {body}
"""


def own_fit(write: Write, body: str) -> Guest:
    return built(write(HEAD + OWN_FIT.format(body=body)))


PLAIN = "return model.fit(*args, batch_size=hp.Choice('batch_size', [64, 32]), **kwargs)"


def test_a_fit_of_its_own_is_heard_epoch_by_epoch_and_asks_for_values(write: Write, images: Images) -> None:
    guest = own_fit(write, PLAIN)

    curve = train(guest, images)

    assert [result.epoch for result in curve] == [1, 2, 3]
    assert guest.own_fit
    assert guest.values == {"batch_size": 64}
    accuracy = guest.model.evaluate(images.val / np.float32(255), images.val_labels, verbose=0)[1]
    assert curve[-1].val_accuracy == pytest.approx(accuracy, abs=1e-6)
    assert curve[-1].loss < curve[0].loss


def test_a_fit_of_its_own_is_judged_by_the_metric_that_counts_every_class_alike(write: Write, small: Source) -> None:
    images = read_images(small, Cut(600))
    few = np.flatnonzero((images.val_labels > 0) | (np.arange(len(images.val)) % 9 == 0))
    unbalanced = dataclasses.replace(images, val=images.val[few], val_labels=images.val_labels[few])
    guest = own_fit(write, PLAIN)

    last = train(guest, unbalanced)[-1]

    predicted = guest.model.predict(unbalanced.val / np.float32(255), verbose=0).argmax(axis=1)
    assert last.val_balanced_accuracy == pytest.approx(balanced_accuracy(predicted, unbalanced.val_labels), abs=1e-6)
    assert last.judged("val_balanced_accuracy") == last.val_balanced_accuracy != last.val_accuracy


def test_a_fit_of_its_own_that_is_pruned_ends_in_the_middle(write: Write, images: Images) -> None:
    swallowing = f"try:\n            {PLAIN}\n        except Exception:\n            return None"
    guest = own_fit(write, swallowing)

    with pytest.raises(Cancelled):
        train(guest, images, after=2)


@pytest.mark.parametrize(
    ("body", "epochs"),
    [
        ("return model.fit(*args, epochs=hp.Int('epochs', 2, 9), **kwargs)", 2),
        ("kwargs['epochs'] = 50\n        return model.fit(*args, **kwargs)", 3),
        ("early = keras.callbacks.EarlyStopping('loss', min_delta=9.0, patience=0)\n        kwargs['callbacks'].append(early)\n        return model.fit(*args, **kwargs)", 2),
        ("model.fit(*args, **{**kwargs, 'epochs': 1})\n        return model.fit(*args, **{**kwargs, 'epochs': 2})", 3),
        ("kwargs['epochs'] = 2\n        model.fit(*args, **kwargs)\n        return model.fit(*args, **kwargs)", 3),
        ("loop(model, args, kwargs['callbacks'], 9)", 3),
        ("return 0.5", 1),
    ],
    ids=["its own epochs", "more epochs", "early stopping", "two stages", "stages of too many", "a loop", "no callbacks"],
)  # fmt: skip
def test_a_fit_of_its_own_decides_how_long_it_trains_up_to_our_epochs(
    write: Write, images: Images, body: str, epochs: int
) -> None:
    guest = own_fit(write, body)

    curve = train(guest, images)

    assert [result.epoch for result in curve] == list(range(1, epochs + 1))
    assert all(result.val_accuracy is not None and result.loss > 0 for result in curve)
    accuracy = (guest.model.predict(images.val / np.float32(255), verbose=0).argmax(axis=1) == images.val_labels).mean()
    assert curve[-1].val_accuracy == pytest.approx(accuracy, abs=1e-6)  # nothing was trained after the last one


def test_a_fit_gets_what_it_takes(write: Write, images: Images) -> None:
    text = OWN_FIT.format(body="return model.fit(x, y, validation_data=validation_data, callbacks=callbacks, epochs=2)")
    text = text.replace("*args, **kwargs", "x, y, validation_data, callbacks")

    assert len(train(built(write(HEAD + text)), images)) == 2


def test_a_fit_that_trains_another_model_than_its_own_is_found_out(write: Write, images: Images) -> None:
    body = "return compiled(keras.models.clone_model(model)).fit(*args, **kwargs)"

    with pytest.raises(TrainingFailed, match="its fit trains another model than the one it is given"):
        train(own_fit(write, body), images)


# From KerasTuner's guide "Tune hyperparameters in your custom training loop", its comments and prints left out.
GUIDE = """
import tensorflow as tf

class MyHyperModel(keras_tuner.HyperModel):
    def build(self, hp):
        inputs = keras.Input(shape=(28, 28, 1))
        x = keras.layers.Flatten()(inputs)
        x = keras.layers.Dense(units=hp.Choice("units", [32, 64, 128]), activation="relu")(x)
        outputs = keras.layers.Dense(10)(x)
        return keras.Model(inputs=inputs, outputs=outputs)

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        batch_size = hp.Int("batch_size", 32, 128, step=32, default=64)
        train_ds = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
        validation_data = tf.data.Dataset.from_tensor_slices(validation_data).batch(batch_size)
        optimizer = keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3))
        loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        epoch_loss_metric = keras.metrics.Mean()

        @tf.function
        def run_train_step(images, labels):
            with tf.GradientTape() as tape:
                logits = model(images)
                loss = loss_fn(labels, logits)
                if model.losses:
                    loss += tf.math.add_n(model.losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables))

        @tf.function
        def run_val_step(images, labels):
            logits = model(images)
            loss = loss_fn(labels, logits)
            epoch_loss_metric.update_state(loss)

        for callback in callbacks:
            callback.set_model(model)
        best_epoch_loss = float("inf")
        for epoch in range(2):
            for images, labels in train_ds:
                run_train_step(images, labels)
            for images, labels in validation_data:
                run_val_step(images, labels)
            epoch_loss = float(epoch_loss_metric.result().numpy())
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_metric": epoch_loss})
            epoch_loss_metric.reset_state()
            best_epoch_loss = min(best_epoch_loss, epoch_loss)
        return best_epoch_loss
"""


def test_kerastuners_guide_to_a_loop_of_ones_own_is_searched_as_it_is(
    write: Write, images: Images, tmp_path: Path
) -> None:
    guest = built(write(HEAD + GUIDE, name="MyHyperModel"))

    curve = train(guest, images, tmp_path / "kept")

    assert [result.epoch for result in curve] == [1, 2]
    assert curve[1].loss < curve[0].loss
    assert guest.values == {"units": 32, "batch_size": 64, "learning_rate": 1e-3}
    assert guest.contract.logits
    np.testing.assert_allclose(guest.whole().predict(images.val[:5], verbose=0).sum(axis=1), 1, rtol=1e-5)


def test_what_a_fit_of_its_own_raises_is_one_line(write: Write, images: Images) -> None:
    with pytest.raises(SpaceError, match=r"my_model.py: its fit failed: KeyError: 'nothing' \(line \d+\)"):
        train(own_fit(write, "return kwargs['nothing']"), images)


def test_a_loss_that_is_no_number_ends_the_training(write: Write, images: Images) -> None:
    body = "model.optimizer.learning_rate = float('nan')\n        return model.fit(*args, **kwargs)"

    with pytest.raises(TrainingFailed, match="the loss is nan"):
        train(own_fit(write, body), images)
