"""The frozen facts that several rooms share. No behaviour beyond arithmetic on their own fields."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = bool | int | float | str | None
"""One sampled value; scalars only, because a tuple comes back from the database as a list."""

Values: TypeAlias = dict[str, Value]
"""The values of one configuration by parameter name: the active ones only."""


def seed_for(*parts: int | str) -> int:
    """Return a seed in [0, 2**31) that depends on ``parts`` alone, e.g. ``seed_for(study_seed, "trial", 7)``.

    Seeds are derived, never drawn from a running generator, so that a trial's randomness does not depend on which
    worker ran it, or when.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1


VAL_ACCURACY, VAL_BALANCED_ACCURACY = "val_accuracy", "val_balanced_accuracy"
METRICS = {VAL_ACCURACY: "validation accuracy", VAL_BALANCED_ACCURACY: "balanced validation accuracy"}
"""What trials can be judged by, in words; balanced is the mean over the classes of the share that is right of each."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch of one training showed. Accuracies are fractions; ``val_*`` is None when all images train."""

    epoch: int
    """Counted from 1."""
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    """The rate of the epoch's last step."""
    seconds: float
    val_balanced_accuracy: float | None = None

    def judged(self, metric: str) -> float | None:
        """Return the figure that a search with this ``metric`` judges by."""
        return self.val_balanced_accuracy if metric == VAL_BALANCED_ACCURACY else self.val_accuracy

    def figure(self, metric: str) -> float:
        """Return the figure that a search judges by. Raises ValueError where there is none: it is no 0."""
        if (judged := self.judged(metric)) is None:
            raise ValueError(f"epoch {self.epoch} has no {METRICS[metric]}")
        return judged


def fold_values(curve: Sequence[EpochResult], epochs: int, metric: str = VAL_ACCURACY) -> list[float]:
    """Return the figure at the end of each fold that ``curve``, of ``epochs`` a fold, has whole."""
    return [result.figure(metric) for result in curve[epochs - 1 :: epochs]]


def value_of(curve: Sequence[EpochResult], epochs: int, metric: str = VAL_ACCURACY) -> float:
    """Return what a trial with this ``curve`` is worth: its last figure, or the mean of its whole folds.

    ``epochs`` are those of a fold; a trial on the constant split has one.
    """
    whole = fold_values(curve, epochs, metric)
    return sum(whole) / len(whole) if whole else curve[-1].figure(metric)


OVERHEAD_MULTIPLY_ADDS = 2_500_000
"""What an image costs beside its convolutions and dense layers (pooling, norms, the first layer's memory traffic).

Fitted to 28x28 networks of 1.9, 7.6 and 12.4 M multiply-adds on one thread: 26, 64 and 89 s an epoch
(results/LOG.md)."""


@dataclass(frozen=True)
class Cost:
    """The size of a network: trainable and other parameters, and multiply-adds of one image's forward pass."""

    parameters: int
    multiply_adds: int

    @property
    def units(self) -> int:
        """Return what an image costs: multiply-adds, and what it costs beside them."""
        return self.multiply_adds + OVERHEAD_MULTIPLY_ADDS


UNCOUNTED = ("refused", "redrawn")
"""States of trials that do not count towards ``--trials``."""


@dataclass(frozen=True)
class TrialSummary:
    """One trial as the report and the tables show it."""

    number: int
    state: str
    """``complete``, ``pruned``, ``clock`` (by --time), ``failed`` or ``running``; without training ``refused`` (over
    the limits), ``duplicate`` (told the result of a twin) or ``redrawn`` (its twin was still running)."""
    values: Values
    val_accuracy: float | None
    """What it is worth: a fraction, by ``metric``."""
    curve: tuple[EpochResult, ...] = ()
    cost: Cost | None = None
    reason: str = ""
    enqueued: bool = False
    """True for a ``start_with`` entry."""
    attempts: int = 1
    """How often a worker was given it: more than once after a crash, a lost worker or Ctrl-C."""
    peak_memory: int | None = None
    """MiB that its worker was seen to hold at most."""
    by_machine: bool = False
    """It failed for a lost worker or a cap: the values themselves may be good."""
    metric: str = VAL_ACCURACY
    """What it was judged by, a name of METRICS."""

    @property
    def path(self) -> list[tuple[int, float]]:
        """Return (epoch, figure that it was judged by), one an epoch."""
        return [(result.epoch, result.judged(self.metric) or 0.0) for result in self.curve]

    @property
    def counted(self) -> bool:
        """Tell whether it counts towards ``--trials``."""
        return self.state not in UNCOUNTED

    @property
    def seconds(self) -> float:
        """Return the seconds that its epochs took together."""
        return sum(result.seconds for result in self.curve)


def metric_of(trials: Iterable[TrialSummary]) -> str:
    """Return what the trials of a study were judged by."""
    return next((trial.metric for trial in trials if trial.metric != VAL_ACCURACY), VAL_ACCURACY)


def count_states(trials: Iterable[TrialSummary]) -> dict[str, int]:
    """Return how many trials are in each state that occurs."""
    return dict(collections.Counter(trial.state for trial in trials))


# What a search tells its observer, in order. Progress is told, not drawn: the console is one observer, a log another.


@dataclass(frozen=True)
class Note:
    """A line for the user that belongs to no trial."""

    text: str


@dataclass(frozen=True)
class SearchStarted:
    """The study is open and the workers are starting."""

    study: str
    space: str
    workers: int
    epochs: int
    trials: int | None
    """The total that ends the search; None when only the clock does."""
    seconds: float | None
    """The limit of the whole command."""
    earlier: tuple[TrialSummary, ...] = ()
    """Trials that the study held before, when it is resumed; those that are to be taken up again among them."""
    metric: str = VAL_ACCURACY


@dataclass(frozen=True)
class TrialStarted:
    """A worker has the trial; ``values`` are the active ones, fixed ones included."""

    number: int
    values: Values
    cost: Cost
    enqueued: bool
    attempt: int = 1


@dataclass(frozen=True)
class EpochEnded:
    """One epoch of a trial."""

    number: int
    result: EpochResult


@dataclass(frozen=True)
class TrialEnded:
    """A trial has its final state."""

    trial: TrialSummary
    best: TrialSummary | None
    """The best complete trial so far."""


@dataclass(frozen=True)
class RefitStarted:
    """The winner trains again on all images, once a seed."""

    trial: TrialSummary
    epochs: int
    seeds: int
    done: int = 0
    """Seeds that are trained and scored already."""


@dataclass(frozen=True)
class RefitEpochEnded:
    """One epoch of one refit seed (counted from 0)."""

    seed: int
    result: EpochResult


@dataclass(frozen=True)
class FinalsStarted:
    """The best trials are judged again, from fresh seeds."""

    trials: tuple[int, ...]
    epochs: int
    seeds: int


@dataclass(frozen=True)
class FinalEpochEnded:
    """One epoch of one finalist's seed (counted from 0)."""

    trial: int
    seed: int
    result: EpochResult


@dataclass(frozen=True)
class FractionsStarted:
    """The winner is trained on parts of the training images."""

    train_images: tuple[int, ...]
    epochs: int
    metric: str = VAL_ACCURACY


@dataclass(frozen=True)
class FractionEpochEnded:
    """One epoch on a part of the training images."""

    train_images: int
    result: EpochResult


@dataclass(frozen=True)
class EnsembleStarted:
    """The members of an ensemble are trained again on all images."""

    trials: tuple[int, ...]
    epochs: int


@dataclass(frozen=True)
class MemberEpochEnded:
    """One epoch of one member of an ensemble."""

    trial: int
    result: EpochResult


@dataclass(frozen=True)
class BaselinesStarted:
    """Published networks are trained."""

    trainings: int
    """That are still to be done, over all seeds."""
    baselines: int


@dataclass(frozen=True)
class BaselineEpochEnded:
    """One epoch of one baseline's seed (counted from 0)."""

    name: str
    seed: int
    epochs: int
    result: EpochResult


@dataclass(frozen=True)
class BaselineScored:
    """All seeds of a baseline are scored on the test set; fractions."""

    name: str
    mean: float
    sd: float | None
    seeds: int


SearchEvent: TypeAlias = SearchStarted | TrialStarted | EpochEnded | TrialEnded
FinalEvent: TypeAlias = (
    FinalsStarted | FinalEpochEnded | RefitStarted | RefitEpochEnded | FractionsStarted | FractionEpochEnded
)
EnsembleEvent: TypeAlias = EnsembleStarted | MemberEpochEnded
BaselineEvent: TypeAlias = BaselinesStarted | BaselineEpochEnded | BaselineScored
Event: TypeAlias = Note | SearchEvent | FinalEvent | EnsembleEvent | BaselineEvent
Observer: TypeAlias = Callable[[Event], None]
