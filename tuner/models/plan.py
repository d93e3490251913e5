"""The ``cnn`` family: values to an architecture, an architecture to a list of layers with sizes and costs.

Plain arithmetic without Keras, so that the coordinator can refuse a configuration over the limits before a worker
hears of it. ``models/cnn.py`` turns the same list into Keras layers, and a test compares the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tuner.errors import SpaceError
from tuner.records import Cost, Value, Values
from tuner.space.parameters import Choice, Float, Int, Parameter

MAX_BLOCKS = 4
PER_BLOCK: dict[str, tuple[Parameter, int]] = {
    "filters": (Int(1, 1024), 32),
    "convs": (Int(1, 4), 1),
    "kernel": (Int(1, 7), 3),
}
"""Domain and default of the parameters that each block has its own of: ``filters_1`` … ``filters_4``."""


@dataclass(frozen=True)
class Block:
    """``convs`` convolutions of one size, then a 2x2 maximum pool."""

    filters: int
    convs: int
    kernel: int


@dataclass(frozen=True)
class Architecture:
    """Everything that shapes a ``cnn`` network."""

    blocks: tuple[Block, ...]
    stem_stride: int = 1
    """2: the first convolution strides over the image, in place of the first pool."""
    padding: str = "same"
    norm: str = "batch"
    norm_momentum: float = 0.9
    residual: bool = False
    dropout_conv: float = 0.0
    head: str = "flatten"
    dense_units: int = 128
    dropout_dense: float = 0.0


DOMAINS: dict[str, Parameter] = {
    "blocks": Int(1, MAX_BLOCKS),
    **{f"{name}_{i}": domain for name, (domain, _) in PER_BLOCK.items() for i in range(1, MAX_BLOCKS + 1)},
    "stem_stride": Int(1, 2),
    "padding": Choice(("same", "valid")),
    "norm": Choice(("batch", "none")),
    # Keras's own .99 leaves the moving averages behind for ten epochs of few steps, and a pruner then stops the trial.
    "norm_momentum": Float(0.0, 0.9),
    "residual": Choice((False, True)),
    "dropout_conv": Float(0.0, 0.9),
    "head": Choice(("flatten", "average", "max")),
    "dense_units": Int(0, 4096),
    "dropout_dense": Float(0.0, 0.9),
}
"""What the family reads for the network, and the values it can build."""


HE, GLOROT = "he_normal", "glorot_uniform"
"""Initial weights, in Keras's words: He et al. 2015 before a rectifier, Glorot & Bengio 2010 before the softmax."""


@dataclass(frozen=True)
class Conv:
    """A convolution; without a bias where a norm follows."""

    filters: int
    kernel: int
    padding: str
    bias: bool
    stride: int = 1
    initializer: str = HE


@dataclass(frozen=True)
class Norm:
    """Batch normalisation."""

    momentum: float


@dataclass(frozen=True)
class Relu:
    """A rectifier."""


@dataclass(frozen=True)
class Pool:
    """A 2x2 maximum pool, stride 2, partial windows dropped."""


@dataclass(frozen=True)
class Skip:
    """The start of a residual branch: what it sees is added back by the next :class:`Add`."""


@dataclass(frozen=True)
class Add:
    """The end of a residual branch."""


@dataclass(frozen=True)
class Dropout:
    """Dropout of single activations."""

    rate: float


@dataclass(frozen=True)
class Flatten:
    """All positions and channels in one vector."""


@dataclass(frozen=True)
class GlobalPool:
    """The mean or maximum over all positions."""

    how: str


@dataclass(frozen=True)
class Dense:
    """A fully connected layer."""

    units: int
    initializer: str = HE


Layer: TypeAlias = Conv | Norm | Relu | Pool | Skip | Add | Dropout | Flatten | GlobalPool | Dense


@dataclass(frozen=True)
class Plan:
    """The layers from scaled pixels to logits, and what they cost."""

    layers: tuple[Layer, ...]
    input_shape: tuple[int, int, int]
    cost: Cost
    scale: tuple[float, float] | None = None
    """What is taken from the pixels and what they are divided by, as fractions of 255; None is the training images'
    own mean and standard deviation."""


def read_architecture(values: Values) -> Architecture:
    """Return the architecture in ``values``; what is left out has the family's default."""
    defaults = Architecture(())
    blocks = tuple(
        Block(*(_whole(values.get(f"{name}_{i}", default)) for name, (_, default) in PER_BLOCK.items()))
        for i in range(1, _whole(values.get("blocks", 3)) + 1)
    )
    own = [field.name for field in dataclasses.fields(Architecture) if field.name != "blocks"]
    return dataclasses.replace(defaults, blocks=blocks, **{name: values[name] for name in own if name in values})  # type: ignore[arg-type]


def make_plan(architecture: Architecture, input_shape: tuple[int, int, int], classes: int) -> Plan:
    """Lay out the network for images of ``input_shape`` (height, width, channels) and ``classes`` outputs.

    Pooling stands before norm and rectifier where a block has no residual branch: the same function for a rectifier
    alone, and a quarter of the elementwise work. Raises SpaceError when the image shrinks to nothing.
    """
    layers: list[Layer] = []
    last = len(architecture.blocks)
    for number, block in enumerate(architecture.blocks, 1):
        stride = architecture.stem_stride if number == 1 else 1
        pooled = (number < last or architecture.head == "flatten") and stride == 1
        layers += _block_layers(architecture, block, pooled=pooled, stride=stride)
        if architecture.dropout_conv:
            layers.append(Dropout(architecture.dropout_conv))
    layers.append(Flatten() if architecture.head == "flatten" else GlobalPool(architecture.head))
    if architecture.dense_units:
        layers += [Dense(architecture.dense_units), Relu()]
    if architecture.dropout_dense:
        layers.append(Dropout(architecture.dropout_dense))
    layers.append(Dense(classes, GLOROT))
    return Plan(tuple(layers), input_shape, cost_of(layers, input_shape))


def _block_layers(architecture: Architecture, block: Block, *, pooled: bool, stride: int) -> list[Layer]:
    norm: list[Layer] = [Norm(architecture.norm_momentum)] if architecture.norm == "batch" else []
    # A residual branch needs equal sizes on both ends: at least two convolutions, padded.
    residual = architecture.residual and block.convs > 1 and architecture.padding == "same"
    layers: list[Layer] = []
    for position in range(1, block.convs + 1):
        first = position == 1
        conv = Conv(block.filters, block.kernel, architecture.padding, bias=not norm, stride=stride if first else 1)
        layers.append(conv)
        if pooled and position == block.convs and not residual:
            layers.append(Pool())
        layers += [*norm, Relu()]
        if residual and first:
            layers.append(Skip())
    if residual:
        layers += [Add(), Pool()] if pooled else [Add()]
    return layers


def cost_of(layers: Sequence[Layer], input_shape: tuple[int, int, int]) -> Cost:
    """Return the size of ``layers`` over images of ``input_shape``. Raises SpaceError when those shrink to nothing."""
    height, width, channels = input_shape
    parameters = multiply_adds = 0
    for layer in layers:
        match layer:
            case Conv():
                shrink = 0 if layer.padding == "same" else layer.kernel - 1
                height, width = (-(-(size - shrink) // layer.stride) for size in (height, width))
                weights = layer.kernel**2 * channels * layer.filters
                parameters += weights + (layer.filters if layer.bias else 0)
                multiply_adds += max(height, 0) * max(width, 0) * weights
                channels = layer.filters
            case Norm():
                parameters += 4 * channels
            case Pool():
                height, width = height // 2, width // 2
            case Flatten():
                height, width, channels = 1, 1, height * width * channels
            case GlobalPool():
                height, width = 1, 1
            case Dense():
                parameters += (channels + 1) * layer.units
                multiply_adds += channels * layer.units
                channels = layer.units
            case Relu() | Skip() | Add() | Dropout():
                pass
        if height < 1 or width < 1:
            raise SpaceError("the image shrinks to nothing", hint="fewer blocks, smaller kernels or padding = 'same'")
    return Cost(parameters, multiply_adds)


def _whole(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpaceError(f"{value!r} is not a whole number")
    return value
