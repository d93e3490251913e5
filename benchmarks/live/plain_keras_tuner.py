"""KerasTuner's ``Hyperband``, factor 3, as its guides write it: a ``HyperModel`` with a training loop of its own.

A configuration over the limits is drawn again, as the simulator does it (``landscape/peers.py``): as a failed trial it
would keep its place in its bracket, a quarter of all draws are such, and most small brackets would promote nobody. By
default three failures in a row end the search: here as many trainings may diverge as do, and any other failure ends
the run. A promoted trial takes up the best weights of the one before it with a new optimizer, as there, at its place
in the schedule of a full trial.

Every parameter is declared in advance: one that KerasTuner first meets within an ``if`` has its lowest value then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner

from benchmarks.live.events import COMPLETE, FAILED, Told
from benchmarks.live.training import Built, Training
from tuner.records import EpochResult, Value, Values
from tuner.space.parameters import Float, Space
from tuner.training.fit import TrainingFailed

FACTOR = 3
ENDLESS = 1_000_000
"""Iterations of Hyperband, and trainings that diverge: the budget ends the search."""


class Asked:
    """A ``HyperParameters`` as our spaces ask for values."""

    def __init__(self, hp: keras_tuner.HyperParameters) -> None:
        """Ask ``hp``."""
        self._hp = hp

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return an integer in [low, high]."""
        return int(self._hp.Int(name, low, high, step=None if log else step, sampling="log" if log else "linear"))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a float in [low, high]."""
        if step is not None:  # by the list: from 0 to 0.5 in steps of 0.05 KerasTuner's own range leaves out the end
            return float(self._hp.Choice(name, [float(value) for value in Float(low, high, step).grid()]))  # type: ignore[arg-type]
        return float(self._hp.Float(name, low, high, sampling="log" if log else "linear"))

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """Return one of ``choices``."""
        yes_or_no = all(isinstance(choice, bool) for choice in choices)
        found: Value = self._hp.Boolean(name) if yes_or_no else self._hp.Choice(name, choices)
        return found


def declared(space: Space) -> keras_tuner.HyperParameters:
    """Return every parameter of ``space``, each active whatever the others are."""
    hp = keras_tuner.HyperParameters()
    for name, parameter in space.parameters.items():
        parameter.suggest(name, Asked(hp))  # type: ignore[union-attr]  # no parameter of the space is fixed
    return hp


class OurFamily(keras_tuner.HyperModel):  # type: ignore[misc]  # KerasTuner is untyped
    """The networks of our space."""

    def __init__(self, training: Training, told: Told) -> None:
        """Build nothing yet."""
        super().__init__()
        self._training, self._told = training, told
        self.searching = False
        """Before it searches, KerasTuner builds to see which hyperparameters there are."""
        self._trial = -1
        self._built: Built | None = None

    def build(self, hp: Any) -> keras.Model:  # noqa: ANN401
        """Return the network of a trial, untrained."""
        values = self._training.space.sample(Asked(hp))
        if not self.searching:
            return keras.Sequential([keras.Input((1,))])
        self._trial += 1
        self._built = self._training.build(values, self._trial)
        return self._built.road.network

    def fit(  # as KerasTuner calls it
        self,
        hp: Any,  # noqa: ANN401
        model: keras.Model,
        *,
        epochs: int,
        callbacks: list[keras.callbacks.Callback],
        initial_epoch: int = 0,
        **_: object,
    ) -> dict[str, float]:
        """Train it from ``initial_epoch`` to ``epochs``, and return the best validation accuracy of an epoch."""
        built, values, best = self._built, self._training.space.sample(Asked(hp)), 0.0
        if built is None or built.road.network is not model:
            raise keras_tuner.errors.FatalValueError("this is not the network that was built last")
        for callback in callbacks:
            callback.set_model(model)

        def after_epoch(result: EpochResult) -> bool:
            nonlocal best
            accuracy = result.figure("val_accuracy")
            best = max(best, accuracy)
            self._told.epoch(self._trial, result.epoch, accuracy, values)
            for callback in callbacks:
                callback.on_epoch_end(result.epoch - 1, logs={"val_accuracy": accuracy})
            return result.epoch < epochs

        try:
            self._training.train(built, after_epoch, first_epoch=initial_epoch + 1)
        except TrainingFailed as error:
            self._told.ended(self._trial, FAILED, None, values)
            raise keras_tuner.errors.FailedTrialError(str(error)) from None
        self._told.ended(self._trial, COMPLETE, best, values)
        return {"val_accuracy": best}


class Strict(keras_tuner.Hyperband):  # type: ignore[misc]  # KerasTuner is untyped
    """Hyperband that draws within the limits, and bears no failure but ``FailedTrialError``."""

    def draw_within(self, training: Training) -> None:
        """Let the oracle draw again what ``training`` refuses."""
        draw = self.oracle._random_values  # noqa: SLF001  # it has no public name

        def within_limits() -> Values | None:
            hp = self.oracle.get_space()
            while (values := draw()) is not None:  # None: everything has been tried
                hp.values = dict(values)
                if not training.refused(training.space.sample(Asked(hp))):
                    break
            return values

        self.oracle._random_values = within_limits  # noqa: SLF001

    def _configure_tensorboard_dir(self, *_: object) -> None:
        """Do nothing: it would import TensorBoard, which no callback here is and which is no dependency of ours."""

    def on_trial_end(self, trial: Any) -> None:  # noqa: ANN401
        """Raise FatalRuntimeError for a failure that KerasTuner would only note: it would look like a bad peer."""
        diverged = trial.status == "FAILED"
        super().on_trial_end(trial)
        if not diverged and self.oracle.get_trial(trial.trial_id).status != "COMPLETED":
            raise keras_tuner.errors.FatalRuntimeError(f"trial {trial.trial_id} failed: {trial.message}")


def search(told: Told, folder: Path, *, seed: int, epochs: int, train_images: int | None) -> None:
    """Search until the budget is spent. Raises Spent."""
    training = Training(seed=seed, epochs=epochs, train_images=train_images)
    family = OurFamily(training, told)
    tuner = Strict(
        family,
        objective="val_accuracy",
        max_epochs=epochs,
        factor=FACTOR,
        hyperband_iterations=ENDLESS,
        hyperparameters=declared(training.space),
        seed=seed + 1,  # it takes 0 for none
        max_consecutive_failed_trials=ENDLESS,
        directory=folder,
        project_name="keras-tuner",
        overwrite=True,
    )
    tuner.draw_within(training)
    family.searching = True
    tuner.search(epochs=epochs, verbose=0)
