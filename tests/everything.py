"""A hypermodel that uses every feature of KerasTuner's HyperParameters once, on small colour images."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def ask_everything(hp: Any) -> None:
    """Use every feature of the HyperParameters API."""
    hp.Fixed("kept", "as it is")
    hp.Boolean("flag", default=True)
    kind = hp.Choice("kind", ["mlp", "cnn"])
    hp.Choice("size", [3, 5, 7], ordered=True, default=5)
    hp.Choice("bits", [True, False])
    hp.Choice("rate", [0.1, 0.01])
    hp.Int("number", 1, 4)
    hp.Int("state", 6, 13, step=3)
    hp.Int("epochs_trained", 2, 9, sampling="log", default=4)
    hp.Int("parameters", 2, 32, step=2, sampling="log")
    hp.Int("seconds", 2, 9, sampling="reverse_log")
    hp.Int("reverse_steps", 1, 27, step=3, sampling="reverse_log")
    hp.Float("val_accuracy", -1.0, 1.0)
    hp.Float("f_stepped", 0.0, 0.6, step=0.1)
    hp.Float("f_log", 1e-4, 1e-1, sampling="log")
    hp.Float("f_log_steps", 0.001, 10, step=10, sampling="log")
    hp.Float("f_reverse", 0.5, 0.99, sampling="reverse_log")
    hp.Float("f_reverse_steps", 1.0, 16.0, step=4, sampling="reverse_log")
    with hp.name_scope("head"):
        hp.Int("units", 8, 16, step=8)
        assert hp.get("units") == hp.values["head/units"]
    with hp.conditional_scope("kind", ["mlp"]):
        assert (hp.Int("deep", 1, 2) is None) == (kind != "mlp")
        if kind == "mlp":
            with hp.conditional_scope("deep", [2]):
                hp.Float("inner", 0.0, 1.0, step=0.5)
    with hp.conditional_scope("kind", ["cnn"]):
        hp.Choice("wide", [30, 40])
    hp.Boolean("late", parent_name="flag", parent_values=[True])
    assert hp.Int("number", 1, 4) == hp["number"]
    assert "kind" in hp
    assert "nothing" not in hp


@keras.saving.register_keras_serializable(package="mine")
class Scaled(layers.Layer):  # type: ignore[misc]  # Keras is untyped
    """A layer of a user's own."""

    def __init__(self, by: float = 1.0, **more: Any) -> None:
        super().__init__(**more)
        self.by = by

    def call(self, x: Any) -> Any:
        return x * self.by

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


def build(hp: Any) -> Any:
    """Build a network for images of 32x32x3 and three classes."""
    ask_everything(hp)
    # One name under two conditions, which KerasTuner's own tuners do not take, and domains that depend on values.
    wide = hp.Choice("width", [4, 8], parent_name="kind", parent_values=["mlp"])
    wider = hp.Int("width", 10, 12, parent_name="kind", parent_values=["cnn"])
    hp.Int("dynamic", 1, hp.get("head/units"))
    hp.Choice("options", ["a", "b"] if hp.get("kind") == "mlp" else ["b", "c"])
    model = keras.Sequential([keras.Input((32, 32, 3)), Scaled(2.0), layers.AveragePooling2D(4), layers.Flatten()])
    model.add(layers.Dense(wide or wider, "relu"))
    model.add(layers.Dense(3, "softmax"))
    model.compile(keras.optimizers.Adam(hp.get("f_log")), "categorical_crossentropy", metrics=["accuracy"])
    return model
