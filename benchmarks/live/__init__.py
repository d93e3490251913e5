"""Our search beside plain Optuna and KerasTuner, live."""
