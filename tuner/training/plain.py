"""The road through Keras alone, on any backend: batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tuner.data.splits import Images
from tuner.training.augment import augment
from tuner.training.configuration import Recipe
from tuner.training.optimizers import make_optimizer
from tuner.training.pipeline import Cancelled, in_parts, steps_between_questions


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
