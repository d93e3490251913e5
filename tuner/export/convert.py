"""Write a Keras model as a SavedModel, an ONNX or a LiteRT file: a program, for TensorFlow stays out of our process."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(model: str, kind: str, to: str, hypermodel: str = "") -> None:
    """Write the Keras file ``model`` to ``to`` as ``kind``, Keras's name of the format.

    ``hypermodel`` names a JSON file of the one that its layers are from.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # which has them all
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np

    from tuner.export.runtimes import loading

    loaded = loading(hypermodel)(Path(model)) if hypermodel else keras.saving.load_model(model, compile=False)
    loaded(np.zeros((1, *loaded.input_shape[1:]), np.uint8))  # the ONNX converter asks what a call looked like
    loaded.export(to, format=kind, verbose=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
