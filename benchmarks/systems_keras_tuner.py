"""KerasTuner's ``RandomSearch``, as its guide writes a search that tunes ``fit``'s arguments too."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner
from systems import CONFIGURATIONS
from systems_keras import build, fit, read_command, read_data


def main() -> None:
    """Train the configurations, in the order of its draws."""
    asked = read_command()
    train, validation = read_data(asked.images)

    class Listed(keras_tuner.HyperModel):  # type: ignore[misc]  # untyped
        def build(self, hp: Any) -> keras.Model:  # noqa: ANN401
            return build(CONFIGURATIONS[hp.Choice("configuration", list(range(asked.configurations)))])

        def fit(self, hp: Any, model: keras.Model, x: Any, y: Any, validation_data: Any, **options: Any) -> Any:  # noqa: ANN401
            options.pop("verbose")
            return fit(model, hp.get("configuration"), ((x, y), validation_data), asked.told, **options)

    search = keras_tuner.RandomSearch(
        Listed(),
        objective="val_accuracy",
        max_trials=asked.configurations,
        executions_per_trial=1,
        overwrite=True,
        directory="keras-tuner",
        project_name="throughput",
    )
    # It ends after twenty draws of what it has seen: of 24 points, the last would be missed more often than not.
    search.oracle._max_collisions = 10_000  # noqa: SLF001
    search.search(*train, epochs=asked.epochs, validation_data=validation, verbose=0)


if __name__ == "__main__":
    main()
