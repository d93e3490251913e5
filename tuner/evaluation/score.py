"""The test set, once: the only module that may open ``data.holdout``.

Models are scored in a process of their own, so that the process that searched loads no TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.data.holdout import read_test
from tuner.data.sources import Source
from tuner.errors import SearchError
from tuner.evaluation.analysis import choose_examples
from tuner.evaluation.apart import apart
from tuner.evaluation.averaging import Averaging, Winner, averaged, choose_for
from tuner.evaluation.statistics import mean_and_sd, wilson
from tuner.evaluation.trainings import Trained
from tuner.runs import DAMAGED, draft_of
from tuner.space.hypermodel_file import HypermodelFile
from tuner.training.metrics import balanced_accuracy

BATCH = 500
SCORING = "scoring the test set"


@dataclass(frozen=True)
class TestScore:
    """The test set as each training's model saw it."""

    __test__ = False  # not a test case, whatever its name says to pytest

    probabilities: npt.NDArray[np.float32]
    """(models, images, classes)"""
    labels: npt.NDArray[np.int64]
    """(images,)"""
    averaging: Averaging | None = None
    """What test-time averaging gave on validation; None where it was not tried."""
    averaged: npt.NDArray[np.float32] | None = None
    """(models, images, classes), where validation chose an averaging."""

    @property
    def accuracies(self) -> list[float]:
        """Return the fraction of right answers, one a model."""
        return self._accuracies(self.probabilities)

    @property
    def averaged_accuracies(self) -> list[float]:
        """Return the same with averaging; empty where none was chosen."""
        return [] if self.averaged is None else self._accuracies(self.averaged)

    @property
    def balanced_accuracies(self) -> list[float]:
        """Return the mean over the classes of the fraction that is right of each, one a model."""
        return [balanced_accuracy(one.argmax(axis=1), self.labels) for one in self.probabilities]

    @property
    def averaged_balanced_accuracies(self) -> list[float]:
        """Return the same with averaging; empty where none was chosen."""
        averaged = () if self.averaged is None else self.averaged
        return [balanced_accuracy(one.argmax(axis=1), self.labels) for one in averaged]

    @property
    def mean_and_sd(self) -> tuple[float, float | None]:
        """Return the mean over the models and their sample standard deviation."""
        return mean_and_sd(self.accuracies)

    @property
    def interval_95(self) -> tuple[float, float]:
        """Return the Wilson interval of the exported model, the first one."""
        return wilson(int(self.right.sum()), len(self.labels))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Return whether the first model is right, (images,)."""
        return np.asarray(self.probabilities[0].argmax(axis=1) == self.labels)

    def _accuracies(self, probabilities: npt.NDArray[np.float32]) -> list[float]:
        return [float(share) for share in (probabilities.argmax(axis=2) == self.labels).mean(axis=1)]


@dataclass(frozen=True)
class Order:
    """What the scoring process is to do."""

    source: Source
    predictions: Path
    keys: tuple[str, ...]
    models: tuple[Path, ...]
    examples: Path | None
    winner: Winner | None
    until: float
    """On the monotonic clock: what does not fit before it is not tried."""
    earlier: int
    """So many trainings of ``keys`` are scored already, and stay."""
    hypermodel: HypermodelFile | None = None
    """Whose layers the models may have."""


def score(  # noqa: PLR0913  # one verb with its whole sentence
    trained: Trained,
    source: Source,
    predictions: Path,
    *,
    examples: Path | None = None,
    winner: Winner | None = None,
    seconds: float = 0.0,
    after: Sequence[str] = (),
    hypermodel: HypermodelFile | None = None,
    again: str = "'--resume' tries it again",
) -> TestScore:
    """Score each model on the test images of ``source``; probabilities go to ``predictions`` (.npz).

    Some test images go to ``examples`` (.npz), to be looked at. ``winner`` is what test-time averaging is chosen with,
    if that can be done in ``seconds``. Where a run that died had scored these very trainings already, its predictions
    are the score. Those of the trainings with the keys ``after``, which they begin with, stay as they are, averaging
    included, and these models come behind. Raises SearchError, with the hint ``again``.
    """
    keys = (*after, *trained.keys)
    before = read_score(predictions, keys)
    if before is not None:
        return before
    until = time.monotonic() + seconds
    order = Order(source, predictions, keys, trained.models, examples, winner, until, len(after), hypermodel)
    apart(predict_and_save, order, what=SCORING, again=again)
    found = read_score(predictions, keys)
    if found is None:
        raise SearchError(f"{SCORING} failed: {predictions} is damaged", hint=again)
    return found


def keys_in(predictions: Path) -> tuple[str, ...]:
    """Return the keys of the trainings whose score is in ``predictions``; none where it is not whole."""
    with contextlib.suppress(*DAMAGED), predictions.open("rb") as file, np.load(file, allow_pickle=False) as saved:
        return tuple(str(saved["trainings"]).split(","))
    return ()


def read_score(predictions: Path, keys: Sequence[str] | None = None) -> TestScore | None:
    """Return the score kept in ``predictions``, of the trainings with these ``keys``; None where there is none."""
    try:
        with predictions.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            if keys is not None and str(saved["trainings"]) != ",".join(keys):
                return None
            averaging = json.loads(str(saved["averaging"])) if "averaging" in saved else None
            return TestScore(
                saved["probabilities"],
                saved["labels"],
                Averaging(**averaging) if averaging else None,
                saved.get("averaged"),
            )
    except DAMAGED:
        return None


def predict_and_save(order: Order) -> None:
    """Predict as a user of each file would, raw pixels in, and save what came out. Raises SearchError."""
    import keras

    from tuner.training.rebuilt import load_whole

    earlier = read_score(order.predictions) if order.earlier else None
    if order.earlier and earlier is None:
        raise SearchError(f"{order.predictions} does not hold the earlier scores any more")
    averaging = earlier.averaging if earlier else None
    if order.winner and not earlier:  # before the test set is opened
        averaging = choose_for(order.winner, order.until, len(order.models), BATCH)
    images, labels = read_test(order.source)
    plain, better = [], []
    for path in order.models:
        model = load_whole(path, order.hypermodel)

        def predict(pixels: Any, model: keras.Model = model) -> Any:  # noqa: ANN401  # NumPy's and Keras's
            return model.predict(pixels, batch_size=BATCH, verbose=0)

        plain.append(predict(images))
        if averaging and averaging.how:
            better.append(averaged(predict, images, averaging.how, plain[-1]))
    probabilities = np.stack([*(earlier.probabilities[: order.earlier] if earlier else ()), *plain]).astype(np.float32)
    if order.examples and not earlier:
        _save_examples(order.examples, images, probabilities[0], labels)
    arrays: dict[str, Any] = {"probabilities": probabilities, "labels": labels}
    if averaging:
        arrays["averaging"] = np.array(json.dumps(dataclasses.asdict(averaging)))
    if better:
        kept = earlier.averaged[: order.earlier] if earlier and earlier.averaged is not None else ()
        arrays["averaged"] = np.stack([*kept, *better]).astype(np.float32)
    with draft_of(order.predictions) as draft:
        np.savez_compressed(draft, trainings=np.array(",".join(order.keys)), **arrays)


def _save_examples(
    path: Path,
    images: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> None:
    """Save the pixels of the images that a report shows, one row an example."""
    rows = [(group, example) for group, chosen in choose_examples(probabilities, labels).items() for example in chosen]
    arrays: dict[str, Any] = {
        name: np.array([getattr(example, name) for _, example in rows])
        for name in ("index", "label", "predicted", "confidence")
    }
    with draft_of(path) as draft:
        np.savez_compressed(
            draft, group=np.array([group for group, _ in rows], dtype=str), images=images[arrays["index"]], **arrays
        )
