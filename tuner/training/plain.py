"""The road through Keras alone, on any backend: batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tuner.data.splits import Images
from tuner.training.augment import augment
from tuner.training.average import Averages
from tuner.training.configuration import Recipe
from tuner.training.optimizers import make_optimizer
from tuner.training.pipeline import Cancelled, in_parts, steps_between_questions


class PlainRoad:
    """Steps through Keras alone, on any backend."""

    def __init__(self, network: keras.Model, images: Images, recipe: Recipe) -> None:
        """Compile the network with the recipe's optimizer and loss."""
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
        # Keras's own "loss" has the penalties in it; the curve is of the images alone, as the compiled road's.
        of_images = keras.metrics.MeanMetricWrapper(loss, name="of_images")
        self.optimizer = make_optimizer(recipe)
        network.compile(optimizer=self.optimizer, loss=loss, metrics=["accuracy", of_images])
        self.optimizer.build(network.trainable_variables)
        self.network, self.images, self.recipe = network, images, recipe
        self._averages = Averages(network) if recipe.ema else None
        self._one_hot = np.eye(images.classes, dtype=np.float32)

    def begin_averages(self) -> None:
        """Forget the averages: the network has been given other weights, from which the next step starts."""
        if self._averages:
            self._averages.begin()

    def epoch(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401
        """Train on ``order`` (steps, batch); return the mean loss and accuracy. Raises Cancelled."""
        with self._averages.stepping() if self._averages else contextlib.nullcontext():
            return self._step_through(order, draws, rates, stopped)

    def _step_through(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401
        loss = correct = 0.0
        for step, indices in enumerate(order):
            if step % steps_between_questions(order) == 0 and stopped():
                raise Cancelled
            x = augment(ops.convert_to_tensor(self.images.train[indices].astype(np.float32)), draws[step], self.recipe)
            y = self._one_hot[self.images.train_labels[indices]]
            self.optimizer.learning_rate = float(rates[step])  # the variable's value: JAX does not compile anew
            logs = self.network.train_on_batch(x, y, return_dict=True)  # of this batch alone
            loss, correct = loss + float(logs["of_images"]), correct + float(logs["accuracy"])
            if self._averages:
                self._averages.add(self.optimizer.iterations.value, self.recipe.ema)
        return loss / len(order), correct / len(order)

    @property
    def slots(self) -> Sequence[Any]:
        """Return the optimizer's, and what the next step starts from where the network holds averages."""
        return [*self.optimizer.variables, *(self._averages.twins if self._averages else ())]

    def logits(
        self, images: npt.NDArray[np.uint8], stopped: Callable[[], bool] = lambda: False
    ) -> npt.NDArray[np.float32]:
        """Return float32 (n, classes) in inference mode. Raises Cancelled."""
        return in_parts(images, lambda part: np.asarray(self.network.predict_on_batch(part)), stopped)
