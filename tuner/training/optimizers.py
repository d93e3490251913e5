"""A recipe's optimizer."""

from __future__ import annotations

from typing import Any

import keras

from tuner.training.configuration import Recipe


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Return the recipe's optimizer; biases and norms do not decay."""
    options: dict[str, Any] = {
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay or None,
        "global_clipnorm": recipe.clip_norm or None,
    }
    match recipe.optimizer:
        case "sgd":
            optimizer = keras.optimizers.SGD(momentum=recipe.momentum, nesterov=recipe.momentum > 0, **options)
        case "adam":
            optimizer = keras.optimizers.Adam(**options)
        case "adamw":
            optimizer = keras.optimizers.AdamW(**{**options, "weight_decay": recipe.weight_decay})
        case "rmsprop":
            optimizer = keras.optimizers.RMSprop(**options)
        case _:
            raise AssertionError(recipe.optimizer)
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
