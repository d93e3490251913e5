"""Networks with their compiled loops, kept between trainings: a second configuration of one shape compiles nothing."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import keras

from tuner.data.splits import Images
from tuner.models.cnn import build_network
from tuner.models.plan import Dropout, Layer, Plan
from tuner.training.configuration import Recipe
from tuner.training.pipeline import Road
from tuner.training.plain import PlainRoad

if TYPE_CHECKING:
    from tuner.training.compiled import CompiledRoad, InMemory

KEPT = 6
"""Compiled loops that are kept; each holds some megabytes of graph beside its weights and optimizer slots."""
ON_OR_OFF = ("weight_decay", "ema", "shift", "rotation", "zoom", "erase")
"""What a compiled loop takes at any strength, but not at none."""
AT_ANY = ("learning_rate", "schedule", "warmup", "batch_size", "label_smoothing")
"""What it takes at any value."""

_Shape: TypeAlias = tuple[Plan, Recipe]


def make_road(network: keras.Model, images: Images, recipe: Recipe) -> Road:
    """Return the fastest road of the backend in use."""
    if keras.backend.backend() != "tensorflow":
        return PlainRoad(network, images, recipe)
    from tuner.training.compiled import CompiledRoad  # the TensorFlow-only road

    return CompiledRoad(network, images, recipe)


class Stock:
    """What one process keeps ready. A training that takes from it ends with the same bits as one that built anew."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._images: Images | None = None
        self._data: InMemory | None = None
        self._roads: OrderedDict[_Shape, CompiledRoad] = OrderedDict()

    def clear(self) -> None:
        """Let everything go."""
        self._images = self._data = None
        self._roads.clear()
        _tidy()

    def take(self, plan: Plan, images: Images, recipe: Recipe, seed: int) -> Road:
        """Return a road, with its network, as if newly made: initial weights from ``seed``, no step taken."""
        initial = build_network(plan, scale=images.scale, l2=recipe.l2, seed=seed)
        if keras.backend.backend() != "tensorflow":
            _tidy()
            return PlainRoad(initial, images, recipe)
        from tuner.training.compiled import CompiledRoad, InMemory  # the TensorFlow-only road

        if images is not self._images:
            self.clear()
            self._images, self._data = images, InMemory.of(images)
        shape = shape_of(plan, recipe)
        road = self._roads.pop(shape, None)
        if road is not None:
            road.begin(initial, recipe)
        else:
            while len(self._roads) >= KEPT:
                self._roads.popitem(last=False)
            _tidy()
            road = CompiledRoad(initial, images, recipe, self._data)
        self._roads[shape] = road  # the latest is the last
        return road


def shape_of(plan: Plan, recipe: Recipe) -> _Shape:
    """Return what two configurations must share for one compiled loop to train both."""
    off = {field.name: field.default for field in dataclasses.fields(Recipe) if field.name in AT_ANY}
    on = {name: 1 if getattr(recipe, name) else 0 for name in ON_OR_OFF}
    layers: tuple[Layer, ...] = tuple(Dropout(0.5) if isinstance(layer, Dropout) else layer for layer in plan.layers)
    return dataclasses.replace(plan, layers=layers), dataclasses.replace(recipe, **off, **on)  # type: ignore[arg-type]


def _tidy() -> None:
    """Give back what Keras keeps of networks that nobody has any more; it collects garbage, too."""
    keras.backend.clear_session()
