"""What a search is about, and what a configuration of it would cost."""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import dataclass

import optuna

from tuner.data.sources import FASHION_CLASSES, Source
from tuner.errors import SearchError, SpaceError
from tuner.records import Cost, Values
from tuner.space.parameters import Space
from tuner.space.settings import SearchSettings
from tuner.training.configuration import read_configuration

RANDOM_DRAWS = 20
SURVEY_DRAWS = 200
FASHION_SHAPE = (28, 28, 1)


@dataclass(frozen=True)
class SearchTask:
    """Everything that stays the same from the first trial to the last."""

    space: Space
    settings: SearchSettings
    source: Source
    epoch_images: float
    """What an epoch of a trial costs, in images trained: a validation image counts a third."""
    workers: int

    def cost_of(self, values: Values) -> Cost:
        """Return the size of the network that ``values`` make. Raises SpaceError when they make none."""
        return read_configuration(values).plan(self.source.input_shape, len(self.source.class_names)).cost

    def judge(self, values: Values) -> tuple[str, float, Cost | None]:
        """Return why ``values`` are refused (or nothing), by what share of the limit, and what they cost."""
        try:
            cost = self.cost_of(values)
        except SpaceError as error:
            return error.message, 1.0, None
        return (*self.space.limits.broken_by(cost), cost)

    def cheapest_known(self) -> Cost:
        """Return the cost of the cheapest ``start_with`` entry, or of the cheapest of some random draws."""
        draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for entry in self.space.start_with or [{}] * RANDOM_DRAWS:
            draws.enqueue_trial(dict(entry))
        costs = []
        for _ in range(len(self.space.start_with) or RANDOM_DRAWS):
            with contextlib.suppress(SpaceError):
                costs.append(self.cost_of(self.space.sample(draws.ask())))
        if not costs:
            raise SearchError("no configuration of the space can be built", hint="'tuner spaces check' says why")
        return min(costs, key=lambda cost: cost.multiply_adds)


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
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    costs, refused = [], 0
    for _ in range(SURVEY_DRAWS):
        try:
            cost = read_configuration(space.sample(draws.ask())).plan(input_shape, classes).cost
        except SpaceError:
            refused += 1
            continue
        if space.limits.broken_by(cost)[0]:
            refused += 1
        else:
            costs.append(cost)
    if not costs:
        said = f"{space.name}: all of {SURVEY_DRAWS} random configurations are over the limits or impossible to build"
        raise SpaceError(said, hint="raise [limits], or narrow the space")
    parameters, multiply_adds = [cost.parameters for cost in costs], [cost.multiply_adds for cost in costs]
    smallest, typical, largest = (
        Cost(pick(parameters), pick(multiply_adds)) for pick in (min, statistics.median_low, max)
    )
    return Survey(SURVEY_DRAWS, refused, smallest, typical, largest)
