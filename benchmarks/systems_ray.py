"""Ray Tune, as its Keras example writes it, one CPU a trial: two trials at once on two cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune
from systems_keras import read_command, read_data


def train(config: dict[str, Any], *, data: Any, epochs: int, told: Path) -> None:  # noqa: ANN401
    """Train one configuration; Ray calls it in a process of the trial's own."""
    from ray.tune.integration.keras import TuneReportCheckpointCallback
    from systems import CONFIGURATIONS
    from systems_keras import build, fit

    configuration = config["configuration"]
    callbacks = [TuneReportCheckpointCallback(checkpoint_on=[], metrics=["val_accuracy"])]
    fit(build(CONFIGURATIONS[configuration]), configuration, data, told, epochs=epochs, callbacks=callbacks)


def main() -> None:
    """Train the configurations."""
    asked = read_command()
    trainable = tune.with_parameters(train, data=read_data(asked.images), epochs=asked.epochs, told=asked.told)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"configuration": tune.grid_search(list(range(asked.configurations)))},
        tune_config=tune.TuneConfig(metric="val_accuracy", mode="max"),
        run_config=tune.RunConfig(name="throughput", storage_path=str(Path.cwd())),
    )
    tuner.fit()


if __name__ == "__main__":
    main()
