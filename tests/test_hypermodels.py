"""KerasTuner's hypermodels as a worker builds and trains them: the real library, the real Keras."""

from __future__ import annotations

import dataclasses
import multiprocessing
import posixpath
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import optuna
import pytest

from tuner.data.sources import Source
from tuner.data.splits import Cut, Images, read_images
from tuner.errors import SpaceError
from tuner.evaluation.apart import apart
from tuner.records import EpochResult, Value, Values
from tuner.search import worker
from tuner.search.asked import Names
from tuner.search.executors import local
from tuner.search.messages import Beat
from tuner.search.rehearsal import by_default
from tuner.search.worker import prepare_backend
from tuner.space.asked import Asked
from tuner.space.hypermodel import AskingHyperParameters, Loaded, asked_of
from tuner.space.hypermodel_file import HypermodelFile, read_hypermodel
from tuner.space.parameters import Float, Int
from tuner.training.checkpoint import Checkpoints
from tuner.training.fit import TrainingFailed
from tuner.training.guests import Guest, GuestRoad
from tuner.training.metrics import balanced_accuracy
from tuner.training.pipeline import Cancelled

from .everything import ask_everything

prepare_backend()

Write = Callable[..., HypermodelFile]
HEAD = """
import keras
import keras_tuner
from keras import layers

def compiled(model, loss="sparse_categorical_crossentropy", metrics=("accuracy",)):
    model.compile("adam", loss=loss, metrics=list(metrics))
    return model

def net(*layers_, outputs=10, activation="softmax", shape=(28, 28, 1)):
    return keras.Sequential([keras.Input(shape), *layers_, layers.Flatten(), layers.Dense(outputs, activation)])
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str, name: str = "", **changes: Any) -> HypermodelFile:
        path = tmp_path / "my_model.py"
        path.write_text(text, "utf-8")
        read = read_hypermodel(f"{path}:{name}" if name else str(path))
        return HypermodelFile(**{**vars(read), **changes})

    return to_file


def built(
    file: HypermodelFile, values: Values | None = None, seed: int = 0, input_shape: tuple[int, int, int] = (28, 28, 1)
) -> Guest:
    keras.backend.clear_session()
    return Guest(Loaded(file), values or {}, by_default, seed=seed, input_shape=input_shape, classes=10)


# What a user's file can get wrong: each in one line that names the file, the line and the way out.

NEEDS = "class Mine(keras_tuner.HyperModel):\n    def __init__(self, classes):\n        super().__init__()\n"
WRONG = {
    "an import fails": ("import nothing_of_that_name", r"imported: ModuleNotFoundError: .*nothing_of_that_name.* \(line 1\)"),
    "it ends Python": ("import sys\nsys.exit(3)", r"it cannot be imported: SystemExit: 3 \(line 2\)"),
    "nothing to build": ("x = 1", r"what is to be searched\? There is neither a function of 'hp' alone nor a HyperModel"),
    "two candidates": (HEAD + "def one(hp): ...\ndef two(hp): ...", r"There is one and two \(name one: my_model.py:one\)"),
    "a class with arguments": (HEAD + NEEDS, r"Mine needs classes \(make one in the file: hypermodel = Mine\(…\)\)"),
    "build raises": ("def build(hp):\n    hp.Int('x', 1, 2)\n    raise ValueError('no such luck')", r"it cannot be built: ValueError: no such luck \(line 3\)"),
    "build returns nothing": ("def build(hp): ...", r"it returned NoneType, not a Keras model \(return model\)"),
    "not compiled": (HEAD + "def build(hp): return net()", r"not compiled with a loss \(model.compile\("),
    "too few outputs": (HEAD + "def build(hp): return compiled(net(outputs=7))", r"outputs of shape \(7,\) an image, and the data has 10 classes"),
    "other images": (HEAD + "def build(hp): return compiled(net(shape=(32, 32, 3)))", r"it takes images of shape \(32, 32, 3\), and the data's are \(28, 28, 1\)"),
    "averaged weights": (HEAD + "def build(hp):\n    model = net()\n    model.compile(keras.optimizers.Adam(use_ema=True), 'sparse_categorical_crossentropy')\n    return model", r"averages weights, and use_ema is not heeded here"),
    "logits of a loss that wants probabilities": (HEAD + "def build(hp): return compiled(net(activation=None))", r"do not add up to 1, and its loss is not from_logits"),
    "a domain upside down": ("def build(hp): hp.Int('x', 9, 1)", r"min_value 9 is greater than the max_value 1\. \(line 1\)"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_file_is_one_line(write: Write, text: str, said: str) -> None:
    with pytest.raises(SpaceError, match=said) as error:
        built(write(text))

    assert "\n" not in str(error.value)
    assert "my_model.py" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def build(hp:\n", r"my_model.py, line 1: not Python: '\(' was never closed"),
        ("tuner = make()\ntuner.search(x, y)", r"line 2: it searches as soon as it is imported \(put what is"),
    ],
    ids=["no Python", "a search at its top"],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "my_model.py").write_text(text)

    with pytest.raises(SpaceError, match=said):
        read_hypermodel(str(tmp_path / "my_model.py"))


def test_a_name_that_is_not_there_is_refused_with_those_that_are(write: Write) -> None:
    file = write("def build_model(hp): ...", "bild_model")

    with pytest.raises(SpaceError, match=r"there is no 'bild_model' in it \(there is: build_model\)"):
        built(file)


def test_an_object_is_meant_before_its_class_and_helpers_of_more_than_hp_are_not(write: Write) -> None:
    text = """
class Mine(keras_tuner.HyperModel):
    def build(self, hp):
        return compiled(net(block(hp, 3)))

def block(hp, size):
    return layers.Conv2D(hp.Int("filters", 2, 4), size)

hypermodel = Mine()
"""
    assert built(write(HEAD + text)).values == {"filters": 2}


# What a network takes and gives.


@pytest.mark.parametrize(
    ("build", "shape", "highest", "one_hot", "logits"),
    [
        ("compiled(net())", (28, 28, 1), 1.0, False, False),
        ("compiled(net(layers.Rescaling(1 / 255)))", (28, 28, 1), 255.0, False, False),
        ("compiled(net(layers.Rescaling(2.0, offset=-1)))", (28, 28, 1), 1.0, False, False),
        ("compiled(net(shape=(28, 28)))", (28, 28), 1.0, False, False),
        ("compiled(net(shape=(784,)))", (784,), 1.0, False, False),
        ("compiled(net(), loss='categorical_crossentropy', metrics=['acc'])", (28, 28, 1), 1.0, True, False),
        ("compiled(net(activation=None), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))", (28, 28, 1), 1.0, False, True),
        ("compiled(net(), loss=keras.losses.CategoricalFocalCrossentropy())", (28, 28, 1), 1.0, True, False),
        ("compiled(keras.Sequential([layers.Flatten(), layers.Dense(10, 'softmax')]))", (28, 28, 1), 1.0, False, False),
        ("compiled(net(), loss=['sparse_categorical_crossentropy'])", (28, 28, 1), 1.0, False, False),
        ("compiled(net(shape=(32, 32, 3)), loss='categorical_crossentropy')", (32, 32, 3), 1.0, True, False),
        ("compiled(net(shape=(3072,)))", (3072,), 1.0, False, False),
    ],
)  # fmt: skip
def test_the_contract_is_read_from_what_was_built(
    write: Write, build: str, shape: tuple[int, ...], highest: float, *, one_hot: bool, logits: bool
) -> None:
    of_images = (32, 32, 3) if shape in ((32, 32, 3), (3072,)) else (28, 28, 1)
    contract = built(write(f"{HEAD}\ndef build(hp): return {build}"), input_shape=of_images).contract

    assert (contract.shape, contract.highest, contract.one_hot, contract.logits) == (shape, highest, one_hot, logits)
    assert contract.metric in ("accuracy", "acc")


@pytest.mark.parametrize(
    ("metrics", "called"),
    [
        ("[keras.metrics.SparseTopKCategoricalAccuracy(5), 'accuracy']", "accuracy"),
        ("[keras.metrics.SparseCategoricalAccuracy(name='balanced_acc'), keras.metrics.SparseCategoricalAccuracy()]", "sparse_categorical_accuracy"),
        ("[keras.metrics.SparseCategoricalAccuracy(name='my_acc')]", "my_acc"),
        ("[]", ""),
    ],
)  # fmt: skip
def test_the_accuracy_of_the_logs_is_the_one_that_is_plainly_called_so(write: Write, metrics: str, called: str) -> None:
    assert built(write(f"{HEAD}\ndef build(hp): return compiled(net(), metrics={metrics})")).contract.metric == called


def test_a_loss_of_ones_own_says_by_a_setting_that_it_takes_logits(write: Write) -> None:
    text = """
def my_loss(y, said):
    return keras.losses.sparse_categorical_crossentropy(y, said, from_logits=True)
def build(hp):
    return compiled(net(activation=None), loss=my_loss)
"""

    assert built(write(HEAD + text, outputs="logits", labels="integer")).contract.logits
    with pytest.raises(SpaceError, match=r"say --set hypermodel\.outputs=logits"):
        built(write(HEAD + text, labels="integer"))


@pytest.mark.parametrize(
    "text",
    [
        "def build(hp: int):\n    assert build.__annotations__['hp'] is int\n    return compiled(net())",
        "import re\nVERSION = re.search('a', 'a')\ndef build(hp): return compiled(net())",
        "del compiled, net\ndef build_model(hyperparameters):\n    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, 'softmax')])\n    model.compile('sgd', 'sparse_categorical_crossentropy')\n    return model",
    ],
    ids=["annotations", "re.search", "another name"],
)
def test_what_is_good_python_is_read_as_such(write: Write, text: str) -> None:
    assert built(write(HEAD + text)).values == {}


def test_a_wide_range_is_not_written_out() -> None:
    hp = keras_tuner.HyperParameters()
    hp.Int("seed", 0, 2**31 - 1)
    hp.Float("share", 0.0, 1e6, step=0.5)

    seed, share = (asked_of(one).parameter for one in hp.space)

    assert seed == Int(0, 2**31 - 1)
    assert share == Float(0.0, 1e6, 0.5)


def test_what_the_contract_gets_wrong_can_be_set(write: Write) -> None:
    text = HEAD + "def build(hp): return compiled(net(layers.Rescaling(1 / 255)))"

    assert built(write(text, pixels="unit")).contract.highest == 1.0
    with pytest.raises(SpaceError, match="its loss does not take one-hot labels"):
        built(write(text, labels="one-hot"))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("layers.Conv2D(8, 3, padding='same', strides=2)", 14 * 14 * 9 * 8 + 14 * 14 * 8 * 10),
        ("keras.Sequential([layers.Conv2D(4, 5)]), layers.BatchNormalization()", 24 * 24 * 25 * 4 + 24 * 24 * 4 * 10),
        ("layers.DepthwiseConv2D(3), layers.SeparableConv2D(6, 3)", 26 * 26 * 9 + 24 * 24 * (9 + 6) + 24 * 24 * 6 * 10),
        ("layers.MaxPooling2D(4), layers.Conv2DTranspose(3, 2, strides=2)", 49 * 4 * 3 + 14 * 14 * 3 * 10),
    ],
)
def test_multiply_adds_are_counted_layer_by_layer(write: Write, layers: str, expected: int) -> None:
    guest = built(write(f"{HEAD}\ndef build(hp): return compiled(net({layers}))"))

    assert guest.contract.cost.multiply_adds == expected
    assert guest.contract.cost.parameters == guest.model.count_params()


@pytest.mark.parametrize("logits", [False, True], ids=["probabilities", "logits"])
def test_the_model_that_leaves_takes_raw_pixels_and_says_what_the_network_says(
    write: Write, small: Source, tmp_path: Path, *, logits: bool
) -> None:
    loss = f"keras.losses.SparseCategoricalCrossentropy(from_logits={logits})"
    text = f"def build(hp): return compiled(net(activation={None if logits else 'softmax'!r}, shape=(28, 28)), loss={loss})"
    guest, images = built(write(HEAD + text)), read_images(small)
    said = GuestRoad(guest, images).logits(images.val)

    guest.whole().save(tmp_path / "model.keras")

    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.input_shape == (None, 28, 28, 1)
    found = model.predict(images.val, verbose=0)
    np.testing.assert_allclose(found, np.exp(said) / np.exp(said).sum(axis=1, keepdims=True), atol=1e-5)


# Training.

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


# KerasTuner's own tuners, and ours: the same values.


def draws_of_kerastuner(folder: Path, count: int) -> tuple[list[Values], Any]:
    def build(hp: Any) -> keras.Model:
        ask_everything(hp)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(loss="mse")
        return model

    own = keras_tuner.RandomSearch(build, objective="val_loss", max_trials=count, seed=0, directory=folder)
    trials = [own.oracle.create_trial(f"t{k}") for k in range(count)]
    for trial in trials:
        trial.hyperparameters.ensure_active_values()
    return [dict(trial.hyperparameters.values) for trial in trials], own.oracle.get_space()


def draws_of_ours(count: int) -> list[Values]:
    names, study, found = Names(), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), []
    for _ in range(count):
        trial = study.ask()

        def answer(asked: Asked, trial: optuna.Trial = trial) -> Value:
            return names.draw(asked, trial)[1]

        hp = AskingHyperParameters({}, answer)
        ask_everything(hp)
        found.append(dict(hp.values))
    return found


def test_optuna_and_kerastuners_own_tuner_draw_from_the_same_domains(tmp_path: Path) -> None:
    ours, (theirs, space) = draws_of_ours(400), draws_of_kerastuner(tmp_path, 400)

    assert {frozenset(values) for values in ours} == {frozenset(values) for values in theirs}
    by_name: dict[str, list[Any]] = {}
    for parameter in space.space:
        by_name.setdefault(parameter.name, []).append(parameter)
    for name, parameters in by_name.items():
        mine, other = ([values[name] for values in all_ if name in values] for all_ in (ours, theirs))
        assert {type(value) for value in mine} == {type(value) for value in other}, name
        if name in ("val_accuracy", "f_log", "f_reverse"):
            (parameter,) = parameters
            for drawn in (mine, other):
                assert all(parameter.min_value <= value <= parameter.max_value for value in drawn)
                assert np.mean([parameter.value_to_prob(value) for value in drawn]) == pytest.approx(0.5, abs=0.06), (
                    name
                )
        else:
            assert {_rounded(value) for value in mine} == {_rounded(value) for value in other}, name


def _rounded(value: Value) -> Value:
    return round(value, 9) if isinstance(value, float) else value


def test_one_name_under_two_conditions_has_the_domain_of_the_one_that_holds() -> None:
    """KerasTuner promises it, and its own tuners raise a KeyError."""
    names, study = Names(), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: dict[str, set[Any]] = {"mlp": set(), "cnn": set()}
    for _ in range(30):
        trial = study.ask()

        def answer(asked: Asked, trial: optuna.Trial = trial) -> Value:
            return names.draw(asked, trial)[1]

        hp = AskingHyperParameters({}, answer)
        kind = hp.Choice("kind", ["mlp", "cnn"])
        first = hp.Choice("width", [1, 2], parent_name="kind", parent_values=["mlp"])
        second = hp.Int("width", 30, 32, parent_name="kind", parent_values=["cnn"])
        assert (first is None) != (second is None)
        seen[kind].add(first or second)

    assert seen == {"mlp": {1, 2}, "cnn": {30, 31, 32}}


def test_every_default_is_kerastuners_own() -> None:
    own, ours = keras_tuner.HyperParameters(), AskingHyperParameters({}, by_default)

    ask_everything(own)
    ask_everything(ours)

    assert ours.values == own.values


def test_values_that_are_known_are_not_asked_for() -> None:
    (values,) = draws_of_ours(1)

    def nobody(asked: Asked) -> Value:
        raise AssertionError(asked.name)

    again = AskingHyperParameters(values, nobody)
    ask_everything(again)

    assert again.values == values


def test_the_process_that_searches_loads_neither_keras_nor_kerastuner(write: Write) -> None:
    file = write("raise AssertionError('it was imported')\ndef build(hp): ...")
    code = f"""
import sys
import tuner.cli.search, tuner.experiment, tuner.export.away, tuner.search.rehearsal
from tuner.search.request import read_checked
read_checked({file.path!r})
print([name for name in ("keras", "tensorflow", "keras_tuner") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[]", done.stderr


def test_a_file_here_that_is_called_like_a_library_hides_it_from_no_process_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tuner", "random", "keras_tuner"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('it was imported')")
    (tmp_path / "beside_it.py").write_text("import random\nHERE = random.random()")
    (tmp_path / "my_model.py").write_text(f"import beside_it\n{HEAD}\ndef build(hp): return compiled(net())")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local, "COMMAND", "import random, tuner.errors")

    with (tmp_path / "log").open("wb") as log:
        started = local._launch(log)
    started.channel.close()

    assert started.process.wait(30) == 0, (tmp_path / "log").read_text()
    assert apart(posixpath.join, "a", "b", what="joining", again="") == "a/b"
    assert built(read_hypermodel("my_model.py")).values == {}


@pytest.mark.parametrize("busy", [True, False], ids=["computes", "hangs"])
def test_a_worker_says_that_a_users_code_computes_and_nothing_when_it_hangs(
    monkeypatch: pytest.MonkeyPatch, *, busy: bool
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)
    ours, theirs = multiprocessing.Pipe()

    with worker.Worker(theirs)._pulse(7):
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            time.sleep(0 if busy else 0.4)

    heard = []
    while ours.poll():
        heard.append(ours.recv())
    assert set(heard) == ({Beat(7)} if busy else set())


def test_kerastuner_is_a_guest_of_one_room() -> None:
    rooms = Path(__file__).parent.parent / "tuner"

    users = {
        str(path.relative_to(rooms))
        for path in rooms.rglob("*.py")
        if re.search(r"^\s*(import|from) keras_tuner", path.read_text(), re.MULTILINE)
    }

    assert users == {"space/hypermodel.py"}
