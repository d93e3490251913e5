"""What a hypermodel's network takes and gives: looked at when it is built, so that nothing is fed to it by guess.

Pixels are 0 to 1, or 0 to 255 for a network that rescales or normalises them itself; labels are what its loss wants;
its outputs are probabilities, or logits by the word of its loss. What is none of these is refused in one line.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tuner.errors import SpaceError
from tuner.records import Cost
from tuner.space.hypermodel_file import HypermodelFile

SMALLEST_SCALE = 1 / 64
"""A ``Rescaling`` by less than this is there for pixels of 0 to 255."""
ACCURACIES = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy")
"""What Keras calls an accuracy, and a user hardly anything else."""
PROBES = 2
"""Images that a new network is shown: two, so that a batch is told from an image."""


@dataclass(frozen=True)
class Contract:
    """What goes in and what comes out."""

    shape: tuple[int, ...]
    """Of an image."""
    highest: float
    """What a white pixel is: 1 or 255."""
    one_hot: bool
    logits: bool
    metric: str
    """What the network's own logs call its accuracy; empty where they hold none, and it is measured on images."""
    cost: Cost

    @property
    def words(self) -> str:
        """Return it as a sentence."""
        labels = "one-hot" if self.one_hot else "integer"
        ends = "logits, which get a softmax in the exported model" if self.logits else "probabilities"
        accuracy = f"'{self.metric}'" if self.metric else "measured on a part of the training images"
        return (
            f"pixels 0 to {self.highest:.0f} in, shape {self.shape}; {labels} labels; {ends} out; "
            f"its accuracy is {accuracy}"
        )

    def pixels(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return images with pixels of 0 to 255, (n, height, width, channels), as the network takes them."""
        scaled = images.astype(np.float32) * np.float32(self.highest / 255)
        return scaled.reshape(len(images), *self.shape)

    def labels(self, labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[Any]:
        """Return integer labels (n,) as the loss takes them."""
        return np.eye(classes, dtype=np.float32)[labels] if self.one_hot else labels


def read_contract(
    model: Any,  # noqa: ANN401
    file: HypermodelFile,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    own_fit: bool = False,
) -> Contract:
    """Look at a built and compiled network. Raises SpaceError: what it lacks, and what to write.

    One that ``own_fit`` trains may be compiled there, or not at all.
    """
    if not isinstance(model, keras.Model):
        raise SpaceError(f"{file.called}: it returned {_kind(model)}, not a Keras model", hint="return model")
    loss = _only(model.loss) if model.compiled else None
    if loss is None and not own_fit:
        hint = "model.compile(optimizer=…, loss=…, metrics=['accuracy'])"
        raise SpaceError(f"{file.called}: it returned a model that is not compiled with a loss", hint=hint)
    if not own_fit and getattr(model.optimizer, "use_ema", False):
        hint = "give the HyperModel a fit of its own: return model.fit(*args, **kwargs)"
        raise SpaceError(f"{file.called}: its optimizer averages weights, and use_ema is not heeded here", hint=hint)
    shape, highest = _shape(model, file, input_shape), _highest(model, file)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (PROBES, *input_shape)).astype(np.float32) * (highest / 255)
    x = keras.ops.convert_to_tensor(images.reshape(PROBES, *shape).astype(np.float32))
    with _counting() as counted:
        outputs = model(x, training=False)
    said = np.asarray(keras.ops.convert_to_numpy(outputs)) if not isinstance(outputs, list | tuple | dict) else None
    if said is None or said.shape != (PROBES, classes):
        gives = "several outputs" if said is None else f"outputs of shape {said.shape[1:]}"
        hint = f"end it in Dense({classes})"
        raise SpaceError(f"{file.called}: it gives {gives} an image, and the data has {classes} classes", hint=hint)
    logits, one_hot = _ends_in_logits(loss, file, said), _wants_one_hot(loss, file)
    metric = "accuracy"  # as a loop of the user's own may call it
    if loss is not None:
        metric = _accuracy_metric(model, file, x, outputs, one_hot=one_hot, classes=classes)
    return Contract(shape, highest, one_hot, logits, metric, Cost(model.count_params(), counted[0]))


def whole_of(model: Any, contract: Contract, input_shape: tuple[int, int, int]) -> keras.Model:  # noqa: ANN401
    """Return the model that leaves: uint8 pixels in, probabilities out, the user's own network inside."""
    inputs = keras.Input(input_shape, dtype="uint8", name="pixels")
    x = keras.layers.Rescaling(contract.highest / 255, name="as_searched")(inputs)
    if contract.shape != input_shape:
        x = keras.layers.Reshape(contract.shape)(x)
    model.compiled = False  # its loss and optimizer would be saved with it, and asked for when it is loaded
    x = model(x, training=False)
    return keras.Model(inputs, keras.layers.Softmax(name="probabilities")(x) if contract.logits else x)


def _shape(model: Any, file: HypermodelFile, input_shape: tuple[int, int, int]) -> tuple[int, ...]:  # noqa: ANN401
    """Return the shape of an image as the network wants it: a channel alone may be left out, or all be in one row."""
    height, width, channels = input_shape
    wanted = getattr(model, "input_shape", None) if model.built else None
    if wanted is None:
        return input_shape  # it takes what comes
    if isinstance(wanted, tuple):
        own = tuple(wanted[1:])
        fitting: list[tuple[int, ...]] = [input_shape, (height * width * channels,)]
        if channels == 1:
            fitting.append((height, width))
        for shape in fitting:
            if len(own) == len(shape) and all(size in (None, real) for size, real in zip(own, shape, strict=True)):
                return shape
    said = f"{file.called}: it takes images of shape {wanted[1:] if isinstance(wanted, tuple) else wanted}"
    raise SpaceError(f"{said}, and the data's are {input_shape}", hint=f"keras.Input({input_shape})")


def _highest(model: Any, file: HypermodelFile) -> float:  # noqa: ANN401
    if file.pixels != "auto":
        return 255.0 if file.pixels == "raw" else 1.0
    for layer in model._flatten_layers():  # noqa: SLF001  # Keras lists them no other way
        if isinstance(layer, keras.layers.Rescaling) and float(np.min(np.abs(layer.scale))) < SMALLEST_SCALE:
            return 255.0
        if isinstance(layer, keras.layers.Normalization) and layer.built and float(np.max(layer.mean)) > 1:
            return 255.0
    return 1.0


def _only(loss: Any) -> Any:  # noqa: ANN401
    """Return the loss of the only output, which may stand in a list or a dict."""
    losses = list(loss.values()) if isinstance(loss, dict) else loss
    return losses[0] if isinstance(losses, list | tuple) and len(losses) == 1 else loss


def _ends_in_logits(loss: Any, file: HypermodelFile, said: npt.NDArray[Any]) -> bool:  # noqa: ANN401
    if file.outputs != "auto":
        return file.outputs == "logits"
    if getattr(loss, "from_logits", False):
        return True
    if said.min() >= 0 and np.allclose(said.sum(axis=1), 1, atol=1e-3):
        return False
    if loss is None:  # that of a loop of the user's own, which nobody sees
        return True
    raise SpaceError(
        f"{file.called}: its outputs do not add up to 1, and its loss is not from_logits",
        hint="end it in activation='softmax', or say --set hypermodel.outputs=logits",
    )


def _wants_one_hot(loss: Any, file: HypermodelFile) -> bool:  # noqa: ANN401
    if file.labels != "auto":
        return file.labels == "one-hot"
    if loss is None:
        return False
    name = loss if isinstance(loss, str) else f"{getattr(loss, 'name', '')} {getattr(loss, '__name__', _kind(loss))}"
    return "sparse" not in name.lower()


def _accuracy_metric(  # noqa: PLR0913
    model: Any,  # noqa: ANN401
    file: HypermodelFile,
    x: Any,  # noqa: ANN401
    outputs: Any,  # noqa: ANN401
    *,
    one_hot: bool,
    classes: int,
) -> str:
    """Return what the logs will call the accuracy, or nothing, having tried loss and metrics on labels as they come."""
    labels = np.arange(PROBES) % classes
    y = keras.ops.convert_to_tensor(np.eye(classes, dtype=np.float32)[labels] if one_hot else labels)
    try:
        model.compute_loss(x=x, y=y, y_pred=outputs, training=False)
        logs = model.compute_metrics(x, y, outputs)
    except Exception as error:  # noqa: BLE001  # whatever a user's loss raises
        kind = "one-hot" if one_hot else "integer"
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SpaceError(
            f"{file.called}: its loss does not take {kind} labels: {said[:200]}",
            hint=f"--set hypermodel.labels={'integer' if one_hot else 'one-hot'} if it wants the others",
        ) from None
    model.reset_metrics()
    others = [name for name in logs if "acc" in name and "top" not in name]
    return next((name for name in (*ACCURACIES, *others) if name in logs), "")


@contextlib.contextmanager
def _counting() -> Iterator[list[int]]:
    """Count the multiply-adds of what is called meanwhile, for one image: each weight of a kernel at each position.

    By watching every layer's call, because only that sees subclassed models and layers inside of layers.
    """
    counted = [0]
    original = keras.layers.Layer.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        outputs = original(self, *args, **kwargs)
        kernels = sum(
            math.prod(weight.shape)
            for weight in self._trainable_variables  # its own, not its inner layers'
            if len(weight.shape) > 1
        )
        if kernels:
            transposed = "Transpose" in type(self).__name__
            shape = getattr(args[0] if transposed else outputs, "shape", (1,))
            counted[0] += kernels * math.prod(size or 1 for size in shape[1:-1])
        return outputs

    keras.layers.Layer.__call__ = call
    try:
        yield counted
    finally:
        keras.layers.Layer.__call__ = original


def _kind(thing: object) -> str:
    return type(thing).__name__
