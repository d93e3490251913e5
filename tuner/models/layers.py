"""Layers that train faster than Keras's own and have the same weights."""

from __future__ import annotations

from typing import Any

import keras


class TrainingBatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras is untyped
    """Batch normalisation over the channels of (n, height, width, channels) through TensorFlow's fused operation.

    Keras's own layer is not fused on the TensorFlow CPU path and costs 1.5 times as much per epoch of a small CNN
    (measured, results/LOG.md). Same weights in the same order, so that the saved model holds the standard layer. On
    other backends, and in inference, it is the standard layer.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ANN401, FBT001  # Keras's signature
        """Normalise by the batch when training, by the moving averages otherwise."""
        if not training or keras.backend.backend() != "tensorflow" or len(inputs.shape) != 4:  # noqa: PLR2004
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf  # the one TensorFlow-only trick of this room

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


class TrainingDropout(keras.layers.Dropout):  # type: ignore[misc]  # Keras is untyped
    """Dropout whose rate can change after it was compiled, from half as many random bits as Keras's own draws.

    Under TensorFlow two activations share a random word of 32 bits (its generator is nearly all that dropout costs);
    the rate is met within 2**-16. On other backends, and in inference, it is the standard layer.
    """

    def __init__(self, rate: float, **options: Any) -> None:  # noqa: ANN401  # Keras's signature
        """As Keras's own layer; ``rate_now`` (a tf.Variable) is what counts under TensorFlow."""
        super().__init__(rate, **options)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self.rate_now = tf.Variable(rate, trainable=False, dtype=tf.float32)

    def call(self, inputs: Any, training: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002  # Keras's signature
        """Drop single activations when training, and scale up what is left."""
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training)
        import tensorflow as tf

        count, seed = tf.size(inputs), self.seed_generator.next()
        # Philox by name: the same bits on every device.
        words = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, tf.int32, alg="philox")
        bits = tf.reshape(tf.bitcast(words, tf.int16), [-1])[:count]
        kept = bits >= tf.cast(self.rate_now * 2.0**16 - 2.0**15, tf.int16)
        mask = tf.reshape(tf.cast(kept, inputs.dtype), tf.shape(inputs))
        return inputs * mask * (1.0 / (1.0 - self.rate_now))
