"""One worker process: takes jobs, trains, keeps and reports every epoch, and asks whether to go on.

It never opens the study, cannot see the test set, and does not outlive its coordinator.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import SpaceError
from tuner.records import EpochResult, Value, seed_for
from tuner.runs import draft_of
from tuner.search.messages import (
    Beat,
    Built,
    Done,
    EpochReport,
    Failed,
    FromJob,
    Go,
    Ready,
    Shutdown,
    Stop,
    Stuck,
    Suggest,
    Suggested,
    ToWorker,
    TrainJob,
)

if TYPE_CHECKING:
    from tuner.data.splits import Images
    from tuner.space.asked import Asked
    from tuner.space.hypermodel import Loaded
    from tuner.training.checkpoint import Checkpoints
    from tuner.training.guests import Guest

BEAT_SECONDS = 1.0
RETRY_SECONDS = 1.0
BUILD_SECONDS = 600.0
"""A build that computes longer than that never ends."""
BUSY = 0.01
"""Of a core: a process that computes less than that hangs."""


class _ShutDown(BaseException):  # an order, not an error: no ``except Exception`` of a user's file is to keep it
    """The coordinator is gone, or wants the process to end."""


class Worker:
    """The process's side of the channel, and what it keeps between jobs."""

    def __init__(self, channel: Connection) -> None:
        """Keep the channel; load nothing yet."""
        self._channel = channel
        self._images: tuple[tuple[object, ...], Images] | None = None
        self._loaded: Loaded | None = None
        """The user's file, run once in this process."""
        self._said = time.monotonic()
        self._sending = threading.Lock()

    def run(self) -> None:
        """Serve jobs until the coordinator closes the channel."""
        prepare_backend()
        from tuner.training.stock import Stock  # with all that a training needs, before the first one waits for it

        self._stock = Stock()
        # What the libraries hold stays: searching it for garbage between two trials takes a third of a second.
        gc.freeze()
        self._send(Ready())
        with contextlib.suppress(_ShutDown):
            while True:
                message = self._receive()
                if isinstance(message, TrainJob):
                    self._serve(message)

    def _serve(self, job: TrainJob) -> None:
        from tuner.training.fit import TrainingFailed
        from tuner.training.pipeline import Cancelled

        try:
            self._train(job)
        except Cancelled:
            self._send(Done(job.job))
        except TrainingFailed as error:
            self._send(Failed(job.job, str(error)))
        except SpaceError as error:
            self._send(Failed(job.job, error.message, error.hint))
        except Exception as error:  # noqa: BLE001  # whatever a configuration raises is the trial's, not the worker's
            with contextlib.suppress(OSError):  # the disk that the log is on may be full
                traceback.print_exc()  # into the worker's log
            last = str(error).strip().splitlines()[-1:] or [""]
            self._stock.clear()  # nobody knows what state it is in
            self._send(Failed(job.job, f"{type(error).__name__}: {last[0][:300]}"))
        else:
            self._send(Done(job.job))

    def _train(self, job: TrainJob) -> None:
        if not job.epochs:  # a rehearsal
            self._ask(job.job, _built(job, self._guest(job)))
            return
        if job.folds == 1:
            self._train_one(job)
            return
        for fold in range(job.folds):
            place = Path(job.checkpoints or "") / f"fold-{fold}"
            part = dataclasses.replace(
                job,
                cut=dataclasses.replace(job.cut, fold=(fold, job.folds)),
                seed=seed_for(job.seed, "fold", fold),
                checkpoints=str(place) if job.checkpoints else None,
            )
            if not self._train_one(part, epochs_before=fold * job.epochs):
                return

    def _train_one(self, job: TrainJob, epochs_before: int = 0) -> bool:
        """Train on one cut of the images; False when the coordinator wants no more of it."""
        import keras

        from tuner.training.checkpoint import Checkpoints
        from tuner.training.planned import Planned

        images = self._images_for(job)
        trainee: Planned | Guest
        if job.hypermodel:
            trainee = self._guest(job)
            built = _built(job, trainee)
            job = dataclasses.replace(job, values=trainee.values)
        else:
            trainee = Planned(job.values, images, self._stock, seed_for(job.seed, "weights"))
            built = Built(job.job)
        if not epochs_before and not self._ask(job.job, built):
            return False
        last, goes_on = 0, True

        def after_epoch(result: EpochResult) -> bool:
            nonlocal last, goes_on
            last = result.epoch
            counted_on = dataclasses.replace(result, epoch=epochs_before + result.epoch)
            goes_on = self._ask(job.job, EpochReport(job.job, counted_on))
            return goes_on

        # Another backend rounds and draws otherwise: what it kept of this training is not gone on with.
        key = f"{job.key} {keras.backend.backend()}"
        keeper = Checkpoints(Path(job.checkpoints), key) if job.checkpoints else None
        if keeper and built.own_fit:  # it begins anew
            shutil.rmtree(keeper.folder, ignore_errors=True)
        # A loop of the user's own may come back to us after an epoch only.
        with self._pulse(job.job) if built.own_fit else contextlib.nullcontext():
            trainee.train(
                images,
                epochs=job.epochs,
                seed=job.seed,
                after_epoch=after_epoch,
                stopped=lambda: self._stopped(job.job),
                keeper=_Patient(keeper, lambda write: self._until_written(job.job, write)) if keeper else None,
            )
        if job.save_to and (last == job.epochs or built.own_fit):
            model, path = trainee.whole(), Path(job.save_to)

            def save() -> None:
                with draft_of(path) as draft:
                    model.save(draft)

            self._until_written(job.job, save)
        return goes_on

    def _guest(self, job: TrainJob) -> Guest:
        """Build what the hypermodel builds, asking for the values that the job does not hold."""
        from tuner.space.hypermodel import Loaded
        from tuner.training.guests import Guest

        assert job.hypermodel  # noqa: S101  # of those alone
        self._stock.clear()  # it holds no compiled loop of theirs, and Keras keeps what nobody clears
        if self._loaded is None or self._loaded.file != job.hypermodel:
            self._loaded = Loaded(job.hypermodel)
        with self._pulse(job.job, BUILD_SECONDS):
            return Guest(
                self._loaded,
                job.values,
                lambda asked: self._value_of(job.job, asked),
                seed=seed_for(job.seed, "weights"),
                input_shape=job.source.input_shape,
                classes=len(job.source.class_names),
            )

    def _images_for(self, job: TrainJob) -> Images:
        from tuner.data.splits import read_images

        key = (job.source.digest, job.cut)
        if self._images is None or self._images[0] != key:
            self._images = (key, read_images(job.source, job.cut))
        return self._images[1]

    def _until_written(self, job: int, write: Callable[[], None]) -> None:
        """Write, and while the disk is full or read-only say so and try again. Raises Cancelled."""
        from tuner.training.pipeline import Cancelled

        while True:
            try:
                write()
            except OSError as error:
                if not self._ask_or_wait(job, Stuck(job, error.strerror or str(error))):
                    raise Cancelled from None
            else:
                return

    def _ask_or_wait(self, job: int, message: Stuck) -> bool:
        """Say why nothing goes on and wait a little; False when a ``Stop`` came meanwhile."""
        self._send(message)
        self._channel.poll(RETRY_SECONDS)
        return not self._stopped(job)

    def _ask(self, job: int, message: Built | EpochReport) -> bool:
        """Send a report and wait for the answer to this job; True is *go on*."""
        self._send(message)
        while True:
            answer = self._receive()
            if isinstance(answer, Go | Stop) and answer.job == job:
                return isinstance(answer, Go)

    def _value_of(self, job: int, asked: Asked) -> Value:
        """Ask for a value. Raises Cancelled when nobody wants the job any more."""
        from tuner.training.pipeline import Cancelled

        self._send(Suggest(job, asked))
        while True:
            answer = self._receive()
            if isinstance(answer, Suggested) and answer.job == job:
                return answer.value
            if isinstance(answer, Stop) and answer.job == job:
                raise Cancelled

    def _stopped(self, job: int) -> bool:
        """Tell whether a ``Stop`` for this job, or the end, has come unasked; say that the training goes on."""
        if time.monotonic() - self._said > BEAT_SECONDS:
            self._send(Beat(job))
        while self._channel.poll():
            message = self._receive()
            if isinstance(message, Stop) and message.job == job:
                return True
        return False

    @contextlib.contextmanager
    def _pulse(self, job: int, most: float = math.inf) -> Iterator[None]:
        """Say meanwhile, from a thread of its own, that this process computes: a user's code has no time to say it."""
        over = threading.Event()

        def beat() -> None:
            used, until = time.process_time(), time.monotonic() + most
            with contextlib.suppress(_ShutDown):
                while not over.wait(BEAT_SECONDS) and time.monotonic() < until:
                    before, used = used, time.process_time()
                    if used - before > BUSY * BEAT_SECONDS:
                        self._send(Beat(job))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _send(self, message: Ready | FromJob) -> None:
        with self._sending:
            self._said = time.monotonic()
            try:
                self._channel.send(message)
            except OSError:
                raise _ShutDown from None

    def _receive(self) -> ToWorker:
        try:
            message: ToWorker = self._channel.recv()
        except (EOFError, OSError):
            raise _ShutDown from None
        if isinstance(message, Shutdown):
            raise _ShutDown
        return message


def _built(job: TrainJob, guest: Guest) -> Built:
    return Built(job.job, guest.contract.cost, guest.own_fit, guest.contract.words)


class _Patient:
    """Checkpoints that wait for room on the disk."""

    def __init__(self, kept: Checkpoints, until_written: Callable[[Callable[[], None]], None]) -> None:
        self._kept, self._until_written = kept, until_written

    def load(self, network: Any, slots: Sequence[Any]) -> list[EpochResult]:  # noqa: ANN401  # Keras is untyped
        return self._kept.load(network, slots)

    def save(self, network: Any, slots: Sequence[Any], curve: Sequence[EpochResult]) -> None:  # noqa: ANN401
        self._until_written(lambda: self._kept.save(network, slots, curve))


def prepare_backend() -> None:
    """Load Keras and its backend with one thread: the same seeds then give the same bits, run after run."""
    os.environ.setdefault("PJRT_NPROC", "1")  # the threads of JAX on CPUs, which it asks for once, when it starts
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # already running: a library user's own process
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)


def main(channel: Connection) -> None:
    """Serve the coordinator at the other end of ``channel``."""
    with contextlib.suppress(_ShutDown):
        Worker(channel).run()
