"""What runs an exported model: one small promise, and the runtimes that keep it. No other part of us is needed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.errors import ExportError

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""(images, height, width, channels)"""
Probabilities: TypeAlias = npt.NDArray[np.float32]
"""(images, classes)"""

BATCH = 500
TOGETHER = 100
"""Images of the batch whose time is taken."""
SINGLES = 100
"""So many images are predicted one at a time to take the latency."""
EXPORT_AGAIN = "export it again: 'tuner best --export DIR'"
UINT8_IN = "'tuner best --export DIR' writes one that takes raw pixels"
LABELS = "labels.json"
"""The names of the classes, beside the model."""
FILES = {"keras": "model.keras", "saved-model": "saved-model", "onnx": "model.onnx", "litert": "model.tflite"}
"""What each format is called in an export; LiteRT was TensorFlow Lite."""
NEEDED = {
    "keras": ("keras",),
    "saved-model": ("tensorflow",),
    "onnx": ("onnxruntime",),
    "litert": ("ai_edge_litert",),
}
"""What has to be installed to use a format."""


def format_of(path: Path) -> str | None:
    """Return the format of a model file or folder by what it is called and holds; None for no model."""
    if path.is_dir():
        return "saved-model" if (path / "saved_model.pb").is_file() else None
    return {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}.get(path.suffix)


def install_hint(modules: Sequence[str]) -> str:
    """Return what to type where these are missing: they are called as their packages are, but for dashes."""
    return f"pip install {' '.join(modules).replace('_', '-')}"


@dataclass(frozen=True)
class Runtime:
    """A loaded model."""

    path: Path
    input_shape: tuple[int, int, int]
    """Height, width, channels (1 or 3) of an image."""
    n_classes: int
    function: Callable[[Pixels], Any]

    def predict(self, images: Pixels) -> Probabilities:
        """Return the probabilities of any number of raw images. Raises ExportError where they are none."""
        parts = [self.function(images[at : at + BATCH]) for at in range(0, len(images), BATCH)]
        found = np.concatenate([np.asarray(part, np.float32) for part in parts])
        if not np.allclose(found.sum(axis=1), 1, atol=1e-3) or found.min() < 0:
            raise ExportError(f"{self.path}: what it returns are no probabilities", hint=UINT8_IN)
        return found


def own_classes(path: Path) -> tuple[str, ...]:
    """Return what a Keras file names that Keras does not have: layers and functions of a user's own."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ()  # whoever loads it says what is wrong with it
    return tuple(dict.fromkeys(_foreign(config)))


def _foreign(config: object) -> Iterator[str]:
    if isinstance(config, dict):
        module, name = config.get("module", "keras"), config.get("class_name")
        if name == "function":  # Keras's own are written as their names alone
            yield str(config.get("config"))
        elif name and str(module or config.get("registered_name")).split(".")[0] not in ("keras", "builtins", "None"):
            yield str(name)
        for value in config.values():
            yield from _foreign(value)
    elif isinstance(config, list):
        for value in config:
            yield from _foreign(value)


def open_runtime(path: Path, load: Callable[[Path], Any] | None = None) -> Runtime:
    """Load the model at ``path`` with the runtime that it is for. Raises ExportError when it is none, or cannot be.

    ``load`` returns a Keras model that holds layers of a user's own: nobody's code is run for a file that names it.
    """
    kind = format_of(path)
    if kind is None:
        raise ExportError(
            f"{path}: not a model that can be read",
            hint="a .keras, .onnx or .tflite file, or the folder of a SavedModel",
        )
    missing = [name for name in NEEDED[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"{path}: needs {' and '.join(missing)}, not installed here", hint=install_hint(missing))
    try:
        with _silent_stderr():
            shape, classes, dtype, function = _keras(path, load) if kind == "keras" else _OPENERS[kind](path)
    except Exception as error:  # noqa: BLE001  # a damaged file makes its runtime raise nearly anything
        own = own_classes(path) or ("a Lambda layer",) * ("`Lambda`" in str(error))
        if kind == "keras" and load is None and own:
            hint = "the other formats need no code; or load it in Python, as its model_card.md says"
            raise ExportError(f"{path}: it holds {', '.join(own)}, which is code of its maker's", hint=hint) from None
        said = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ExportError(f"{path}: cannot be loaded: {said[:200]}", hint=f"damaged? {EXPORT_AGAIN}") from None
    if (
        len(shape) != len(("n", "height", "width", "channels"))
        or shape[3] not in (1, 3)
        or not all(isinstance(size, int) for size in (*shape[1:], *classes[1:]))
    ):
        raise ExportError(f"{path}: not an image classifier: {tuple(shape)} in, {tuple(classes)} out", hint=UINT8_IN)
    if dtype != "uint8":
        raise ExportError(f"{path}: it takes {dtype}, not raw uint8 pixels", hint=UINT8_IN)
    return Runtime(path, (shape[1], shape[2], shape[3]), classes[-1], function)


_Opened: TypeAlias = tuple[Sequence[Any], Sequence[Any], str, Callable[[Pixels], Any]]
"""Shape in, shape out, type of a pixel, and what predicts at most ``BATCH`` images."""


def _keras(path: Path, load: Callable[[Path], Any] | None) -> _Opened:
    if not zipfile.is_zipfile(path):  # Keras says that there is no file
        raise ValueError("it is no zip archive, as .keras files are")
    import keras

    model = load(path) if load else keras.saving.load_model(path, compile=False)
    dtype = keras.backend.standardize_dtype(model.inputs[0].dtype)
    return model.input_shape, model.output_shape, dtype, model.predict_on_batch


def _saved_model(path: Path) -> _Opened:
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    signature = model.signatures["serving_default"]
    (pixels,), (out,) = signature.structured_input_signature[1].values(), signature.structured_outputs.values()
    # The model has to outlive its function.
    return list(pixels.shape), list(out.shape), pixels.dtype.name, lambda images: model.serve(tf.constant(images))


def _onnx(path: Path) -> _Opened:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (pixels,), (out,) = session.get_inputs(), session.get_outputs()
    dtype = pixels.type.removeprefix("tensor(").removesuffix(")")
    return pixels.shape, out.shape, dtype, lambda images: session.run(None, {pixels.name: images})[0]


def _litert(path: Path) -> _Opened:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    (pixels,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape, classes = ([int(size) for size in one["shape"]] for one in (pixels, out))

    def run(images: Pixels) -> Any:  # noqa: ANN401  # NumPy's
        interpreter.resize_tensor_input(pixels["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(pixels["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(out["index"])

    return shape, classes, np.dtype(pixels["dtype"]).name, run


_OPENERS: dict[str, Callable[[Path], _Opened]] = {
    "saved-model": _saved_model,
    "onnx": _onnx,
    "litert": _litert,
}


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Let nobody write there: TensorFlow 2.21 remarks on the machine while it starts, whatever its log level is."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def loading(hypermodel: str) -> Callable[[Path], Any]:
    """Return what loads a model of the hypermodel in this JSON file."""
    from tuner.space.hypermodel_file import HypermodelFile
    from tuner.training.rebuilt import load_whole

    file = HypermodelFile.of(json.loads(Path(hypermodel).read_text("utf-8")))
    return lambda path: load_whole(path, file)


def probe(model: str, images: Pixels, hypermodel: str = "") -> tuple[Probabilities, float, float]:
    """Return what ``model`` says of ``images``, and the seconds that an image took alone and in a batch.

    ``hypermodel`` names a JSON file of the one that its layers are from. Raises ExportError.
    """
    runtime = open_runtime(Path(model), loading(hypermodel) if hypermodel else None)
    probabilities = runtime.predict(images)  # also whatever is compiled at the first call
    runtime.predict(images[:1])
    alone = statistics.median(_seconds(runtime, images[k : k + 1]) for k in range(min(SINGLES, len(images))))
    batch = images[:TOGETHER]
    together = statistics.median(_seconds(runtime, batch) for _ in range(5)) / len(batch)
    return probabilities, alone, together


def _seconds(runtime: Runtime, images: Pixels) -> float:
    start = time.perf_counter()
    runtime.predict(images)
    return time.perf_counter() - start
