"""What the other systems share: our data, and one plain Keras model of the same layers, sizes and optimizer."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import keras
from systems import CLASSES, CONFIGURATIONS, INPUT_SHAPE

from tuner.data.sources import find
from tuner.data.splits import Cut, read_images
from tuner.records import Values
from tuner.training.configuration import read_configuration


def read_command() -> argparse.Namespace:
    """Return what ``throughput.py`` asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--configurations", type=int, required=True)
    parser.add_argument("--told", type=Path, required=True, help="file that every training is written to")
    return parser.parse_args()


def read_data(images: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return (x, y) of training and of validation, x as float32 of mean 0 and deviation 1, scaled once."""
    split = read_images(find(None), Cut(images))
    mean, deviation = split.scale
    x_train, x_val = ((x.astype("float32") / 255 - mean) / deviation for x in (split.train, split.val))
    return (x_train, split.train_labels), (x_val, split.val_labels)


def build(values: Values) -> keras.Model:
    """Return the compiled network of ``values``, checked against our plan's number of parameters."""
    normed = values["norm"] == "batch"
    layers = [keras.Input(INPUT_SHAPE)]
    for block in range(1, int(values["blocks"]) + 1):  # type: ignore[arg-type]
        filters = values[f"filters_{block}"]
        conv = keras.layers.Conv2D(filters, 3, padding="same", use_bias=not normed, kernel_initializer="he_normal")
        layers += [conv, keras.layers.MaxPooling2D()]
        if normed:
            layers.append(keras.layers.BatchNormalization(momentum=0.9))
        layers.append(keras.layers.ReLU())
        if values["dropout_conv"]:
            layers.append(keras.layers.Dropout(values["dropout_conv"]))
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(values["dense_units"], activation="relu", kernel_initializer="he_normal"),
    ]
    if values["dropout_dense"]:
        layers.append(keras.layers.Dropout(values["dropout_dense"]))
    layers.append(keras.layers.Dense(CLASSES))
    model = keras.Sequential(layers)
    optimizer = keras.optimizers.AdamW(values["learning_rate"], weight_decay=values["weight_decay"])
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    planned = read_configuration(values).plan(INPUT_SHAPE, CLASSES).cost.parameters
    if model.count_params() != planned:
        raise ValueError(f"{model.count_params()} parameters where our plan has {planned}: {values}")
    return model


def fit(model: keras.Model, configuration: int, data: Any, told: Path, **options: Any) -> Any:  # noqa: ANN401
    """Train as the others' documents write it, and tell when it began and what it reached."""
    (x_train, y_train), validation = data

    def tell(**facts: float) -> None:
        with told.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"configuration": configuration, "at": time.time(), **facts}) + "\n")

    telling = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: tell(),  # noqa: ARG005
        on_train_end=lambda logs: tell(val_accuracy=float(logs["val_accuracy"])),
    )
    callbacks = [*options.pop("callbacks"), telling]
    batch_size = CONFIGURATIONS[configuration]["batch_size"]
    return model.fit(
        x_train, y_train, batch_size=batch_size, validation_data=validation, callbacks=callbacks, verbose=0, **options
    )
