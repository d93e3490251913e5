"""How images reach the network: one epoch of steps, and logits for evaluation.

Two roads with one contract. Under TensorFlow the data set lies in memory as uint8, and a compiled loop gathers,
augments and steps without returning to Python: `fit(x, y)` waits for tf.data's autotune thread at the end of every
epoch, which can double it (keras 3.15, TensorFlow 2.21; measured, results/LOG.md). Other backends step by
``train_on_batch``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tuner.data.splits import Images
from tuner.records import seed_for
from tuner.training.augment import augment, draw
from tuner.training.configuration import Recipe

IMAGES_BETWEEN_QUESTIONS = 2048
"""Images after which the caller is asked whether to go on: a clock or Ctrl-C is heard within seconds."""
EVALUATION_BATCH = 500


class Cancelled(Exception):  # noqa: N818  # an answer, not an error
    """The caller wants no more of this training."""


class Road(Protocol):
    """One way to step through an epoch."""

    optimizer: Any
    """Built: its slots can be read and set."""

    def epoch(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401
        """Train on ``order`` (steps, batch); return the mean loss and accuracy. Raises Cancelled."""

    def logits(
        self, images: npt.NDArray[np.uint8], stopped: Callable[[], bool] = lambda: False
    ) -> npt.NDArray[np.float32]:
        """Return float32 (n, classes) in inference mode. Raises Cancelled."""


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Return the recipe's optimizer; biases and norms do not decay."""
    options: dict[str, Any] = {
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay or None,
        "global_clipnorm": recipe.clip_norm or None,
    }
    match recipe.optimizer:
        case "sgd":
            optimizer = keras.optimizers.SGD(momentum=recipe.momentum, nesterov=recipe.momentum > 0, **options)
        case "adam":
            optimizer = keras.optimizers.Adam(**options)
        case "adamw":
            optimizer = keras.optimizers.AdamW(**{**options, "weight_decay": recipe.weight_decay})
        case "rmsprop":
            optimizer = keras.optimizers.RMSprop(**options)
        case _:
            raise AssertionError(recipe.optimizer)
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def make_road(network: keras.Model, images: Images, recipe: Recipe) -> Road:
    """Return the fastest road of the backend in use."""
    return (TensorFlowRoad if keras.backend.backend() == "tensorflow" else PlainRoad)(network, images, recipe)


class TensorFlowRoad:
    """Steps inside one compiled loop."""

    def __init__(self, network: keras.Model, images: Images, recipe: Recipe) -> None:
        """Put the images into memory and compile nothing yet."""
        import tensorflow as tf  # the TensorFlow-only road

        optimizer = make_optimizer(recipe)
        optimizer.build(network.trainable_variables)
        # One replica has nothing to reduce, and `all_reduce` registers each graph's gradient with TensorFlow for ever:
        # four megabytes a training that no `clear_session` gives back (keras 3.15, TensorFlow 2.21; results/LOG.md).
        optimizer._all_reduce_sum_gradients = list  # noqa: SLF001
        loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
        pixels = tf.constant(images.train)
        labels = tf.constant(images.train_labels.astype(np.int32))
        self.network = network
        self.optimizer = optimizer

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def steps(order: Any, draws: Any, rates: Any) -> Any:  # noqa: ANN401
            losses, correct = tf.constant(0.0), tf.constant(0.0)
            for i in tf.range(tf.shape(order)[0]):
                batch = tf.ensure_shape(tf.gather(pixels, order[i]), [None, *pixels.shape[1:]])
                x = augment(tf.cast(batch, tf.float32), draws[i], recipe)
                y = tf.gather(labels, order[i])
                optimizer.learning_rate.assign(rates[i])
                with tf.GradientTape() as tape:
                    logits = network(x, training=True)
                    loss = loss_of(tf.one_hot(y, images.classes), logits)
                    penalised = tf.add_n([loss, *network.losses]) if network.losses else loss
                weights = network.trainable_weights
                optimizer.apply_gradients(zip(tape.gradient(penalised, weights), weights, strict=True))
                losses += loss
                hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), y)
                correct += tf.reduce_mean(tf.cast(hits, tf.float32))
            return losses, correct

        self._steps = steps
        self._forward = tf.function(lambda x: network(x, training=False), reduce_retracing=True)

    def epoch(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401
        """Train on ``order`` (steps, batch); return the mean loss and accuracy. Raises Cancelled."""
        loss = correct = 0.0
        between = steps_between_questions(order)
        for start in range(0, len(order), between):
            if stopped():
                raise Cancelled
            part = slice(start, start + between)
            more_loss, more_correct = self._steps(order[part], draws[part], rates[part])
            loss, correct = loss + float(more_loss), correct + float(more_correct)
        return loss / len(order), correct / len(order)

    def logits(
        self, images: npt.NDArray[np.uint8], stopped: Callable[[], bool] = lambda: False
    ) -> npt.NDArray[np.float32]:
        """Return float32 (n, classes) in inference mode. Raises Cancelled."""
        return in_parts(images, lambda part: self._forward(part).numpy(), stopped)


class PlainRoad:
    """Steps through Keras alone, on any backend."""

    def __init__(self, network: keras.Model, images: Images, recipe: Recipe) -> None:
        """Compile the network with the recipe's optimizer and loss."""
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
        self.optimizer = make_optimizer(recipe)
        network.compile(optimizer=self.optimizer, loss=loss, metrics=["accuracy"])
        self.optimizer.build(network.trainable_variables)
        self.network, self.images, self.recipe = network, images, recipe

    def epoch(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401
        """Train on ``order`` (steps, batch); return the mean loss and accuracy. Raises Cancelled."""
        loss = correct = 0.0
        for step, indices in enumerate(order):
            if step % steps_between_questions(order) == 0 and stopped():
                raise Cancelled
            x = augment(ops.convert_to_tensor(self.images.train[indices].astype(np.float32)), draws[step], self.recipe)
            y = np.eye(self.images.classes, dtype=np.float32)[self.images.train_labels[indices]]
            self.network.optimizer.learning_rate = float(rates[step])
            logs = self.network.train_on_batch(x, y, return_dict=True)  # of this batch alone
            loss, correct = loss + float(logs["loss"]), correct + float(logs["accuracy"])
        return loss / len(order), correct / len(order)

    def logits(
        self, images: npt.NDArray[np.uint8], stopped: Callable[[], bool] = lambda: False
    ) -> npt.NDArray[np.float32]:
        """Return float32 (n, classes) in inference mode. Raises Cancelled."""
        return in_parts(images, lambda part: np.asarray(self.network.predict_on_batch(part)), stopped)


def in_parts(
    images: npt.NDArray[np.uint8],
    forward: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    stopped: Callable[[], bool],
) -> npt.NDArray[np.float32]:
    """Return ``forward`` of all ``images``, batch by batch. Raises Cancelled when ``stopped`` says so in between."""
    found = []
    for start in range(0, len(images), EVALUATION_BATCH):
        if stopped():
            raise Cancelled
        found.append(forward(images[start : start + EVALUATION_BATCH].astype(np.float32)))
    return np.concatenate(found)


@dataclass(frozen=True)
class EpochPlan:
    """The order and the random numbers of one epoch; the last, incomplete batch of a shuffled epoch is left out."""

    order: npt.NDArray[np.int32]
    draws: npt.NDArray[np.float32]


def plan_epoch(seed: int, epoch: int, count: int, batch_size: int) -> EpochPlan:
    """Return what ``epoch`` trains on: order int32 (steps, batch) and draws (steps, batch, DRAWS)."""
    size, steps = batch_and_steps(count, batch_size)
    order = np.random.default_rng([seed, epoch, 0]).permutation(count)[: size * steps]
    draws = draw(seed, epoch, size * steps)
    return EpochPlan(order.reshape(steps, size).astype(np.int32), draws.reshape(steps, size, -1))


def batch_and_steps(count: int, batch_size: int) -> tuple[int, int]:
    """Return the batch size that ``count`` images allow, and the whole batches in them."""
    size = min(batch_size, count)
    return size, count // size


def steps_between_questions(order: npt.NDArray[np.int32]) -> int:
    """Return the steps of ``order`` (steps, batch) after which the caller is asked whether to go on."""
    return max(1, IMAGES_BETWEEN_QUESTIONS // int(order.shape[1]))


def seed_dropout(network: keras.Model, seed: int, epoch: int) -> None:
    """Set every dropout layer's generator from (seed, layer, epoch): Keras's files do not bring it back."""
    for number, layer in enumerate(network.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed_for(seed, number, epoch), 0], dtype=generator.state.dtype))
