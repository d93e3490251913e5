"""What the coordinator knows of a trial under way: while its network is being built, and while it trains."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import optuna

from tuner.records import Cost, EpochResult, Values
from tuner.search.messages import Done, EpochReport, Failed


@dataclass
class Running:
    """A trial that is being trained, or waits for a worker to go on."""

    number: int
    values: Values
    cost: Cost
    start: int
    """The virtual time at which it was asked for."""
    epoch_cost: int
    """Multiply-adds times images of one epoch: the virtual time that it takes."""
    handled: int = 0
    """Epochs that were reported and decided on: what they led to is not asked again."""
    curve: list[EpochResult] = field(default_factory=list)
    inbox: deque[EpochReport | Failed | Done] = field(default_factory=deque)
    """Heard, not yet handled."""
    enqueued: bool = False
    attempts: int = 0
    lost: int = 0
    """Workers, since it came to an epoch for the first time."""
    furthest: int = 0
    """The last epoch that was ever heard of."""
    peak: int = 0
    """Bytes."""
    own_fit: bool = False
    """It begins anew when it is taken up again, and asks for values while it trains."""

    @property
    def due(self) -> int:
        """Return the virtual time of the next epoch's end."""
        return self.start + (self.handled + 1) * self.epoch_cost


@dataclass
class Draft:
    """A trial whose values a hypermodel is asking for: they are stored when its network stands."""

    trial: optuna.Trial
    start: int
    values: Values = field(default_factory=dict)
    lost: int = 0

    @property
    def number(self) -> int:
        """Return the number that it will have."""
        return self.trial.number
