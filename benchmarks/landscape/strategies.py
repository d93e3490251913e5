"""The strategies that are compared: ours, which the real coordinator carries out, and peers as their own code does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from tuner.records import Value, Values
from tuner.search.samplers import ANYWHERE
from tuner.space.parameters import Fixed, Space
from tuner.space.settings import SearchSettings

DEFAULTS = SearchSettings()
MANY = 1_000_000
"""Trials that no budget holds: it is the compute that ends a search."""


@dataclass(frozen=True)
class Ours:
    """One way to set our own search; what is left out is our default."""

    sampler: str = DEFAULTS.sampler
    startup_trials: int = DEFAULTS.startup_trials
    startup: str = "near"
    pruner: str = DEFAULTS.pruner
    first_rung: int = DEFAULTS.first_rung
    reduction: int = DEFAULTS.reduction
    portfolio: bool = True
    """Whether the space's first entries are tried first."""
    overlay: Mapping[str, Value] = field(default_factory=dict)
    """Values that every trial has."""
    anywhere: int = ANYWHERE
    """Every so-manieth trial before the model is drawn anywhere."""
    patience: int = 0
    workers: int = 2
    pausing: bool = False
    """Whether a trial that is not among the best at its rung waits, to go on when it is, instead of stopping."""

    def settings(self, seed: int, epochs: int) -> SearchSettings:
        """Return the settings of one search on a table of so many ``epochs``. Raises SpaceError."""
        return SearchSettings(
            trials=MANY,
            epochs=epochs,
            workers=self.workers,
            sampler=self.sampler,
            pruner=self.pruner,
            seed=seed,
            startup_trials=self.startup_trials,
            startup=self.startup,
            patience=self.patience,
            first_rung=self.first_rung,
            reduction=self.reduction,
        )

    def space(self, space: Space) -> Space:
        """Return what is searched: the overlay fixed, the entries with its values, or none."""
        parameters = {
            name: Fixed(self.overlay[name], parameter.when) if name in self.overlay else parameter
            for name, parameter in space.parameters.items()
        }
        changed = dataclasses.replace(space, parameters=parameters, start_with=())
        entries: list[Values] = []
        for entry in space.start_with if self.portfolio else ():
            fitted = changed.nearest({**entry, **self.overlay})
            if fitted not in entries:
                entries.append(fitted)
        return dataclasses.replace(changed, start_with=tuple(entries))


@dataclass(frozen=True)
class Peer:
    """Somebody else's search."""

    library: str
    """``optuna``, ``keras-tuner`` or ``ray``."""
    sampler: str
    pruner: str
    entries: bool = False
    """Whether Optuna is given the entries, by its ``enqueue_trial``: what those alone are worth."""


Strategy = Ours | Peer

STRATEGIES: dict[str, Strategy] = {
    "ours": Ours(),
    "ours, no entries": Ours(portfolio=False),
    "ours, no pruner": Ours(pruner="none"),
    "ours, no pruner, no entries": Ours(pruner="none", portfolio=False),
    "ours, random": Ours(sampler="random"),
    "ours, random, no entries": Ours(sampler="random", portfolio=False),
    "ours, random, no pruner, no entries": Ours(sampler="random", pruner="none", portfolio=False),
    "ours, qmc": Ours(sampler="qmc"),
    "ours, qmc, no entries": Ours(sampler="qmc", portfolio=False),
    "ours, hyperband": Ours(pruner="hyperband"),
    "ours, hyperband, no entries": Ours(pruner="hyperband", portfolio=False),
    "ours, median": Ours(pruner="median"),
    "ours, median, no entries": Ours(pruner="median", portfolio=False),
    "ours, rung 1, by 2": Ours(reduction=2),
    "ours, rung 1, by 4": Ours(reduction=4),
    "ours, rung 2, by 2": Ours(first_rung=2, reduction=2),
    "ours, rung 2, by 3": Ours(first_rung=2),
    "ours, rung 2, by 2, no entries": Ours(first_rung=2, reduction=2, portfolio=False),
    "ours, rung 2, by 4": Ours(first_rung=2, reduction=4),
    "ours, rung 3, by 2": Ours(first_rung=3, reduction=2),
    "ours, rung 3, by 3": Ours(first_rung=3),
    "ours, rung 3, by 3, no entries": Ours(first_rung=3, portfolio=False),
    "ours, rung 3, by 4": Ours(first_rung=3, reduction=4),
    "ours, pausing": Ours(pausing=True),
    "ours, pausing, no entries": Ours(pausing=True, portfolio=False),
    "ours, pausing, random": Ours(pausing=True, sampler="random"),
    "ours, pausing, rung 3, by 3": Ours(pausing=True, first_rung=3),
    "ours, random at first": Ours(startup="random"),
    "ours, all near at first": Ours(anywhere=MANY),
    "ours, half near at first": Ours(anywhere=2),
    "ours, 5 at first": Ours(startup_trials=5),
    "ours, 20 at first": Ours(startup_trials=20),
    "ours, 40 at first": Ours(startup_trials=40),
    "ours, 20 at first, rung 3": Ours(startup_trials=20, first_rung=3),
    "ours, patience 10": Ours(patience=10),
    "ours, patience 20": Ours(patience=20),
    "ours, patience 40": Ours(patience=40),
    "ours, 1 worker": Ours(workers=1),
    "ours, 8 workers": Ours(workers=8),
    "ours, constant": Ours(overlay={"schedule": "constant"}),
    "ours, cosine": Ours(overlay={"schedule": "cosine"}),
    "ours, onecycle": Ours(overlay={"schedule": "onecycle"}),
    "ours, no averaging": Ours(overlay={"ema": 0.0}),
    "ours, averaging 0.1": Ours(overlay={"ema": 0.1}),
    "ours, averaging 0.25": Ours(overlay={"ema": 0.25}),
    "Optuna TPE, median": Peer("optuna", "tpe", "median"),
    "Optuna TPE, hyperband": Peer("optuna", "tpe", "hyperband"),
    "Optuna TPE, halving": Peer("optuna", "tpe", "halving"),
    "Optuna TPE, halving, entries": Peer("optuna", "tpe", "halving", entries=True),
    "Optuna TPE, median, entries": Peer("optuna", "tpe", "median", entries=True),
    "Optuna random, median": Peer("optuna", "random", "median"),
    "KerasTuner Hyperband": Peer("keras-tuner", "random", "hyperband"),
    "KerasTuner Bayesian": Peer("keras-tuner", "gaussian process", "none"),
    "Ray ASHA": Peer("ray", "random", "asha"),
}
GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(STRATEGIES),
    "peers": (
        "ours",
        "ours, no entries",
        "Optuna TPE, halving",
        "Optuna TPE, median",
        "Optuna TPE, hyperband",
        "Optuna TPE, halving, entries",
        "Optuna TPE, median, entries",
        "Optuna random, median",
        "KerasTuner Hyperband",
        "Ray ASHA",
    ),
    "variants": (
        "ours",
        "ours, rung 1, by 2",
        "ours, rung 1, by 4",
        "ours, rung 2, by 3",
        "ours, rung 3, by 3",
        "ours, pausing",
        "ours, 5 at first",
        "ours, 20 at first",
        "ours, hyperband",
        "ours, median",
        "ours, no pruner",
        "ours, random",
        "ours, all near at first",
        "ours, half near at first",
        "ours, random at first",
        "ours, patience 20",
    ),
}
"""What is simulated together, by the word after ``--group``."""
