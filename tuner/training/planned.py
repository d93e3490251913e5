"""Our own networks as a worker trains them: a configuration of the family ``cnn``, laid out and built."""

from __future__ import annotations

from collections.abc import Callable

import keras

from tuner.data.splits import Images
from tuner.models.cnn import whole_model
from tuner.records import EpochResult, Values
from tuner.training.configuration import read_configuration
from tuner.training.fit import Keeper, fit
from tuner.training.stock import Stock


class Planned:
    """A network of ours."""

    def __init__(self, values: Values, images: Images, stock: Stock, seed: int) -> None:
        """Take its road from ``stock``, with initial weights from ``seed``."""
        height, width, channels = images.train.shape[1:]
        configuration = read_configuration(values)
        self._plan, self._recipe = configuration.plan((height, width, channels), images.classes), configuration.recipe
        self._road, self._scale = stock.take(self._plan, images, self._recipe, seed), images.scale

    def train(  # noqa: PLR0913
        self,
        images: Images,
        *,
        epochs: int,
        seed: int,
        after_epoch: Callable[[EpochResult], bool],
        stopped: Callable[[], bool],
        keeper: Keeper | None,
    ) -> None:
        """Train it."""
        fit(
            self._road,
            images,
            self._recipe,
            epochs=epochs,
            seed=seed,
            after_epoch=after_epoch,
            stopped=stopped,
            keeper=keeper,
        )

    def whole(self) -> keras.Model:
        """Return the model that leaves."""
        return whole_model(self._plan, self._road.network, scale=self._scale)
