"""Inference on CPUs: one fused operation, or the three that exporters fold.

No graph has a conditional or a reshape, so an exported model has the operations of Keras's layer.
"""

from math import gcd, prod
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from batchnorm.kernels.tensorflow import composed
from batchnorm.kernels.tensorflow.composed import is_number
from batchnorm.kernels.tensorflow.cpu.sums import shape_of
from batchnorm.stages.affine import Affine
from batchnorm.stages.plan import Plan

Tensor = Any

_FORMATS = {4: "NHWC", 5: "NDHWC"}
# Deviations from zero up to which a mean costs the fused operation at most 4e-6 of y where an
# exporter makes constants of the statistics, and `x * scale + (shift - mean * scale)` of it.
_SMALL_MEAN = 16.0
_BIG = 1 << 19  # elements from which on the fused operation takes less time in eager code
_NARROW = 64  # channels below which it takes less time with lanes, rows beside each other as one
_WIDTH = 512  # values of a row that are worth lanes


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """Normalizes by statistics; see `Kernel.infer`."""
    if not _fusible(plan) or not (plan.mode == "eager" or _mean_is_small(mean, variance, epsilon)):
        return composed.infer(plan, x, mean, variance, affine, epsilon)
    if plan.dtype != plan.moments_dtype:
        x = tf.cast(x, plan.moments_dtype)
    scale = tf.math.rsqrt(variance + epsilon)
    step = Affine(scale if is_number(affine.scale, 1.0) else scale * affine.scale, affine.shift)
    return _fused_rows(x, mean, step) if plan.mode == "eager" else _fused(x, mean, step)


def _fusible(plan: Plan) -> bool:
    """Returns True for inputs that the fused operation serves, in less time in eager code.

    XLA takes the operation apart, and loses digits.
    """
    if plan.mode == "compiled" or plan.moments_dtype == "float64" or plan.affine != "channels":
        return False
    if plan.axis != (plan.rank - 1,) or not plan.shape[-1]:
        return False
    if plan.mode == "graph":
        return plan.rank in _FORMATS
    return plan.shape[-1] != 1 and prod(size or 0 for size in plan.shape) >= _BIG


def _fused(x: Tensor, mean: Tensor, step: Affine) -> Tensor:
    """Calls the fused operation on inputs of four axes or five.

    It has no gradients in mean and variance. So the deviation is in the scale, and the variance 1;
    and the mean's gradient comes from a term of the shift that is 0.
    """
    mean = tf.convert_to_tensor(mean)
    scale, constant = step.scale, tf.stop_gradient(mean)
    shift = step.shift - (mean - constant) * scale
    y, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale,
        offset=shift,
        mean=constant,
        variance=tf.ones_like(scale),
        epsilon=0.0,
        data_format=_FORMATS[len(x.shape)],
        is_training=False,
    )
    return y


def _fused_rows(x: Tensor, mean: Tensor, step: Affine) -> Tensor:
    """Calls the fused operation on inputs of any rank, whose sizes are known."""
    *sizes, channels = x.shape
    lanes = 1
    if channels < _NARROW:
        most = 1 << (_WIDTH // channels).bit_length() - 1
        lanes = gcd(prod(sizes), most)
    scale, shift = step.scale, tf.broadcast_to(step.shift, shape_of(channels))
    if lanes > 1:
        repeats = shape_of(lanes)
        mean, scale, shift = (
            tf.tile(mean, repeats),
            tf.tile(scale, repeats),
            tf.tile(shift, repeats),
        )
    rows = tf.reshape(x, shape_of(1, 1, -1, lanes * channels))
    return tf.reshape(_fused(rows, mean, Affine(scale, shift)), shape_of(*x.shape))


def _mean_is_small(mean: Tensor, variance: Tensor, epsilon: float) -> bool:
    """Returns True if every mean is small beside its deviation, or its value is not known.

    Both ways are exact as long as the statistics are variables. An exporter makes constants of
    them, and traces the model for that, so that the value that is read here is the exported one.
    """
    center, square = _value(mean), _value(variance)
    if center is None or square is None or not isinstance(epsilon, Real):
        return True
    with np.errstate(invalid="ignore"):  # a negative variance makes NaN, and the answer False
        return bool(np.all(np.abs(center) <= _SMALL_MEAN * np.sqrt(square + epsilon)))


def _value(statistic: Tensor) -> npt.NDArray[Any] | None:
    """Reads a constant, or a variable while a graph is traced; returns `None` for other tensors."""
    if not isinstance(statistic, tf.Variable):
        value: npt.NDArray[Any] | None = tf.get_static_value(statistic)
        return value
    with tf.init_scope():
        try:
            return np.asarray(statistic) if tf.executing_eagerly() else None
        except tf.errors.FailedPreconditionError:  # made in this function, and not yet set
            return None
