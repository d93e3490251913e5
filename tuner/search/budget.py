"""Time: how long a training takes, and how much of the wall clock is left for it."""

from __future__ import annotations

import math
import resource
import statistics
import time
from dataclasses import dataclass, field

import numpy as np

from tuner.records import Cost, EpochResult
from tuner.search.executors.children import cpu_seconds
from tuner.space.settings import SearchSettings

FLOPS_PER_MULTIPLY_ADD = 6
"""Two for the product and the sum, thrice for forward, gradient of the inputs and gradient of the weights."""
EFFICIENCY = 0.55
"""Share of the matrix-multiply peak that a training step reaches, for the guess before anything was measured."""
FORWARD_SHARE = 1 / 3
"""What a validation image costs beside a training image: the forward pass alone."""
PACE_WINDOW = 30
END_SECONDS = 25.0
"""From the last refit epoch to the prompt: loading TensorFlow, scoring the test set, writing the report."""
STOP_SECONDS = 8.0
"""From the clock's word to the last worker's answer: the search ends this much earlier, not to cut the refit."""
REFIT_MARGIN = 1.25
"""A refit epoch may take this much longer than those that were measured: with 1.3 times, and a refit of 70 % of
``--time``, the promise of 5 % is still kept."""


@dataclass
class Pace:
    """Seconds of training, from what was measured so far; from the machine's matrix-multiply speed before that."""

    seconds_per_unit: float
    """Per image trained and multiply-add (overhead included), one thread."""
    _seen: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})

    @classmethod
    def guess(cls) -> Pace:
        """Return a pace from a short matrix multiplication on this machine."""
        return cls(FLOPS_PER_MULTIPLY_ADD / (EFFICIENCY * flops_per_thread()))

    def learn(self, cost: Cost, images: float, result: EpochResult) -> None:
        """Hear of an epoch over ``images`` at ``cost``; first epochs, which also trace, count until others come."""
        self._seen[result.epoch == 1].append(result.seconds / (images * cost.units))
        self.seconds_per_unit = statistics.median((self._seen[False] or self._seen[True])[-PACE_WINDOW:])

    @property
    def measured(self) -> bool:
        """Tell whether an epoch was seen."""
        return bool(self._seen[True] or self._seen[False])

    def seconds(self, cost: Cost, images: float, epochs: int) -> float:
        """Return the seconds that ``epochs`` over ``images`` of a network at ``cost`` take one worker."""
        return self.seconds_per_unit * cost.units * images * epochs


@dataclass(frozen=True)
class RefitPlan:
    """How the winner is retrained within the time left."""

    epochs: int
    seeds: int
    note: str = ""
    """What was cut and why; empty when nothing was."""


@dataclass(frozen=True)
class Clock:
    """The wall clock of the whole command."""

    started: float
    """``time.monotonic()`` when the command began."""
    limit: float | None
    """Seconds; None is no limit."""
    cpu_before: float = 0.0
    """``processor_seconds()`` when the command began."""

    def elapsed(self) -> float:
        """Return the seconds since the command began."""
        return time.monotonic() - self.started

    def cpu_seconds(self) -> float:
        """Return the processor time since the command began, of this process and all that have ended for it."""
        return processor_seconds() - self.cpu_before

    def left(self) -> float:
        """Return the seconds until the limit, infinite without one."""
        return math.inf if self.limit is None else self.limit - self.elapsed()

    @property
    def grace(self) -> float:
        """Return the seconds by which the limit may be missed: 5 %, at least 20 s."""
        return 0.0 if self.limit is None else max(0.05 * self.limit, 20.0)


def processor_seconds() -> float:
    """Return the processor time of this process and of all that it has started and that have ended."""
    told = cpu_seconds()  # at first: a server that has ended is the operating system's to tell of from then on
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + told


def plan_refit(settings: SearchSettings, *, epoch_seconds: float, workers: int, left: float) -> RefitPlan:
    """Return the refit that fits into ``left`` seconds: seeds are dropped first, then epochs.

    >>> plan_refit(SearchSettings(refit_epochs=8, refit_seeds=4), epoch_seconds=10.0, workers=2, left=100.0).seeds
    2
    """
    epochs, seeds = settings.refit_epochs, settings.refit_seeds
    for count in range(seeds, 0, -1):
        if epoch_seconds * epochs * math.ceil(count / workers) <= left:
            note = f"{seeds - count} of {seeds} refit seeds dropped to keep --time" if count < seeds else ""
            return RefitPlan(epochs, count, note)
    fitting = max(1, min(epochs, int(left / epoch_seconds)))
    count = min(seeds, workers)
    cut = f"{fitting} of {epochs} epochs" + (f" and {count} of {seeds} seeds" if count < seeds else "")
    note = f"refit cut to {cut} to keep --time"
    return RefitPlan(fitting, count, note)


def flops_per_thread() -> float:
    """Return the floating-point operations of a CPU second in a float32 matrix product, measured for 0.2 s.

    By CPU time and by products that NumPy's library gives to one thread each: threads that wait for one another on a
    busy machine spend CPU time, too (a third of the speed was measured where other work had both cores).
    """
    size, count = 64, 64
    matrices = np.random.default_rng(0).random((count, size, size), dtype=np.float32)
    into = np.empty_like(matrices)
    seconds, until = [], time.monotonic() + 0.2
    while time.monotonic() < until:
        start = time.process_time()
        np.matmul(matrices, matrices, out=into)
        seconds.append(time.process_time() - start)
    return 2 * size**3 * count / statistics.median(seconds)
