"""The test set, once: the only module that may open ``data.holdout``.

Models are scored in a process of their own, ``python -m tuner.evaluation.score``, so that the process that searched
loads no TensorFlow.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.data.holdout import read_test
from tuner.errors import SearchError
from tuner.evaluation.refit import Refitted
from tuner.evaluation.statistics import mean_and_sd, wilson
from tuner.search.worker import end_with

BATCH = 500


@dataclass(frozen=True)
class TestScore:
    """The test set as each refit seed's model saw it."""

    __test__ = False  # not a test case, whatever its name says to pytest

    probabilities: npt.NDArray[np.float32]
    """(seeds, images, classes)"""
    labels: npt.NDArray[np.int64]
    """(images,)"""

    @property
    def accuracies(self) -> list[float]:
        """Return the fraction of right answers, one a seed."""
        return [float(share) for share in (self.probabilities.argmax(axis=2) == self.labels).mean(axis=1)]

    @property
    def mean_and_sd(self) -> tuple[float, float | None]:
        """Return the mean over the seeds and their sample standard deviation."""
        return mean_and_sd(self.accuracies)

    @property
    def interval_95(self) -> tuple[float, float]:
        """Return the Wilson interval of the exported model, the first seed's."""
        return wilson(int((self.probabilities[0].argmax(axis=1) == self.labels).sum()), len(self.labels))


def score(refitted: Refitted, data: Path, predictions: Path) -> TestScore:
    """Score each model on the test images in the folder ``data``; probabilities go to ``predictions`` (.npz).

    Where a run that died had scored these very trainings already, its predictions are the score.
    """
    before = _read(predictions, refitted.keys)
    if before is not None:
        return before
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = [theirs.fileno(), data, predictions, ",".join(refitted.keys), *refitted.models]
        # A session of its own, for Ctrl-C in the terminal is the coordinator's; it ends with us by the socket.
        done = subprocess.run(  # noqa: S603  # ourselves
            [sys.executable, "-m", "tuner.evaluation.score", *map(str, arguments)],
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
        )
    found = None if done.returncode else _read(predictions, refitted.keys)
    if found is None:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SearchError(f"scoring the test set failed: {last[0]}", hint="'--resume' tries it again")
    return found


def _read(predictions: Path, keys: Sequence[str]) -> TestScore | None:
    try:
        with np.load(predictions, allow_pickle=False) as saved:
            same = str(saved["trainings"]) == ",".join(keys)
            return TestScore(saved["probabilities"], saved["labels"]) if same else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def main(descriptor: str, data: str, predictions: str, trainings: str, *models: str) -> None:
    """Predict as a user of each file would, raw pixels in, and save what came out.

    The process ends when the other side of the socket ``descriptor`` does.
    """
    end_with(int(descriptor))
    import keras

    from tuner.runs import draft_of

    images, labels = read_test(Path(data))
    probabilities = [
        keras.saving.load_model(path, compile=False).predict(images, batch_size=BATCH, verbose=0) for path in models
    ]
    with draft_of(Path(predictions)) as draft:
        stacked = np.stack(probabilities).astype(np.float32)
        np.savez_compressed(draft, probabilities=stacked, labels=labels, trainings=np.array(trainings))


if __name__ == "__main__":
    main(*sys.argv[1:])
