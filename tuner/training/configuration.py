"""One configuration: sampled values as an architecture and a recipe, and whether a space names only such values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tuner.errors import SpaceError
from tuner.models import plan
from tuner.models.baselines import BASELINES
from tuner.models.baselines.baseline import Baseline
from tuner.models.plan import Architecture, Plan, make_plan, read_architecture
from tuner.records import Values
from tuner.space.parameters import Choice, Float, Int, Parameter, Space, describe, quoted
from tuner.space.problems import nearest


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Augmentation strengths of 0 are off."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    """SGD's Nesterov momentum; the other optimizers keep their own."""
    weight_decay: float = 0.0
    """Decoupled, on kernels only (Loshchilov & Hutter 2019)."""
    l2: float = 0.0
    """L2 penalty on kernels, part of the loss."""
    schedule: str = "cosine"
    warmup: float = 0.1
    """Share of all steps in which the rate climbs to ``learning_rate`` (cosine and one-cycle)."""
    batch_size: int = 128
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    """Largest global norm of the gradient; 0 is no clipping."""
    ema: float = 0.0
    """Average the weights over about this share of the steps so far; 0 takes the last step's (``training.average``)."""
    flip: bool = False
    shift: int = 0
    """Pixels, either way, in each direction."""
    rotation: float = 0.0
    """Degrees, either way."""
    zoom: float = 0.0
    """Fraction of the size, in or out."""
    erase: int = 0
    """Side in pixels of a square hole at a random place (DeVries & Taylor 2017, zero-filled)."""


RECIPE_DOMAINS: dict[str, Parameter] = {
    "optimizer": Choice(("sgd", "adam", "adamw", "rmsprop")),
    "learning_rate": Float(1e-7, 10.0),
    "momentum": Float(0.0, 0.999),
    "weight_decay": Float(0.0, 1.0),
    "l2": Float(0.0, 1.0),
    "schedule": Choice(("constant", "cosine", "onecycle", "step")),
    "warmup": Float(0.0, 0.9),
    "batch_size": Int(1, 8192),
    "label_smoothing": Float(0.0, 0.9),
    "clip_norm": Float(0.0, 1000.0),
    "ema": Float(0.0, 1.0),
    "flip": Choice((False, True)),
    "shift": Int(0, 14),
    "rotation": Float(0.0, 180.0),
    "zoom": Float(0.0, 0.9),
    "erase": Int(0, 28),
}
FAMILIES = {"cnn": {**plan.DOMAINS, **RECIPE_DOMAINS}}
"""What each model family reads, with the values that it can use."""


@dataclass(frozen=True)
class Configuration:
    """Values, read."""

    architecture: Architecture | Baseline
    recipe: Recipe

    def plan(self, input_shape: tuple[int, int, int], classes: int) -> Plan:
        """Lay the network out for images of ``input_shape`` (height, width, channels)."""
        if isinstance(self.architecture, Baseline):
            return self.architecture.plan(input_shape, classes)
        return make_plan(self.architecture, input_shape, classes)


def read_configuration(values: Values) -> Configuration:
    """Return what ``values`` of a checked space mean; what they leave out has the family's default.

    ``{"baseline": NAME}`` is a published network with its own training.
    """
    if "baseline" in values:
        baseline = BASELINES[str(values["baseline"])]
        return Configuration(baseline, _read_recipe(baseline.training))
    return Configuration(read_architecture(values), _read_recipe(values))


def _read_recipe(values: Values) -> Recipe:
    names = {field.name for field in dataclasses.fields(Recipe)}
    return Recipe(**{name: value for name, value in values.items() if name in names})  # type: ignore[arg-type]


def check_space(space: Space) -> None:
    """Raise SpaceError when ``space`` varies what its family does not read, or beyond what the family can build."""
    if space.hypermodel:  # its network is what it builds
        return
    wrong = [error for _, error in family_problems(space.model, space.parameters)]
    if wrong:
        raise SpaceError.of(wrong)


def family_problems(
    model: str, parameters: Mapping[str, Parameter], labels: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, SpaceError]]:
    """Yield by name which ``parameters`` the family ``model`` does not read, or cannot build all values of, and why.

    ``labels`` are what errors call them: one of a repeated parameter has the repeated one's.
    """
    if model not in FAMILIES:
        yield "", SpaceError(f"model = '{model}' is unknown", hint=f"there are: {', '.join(FAMILIES)}")
        return
    domains = FAMILIES[model]
    for name, parameter in parameters.items():
        label = labels.get(name, name)
        if name not in domains:
            numberless = {one.removesuffix("_1") for one in domains if one.endswith("_1")}
            names = domains if label == name or label in numberless else numberless
            said = f"parameters.{name if names is domains else label}: the model '{model}' does not read it"
            yield name, SpaceError(said, hint=nearest(name if names is domains else label, names))
            continue
        wrong = [value for value in parameter.extremes() if not domains[name].contains(value)]
        if wrong:
            said = f"parameters.{label}: {' and '.join(map(quoted, wrong))} is not for '{model}'"
            yield name, SpaceError(said, hint=f"allowed: {describe(domains[name])}")
