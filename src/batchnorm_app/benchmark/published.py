"""Conditional batch normalization as published elsewhere, as Keras layers."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from batchnorm_app.benchmark.inputs import EPSILON, MOMENTUM

Tensor = Any


class MomentsThenGather(keras.layers.Layer):
    """Moments, then one multiplication and one addition with gathered rows of gamma and beta.

    y = x * a + (beta[labels] - mean * a)  with  a = gamma[labels] / sqrt(variance + epsilon)

    Args:
        classes: number of rows.

    References:
        Gulrajani et al. 2017, arXiv:1704.00028, whose code is `tf.nn.moments`,
        `tf.nn.embedding_lookup` and `tf.nn.batch_normalization`.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def build(self, inputs_shape: Sequence[int]) -> None:
        """Creates gamma, beta and the moving statistics."""
        channels = inputs_shape[-1]
        self.gamma, self.beta = _rows(self, self.classes, channels)
        self.moving_mean, self.moving_variance = (
            self.add_weight(shape=(channels,), initializer=initializer, trainable=False)
            for initializer in ("zeros", "ones")
        )

    def call(self, inputs: Tensor, condition: Tensor, training: bool = False) -> Tensor:
        """Normalizes the inputs."""
        if training:
            mean, variance = ops.moments(inputs, tuple(range(len(inputs.shape) - 1)))
            for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * MOMENTUM + new * (1 - MOMENTUM))
        else:
            mean, variance = self.moving_mean, self.moving_variance
        gamma, beta = (_gather(rows, condition, inputs) for rows in (self.gamma, self.beta))
        factor = ops.rsqrt(variance + EPSILON) * gamma
        return inputs * factor + (beta - mean * factor)


class NormalizedThenGain(keras.layers.Layer):
    """Keras's layer without gamma and beta, then gathered rows of a gain and a bias.

    Args:
        classes: number of rows.

    References:
        Brock, Donahue, Simonyan 2019, arXiv:1809.11096, whose code is `F.batch_norm` without
        weights, `* gain + bias`.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.normalization = keras.layers.BatchNormalization(
            momentum=MOMENTUM, epsilon=EPSILON, center=False, scale=False
        )

    def build(self, inputs_shape: Sequence[int]) -> None:
        """Creates gamma and beta."""
        self.normalization.build(inputs_shape)
        self.gamma, self.beta = _rows(self, self.classes, inputs_shape[-1])

    def call(self, inputs: Tensor, condition: Tensor, training: bool = False) -> Tensor:
        """Normalizes the inputs."""
        gamma, beta = (_gather(rows, condition, inputs) for rows in (self.gamma, self.beta))
        return self.normalization(inputs, training=training) * gamma + beta


def _rows(layer: keras.layers.Layer, classes: int, channels: int) -> list[Any]:
    shape = (classes, channels)
    return [layer.add_weight(shape=shape, initializer=name) for name in ("ones", "zeros")]


def _gather(rows: Any, labels: Tensor, inputs: Tensor) -> Tensor:
    spatial_axes = tuple(range(1, len(inputs.shape) - 1))
    return ops.expand_dims(ops.take(rows, labels, axis=0), spatial_axes)
