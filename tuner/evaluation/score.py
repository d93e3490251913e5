"""The test set, once: the only module that may open ``data.holdout``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuner.data.holdout import read_test
from tuner.data.sources import Source
from tuner.evaluation.statistics import mean_and_sd, wilson

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


def score(models: Sequence[Path], source: Source) -> TestScore:
    """Score each saved model on the test images of ``source``, as a user of the file would: raw pixels in."""
    import keras

    images, labels = read_test(source)
    probabilities = []
    for path in models:
        model = keras.saving.load_model(path, compile=False)
        probabilities.append(model.predict(images, batch_size=BATCH, verbose=0))
    return TestScore(np.stack(probabilities).astype(np.float32), labels)
