"""How the peers train: our own family of networks by our own code, in their one process, on TensorFlow's own threads.

An epoch then costs every system the same, but for the threads: ours has two workers of one thread each, where a peer's
one process shares every operation between two threads, and pays in CPU seconds for what they wait for one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.live.events import SPACE
from tuner.data.sources import find
from tuner.data.splits import Cut, read_images
from tuner.records import EpochResult, Values, seed_for
from tuner.search.request import read_checked
from tuner.search.task import plan_one
from tuner.space.parameters import Space
from tuner.training.configuration import Recipe, read_configuration
from tuner.training.fit import fit
from tuner.training.plain import PlainRoad
from tuner.training.stock import Stock

if TYPE_CHECKING:
    from tuner.training.compiled import CompiledRoad


@dataclass(frozen=True)
class Built:
    """A trial's network, ready to be trained."""

    road: CompiledRoad | PlainRoad
    recipe: Recipe
    trial: int


class Training:
    """The space, the images, and the networks that are kept between trials."""

    def __init__(self, *, seed: int, epochs: int, train_images: int | None) -> None:
        """Read everything; ``epochs`` are those of a full trial, whose schedule they are."""
        self.space: Space = read_checked(SPACE).space
        self.epochs = epochs
        self._seed = seed
        self._images = read_images(find(None, print), Cut(train_images))
        self._stock = Stock()

    def refused(self, values: Values) -> str:
        """Return why ``values`` are not to be trained: over the limits, or no network; or nothing."""
        return plan_one(self.space, values).refused

    def build(self, values: Values, trial: int) -> Built:
        """Return the network of ``values``, with the initial weights of a trial of this number."""
        height, width, channels = self._images.train.shape[1:]
        configuration = read_configuration(values)
        plan = configuration.plan((height, width, channels), self._images.classes)
        seed = seed_for(self._trial_seed(trial), "weights")
        return Built(self._stock.take(plan, self._images, configuration.recipe, seed), configuration.recipe, trial)

    def train(self, built: Built, after_epoch: Callable[[EpochResult], bool], *, first_epoch: int = 1) -> None:
        """Train until ``after_epoch`` says no. Raises TrainingFailed where a loss or a weight is no longer finite.

        A network that has been trained before goes on with ``first_epoch``, at its place in the schedule, with the
        weights that it holds now and a new optimizer.
        """
        if first_epoch > 1:
            built.road.begin_averages()
        fit(
            built.road,
            self._images,
            built.recipe,
            epochs=self.epochs,
            seed=self._trial_seed(built.trial),
            after_epoch=lambda result: result.epoch < first_epoch or after_epoch(result),
            keeper=_Behind(first_epoch - 1),
        )

    def _trial_seed(self, trial: int) -> int:
        return seed_for(self._seed, "trial", trial)


@dataclass(frozen=True)
class _Behind:
    """Lets a training begin later: a keeper that has kept nothing but the number of epochs."""

    epochs: int

    def load(self, network: Any, optimizer: Any) -> list[EpochResult]:  # noqa: ANN401, ARG002  # Keras is untyped
        return [EpochResult(epoch, 0.0, 0.0, None, None, 0.0, 0.0) for epoch in range(1, self.epochs + 1)]

    def save(self, network: Any, optimizer: Any, curve: Sequence[EpochResult]) -> None:  # noqa: ANN401
        pass
