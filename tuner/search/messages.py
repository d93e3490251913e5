"""The words between coordinator and worker. Frozen, picklable, and the same for every executor.

A job goes down; while a hypermodel builds, it asks for values (``Suggest``), each answered by ``Suggested`` or
``Stop``; the worker answers ``Built``, then an ``EpochReport`` an epoch, and each of these waits for ``Go`` or
``Stop``; ``Done`` or ``Failed`` ends it. A ``Stop`` may also come unasked, between two epochs' reports: it is then the
answer to the report that crosses it. A job whose checkpoint holds epochs already reports those again, one by one.
While it trains, a worker says ``Beat`` about once a second, from between its steps: one that hangs says nothing. While
a user's code has it (a build, a ``fit`` of its own), a thread says it for as long as the process computes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TypeAlias

from tuner.data.sources import Source
from tuner.data.splits import SPLIT, Cut
from tuner.records import Cost, EpochResult, Value, Values
from tuner.space.asked import Asked
from tuner.space.hypermodel_file import HypermodelFile


@dataclass(frozen=True)
class TrainJob:
    """One training: a trial on the split, a refit on all images, a baseline on what its authors trained on."""

    number: int
    """The trial's number; -1, -2, … for the seeds of a refit."""
    values: Values
    """All of them, or those that are known before a hypermodel asks."""
    source: Source
    epochs: int
    seed: int
    cut: Cut = SPLIT
    folds: int = 1
    """More than one: trained anew on each fold, and epochs are counted on from fold to fold."""
    checkpoints: str | None = None
    """The folder that keeps the state after every epoch; what is there of this training is gone on with."""
    save_to: str | None = None
    """Where the whole model goes when the last epoch has ended; a ``.keras`` file."""
    hypermodel: HypermodelFile | None = None
    """What builds the network in place of the family ``cnn``."""
    job: int = 0
    """Given out anew with every hand-out, so that a late message is told from a new one."""

    @property
    def all_epochs(self) -> int:
        """Return the epochs of all folds together."""
        return self.epochs * self.folds

    @property
    def key(self) -> str:
        """Return what the training's bits depend on, as a digest: checkpoints of another key are not its own."""
        facts: tuple[object, ...] = (
            self.values, self.source.digest, self.epochs, self.seed, dataclasses.asdict(self.cut), self.folds,
        )  # fmt: skip
        if self.hypermodel:
            facts = (*facts, self.hypermodel.digest)
        return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Go:
    """Carry on with ``job``."""

    job: int


@dataclass(frozen=True)
class Suggested:
    """The value that was asked for."""

    job: int
    value: Value


@dataclass(frozen=True)
class Stop:
    """No more of ``job``: the pruner, a cap, the clock, Ctrl-C, or because another worker has it now."""

    job: int


@dataclass(frozen=True)
class Shutdown:
    """End the process."""


@dataclass(frozen=True)
class Ready:
    """The worker has loaded its libraries."""


@dataclass(frozen=True)
class Suggest:
    """A hypermodel asks for a value."""

    job: int
    asked: Asked


@dataclass(frozen=True)
class Built:
    """The network stands."""

    job: int
    cost: Cost | None = None
    """Of a hypermodel's network, which nobody knows before."""
    own_fit: bool = False
    """It trains in a way of its own, and cannot be gone on with."""
    contract: str = ""
    """What a hypermodel's network is given and gives, in words."""


@dataclass(frozen=True)
class Beat:
    """The training goes on."""

    job: int


@dataclass(frozen=True)
class Stuck:
    """The epoch has ended but its checkpoint cannot be written; it is tried again and again."""

    job: int
    reason: str


@dataclass(frozen=True)
class EpochReport:
    """One epoch has ended, and its checkpoint is written."""

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
    hint: str | None = None


@dataclass(frozen=True)
class Lost:
    """The worker process is gone or silent; said by the executor or the crew, never by a worker."""

    reason: str


ToWorker: TypeAlias = TrainJob | Go | Suggested | Stop | Shutdown
FromJob: TypeAlias = Suggest | Built | Beat | Stuck | EpochReport | Done | Failed
FromWorker: TypeAlias = Ready | FromJob | Lost
