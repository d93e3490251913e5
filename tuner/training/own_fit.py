"""A hypermodel's own ``fit``, heard through a Keras callback: every epoch measured, told, and perhaps the last."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tuner.data.splits import Images
from tuner.records import EpochResult
from tuner.space.hypermodel import OwnEpochs
from tuner.training.contract import Contract
from tuner.training.fit import Keeper, TrainingFailed, check_finite, loss_and_accuracy, rate_of, validate
from tuner.training.pipeline import Cancelled, Road

SAMPLE = 2000
"""Training images whose loss and accuracy stand for all where the logs hold none."""
ANOTHER = "its fit trains another model than the one it is given, whose weights are as they were"


class _Enough(BaseException):  # an order, not an error: no ``except Exception`` of a user's fit is to keep it
    """All epochs that are wanted have ended, and the user's ``fit`` goes on."""


class OwnFit:
    """One call of a user's ``fit``."""

    def __init__(  # noqa: PLR0913  # what training.fit.fit is given
        self,
        road: Road,
        images: Images,
        contract: Contract,
        epochs: int,
        after_epoch: Callable[[EpochResult], bool],
        stopped: Callable[[], bool],
        keeper: Keeper | None,
    ) -> None:
        """Call nothing yet."""
        self._road, self._images, self._contract, self._epochs = road, images, contract, epochs
        self._after_epoch, self._stopped, self._keeper = after_epoch, stopped, keeper
        self._curve: list[EpochResult] = []
        self._failure = ""
        self._untrained = road.network.get_weights()
        self._since = time.monotonic()

    def run(self, fit: Callable[..., Any], *, own_epochs: bool) -> bool:
        """Call ``fit`` with what KerasTuner gives it; False when it names its own epochs beside those, and nothing ran.

        Each epoch is measured here, on the validation images, whatever ``fit`` looks at. Raises Cancelled when an
        epoch is answered with no, TrainingFailed, and what the user's code raises as a SpaceError.
        """
        images, contract = self._images, self._contract
        # A refit trains on all images. What asks for a validation loss still gets one: of images that also train.
        held_back = (images.val, images.val_labels) if len(images.val) else self._sample()
        sets = [
            (contract.pixels(pixels), contract.labels(labels, images.classes))
            for pixels, labels in ((images.train, images.train_labels), held_back)
        ]
        given = {} if own_epochs else {"epochs": self._epochs}
        self._since = time.monotonic()
        try:
            fit(*sets[0], validation_data=sets[1], callbacks=[_Watcher(self)], **given)
        except OwnEpochs:
            return False
        except _Enough:
            return True
        except Cancelled:
            if self._failure:
                raise TrainingFailed(self._failure) from None
            raise
        if not self._curve:  # it calls no callbacks: all of it is one epoch
            self.epoch_ended({}, None)
        return True

    def begins(self) -> None:
        """Hear that something begins to train. Raises _Enough when that is more than was wanted."""
        if len(self._curve) >= self._epochs:
            raise _Enough

    def step_ended(self) -> None:
        """Hear of a step. Raises Cancelled, which ends the user's ``fit``."""
        if self._failure or self._stopped():
            raise Cancelled

    def epoch_ended(self, logs: Mapping[str, Any], trained: Any) -> bool:  # noqa: ANN401
        """Measure, keep and tell an epoch of the model ``trained``; True when it was the last that is wanted.

        Raises Cancelled.
        """
        network, epoch = self._road.network, len(self._curve) + 1
        if not self._curve and trained not in (None, network) and self._as_it_was():
            self._fail(ANOTHER)
        self._untrained.clear()
        loss, accuracy = logs.get("loss"), logs.get(self._contract.metric)
        if loss is None or accuracy is None:
            pixels, labels = self._sample()
            loss, accuracy = loss_and_accuracy(self._road.logits(pixels, self._stopped), labels)
        val_loss, val_accuracy, val_balanced = validate(self._road, self._images, self._stopped)
        try:
            check_finite(network, loss, val_loss, epoch)
        except TrainingFailed as error:
            self._fail(str(error))
        rate = rate_of(getattr(network, "optimizer", None))
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        result = EpochResult(epoch, float(loss), float(accuracy), val_loss, val_accuracy, rate, seconds, val_balanced)
        self._curve.append(result)
        if self._keeper:
            self._keeper.save(network, self._road.slots, self._curve)
        if not self._after_epoch(result):
            raise Cancelled
        self._since = time.monotonic()
        return epoch >= self._epochs

    def _fail(self, reason: str) -> None:
        """End the user's ``fit``, which no exception of the usual kind does for certain. Raises Cancelled."""
        self._failure = reason
        raise Cancelled

    def _as_it_was(self) -> bool:
        return all(map(np.array_equal, self._untrained, self._road.network.get_weights()))

    def _sample(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return self._images.train[:SAMPLE], self._images.train_labels[:SAMPLE]


class _Watcher(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """The callback that a user's ``fit`` gets in place of KerasTuner's."""

    def __init__(self, watched: OwnFit) -> None:
        super().__init__()
        self._watched, self._steps = watched, 0

    def __deepcopy__(self, _memo: object) -> _Watcher:
        return self  # a fit that trains several times copies its callbacks

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Look whether another stage is wanted: Keras forgets between two that it was told to stop."""
        self._watched.begins()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Look whether another step is wanted."""
        self._watched.begins()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Look whether anybody still wants this training."""
        self._steps += 1
        self._watched.step_ended()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Tell the epoch, by our own count: a fit may train in stages that each begin at 0."""
        if self._watched.epoch_ended(logs or {}, self.model):
            if not self._steps or self.model is None:  # a loop of the user's own, which nothing else ends
                raise _Enough
            self.model.stop_training = True
        self._steps = 0
