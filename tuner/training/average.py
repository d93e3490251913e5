"""A network's weights averaged over its last steps, so that a training at its high rates ranks as at its end.

Averages of the weights stand for what annealing the rate would bring (Polyak & Juditsky 1992; Morales-Brotons et al.
2024), so that a rung sees what a trial is going to be. The window grows with the steps so far: step ``t`` keeps
``(1 - 1/t) ** (1/ema)`` of the average (the power function of Karras et al. 2024), whatever the batch or the number of
epochs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops


class Averages:
    """The weights' twins: their averages while the network steps, and between epochs what the next step starts from.

    All floating weights are averaged, a batch norm's statistics too: those of the last steps would belong to other
    kernels.
    """

    def __init__(self, network: keras.Model) -> None:
        """Take the network as it is now."""
        self._weights = [weight for weight in network.weights if "float" in weight.dtype]
        self.twins = [keras.Variable(weight.numpy(), trainable=False, dtype=weight.dtype) for weight in self._weights]

    def begin(self) -> None:
        """Forget everything: the network has new weights."""
        for twin, weight in zip(self.twins, self._weights, strict=True):
            twin.assign(weight.value)

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        """Let the network hold the weights that steps move; afterwards it holds their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def add(self, step: Any, ema: Any) -> None:  # noqa: ANN401  # a number, or a tensor in a graph
        """Take the weights after ``step``, counted from 1, into the averages."""
        keep = (1.0 - 1.0 / ops.cast(step, "float32")) ** (1.0 / ema)
        for twin, weight in zip(self.twins, self._weights, strict=True):
            twin.assign(twin.value * keep + weight.value * (1.0 - keep))

    def _swap(self) -> None:
        for twin, weight in zip(self.twins, self._weights, strict=True):
            held = ops.copy(weight.value)
            weight.assign(twin.value)
            twin.assign(held)
