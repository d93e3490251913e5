"""A worker process on a node, and who stands beside it: carries messages, files and what it prints to a mailbox.

The process is the same as on one machine, over the same socket pair. Beside it is no TensorFlow and nothing of the
cluster's engine, so that a worker can be ended whatever it does, and this be tested without a cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tuner.data.store import cache_folder
from tuner.runs import DISK_TROUBLE, lives
from tuner.search.executors.local import WORKER, worker_environment
from tuner.search.executors.parcels import Ended, Files, Incoming, Outgoing, files_of, images_here, names_in, put_files
from tuner.search.executors.processes import resident_bytes, start
from tuner.search.messages import Beat, Done, EpochReport, Failed, FromJob, Ready, Stuck, TrainJob

SIGN_SECONDS = 1.0
PRINTED_BYTES = 1 << 20
"""Of what a worker prints, goes with one parcel."""
ROOM_BYTES = 64 << 20
"""For checkpoints, and for images: on a node whose disks have less, no worker starts."""
FETCH_SECONDS = 600.0
"""A job whose images take longer than that to arrive has hung."""


class Post(Protocol):
    """One worker's post; every method raises when there is no coordinator any more."""

    def put(self, parcel: Incoming) -> None:
        """Deliver a parcel; it has arrived when this returns."""

    def take(self) -> list[Outgoing]:
        """Return what has come for the worker, waiting a while for the first."""


@dataclass
class _Place:
    """Where a job's files are on this node."""

    folder: Path
    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The checkpoints that the coordinator has, as they were written: their inode and time."""

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        return self.folder / "model.keras"


class Relay:
    """One worker on this node."""

    def __init__(self, post: Post, fetch: Callable[[Any], Files], environment: Mapping[str, str]) -> None:
        """Start nothing yet; ``fetch`` brings the images that a job's parcel names, ``environment`` goes over ours."""
        self._post, self._fetch = post, fetch
        self._environment = {**worker_environment(), **environment}
        self._places: dict[int, _Place] = {}
        self._images: dict[str, Path] = {}
        self._arriving: tuple[int, float] | None = None
        """A job whose files are on their way, and until when that is believed."""
        self._trouble = ""

    def run(self) -> Ended:
        """Serve one worker from its start to its end, and return how it ended; on a full disk none begins."""
        with contextlib.ExitStack() as there:
            try:
                self._folder = there.enter_context(_scratch())
                for place in (self._folder, cache_folder()):
                    _prove_room(place)
            except OSError as error:
                return Ended(0, _disk_trouble(error.filename or tempfile.gettempdir(), error), b"")
            return self._serve()

    def _serve(self) -> Ended:
        with (self._folder / "worker.log").open("ab") as log:
            self._process, self._channel = start(WORKER, log, self._environment, alone=True)
            with Path(log.name).open("rb") as self._log:
                threading.Thread(target=self._carry_down, daemon=True).start()
                try:
                    self._carry_up()
                finally:
                    self._channel.close()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(0.5)
                    self._process.kill()
                    code = self._process.wait()
                return Ended(code, self._trouble, self._log.read(PRINTED_BYTES))

    def _carry_up(self) -> None:
        self._post.put(Incoming(None, 0, self._process.pid))
        memory = 0
        while True:
            if self._channel.poll(SIGN_SECONDS):
                try:
                    message = self._channel.recv()
                except (EOFError, OSError):
                    return
                if isinstance(message, Stuck):  # by this node's disk: others have room
                    self._trouble = _disk_trouble(self._folder, message.reason)
                    return
                self._post.put(self._parcel(message))
                continue
            before, memory, beat = memory, self._memory(), self._beat()
            if beat or memory != before:
                self._post.put(self._parcel(beat))

    def _beat(self) -> Beat | None:
        """Return what the worker cannot say while it has not been given its job."""
        job, until = self._arriving or (0, 0.0)
        return Beat(job) if time.monotonic() < until else None

    def _parcel(self, message: Ready | FromJob | None) -> Incoming:
        bare = Incoming(message, self._memory(), self._process.pid, self._log.read(PRINTED_BYTES))
        place = None if isinstance(message, Ready | None) else self._places.get(message.job)
        if place is None:
            return bare
        if isinstance(message, EpochReport):
            before, place.known = place.known, _written(place.checkpoints)
            new = [name for name, written in place.known.items() if before.get(name) != written]
            files = files_of(place.checkpoints, new)
            return dataclasses.replace(bare, checkpoints=files, kept=frozenset(place.known))
        if isinstance(message, Done | Failed):
            model = place.model.read_bytes() if place.model.exists() else None
            shutil.rmtree(place.folder, ignore_errors=True)
            return dataclasses.replace(bare, model=model)
        return bare

    def _carry_down(self) -> None:
        try:
            while True:
                for parcel in self._post.take():
                    self._hand(parcel)
        except Exception as error:  # noqa: BLE001  # no coordinator any more, or no way to do what it asks
            self._trouble = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            if isinstance(error, OSError):
                self._trouble = _disk_trouble(error.filename or self._folder, error)
            self._process.kill()

    def _hand(self, parcel: Outgoing) -> None:
        message = parcel.message
        if message is None:
            self._process.kill()
            return
        if isinstance(message, TrainJob):
            self._arriving = message.job, time.monotonic() + FETCH_SECONDS
            message = self._at_home(message, parcel)
            self._arriving = None
        with contextlib.suppress(OSError):  # it is gone, which is told by the other thread
            self._channel.send(message)

    def _at_home(self, job: TrainJob, parcel: Outgoing) -> TrainJob:
        """Return the job with the places of this node in it."""
        place = _Place(self._folder / f"job-{job.job}")
        put_files(place.checkpoints, parcel.checkpoints)
        place.known = _written(place.checkpoints)
        self._places = {job.job: place}
        source = job.source
        if parcel.images is not None:
            here = self._images.get(source.digest)
            if here is None or not here.exists():
                here = self._images[source.digest] = images_here(source, lambda: self._fetch(parcel.images))
            source = dataclasses.replace(source, folder=here)
        return dataclasses.replace(
            job,
            source=source,
            checkpoints=job.checkpoints and str(place.checkpoints),
            save_to=job.save_to and str(place.model),
        )

    def _memory(self) -> int:
        return resident_bytes(self._process.pid) or 0


def _written(folder: Path) -> dict[str, tuple[int, int]]:
    """Return which checkpoints there are; one that is written anew under its name has another inode, or time."""
    found = {name: (folder / name).stat() for name in names_in(folder)}
    return {name: (file.st_ino, file.st_mtime_ns) for name, file in found.items()}


def _prove_room(place: Path) -> None:
    """Raise OSError where so little as a training needs cannot be written."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as probe:
            os.posix_fallocate(probe.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        if error.errno in DISK_TROUBLE:  # and not that this disk cannot tell
            raise OSError(error.errno, error.strerror, str(place)) from None


def _disk_trouble(place: Path | str, error: OSError | str) -> str:
    said = error.strerror or str(error) if isinstance(error, OSError) else error
    return f"its node {socket.gethostname()} cannot write {place}: {said}"


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a folder of this process; those of processes of this machine that were killed are removed."""
    host = socket.gethostname()  # a container may share the folder, and count its own processes
    for old in Path(tempfile.gettempdir()).glob("tuner-worker-*"):
        ours = re.fullmatch(rf"tuner-worker-(\d{{1,9}})@{re.escape(host)}@\w+", old.name, re.ASCII)
        if ours and int(ours[1]) != os.getpid() and not lives(int(ours[1])):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"tuner-worker-{os.getpid()}@{host}@"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
