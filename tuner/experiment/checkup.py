"""A space looked over before it is searched: ``tuner spaces check``.

What it can make is planned, the networks with fewest and with most parameters are built, and what never happens in it
is named. A hypermodel is built as often as it takes to see what it asks for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tuner.data.sources import Source
from tuner.evaluation.apart import apart
from tuner.experiment.forecast import Estimate
from tuner.experiment.refusals import Refusal, always_refused, refused_with
from tuner.experiment.road import epoch_images_of
from tuner.records import Values
from tuner.search.budget import Pace
from tuner.search.rehearsal import NO_IMAGES, explored
from tuner.search.task import Drawn, draw, summed_up
from tuner.space.conditions import never_met
from tuner.space.reader import SpaceFile
from tuner.training.configuration import read_configuration

ROWS = ("fewest parameters", "typical", "most parameters")


@dataclass(frozen=True)
class Network:
    """One network of the space."""

    estimate: Estimate
    values: Values
    built_parameters: int | None = None
    """What Keras counts in it; None where it was planned only."""


@dataclass(frozen=True)
class CheckUp:
    """What is to be known of a space; sizes and seconds are those for the images of ``data``."""

    data: str
    input_shape: tuple[int, int, int]
    """Height, width, channels."""
    n_classes: int
    n_train: int
    sampled: int
    refused: int
    """Over the limits, or impossible to build."""
    networks: tuple[Network, ...]
    """Of those that are not refused the ones that ROWS names, the median by parameters between the two others."""
    never_there: dict[str, str]
    """Parameters whose conditions are never met, and why."""
    always_refused: tuple[Refusal, ...]
    """What no accepted configuration was found with."""
    dropped: tuple[str, ...]
    """What ``extends`` and ``--set`` left no room for."""
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


def check_up(space_file: SpaceFile, tell: Callable[[str], None], source: Source = NO_IMAGES) -> CheckUp:
    """Look a space over, for images like those of ``source``.

    Raises SpaceError when nothing of it can be trained, SearchError when Keras cannot build, DataError.
    """
    pace = Pace.guess()  # before another process takes a core
    space = space_file.space
    if space.hypermodel:
        _, drawn = explored(space_file, tell, source)
    else:
        drawn = draw(space, source.input_shape, len(source.class_names))
    survey = summed_up(space, drawn)
    networks = _networks(space_file, drawn, pace, source)
    found = CheckUp(
        source.name, source.input_shape, len(source.class_names), source.n_train,
        survey.sampled, survey.refused, tuple(networks), {}, (), space_file.dropped, {},
    )  # fmt: skip
    if space.hypermodel:
        return found
    entries = {
        number: refused_with(space, {name: (value,) for name, value in entry.items()}, source)
        for number, entry in enumerate(space.start_with, 1)
    }
    return dataclasses.replace(
        found,
        networks=tuple(_built(networks, source)),
        never_there=never_met(space.parameters),
        always_refused=tuple(always_refused(space, survey.refused / survey.sampled, source)),
        refused_entries={number: why for number, why in entries.items() if why},
    )


def _networks(space_file: SpaceFile, drawn: list[Drawn], pace: Pace, source: Source) -> list[Network]:
    settings = space_file.settings
    accepted = sorted(
        ((one.cost, one.values) for one in drawn if one.cost is not None and not one.refused),
        key=lambda pair: (pair[0].parameters, pair[0].units),
    )
    images = epoch_images_of(settings, source.n_train)
    networks = []
    for which, place in zip(ROWS, (0, len(accepted) // 2, len(accepted) - 1), strict=True):
        cost, values = accepted[place]
        trial = pace.seconds(cost, images, settings.trial_epochs)
        refit = pace.seconds(cost, source.n_train, settings.refit_epochs)
        built = cost.parameters if space_file.space.hypermodel else None  # a build is what told them
        networks.append(Network(Estimate(which, cost, trial, refit), values, built))
    return networks


def _built(networks: list[Network], source: Source) -> list[Network]:
    """Return the networks with what Keras counts in the first and the last of them."""
    ends = [(one.values, source.input_shape, len(source.class_names)) for one in (networks[0], networks[-1])]
    counts = apart(
        build,
        ends,
        what="building the networks with fewest and with most parameters",
        again="narrow the space, or lower [limits]",
    )
    built = dict(zip((0, len(networks) - 1), counts, strict=True))
    return [dataclasses.replace(one, built_parameters=built.get(place)) for place, one in enumerate(networks)]


def build(configurations: list[tuple[Values, tuple[int, int, int], int]]) -> list[int]:
    """Build each network with Keras, let it see two images, and return how many parameters each has."""
    import numpy as np

    from tuner.models.cnn import build_network

    counts = []
    for values, input_shape, n_classes in configurations:
        plan = read_configuration(values).plan(input_shape, n_classes)
        network = build_network(plan, scale=(0.5, 0.5), seed=0)
        network(np.zeros((2, *input_shape), np.float32), training=False)
        counts.append(int(network.count_params()))
    return counts
