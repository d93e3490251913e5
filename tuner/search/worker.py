"""One worker process: takes jobs, trains, reports every epoch, and asks whether to go on.

Run as ``python -m tuner.search.worker FD``. It never opens the study and cannot see the test set.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.records import EpochResult, seed_for
from tuner.search.messages import Built, Done, EpochReport, Failed, Go, Ready, Shutdown, Stop, ToWorker, TrainJob

if TYPE_CHECKING:
    from tuner.data.splits import Images


class _ShutDown(Exception):  # noqa: N818  # an order, not an error
    """The coordinator is gone, or wants the process to end."""


class Worker:
    """The process's side of the channel, and what it keeps between jobs."""

    def __init__(self, channel: Connection) -> None:
        """Keep the channel; load nothing yet."""
        self._channel = channel
        self._images: tuple[tuple[object, ...], Images] | None = None

    def run(self) -> None:
        """Serve jobs until the coordinator closes the channel."""
        prepare_backend()
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
        except _ShutDown:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a configuration raises is the trial's, not the worker's
            traceback.print_exc()  # into the worker's log
            last = str(error).strip().splitlines()[-1:] or [""]
            self._send(Failed(job.job, f"{type(error).__name__}: {last[0][:300]}"))
        else:
            self._send(Done(job.job))

    def _train(self, job: TrainJob) -> None:
        import keras

        from tuner.models.cnn import build_network, whole_model
        from tuner.training.configuration import read_configuration
        from tuner.training.fit import fit

        keras.backend.clear_session()
        gc.collect()
        images = self._images_for(job)
        configuration = read_configuration(job.values)
        plan = configuration.plan(job.source.input_shape, images.classes)
        l2 = configuration.recipe.l2
        network = build_network(plan, scale=images.scale, l2=l2, seed=seed_for(job.seed, "weights"))
        if not self._ask(job.job, Built(job.job)):
            return
        last = 0

        def after_epoch(result: EpochResult) -> bool:
            nonlocal last
            last = result.epoch
            return self._ask(job.job, EpochReport(job.job, result))

        fit(
            network,
            images,
            configuration.recipe,
            epochs=job.epochs,
            seed=job.seed,
            after_epoch=after_epoch,
            stopped=lambda: self._stopped(job.job),
        )
        if job.save_to and last == job.epochs:
            draft = Path(job.save_to).with_suffix(".draft.keras")
            whole_model(plan, network, scale=images.scale).save(draft)
            draft.replace(job.save_to)

    def _images_for(self, job: TrainJob) -> Images:
        from tuner.data.splits import read_all, read_split

        key = (job.source.digest, job.all_images, job.train_images)
        if self._images is None or self._images[0] != key:
            images = read_all(job.source) if job.all_images else read_split(job.source, job.train_images)
            self._images = (key, images)
        return self._images[1]

    def _ask(self, job: int, message: Built | EpochReport) -> bool:
        """Send a report and wait for the answer to this job; True is *go on*."""
        self._send(message)
        while True:
            answer = self._receive()
            if isinstance(answer, Go | Stop) and answer.job == job:
                return isinstance(answer, Go)

    def _stopped(self, job: int) -> bool:
        """Tell whether a ``Stop`` for this job, or the end, has come unasked."""
        while self._channel.poll():
            message = self._receive()
            if isinstance(message, Stop) and message.job == job:
                return True
        return False

    def _send(self, message: Ready | Built | EpochReport | Done | Failed) -> None:
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


def prepare_backend() -> None:
    """Load Keras and its backend with one thread: the same seeds then give the same bits, run after run."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # already running: a library user's own process
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)


def main() -> None:
    """Serve the socket whose file descriptor is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's
    with contextlib.suppress(_ShutDown):
        Worker(Connection(int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
