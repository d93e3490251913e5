"""The road under TensorFlow: a whole part of an epoch in one compiled call.

The data set lies in memory as uint8; gathering, augmenting and stepping never return to Python. ``model.fit`` waits for
tf.data's autotune thread at the end of every epoch, which can double it (keras 3.15, TensorFlow 2.21; measured,
results/LOG.md). What differs between two configurations of one shape (rates, strengths) is fed as tensors, so that the
compiled loop serves both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tuner.data.splits import Images
from tuner.models.layers import TrainingDropout
from tuner.training.augment import STRENGTHS, augment
from tuner.training.average import Averages
from tuner.training.configuration import Recipe
from tuner.training.optimizers import make_optimizer
from tuner.training.pipeline import Cancelled, in_parts, steps_between_questions


@dataclass(frozen=True)
class InMemory:
    """The training images and labels as tensors, which many roads share."""

    pixels: Any
    labels: Any

    @classmethod
    def of(cls, images: Images) -> InMemory:
        """Copy the training images, as uint8."""
        return cls(tf.constant(images.train), tf.constant(images.train_labels.astype(np.int32)))


class CompiledRoad:
    """Steps inside one compiled loop."""

    def __init__(self, network: keras.Model, images: Images, recipe: Recipe, data: InMemory | None = None) -> None:
        """Build the optimizer and compile nothing yet; ``data`` are the training images of ``images``."""
        data = data or InMemory.of(images)
        self.network, self.optimizer = network, make_optimizer(recipe)
        self._decay = tf.Variable(recipe.weight_decay, trainable=False, dtype=tf.float32)
        if recipe.weight_decay:
            self.optimizer.weight_decay = self._decay
        self.optimizer.build(network.trainable_variables)
        # One replica has nothing to reduce, and `all_reduce` registers each graph's gradient with TensorFlow for ever:
        # four megabytes a training that no `clear_session` gives back (keras 3.15, TensorFlow 2.21; results/LOG.md).
        self.optimizer._all_reduce_sum_gradients = list  # noqa: SLF001
        self._averages = averages = Averages(network) if recipe.ema else None
        self._strengths: dict[str, float] = {}
        self._take(recipe)
        pixel_shape = [None, *images.train.shape[1:]]
        signature = [
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None, None], tf.float32),
            tf.TensorSpec([None], tf.float32),
            {name: tf.TensorSpec([], tf.float32) for name in self._strengths},
        ]
        loss_of = keras.losses.CategoricalCrossentropy(from_logits=True)
        optimizer = self.optimizer

        @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
        def steps(order: Any, draws: Any, rates: Any, strengths: Any) -> Any:  # noqa: ANN401
            losses, correct = tf.constant(0.0), tf.constant(0.0)
            smoothing = strengths["label_smoothing"]
            for i in tf.range(tf.shape(order)[0]):
                batch = tf.ensure_shape(tf.gather(data.pixels, order[i]), pixel_shape)
                x = augment(tf.cast(batch, tf.float32), draws[i], recipe, strengths)
                y = tf.gather(data.labels, order[i])
                wanted = tf.one_hot(y, images.classes) * (1.0 - smoothing) + smoothing / images.classes
                optimizer.learning_rate.assign(rates[i])
                with tf.GradientTape() as tape:
                    logits = network(x, training=True)
                    loss = loss_of(wanted, logits)
                    penalised = tf.add_n([loss, *network.losses]) if network.losses else loss
                weights = network.trainable_weights
                optimizer.apply_gradients(zip(tape.gradient(penalised, weights), weights, strict=True))
                if averages:
                    averages.add(optimizer.iterations.value, strengths["ema"])
                losses += loss
                hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), y)
                correct += tf.reduce_mean(tf.cast(hits, tf.float32))
            return losses, correct

        self._steps = steps
        self._forward = tf.function(
            lambda x: network(x, training=False), input_signature=[tf.TensorSpec(pixel_shape, tf.float32)]
        )

    def begin(self, initial: keras.Model, recipe: Recipe) -> None:
        """Take another configuration of the same shape, from the weights of ``initial``, as if newly made."""
        self.network.set_weights(initial.get_weights())
        for mine, new in zip(_dropouts(self.network), _dropouts(initial), strict=True):
            mine.rate_now.assign(new.rate)
        for slot in self.optimizer.variables:
            slot.assign(keras.ops.zeros_like(slot))
        self.begin_averages()
        self._take(recipe)

    def begin_averages(self) -> None:
        """Forget the averages: the network has been given other weights, from which the next step starts."""
        if self._averages:
            self._averages.begin()

    def _take(self, recipe: Recipe) -> None:
        self._decay.assign(recipe.weight_decay)
        self._strengths = {name: float(getattr(recipe, name)) for name in ("label_smoothing", "ema", *STRENGTHS)}

    def epoch(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401
        """Train on ``order`` (steps, batch); return the mean loss and accuracy. Raises Cancelled."""
        with self._averages.stepping() if self._averages else contextlib.nullcontext():
            return self._step_through(order, draws, rates, stopped)

    def _step_through(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401
        loss = correct = 0.0
        between = steps_between_questions(order)
        for start in range(0, len(order), between):
            if stopped():
                raise Cancelled
            part = slice(start, start + between)
            more_loss, more_correct = self._steps(order[part], draws[part], rates[part], self._strengths)
            loss, correct = loss + float(more_loss), correct + float(more_correct)
        return loss / len(order), correct / len(order)

    @property
    def slots(self) -> Sequence[Any]:
        """Return the optimizer's, and what the next step starts from where the network holds averages."""
        return [*self.optimizer.variables, *(self._averages.twins if self._averages else ())]

    def logits(
        self, images: npt.NDArray[np.uint8], stopped: Callable[[], bool] = lambda: False
    ) -> npt.NDArray[np.float32]:
        """Return float32 (n, classes) in inference mode. Raises Cancelled."""
        return in_parts(images, lambda part: self._forward(part).numpy(), stopped)


def _dropouts(network: keras.Model) -> list[TrainingDropout]:
    return [layer for layer in network.layers if isinstance(layer, TrainingDropout)]
