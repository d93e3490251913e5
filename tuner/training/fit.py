"""Train one network, epoch by epoch, and say after each one what it showed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from tuner.data.splits import Images
from tuner.records import EpochResult
from tuner.training.configuration import Recipe
from tuner.training.metrics import accuracy as accuracy_of
from tuner.training.metrics import balanced_accuracy
from tuner.training.pipeline import Road, batch_and_steps, plan_epoch, seed_dropout
from tuner.training.schedule import learning_rates


class Keeper(Protocol):
    """Who keeps a training's state after every epoch."""

    def load(self, network: Any, slots: Sequence[Any]) -> list[EpochResult]:  # noqa: ANN401  # Keras is untyped
        """Put the last state kept into both and return its curve; [] when there is none."""

    def save(self, network: Any, slots: Sequence[Any], curve: Sequence[EpochResult]) -> None:  # noqa: ANN401
        """Keep the state after ``curve``'s last epoch."""


class TrainingFailed(Exception):  # noqa: N818  # reads better where it is caught
    """The training cannot go on; the text is the reason that the study keeps."""


def fit(  # noqa: PLR0913  # one verb with its whole sentence
    road: Road,
    images: Images,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    after_epoch: Callable[[EpochResult], bool],
    stopped: Callable[[], bool] = lambda: False,
    keeper: Keeper | None = None,
) -> list[EpochResult]:
    """Train ``road``'s network for ``epochs`` and return the curve.

    ``after_epoch`` hears each epoch's result and answers whether to go on; ``stopped`` is asked every few steps and
    ends the training with Cancelled. Order, augmentation and dropout of an epoch derive from (``seed``, epoch), so
    that a training which ``keeper`` has part of goes on from there and ends with the same bits; the epochs that it
    has are heard again. Raises TrainingFailed when the loss or a weight is no longer finite.
    """
    network = road.network
    steps = batch_and_steps(len(images.train), recipe.batch_size)[1]
    rates = learning_rates(recipe, steps * epochs)
    curve = keeper.load(network, road.slots) if keeper else []
    for result in curve:
        if not after_epoch(result):
            return curve
    for epoch in range(len(curve) + 1, epochs + 1):
        start = time.monotonic()
        seed_dropout(network, seed, epoch)
        plan = plan_epoch(seed, epoch, len(images.train), recipe.batch_size)
        loss, accuracy = road.epoch(plan.order, plan.draws, rates[steps * (epoch - 1) : steps * epoch], stopped)
        val_loss, val_accuracy, val_balanced = validate(road, images, stopped)
        check_finite(network, loss, val_loss, epoch)
        rate, seconds = rate_of(road.optimizer), time.monotonic() - start
        curve.append(EpochResult(epoch, loss, accuracy, val_loss, val_accuracy, rate, seconds, val_balanced))
        if keeper:
            keeper.save(network, road.slots, curve)
        if not after_epoch(curve[-1]):
            break
    return curve


def validate(
    road: Road, images: Images, stopped: Callable[[], bool]
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the loss, accuracy and balanced accuracy on the validation images; None each where all images train."""
    if not len(images.val):
        return None, None, None
    logits = road.logits(images.val, stopped)
    return *loss_and_accuracy(logits, images.val_labels), balanced_accuracy(logits.argmax(axis=1), images.val_labels)


def check_finite(network: Any, loss: float, val_loss: float | None, epoch: int) -> None:  # noqa: ANN401
    """Raise TrainingFailed when a loss or a weight is no longer finite after ``epoch``."""
    for name, value in (("loss", loss), ("validation loss", val_loss)):
        if value is not None and not math.isfinite(value):
            raise TrainingFailed(f"the {name} is {value} at epoch {epoch}")
    # A rectifier can turn NaN into 0: the loss then stays finite over a dead network.
    if not all(np.isfinite(weight).all() for weight in network.get_weights()):
        raise TrainingFailed(f"the weights are no longer finite at epoch {epoch}")


def rate_of(optimizer: Any) -> float:  # noqa: ANN401
    """Return the learning rate that an optimizer has now, whatever schedules it; 0 without an optimizer."""
    return 0.0 if optimizer is None else float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def loss_and_accuracy(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean cross-entropy (nats) and the accuracy of ``logits`` (n, classes) for ``labels`` (n,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_probabilities[np.arange(len(labels)), labels].mean()
    return float(loss), accuracy_of(logits.argmax(axis=1), labels)
