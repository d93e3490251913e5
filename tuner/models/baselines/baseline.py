"""What a published system is: its layers, its training, its own figure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from tuner.data.splits import Cut
from tuner.models.plan import GLOROT, Conv, Dense, Dropout, Flatten, Layer, Norm, Plan, Pool, Relu, cost_of
from tuner.records import Values

KERAS_MOMENTUM = 0.99
"""Keras's default momentum of a batch norm's moving averages."""
DIVIDED_BY_255 = (0.0, 1.0)
_PLAIN: Values = {
    **{f"{name}_{block}": default for name, default in (("convs", 1), ("kernel", 3)) for block in (1, 2, 3, 4)},
    "head": "flatten", "padding": "same", "residual": False, "l2": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0,
    "clip_norm": 0.0, "ema": 0.0, "flip": False, "shift": 0, "rotation": 0.0, "zoom": 0.0, "erase": 0,
}  # fmt: skip
"""What all five share, in the words of the ``cnn`` family."""


@dataclass(frozen=True)
class Baseline:
    """One published network with the training that belongs to it."""

    name: str
    """``<name>`` is what the README describes, ``<name>-code`` what was run, where the two differ."""
    layers: tuple[Layer, ...]
    """From scaled pixels to the last hidden layer; ten (or as many as there are) classes follow."""
    epochs: int
    batch_size: int
    cut: Cut
    """The images that the authors held back for validation."""
    note: str
    """What the published figure is of, where that differs from the official test set scored once."""
    optimizer: str = "adam"
    test_accuracy: float | None = None
    """A fraction, as published for this very variant; None where there is no figure of it."""
    seeds: int = 3
    """How often it is trained unless one says otherwise."""
    nearest: Values = field(default_factory=dict)
    """What its ``point`` has beside the training and what all five share."""

    @property
    def training(self) -> Values:
        """Return how it is trained, in the recipe's names. The learning rate is Keras's default, 1e-3, in all five."""
        return {
            "optimizer": self.optimizer,
            "learning_rate": 1e-3,
            "schedule": "constant",
            "warmup": 0.0,
            "batch_size": self.batch_size,
        }

    @property
    def point(self) -> Values:
        """Return the point of the ``cnn`` family that is most like it, training included."""
        return {**_PLAIN, **self.training, **self.nearest}

    @property
    def digest(self) -> str:
        """Return what its trainings' bits depend on beside the seed, the epochs and the images."""
        layers = [(type(layer).__name__, asdict(layer)) for layer in self.layers]
        facts = (layers, self.training, self.cut.share, self.cut.last)
        return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()

    def plan(self, input_shape: tuple[int, int, int], classes: int) -> Plan:
        """Lay the network out for images of ``input_shape`` (height, width, channels).

        Raises SpaceError when they are too small for it.
        """
        layers = (*self.layers, Dense(classes, GLOROT))
        return Plan(layers, input_shape, cost_of(layers, input_shape), scale=DIVIDED_BY_255)


def conv(filters: int, padding: str, initializer: str = GLOROT) -> tuple[Layer, ...]:
    """Return a 3x3 convolution with a bias and a rectifier, initialised as Keras does unless told otherwise."""
    return (Conv(filters, 3, padding, bias=True, initializer=initializer), Relu())


def conv_pool(filters: int, padding: str, initializer: str = GLOROT) -> tuple[Layer, ...]:
    """Return the same with a 2x2 maximum pool, which stands before the rectifier here: the same function."""
    return (Conv(filters, 3, padding, bias=True, initializer=initializer), Pool(), Relu())


def dense(units: int) -> tuple[Layer, ...]:
    """Return a hidden layer behind a Flatten."""
    return (Dense(units, GLOROT), Relu())


def norm() -> Layer:
    """Return a batch norm as Keras makes it."""
    return Norm(KERAS_MOMENTUM)


def flat_head(units: int, dropout: float = 0.0) -> tuple[Layer, ...]:
    """Return what all five end with: flatten, one hidden layer, perhaps a dropout."""
    return (Flatten(), *dense(units), *([Dropout(dropout)] if dropout else []))
