"""How images reach the network: the order and random numbers of an epoch, and the contract of what steps through it.

Two roads with one contract. Under TensorFlow (``compiled``) the data set lies in memory as uint8, and a compiled loop
gathers, augments and steps without returning to Python. Other backends (``plain``) step by ``train_on_batch``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tuner.records import seed_for
from tuner.training.augment import draw

IMAGES_BETWEEN_QUESTIONS = 2048
"""Images after which the caller is asked whether to go on: a clock or Ctrl-C is heard within seconds."""
EVALUATION_BATCH = 500


class Cancelled(BaseException):  # an answer, not an error: no ``except Exception`` on its way is to keep it
    """The caller wants no more of this training."""


class Road(Protocol):
    """One way to step through an epoch."""

    network: Any
    optimizer: Any

    @property
    def slots(self) -> Sequence[Any]:
        """Return what steps depend on beside the network's weights, as variables that can be read and set."""

    def epoch(self, order: Any, draws: Any, rates: Any, stopped: Callable[[], bool]) -> tuple[float, float]:  # noqa: ANN401
        """Train on ``order`` (steps, batch); return the mean loss and accuracy. Raises Cancelled."""

    def logits(
        self, images: npt.NDArray[np.uint8], stopped: Callable[[], bool] = lambda: False
    ) -> npt.NDArray[np.float32]:
        """Return float32 (n, classes) in inference mode. Raises Cancelled."""


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


def seed_dropout(network: Any, seed: int, epoch: int) -> None:  # noqa: ANN401  # Keras is untyped
    """Set every random layer's generators from (seed, layer, epoch): Keras's files do not bring them back."""
    _seed(network, seed, "network", epoch)  # a subclassed one may have generators of its own
    for number, layer in enumerate(network.layers):
        inner = layer._flatten_layers(include_self=False)  # noqa: SLF001  # Keras lists them no other way
        named: list[tuple[int | str, Any]] = [(number, layer)]
        for place, one in [*named, *((f"{number}.{k}", below) for k, below in enumerate(inner))]:
            _seed(one, seed, place, epoch)


def _seed(layer: Any, seed: int, place: int | str, epoch: int) -> None:  # noqa: ANN401
    for which, generator in enumerate(layer._seed_generators):  # noqa: SLF001  # by many names, e.g. ``generator``
        own = seed_for(seed, place, epoch, *([which] if which else []))
        generator.state.assign(np.array([own, 0], dtype=generator.state.dtype))
