"""From a plan to Keras: the network that trains, and the whole model that leaves."""

from __future__ import annotations

from typing import Any, assert_never

import keras

from tuner.models.layers import TrainingBatchNorm, TrainingDropout
from tuner.models.plan import Add, Conv, Dense, Dropout, Flatten, GlobalPool, Layer, Norm, Plan, Pool, Relu, Skip

INITIALIZERS = {
    "he_normal": keras.initializers.HeNormal,
    "he_uniform": keras.initializers.HeUniform,
    "glorot_uniform": keras.initializers.GlorotUniform,
}


def build_network(plan: Plan, *, scale: tuple[float, float], l2: float = 0.0, seed: int) -> keras.Model:
    """Return the network that trains: float32 pixels 0-255 (n, height, width, channels) in, logits (n, classes) out.

    ``scale`` is the mean and standard deviation of the training pixels as fractions of 255, for a plan that has none
    of its own. Initial weights and
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
    mean, deviation = plan.scale or scale
    x = keras.layers.Rescaling(1 / (255 * deviation), offset=-mean / deviation)(inputs)
    skipped: list[Any] = []
    for number, layer in enumerate(plan.layers):
        if isinstance(layer, Skip):
            skipped.append(x)
        elif isinstance(layer, Add):
            x = keras.layers.Add()([x, skipped.pop()])
        else:
            x = _keras_layer(layer, l2=l2, seed=seed + number, fused=fused)(x)
    return x


def _keras_layer(layer: Layer, *, l2: float, seed: int, fused: bool) -> keras.Layer:
    match layer:
        case Conv():
            shape = {"strides": layer.stride, "padding": layer.padding, "use_bias": layer.bias}
            return keras.layers.Conv2D(layer.filters, layer.kernel, **shape, **_kernel(layer, l2, seed))
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
            return keras.layers.Dense(layer.units, **_kernel(layer, l2, seed))
        case Skip() | Add():
            raise AssertionError(layer)  # handled where the branch is known
        case _:
            assert_never(layer)


def _kernel(layer: Conv | Dense, l2: float, seed: int) -> dict[str, Any]:
    return {
        "kernel_initializer": INITIALIZERS[layer.initializer](seed=seed),
        "kernel_regularizer": keras.regularizers.L2(l2) if l2 else None,
    }
