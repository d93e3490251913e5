"""Plain Optuna, as its Keras example writes it: one process, TensorFlow's own threads, the study in memory."""

from __future__ import annotations

import keras
import optuna
from optuna_integration import KerasPruningCallback
from systems import CONFIGURATIONS
from systems_keras import build, fit, read_command, read_data


def main() -> None:
    """Train the configurations."""
    asked = read_command()
    data = read_data(asked.images)

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        configuration = trial.suggest_int("configuration", 0, len(CONFIGURATIONS) - 1)
        model = build(CONFIGURATIONS[configuration])
        callbacks = [KerasPruningCallback(trial, "val_accuracy")]
        history = fit(model, configuration, data, asked.told, epochs=asked.epochs, callbacks=callbacks)
        return float(history.history["val_accuracy"][-1])

    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    for configuration in range(asked.configurations):
        study.enqueue_trial({"configuration": configuration})
    study.optimize(objective, n_trials=asked.configurations)


if __name__ == "__main__":
    main()
