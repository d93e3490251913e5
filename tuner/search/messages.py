"""The words between coordinator and worker. Frozen, picklable, and the same for every executor.

A job goes down; the worker answers ``Built``, then an ``EpochReport`` an epoch, and each of these waits for ``Go`` or
``Stop``; ``Done`` or ``Failed`` ends it. A ``Stop`` may also come unasked, between two epochs' reports: it is then the
answer to the report that crosses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tuner.data.sources import Source
from tuner.records import EpochResult, Values


@dataclass(frozen=True)
class TrainJob:
    """One training: a trial on the training split, or a refit on all images."""

    job: int
    """Unique within an executor's life, so that a late message is told from a new one."""
    values: Values
    source: Source
    epochs: int
    seed: int
    train_images: int | None = None
    all_images: bool = False
    """Train on validation images too, and report no validation figures."""
    save_to: str | None = None
    """Where the whole model goes when the last epoch has ended; a ``.keras`` file."""


@dataclass(frozen=True)
class Go:
    """Carry on with ``job``."""

    job: int


@dataclass(frozen=True)
class Stop:
    """No more of ``job``: the pruner, the limits or the clock."""

    job: int


@dataclass(frozen=True)
class Shutdown:
    """End the process."""


@dataclass(frozen=True)
class Ready:
    """The worker has loaded its libraries."""


@dataclass(frozen=True)
class Built:
    """The network stands."""

    job: int


@dataclass(frozen=True)
class EpochReport:
    """One epoch has ended."""

    job: int
    result: EpochResult


@dataclass(frozen=True)
class Done:
    """The training has ended: all epochs, or stopped."""

    job: int


@dataclass(frozen=True)
class Failed:
    """The training raised, or its loss is no longer finite."""

    job: int
    reason: str


@dataclass(frozen=True)
class Lost:
    """The worker process is gone; said by the executor, never by a worker."""

    reason: str


ToWorker: TypeAlias = TrainJob | Go | Stop | Shutdown
FromWorker: TypeAlias = Ready | Built | EpochReport | Done | Failed | Lost
