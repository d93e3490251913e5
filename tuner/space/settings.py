"""The ``[search]`` table: how a space wants to be searched, unless the command line says otherwise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args, get_type_hints

from tuner.errors import SpaceError
from tuner.records import METRICS, VAL_ACCURACY, Value

SAMPLERS = ("tpe", "random", "qmc", "grid")
PRUNERS = ("asha", "hyperband", "median", "none")
EXECUTORS = ("local", "ray")
STARTUPS = ("random", "near")
OPTIONS = {
    "metric": tuple(METRICS), "sampler": SAMPLERS, "pruner": PRUNERS, "executor": EXECUTORS, "startup": STARTUPS
}  # fmt: skip
"""Settings that are one of a few words."""
POSITIVE = (
    "trials", "time", "epochs", "folds", "top", "top_seeds", "refit_epochs", "refit_seeds", "workers", "first_rung",
    "train_images", "heartbeat", "memory", "trial_time", "worker_cpus",
)  # fmt: skip
NOT_NEGATIVE = ("seed", "patience", "startup_trials", "keep", "retries", "worker_gpus")
LEAST_REDUCTION = 2
"""With less every trial would pass every rung."""
DEFAULT_TRIALS = 30


@dataclass(frozen=True)
class SearchSettings:
    """Every setting of a search; ``--set search.NAME=VALUE`` reaches each one."""

    trials: int | None = None
    """Total trials of the study; 30 when neither this nor ``time`` nor ``patience`` is set."""
    patience: int = 0
    """The search ends when so many trials in a row gained less than a standard error of validation; 0: it does not."""
    time: float | None = None
    """Wall-clock seconds of the whole command, refit and report included; ``"1h30m"`` in a file."""
    epochs: int = 8
    """What a full trial trains."""
    folds: int = 1
    """Train a trial on so many parts of the training file, each time validated on the rest; 1 is the constant split."""
    top: int = 1
    """Judge so many of the best trials again from fresh seeds, and choose the winner by that; 1: the best as it is."""
    top_seeds: int = 2
    """How often each of them is trained again."""
    refit_epochs: int = 16
    """What the winner trains, on all images."""
    refit_seeds: int = 2
    """How often the winner is trained again; the first one is exported."""
    workers: int | str = "auto"
    """Worker processes, one thread each; ``auto`` is one a core, or as many as fit into the memory."""
    executor: str = "local"
    """Where workers run: on this machine, or on a Ray cluster."""
    ray_address: str | None = None
    """The cluster, e.g. ``"10.0.0.1:6379"`` or ``"auto"``; None is the one in RAY_ADDRESS, or else a Ray of our own on
    this machine."""
    worker_cpus: float = 1.0
    """Cores that Ray keeps for a worker, which computes with one thread all the same."""
    worker_gpus: float = 0.0
    """GPUs that Ray gives to a worker, e.g. ``0.25``: four share one."""
    metric: str = VAL_ACCURACY
    """What trials are judged by; balanced accuracy counts every class alike, however many images it has."""
    sampler: str = "tpe"
    """``tpe`` models what was good; ``random`` and ``qmc`` (Sobol points) do not; ``grid`` tries all there is."""
    pruner: str = "asha"
    """``asha`` is successive halving, ``hyperband`` deals its brackets in turn, ``median`` is Optuna's."""
    seed: int = 0
    """Decides what is drawn, and with it each trial's curve."""
    startup_trials: int = 10
    """Trials that are drawn without a model before TPE has one; ``start_with`` entries count."""
    startup: str = "random"
    """How: all at ``random``, or two in three ``near`` the space's known-good configurations (``start_with``)."""
    first_rung: int = 1
    """The epoch of the first pruning decision."""
    reduction: int = 3
    """One in ``reduction`` passes each rung, and rungs stand at first_rung * reduction**k."""
    train_images: int | None = None
    """Train on a stratified part of the training images only; None is all of them."""
    deterministic: bool = False
    """Hear the workers in the order of a virtual clock, so that a study does not depend on the machine's timing."""
    keep: int = 3
    """Checkpoints of so many of the best finished trials stay."""
    retries: int = 2
    """How often a trial whose worker was lost is taken up again from its checkpoint."""
    heartbeat: float = 120.0
    """Seconds after which a worker that says nothing is given up."""
    memory: float | None = None
    """MiB that a trial's worker may hold; a trial that holds more fails at once. None is no cap."""
    trial_time: float | None = None
    """Seconds that a trial may train; one that takes longer fails at once. None is no cap."""

    def __post_init__(self) -> None:
        """Refuse what no search can do."""
        wrong = list(self._problems())
        if wrong:
            raise SpaceError.of(wrong)

    def _problems(self) -> Iterator[SpaceError]:
        right = dict(vars(self))
        for name, said in self._wrong_types():
            del right[name]
            yield SpaceError(f"search.{name} = {getattr(self, name)!r} is {said}")
        for name, value in right.items():
            number = 1 if isinstance(value, str | None) else value
            if name in POSITIVE and not 0 < number < math.inf:
                yield SpaceError(f"search.{name} = {value} must be above 0, and finite")
            if name in NOT_NEGATIVE and number < 0:
                yield SpaceError(f"search.{name} = {value} must not be negative")
            if name == "reduction" and number < LEAST_REDUCTION:
                yield SpaceError(f"search.reduction = {value} must be at least {LEAST_REDUCTION}")
            if name == "worker_gpus" and number > 1 and number % 1:
                yield SpaceError(f"search.worker_gpus = {value}: Ray gives a part of one GPU, or whole ones")
            if name in OPTIONS and value not in OPTIONS[name]:
                yield SpaceError(f"search.{name} = {value!r} is unknown", hint=f"one of {', '.join(OPTIONS[name])}")
        if self.deterministic and self.time is not None:
            yield SpaceError(
                "a deterministic search goes with a number of trials: what fits into a time depends on the machine",
                hint="--trials N instead of --time",
            )
        if self.deterministic and self.executor == "ray" and self.workers == "auto":
            yield SpaceError(
                "a deterministic search on Ray needs a number of workers: what a cluster has room for changes",
                hint="--workers N",
            )

    def _wrong_types(self) -> Iterator[tuple[str, str]]:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            allowed = get_args(hints[field.name]) or (hints[field.name],)
            if type(value) not in allowed and not (float in allowed and type(value) is int):
                yield field.name, f"not {_kind(allowed)}"
            elif field.name == "workers" and isinstance(value, str) and value != "auto":
                yield field.name, "neither a number nor 'auto'"

    def merged(self, changes: dict[str, Value]) -> SearchSettings:
        """Return these settings with ``changes`` put over them; None changes nothing."""
        return dataclasses.replace(self, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]

    @property
    def trial_epochs(self) -> int:
        """Return the epochs of a full trial, all folds together."""
        return self.epochs * self.folds

    @property
    def total_trials(self) -> int | None:
        """Return the trials that end the search; None when only the clock or its patience does."""
        ends = self.trials is not None or self.time is not None or self.patience > 0
        return self.trials if ends else DEFAULT_TRIALS


def _kind(allowed: tuple[type, ...]) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return " or ".join(names[kind] for kind in allowed if kind in names)
