"""What a search has paid for and found: epochs are seen when they are paid for, in CPU seconds of a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.landscape.replay import Answers
from benchmarks.landscape.table import CHANCE, START_SECONDS, Configuration
from tuner.records import Values, seed_for


class Spent(Exception):  # noqa: N818  # no error: every search ends so
    """The budget is spent."""


@dataclass(frozen=True)
class Step:
    """From here on a search would return this configuration."""

    compute: float
    """CPU seconds until then."""
    configuration: int
    """Its number in the table."""
    observed: float
    """The accuracy that made it the best."""


@dataclass(frozen=True)
class Run:
    """One search, from one seed, until its budget was spent."""

    steps: tuple[Step, ...]
    started: int
    """Trainings that were begun, or gone on with."""
    answering: int
    """Different recorded configurations that answered for them: far fewer, and the table is too coarse for it."""
    complete: int
    """Those that were trained to the last epoch."""
    epochs: int
    """That were paid for, all together."""
    compute: float
    """CPU seconds."""


class Account:
    """A budget of compute, and what a peer has found for it."""

    def __init__(self, answers: Answers, refused: Callable[[Values], bool], budget: float, seed: int) -> None:
        """Have ``budget`` CPU seconds; ``refused`` tells whether a configuration is over the space's limits."""
        self.answers, self.replay, self.refused, self.seed = answers, answers.replay, refused, seed
        self.last_epoch = self.replay.table.epochs
        self.spent = 0.0
        self._budget = budget
        self._steps: list[Step] = []
        self._started = self._complete = self._epochs = 0

    def begin(self, values: Values, number: int) -> Training:
        """Start a training, which costs; ``number`` chooses between several recorded seeds. Raises Spent."""
        self.go_on()
        return Training(self, values, number)

    def go_on(self) -> None:
        """Pay for the start of a training, or of one that had paused. Raises Spent."""
        self.pay(START_SECONDS)
        self._started += 1

    def pay(self, seconds: float, *, epochs: int = 0) -> None:
        """Raise Spent where that is more than is left."""
        if self.spent + seconds > self._budget:
            raise Spent
        self.spent += seconds
        self._epochs += epochs

    def found(self, training: Training, observed: float) -> None:
        """Hear of a training that has had its last epoch."""
        self._complete += 1
        if not self._steps or observed > self._steps[-1].observed:
            self._steps.append(Step(self.spent, training.configuration, observed))

    def run(self) -> Run:
        """Return what became of the budget."""
        return Run(tuple(self._steps), self._started, len(self.answers), self._complete, self._epochs, self.spent)


class Training:
    """A training of the table, epoch by epoch."""

    def __init__(self, account: Account, values: Values, number: int) -> None:
        """Look for the recorded configuration that answers for ``values``."""
        self._account = account
        seed = seed_for(account.seed, "trial", number)
        self.configuration = account.answers.to(values)
        recorded = account.replay.configuration(self.configuration)
        self.epoch_seconds = account.replay.table.epoch_seconds(recorded)
        self._curve = curve_of(recorded, seed)

    def epoch(self, epoch: int) -> float:
        """Pay for an epoch, and return its validation accuracy: chance where the network had diverged. Raises Spent."""
        self._account.pay(self.epoch_seconds, epochs=1)
        return self._curve[epoch - 1] if epoch <= len(self._curve) else CHANCE


def curve_of(recorded: Configuration, seed: int) -> tuple[float, ...]:
    """Return the curve of one of the recorded seeds."""
    return recorded.curves[seed % len(recorded.curves)]
