"""What a search is about, and what a configuration of it would cost."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import optuna

from tuner.data.sources import Source
from tuner.errors import SearchError, SpaceError
from tuner.records import Cost, Values
from tuner.space.parameters import Space
from tuner.space.settings import SearchSettings
from tuner.training.configuration import read_configuration

RANDOM_DRAWS = 20


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

    def over_limits(self, cost: Cost) -> tuple[str, float]:
        """Return which of the space's limits ``cost`` breaks, and by what share; or an empty reason."""
        for name in ("parameters", "multiply_adds"):
            limit, size = getattr(self.space.limits, name), getattr(cost, name)
            if limit is not None and size > limit:
                return f"{size:,} {name.replace('_', '-')} are over the limit of {limit:,}", size / limit - 1
        return "", 0.0

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
