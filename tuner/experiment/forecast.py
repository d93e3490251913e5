"""What a search would cost, before anything is trained: ``tuner search --dry-run``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tuner.data.sources import find
from tuner.experiment.road import epoch_images
from tuner.records import Cost
from tuner.runs import auto_workers
from tuner.search.budget import END_SECONDS, REFIT_MARGIN, Pace
from tuner.search.executors import room_on_ray
from tuner.search.rehearsal import explored
from tuner.search.request import Request, planned
from tuner.search.task import Survey, draw, summed_up
from tuner.space.reader import SpaceFile
from tuner.space.settings import SearchSettings


@dataclass(frozen=True)
class Estimate:
    """A network of the space and its seconds on one worker, guessed from the speed of a matrix product here."""

    which: str
    cost: Cost
    trial_seconds: float
    refit_seconds: float
    """Of one seed."""


@dataclass(frozen=True)
class Forecast:
    """What a search would do; nothing was trained or stored."""

    space_file: SpaceFile
    settings: SearchSettings
    workers: int
    survey: Survey
    estimates: tuple[Estimate, ...]
    trials: int | None
    """Full trials of the typical size within ``--time``, its refit kept back; pruning makes room for more."""
    seconds: float
    """Of the whole command, when every trial is of the typical size and trained in full."""

    def as_document(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "space": self.space_file.as_document(),
            "settings": dataclasses.asdict(self.settings),
            "workers": self.workers,
            "sampled": self.survey.sampled,
            "refused": self.survey.refused,
            "networks": [dataclasses.asdict(one) for one in self.estimates],
            "trials_within_time": self.trials,
            "seconds": self.seconds,
        }


def forecast(request: Request, tell: Callable[[str], None]) -> Forecast:
    """Return what ``request`` would do; ``tell`` hears of a download. Raises SpaceError, DataError."""
    pace = Pace.guess()
    space_file, settings = planned(request)
    source = find(request.data, tell)
    workers = _workers(settings)
    images = epoch_images(settings, source)
    if space_file.space.hypermodel:
        space_file, drawn = explored(space_file, tell, source)
    else:
        drawn = draw(space_file.space, source.input_shape, len(source.class_names))
    found = summed_up(space_file.space, drawn)
    refit_epochs = settings.refit_epochs if request.refit else 0
    estimates = tuple(
        Estimate(
            which,
            cost,
            pace.seconds(cost, images, settings.trial_epochs),
            pace.seconds(cost, source.n_train, refit_epochs),
        )
        for which, cost in (("smallest", found.smallest), ("typical", found.typical), ("largest", found.largest))
    )
    typical = estimates[1]
    waves = math.ceil(settings.refit_seeds / workers) if request.refit else 0
    after = END_SECONDS + waves * typical.refit_seconds
    if settings.time is not None:
        left = settings.time - END_SECONDS - REFIT_MARGIN * waves * typical.refit_seconds
        trials = max(0, int(workers * left / typical.trial_seconds))
        if settings.total_trials is not None:
            trials = min(trials, settings.total_trials)
        return Forecast(space_file, settings, workers, found, estimates, trials, settings.time)
    total = settings.total_trials or settings.patience + 1
    seconds = math.ceil(total / workers) * typical.trial_seconds + after
    return Forecast(space_file, settings, workers, found, estimates, None, seconds)


def _workers(settings: SearchSettings) -> int:
    """Return how many workers there would be, now. Raises EnvironmentProblem when there is no such cluster."""
    if settings.workers != "auto":
        return int(settings.workers)
    return max(1, room_on_ray(settings)) if settings.executor == "ray" else auto_workers()
