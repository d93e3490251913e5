"""What a crew knows of one of its workers."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.search.messages import TrainJob

START_SECONDS = 300.0
"""A worker that has not loaded its libraries by then is given up."""
WAITING_SECONDS = 10.0
"""Workers that wait longer than that for a machine are spoken of, and not reckoned with."""


@dataclass
class Member:
    """One worker process."""

    worker: int
    ready: bool = False
    job: TrainJob | None = None
    answers_due: bool = False
    """It has reported and waits for us: not silent, whatever the time."""
    dropped: int | None = None
    """The job that was taken from it; it is free again when it says so."""
    patience: float = 0.0
    stuck: float | None = None
    """For how many seconds its checkpoint could not be written."""
    surplus: bool = False
    """Another worker has its place: it ends when it is heard again."""
    waited: float = 0.0
    """For how many seconds there was no machine for it."""
    silence: float = 0.0
    busy: float = 0.0
    """Seconds since it was last told to go on."""
    peak: int = 0
    ready_size: int = 0

    @property
    def free(self) -> bool:
        """Tell whether it can be given a training."""
        return self.ready and self.job is None and self.dropped is None and not self.surplus

    @property
    def waits(self) -> bool:
        """Tell whether there is no machine for it."""
        return self.waited > WAITING_SECONDS

    def take(self, job: TrainJob, patience: float) -> None:
        """Note that it has ``job`` from now on."""
        self.job, self.patience = job, patience
        self.silence, self.busy, self.peak, self.answers_due = 0.0, 0.0, 0, False

    def count(self, seconds: float, *, placed: bool) -> None:
        """Note that it has said nothing for ``seconds`` more; who has no machine yet waits for one instead."""
        if not placed:
            self.silence = 0.0
            self.waited += seconds
            return
        self.silence += seconds
        if self.stuck is None:
            self.busy += seconds
        else:
            self.stuck += seconds

    def limit(self, heartbeat: float) -> float:
        """Return for how many seconds it may say nothing."""
        return max(heartbeat, self.patience) if self.ready else START_SECONDS
