"""What comes of a worker's job on another machine: in the coordinator's folder before anybody hears of it."""

from __future__ import annotations

import time
from pathlib import Path

from tuner.search.executors.parcels import Files, Incoming, files_of, names_in, put_file, put_files
from tuner.search.messages import Done, Failed, FromJob, Stuck, TrainJob

RETRY_SECONDS = 1.0


class Deliveries:
    """One worker's job, and what came of it that cannot be written yet."""

    def __init__(self) -> None:
        """Know of no job."""
        self._job: TrainJob | None = None
        self._unwritten: tuple[FromJob, Incoming] | None = None
        self._tried = 0.0

    def expect(self, job: TrainJob) -> Files:
        """Hear of the job that the worker is given, and return the checkpoints that it goes on from."""
        self._job, self._unwritten = job, None
        folder = Path(job.checkpoints) if job.checkpoints else None
        return files_of(folder, names_in(folder)) if folder else {}

    def refuse(self, job: int) -> None:
        """Hear that ``job`` was taken from the worker: what it still sends is nobody's."""
        if self._job and self._job.job == job:
            self._job = self._unwritten = None

    def take(self, message: FromJob, parcel: Incoming) -> FromJob:
        """Write what belongs to ``message``, and return it; while that cannot be done, ``Stuck`` in its place."""
        job = self._job
        if job is None or message.job != job.job:
            return message
        try:
            if job.checkpoints:
                put_files(Path(job.checkpoints), parcel.checkpoints, parcel.kept)
            if job.save_to and parcel.model is not None:
                put_file(Path(job.save_to), parcel.model)
        except OSError as error:
            self._unwritten, self._tried = (message, parcel), time.monotonic()
            return Stuck(message.job, error.strerror or str(error))
        if isinstance(message, Done | Failed):
            self._job = None
        return message

    def try_again(self) -> FromJob | None:
        """Return what ``take`` does now of a message that waits, once a second; None when none does."""
        if self._unwritten is None or time.monotonic() - self._tried < RETRY_SECONDS:
            return None
        (message, parcel), self._unwritten = self._unwritten, None
        return self.take(message, parcel)
