"""What a search is about, and what a configuration of it would cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from tuner.data.sources import FASHION_CLASSES, Source
from tuner.data.splits import Cut
from tuner.errors import SearchError, SpaceError
from tuner.records import Cost, Values, seed_for
from tuner.search.messages import TrainJob
from tuner.space.parameters import Space
from tuner.space.settings import SearchSettings
from tuner.training.configuration import read_configuration

RANDOM_DRAWS = 20
SURVEY_DRAWS = 200
FASHION_SHAPE = (28, 28, 1)


@dataclass(frozen=True)
class Rehearsed:
    """What a hypermodel made of its own defaults, or of random values."""

    values: Values
    cost: Cost
    own_fit: bool
    """It trains in a way of its own: begins anew after a crash, and may ask for values while it trains."""
    contract: str
    """What its network is given and gives, in words."""


@dataclass(frozen=True)
class SearchTask:
    """Everything that stays the same from the first trial to the last."""

    space: Space
    settings: SearchSettings
    source: Source
    epoch_images: float
    """What an epoch of a trial costs, in images trained: a validation image counts a third."""
    workers: int
    rehearsed: Rehearsed | None = None
    """What a hypermodel showed when it was built once, before the search."""

    def job(self, number: int, values: Values, checkpoints: str) -> TrainJob:
        """Return a trial's training; ``values`` are those that are known before a hypermodel asks."""
        settings = self.settings
        return TrainJob(
            number=number,
            values=values,
            source=self.source,
            epochs=settings.epochs,
            seed=seed_for(settings.seed, "trial", number),
            cut=Cut(settings.train_images),
            folds=settings.folds,
            checkpoints=checkpoints,
            hypermodel=self.space.hypermodel,
        )

    def cost_of(self, values: Values) -> Cost:
        """Return the size of the network that ``values`` make. Raises SpaceError when they make none."""
        return read_configuration(values).plan(self.source.input_shape, len(self.source.class_names)).cost

    def judge(self, values: Values, cost: Cost | None = None) -> tuple[str, float, Cost | None]:
        """Return why ``values`` are refused (or nothing), by what share of the limit, and what they cost.

        ``cost`` is known of a network that a hypermodel has built.
        """
        try:
            cost = cost or self.cost_of(values)
        except SpaceError as error:
            return error.message, 1.0, None
        return (*self.space.limits.broken_by(cost), cost)

    def cheapest_known(self) -> Cost:
        """Return the cost of the cheapest ``start_with`` entry, or of the cheapest of some random draws.

        Of a hypermodel it is what its defaults cost.
        """
        if self.rehearsed:
            return self.rehearsed.cost
        draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for entry in self.space.start_with or [{}] * RANDOM_DRAWS:
            draws.enqueue_trial(dict(entry))
        costs, problems = [], []
        for _ in range(len(self.space.start_with) or RANDOM_DRAWS):
            try:
                costs.append(self.cost_of(self.space.sample(draws.ask())))
            except SpaceError as error:
                problems.append(error.message)
        if not costs:
            size = "x".join(map(str, self.source.input_shape[:2]))
            said = f"no configuration of the space can be built for images of {size}: {problems[0]}"
            raise SearchError(said, hint="larger images, or a space of smaller networks")
        return min(costs, key=lambda cost: cost.multiply_adds)


@dataclass(frozen=True)
class Drawn:
    """One configuration of a space, planned."""

    values: Values
    cost: Cost | None
    """None when it cannot be built."""
    refused: str
    """Why it would be refused before training; empty when it would not."""


def plan_one(
    space: Space, values: Values, input_shape: tuple[int, int, int] = FASHION_SHAPE, classes: int = len(FASHION_CLASSES)
) -> Drawn:
    """Return what becomes of ``values``."""
    try:
        cost = read_configuration(values).plan(input_shape, classes).cost
    except SpaceError as error:
        return Drawn(values, None, error.message)
    return Drawn(values, cost, space.limits.broken_by(cost)[0])


def over(space: Space, drawn: Drawn) -> float:
    """Return by what share a configuration breaks the limits; infinity where it cannot be built."""
    return math.inf if drawn.cost is None else space.limits.excess(drawn.cost)


@dataclass(frozen=True)
class Survey:
    """What random configurations of a space would cost."""

    sampled: int
    refused: int
    """Over the limits, or impossible to build."""
    smallest: Cost
    """The fewest parameters and the fewest multiply-adds of those that are not refused, not of one network."""
    typical: Cost
    """The medians."""
    largest: Cost


def survey(
    space: Space, input_shape: tuple[int, int, int] = FASHION_SHAPE, classes: int = len(FASHION_CLASSES)
) -> Survey:
    """Plan random configurations of ``space``. Raises SpaceError when none of them can be built."""
    return summed_up(space, draw(space, input_shape, classes))


def draw(
    space: Space, input_shape: tuple[int, int, int] = FASHION_SHAPE, classes: int = len(FASHION_CLASSES)
) -> list[Drawn]:
    """Plan so many random configurations of ``space`` as a survey has."""
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [plan_one(space, space.sample(draws.ask()), input_shape, classes) for _ in range(SURVEY_DRAWS)]


def summed_up(space: Space, drawn: Sequence[Drawn]) -> Survey:
    """Return what configurations of ``space`` would cost. Raises SpaceError when all of them are refused."""
    costs = [one.cost for one in drawn if one.cost is not None and not one.refused]
    if not costs:
        nearest = min(drawn, key=lambda one: over(space, one))
        said = f"{space.name}: all of {len(drawn)} random configurations are refused, even the nearest: "
        raise SpaceError(said + nearest.refused, hint="raise [limits], or narrow the space")
    parameters, multiply_adds = [cost.parameters for cost in costs], [cost.multiply_adds for cost in costs]
    smallest, typical, largest = (
        Cost(pick(parameters), pick(multiply_adds)) for pick in (min, statistics.median_low, max)
    )
    return Survey(len(drawn), len(drawn) - len(costs), smallest, typical, largest)
