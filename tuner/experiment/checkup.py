"""A space looked over before it is searched: ``tuner spaces check``.

What it can make is planned, the smallest and the largest network are built, and what never happens in it is named. A
hypermodel is built as often as it takes to see what it asks for.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tuner.data.sources import FASHION_CLASSES
from tuner.evaluation.apart import apart
from tuner.experiment.forecast import Estimate
from tuner.experiment.refusals import Refusal, always_refused, refused_with
from tuner.experiment.road import epoch_images_of
from tuner.records import Observer, Values
from tuner.search.budget import Pace
from tuner.search.rehearsal import explored
from tuner.search.task import FASHION_SHAPE, Drawn, draw, summed_up
from tuner.space.conditions import never_met
from tuner.space.reader import SpaceFile
from tuner.training.configuration import read_configuration

FASHION_IMAGES = 60_000


@dataclass(frozen=True)
class Network:
    """One network of the space."""

    estimate: Estimate
    values: Values
    built_parameters: int | None = None
    """What Keras counts in it; None where it was planned only."""


@dataclass(frozen=True)
class CheckUp:
    """What is to be known of a space; sizes and seconds are those on Fashion-MNIST."""

    sampled: int
    refused: int
    """Over the limits, or impossible to build."""
    networks: tuple[Network, ...]
    """The smallest, the middle and the largest of those that are not refused, by what an image costs."""
    never_there: dict[str, str]
    """Parameters whose conditions are never met, and why."""
    always_refused: tuple[Refusal, ...]
    refused_entries: dict[int, str]
    """First entries that would be refused, counted from 1, and why."""

    @property
    def good(self) -> bool:
        """Tell whether there is nothing to be said against it."""
        return not (self.never_there or self.always_refused or self.refused_entries)

    def as_document(self, name: str) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        networks = [
            {**dataclasses.asdict(one.estimate), "values": one.values, "built_parameters": one.built_parameters}
            for one in self.networks
        ]
        return {"space": name, **dataclasses.asdict(self), "networks": networks}


def check_up(space_file: SpaceFile, observe: Observer) -> CheckUp:
    """Look a space over. Raises SpaceError when nothing of it can be trained, SearchError when Keras cannot build."""
    pace = Pace.guess()  # before another process takes a core
    space = space_file.space
    if space.hypermodel:
        _, drawn = explored(space_file, observe)
        survey = summed_up(space, drawn)
        return CheckUp(survey.sampled, survey.refused, tuple(_networks(space_file, drawn, pace)), {}, (), {})
    drawn = draw(space)
    survey = summed_up(space, drawn)
    entries = {
        number: refused_with(space, {name: (value,) for name, value in entry.items()})
        for number, entry in enumerate(space.start_with, 1)
    }
    return CheckUp(
        survey.sampled,
        survey.refused,
        tuple(_built(_networks(space_file, drawn, pace))),
        never_met(space.parameters),
        tuple(always_refused(space, survey.refused / survey.sampled)),
        {number: why for number, why in entries.items() if why},
    )


def _networks(space_file: SpaceFile, drawn: list[Drawn], pace: Pace) -> list[Network]:
    settings = space_file.settings
    accepted = sorted(
        ((one.cost, one.values) for one in drawn if one.cost is not None and not one.refused),
        key=lambda pair: pair[0].units,
    )
    images = epoch_images_of(settings, FASHION_IMAGES)
    networks = []
    for which, place in (("smallest", 0), ("typical", len(accepted) // 2), ("largest", len(accepted) - 1)):
        cost, values = accepted[place]
        trial = pace.seconds(cost, images, settings.trial_epochs)
        refit = pace.seconds(cost, FASHION_IMAGES, settings.refit_epochs)
        networks.append(Network(Estimate(which, cost, trial, refit), values))
    return networks


def _built(networks: list[Network]) -> list[Network]:
    """Return the networks with what Keras counts in the first and the last of them."""
    ends = [networks[0].values, networks[-1].values]
    counts = apart(
        build,
        ends,
        what="building the smallest and the largest network",
        again="narrow the space, or lower [limits]",
    )
    built = dict(zip((0, len(networks) - 1), counts, strict=True))
    return [dataclasses.replace(one, built_parameters=built.get(place)) for place, one in enumerate(networks)]


def build(configurations: list[Values]) -> list[int]:
    """Build each network with Keras, let it see two images, and return how many parameters each has."""
    import numpy as np

    from tuner.models.cnn import build_network

    counts = []
    for values in configurations:
        plan = read_configuration(values).plan(FASHION_SHAPE, len(FASHION_CLASSES))
        network = build_network(plan, scale=(0.5, 0.5), seed=0)
        network(np.zeros((2, *FASHION_SHAPE), np.float32), training=False)
        counts.append(int(network.count_params()))
    return counts
