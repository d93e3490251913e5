"""What the compared systems train: one fixed list of configurations of the ``cnn`` family, in the family's names.

Six architectures of 0.2 to 1.4 times the seed network's size, half of them with batch normalisation, times four
recipes. Nothing is left to chance, no augmentation and a constant learning rate: every system can do the same with
plain Keras.
"""

from __future__ import annotations

import tomli_w

from tuner.records import Values

INPUT_SHAPE = (28, 28, 1)
CLASSES = 10
ARCHITECTURES: tuple[Values, ...] = (
    {"blocks": 3, "filters_1": 16, "filters_2": 32, "filters_3": 64, "norm": "batch", "dense_units": 64},
    {"blocks": 3, "filters_1": 24, "filters_2": 48, "filters_3": 96, "norm": "none", "dense_units": 96},
    {"blocks": 2, "filters_1": 32, "filters_2": 64, "norm": "batch", "dense_units": 64},
    {"blocks": 3, "filters_1": 16, "filters_2": 32, "filters_3": 64, "norm": "none", "dense_units": 128},
    {"blocks": 3, "filters_1": 24, "filters_2": 48, "filters_3": 96, "norm": "batch", "dense_units": 96},
    {"blocks": 2, "filters_1": 16, "filters_2": 32, "norm": "none", "dense_units": 128},
)
RECIPES: tuple[Values, ...] = (
    {"learning_rate": 1e-3, "weight_decay": 1e-3, "dropout_conv": 0.0, "dropout_dense": 0.0, "batch_size": 64},
    {"learning_rate": 2e-3, "weight_decay": 1e-2, "dropout_conv": 0.0, "dropout_dense": 0.3, "batch_size": 128},
    {"learning_rate": 3e-3, "weight_decay": 2e-2, "dropout_conv": 0.1, "dropout_dense": 0.2, "batch_size": 64},
    {"learning_rate": 5e-3, "weight_decay": 5e-3, "dropout_conv": 0.0, "dropout_dense": 0.5, "batch_size": 128},
)
CONFIGURATIONS: tuple[Values, ...] = tuple({**net, **recipe} for recipe in RECIPES for net in ARCHITECTURES)
SAME: Values = {"optimizer": "adamw", "schedule": "constant"}
"""What our family would do otherwise, or could."""


def space_toml(configurations: tuple[Values, ...]) -> str:
    """Return a space whose ``start_with`` entries are ``configurations``: so many trials train these and no others."""
    parameters: dict[str, object] = {name: {"type": "fixed", "value": value} for name, value in SAME.items()}
    for name in dict.fromkeys(name for values in CONFIGURATIONS for name in values):
        options = list(dict.fromkeys(values[name] for values in CONFIGURATIONS if name in values))
        parameters[name] = {"type": "choice", "options": options}
        if name == "filters_3":
            parameters[name] = {"type": "choice", "options": options, "when": {"blocks": 3}}
    return tomli_w.dumps({"model": "cnn", "parameters": parameters, "start_with": list(configurations)})
