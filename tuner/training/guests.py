"""A hypermodel's network and its training: epoch by epoch like our own, or by the ``fit`` that it brings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tuner.data.splits import Images
from tuner.records import EpochResult, Values
from tuner.space.hypermodel import Ask, AskingHyperParameters, Loaded
from tuner.training.configuration import Recipe
from tuner.training.contract import read_contract, whole_of
from tuner.training.fit import Keeper, fit, loss_and_accuracy
from tuner.training.own_fit import SAMPLE, OwnFit
from tuner.training.pipeline import Cancelled, in_parts

LEAST = 1e-7
"""Keras's own bound of a probability whose logarithm is taken."""


class Guest:
    """One network that a hypermodel has built."""

    def __init__(  # noqa: PLR0913  # what a network depends on
        self,
        loaded: Loaded,
        values: Values,
        ask: Ask,
        *,
        seed: int,
        input_shape: tuple[int, int, int],
        classes: int,
    ) -> None:
        """Build it, and look at it. Values that are not in ``values`` are asked for. Raises SpaceError."""
        self._loaded, self._seed, self._input_shape = loaded, seed, input_shape
        self._hp = AskingHyperParameters(values, ask)
        keras.utils.disable_interactive_logging()  # progress bars are nothing for a log
        self.model = self._built()
        self.contract = read_contract(self.model, loaded.file, input_shape, classes, own_fit=self.own_fit)

    def _built(self) -> Any:  # noqa: ANN401  # Keras is untyped
        keras.utils.set_random_seed(self._seed)
        return self._loaded.build(self._hp)

    @property
    def values(self) -> Values:
        """Return the values that it has asked for so far, by their names."""
        return dict(self._hp.values)

    @property
    def own_fit(self) -> bool:
        """Tell whether it trains in a way of its own."""
        return self._loaded.own_fit

    def train(  # noqa: PLR0913  # as training.fit.fit
        self,
        images: Images,
        *,
        epochs: int,
        seed: int,
        after_epoch: Callable[[EpochResult], bool],
        stopped: Callable[[], bool],
        keeper: Keeper | None,
    ) -> None:
        """Train it, as ``training.fit.fit`` does. One with a ``fit`` of its own begins anew, whatever is kept of it."""
        if not self.own_fit:
            recipe = Recipe(batch_size=self._loaded.file.batch_size)
            road = GuestRoad(self, images)
            fit(road, images, recipe, epochs=epochs, seed=seed, after_epoch=after_epoch, stopped=stopped, keeper=keeper)
            return
        for own_epochs in (False, True):
            keras.utils.set_random_seed(seed)
            work = OwnFit(GuestRoad(self, images), images, self.contract, epochs, after_epoch, stopped, keeper)
            if work.run(
                lambda *sets, **more: self._loaded.fit(self._hp, self.model, *sets, **more), own_epochs=own_epochs
            ):
                return
            self.model = self._built()  # whatever was done before the epochs clashed

    def whole(self) -> keras.Model:
        """Return the model that leaves; the network is not trained on after that."""
        return whole_of(self.model, self.contract, self._input_shape)


class GuestRoad:
    """Steps through what the hypermodel compiled: its loss, its optimizer, its metrics, its ``train_step``."""

    def __init__(self, guest: Guest, images: Images) -> None:
        """Build the optimizer, so that its slots can be read and set."""
        self.network, self.optimizer = guest.model, getattr(guest.model, "optimizer", None)
        if self.optimizer is not None:  # a fit of the user's own may bring one
            self.optimizer.build(self.network.trainable_variables)
        self._contract, self._images = guest.contract, images
        self._labels = guest.contract.labels(images.train_labels, images.classes)

    @property
    def slots(self) -> Sequence[Any]:
        """Return the optimizer's, as far as it has one now: a fit of the user's own may bring another."""
        optimizer = getattr(self.network, "optimizer", None)
        return () if optimizer is None else optimizer.variables

    def epoch(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401, ARG002
        """Train on ``order`` (steps, batch); return the mean loss and accuracy. Raises Cancelled."""
        loss = correct = 0.0
        for indices in order:
            if stopped():  # a step of a large network takes seconds
                raise Cancelled
            x = self._contract.pixels(self._images.train[indices])
            logs = self.network.train_on_batch(x, self._labels[indices], return_dict=True)
            loss, correct = loss + float(logs["loss"]), correct + float(logs.get(self._contract.metric, 0))
        if not self._contract.metric:
            logits = self.logits(self._images.train[:SAMPLE], stopped)
            return loss / len(order), loss_and_accuracy(logits, self._images.train_labels[:SAMPLE])[1]
        return loss / len(order), correct / len(order)

    def logits(
        self, images: npt.NDArray[np.uint8], stopped: Callable[[], bool] = lambda: False
    ) -> npt.NDArray[np.float32]:
        """Return float32 (n, classes) in inference mode: logits, or logarithms of probabilities. Raises Cancelled."""

        def forward(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            said = np.asarray(self.network.predict_on_batch(self._contract.pixels(part)), np.float32)
            return said if self._contract.logits else np.log(np.maximum(said, LEAST))

        return in_parts(images, forward, stopped)
