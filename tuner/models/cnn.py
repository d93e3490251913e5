"""From a plan to Keras: the network that trains, and the whole model that leaves."""

from __future__ import annotations

from typing import Any, assert_never

import keras

from tuner.models.layers import TrainingBatchNorm, TrainingDropout
from tuner.models.plan import Add, Conv, Dense, Dropout, Flatten, GlobalPool, Layer, Norm, Plan, Pool, Relu, Skip


def build_network(plan: Plan, *, scale: tuple[float, float], l2: float = 0.0, seed: int) -> keras.Model:
    """Return the network that trains: float32 pixels 0-255 (n, height, width, channels) in, logits (n, classes) out.

    ``scale`` is the mean and standard deviation of the training pixels as fractions of 255. Initial weights and
    dropout derive from ``seed`` alone.
    """
    inputs = keras.Input(plan.input_shape)
    return keras.Model(inputs, _logits(plan, inputs, scale=scale, l2=l2, seed=seed, fused=True))


def whole_model(plan: Plan, trained: keras.Model, *, scale: tuple[float, float]) -> keras.Model:
    """Return the model that leaves: uint8 pixels in, probabilities out, standard Keras layers only."""
    inputs = keras.Input(plan.input_shape, dtype="uint8", name="pixels")
    logits = _logits(plan, inputs, scale=scale, l2=0.0, seed=0, fused=False)
    model = keras.Model(inputs, keras.layers.Softmax(name="probabilities")(logits))
    model.set_weights(trained.get_weights())
    return model


def _logits(  # noqa: PLR0913  # one private road for both models
    plan: Plan,
    inputs: Any,  # noqa: ANN401  # Keras tensors have no public type
    *,
    scale: tuple[float, float],
    l2: float,
    seed: int,
    fused: bool,
) -> Any:  # noqa: ANN401
    mean, deviation = scale
    x = keras.layers.Rescaling(1 / (255 * deviation), offset=-mean / deviation)(inputs)
    skipped: list[Any] = []
    for number, layer in enumerate(plan.layers):
        if isinstance(layer, Skip):
            skipped.append(x)
        elif isinstance(layer, Add):
            x = keras.layers.Add()([x, skipped.pop()])
        else:
            is_last = number == len(plan.layers) - 1
            x = _keras_layer(layer, l2=l2, seed=seed + number, is_last=is_last, fused=fused)(x)
    return x


def _keras_layer(layer: Layer, *, l2: float, seed: int, is_last: bool, fused: bool) -> keras.Layer:
    kernel = {
        # He et al. 2015 before a rectifier, Glorot & Bengio 2010 before the softmax.
        "kernel_initializer": (keras.initializers.GlorotUniform if is_last else keras.initializers.HeNormal)(seed=seed),
        "kernel_regularizer": keras.regularizers.L2(l2) if l2 else None,
    }
    match layer:
        case Conv():
            shape = {"strides": layer.stride, "padding": layer.padding, "use_bias": layer.bias}
            return keras.layers.Conv2D(layer.filters, layer.kernel, **shape, **kernel)
        case Norm():
            norm = TrainingBatchNorm if fused else keras.layers.BatchNormalization
            return norm(momentum=layer.momentum)
        case Relu():
            return keras.layers.ReLU()
        case Pool():
            return keras.layers.MaxPooling2D()
        case Dropout():
            return (TrainingDropout if fused else keras.layers.Dropout)(layer.rate, seed=seed)
        case Flatten():
            return keras.layers.Flatten()
        case GlobalPool():
            pools = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
            return pools[layer.how]()
        case Dense():
            return keras.layers.Dense(layer.units, **kernel)
        case Skip() | Add():
            raise AssertionError(layer)  # handled where the branch is known
        case _:
            assert_never(layer)
