"""Write a Keras model as a SavedModel, an ONNX or a LiteRT file; in a process apart, for it loads TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path


def convert(model: str, kind: str, to: str, hypermodel: str = "") -> None:
    """Write the Keras file ``model`` to ``to`` as ``kind``, Keras's name of the format.

    ``hypermodel`` names a JSON file of the one that its layers are from.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # which has them all
    import keras
    import numpy as np

    from tuner.export.runtimes import loading

    loaded = loading(hypermodel)(Path(model)) if hypermodel else keras.saving.load_model(model, compile=False)
    loaded(np.zeros((1, *loaded.input_shape[1:]), np.uint8))  # the ONNX converter asks what a call looked like
    loaded.export(to, format=kind, verbose=False)
