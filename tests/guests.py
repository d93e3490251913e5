"""Files of hypermodels as tests write them, and what is built of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from tuner.records import Values
from tuner.search.rehearsal import by_default
from tuner.space.hypermodel import Loaded
from tuner.space.hypermodel_file import HypermodelFile, read_hypermodel
from tuner.training.guests import Guest

Write = Callable[..., HypermodelFile]
HEAD = """
import keras
import keras_tuner
from keras import layers

def compiled(model, loss="sparse_categorical_crossentropy", metrics=("accuracy",)):
    model.compile("adam", loss=loss, metrics=list(metrics))
    return model

def net(*layers_, outputs=10, activation="softmax", shape=(28, 28, 1)):
    return keras.Sequential([keras.Input(shape), *layers_, layers.Flatten(), layers.Dense(outputs, activation)])
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str, name: str = "", **changes: Any) -> HypermodelFile:
        path = tmp_path / "my_model.py"
        path.write_text(text, "utf-8")
        read = read_hypermodel(f"{path}:{name}" if name else str(path))
        return HypermodelFile(**{**vars(read), **changes})

    return to_file


def built(
    file: HypermodelFile, values: Values | None = None, seed: int = 0, input_shape: tuple[int, int, int] = (28, 28, 1)
) -> Guest:
    keras.backend.clear_session()
    return Guest(Loaded(file), values or {}, by_default, seed=seed, input_shape=input_shape, classes=10)
