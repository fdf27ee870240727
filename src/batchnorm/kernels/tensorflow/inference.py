"""Inference: one fused operation, on CPUs, or three that exporters fold into the layer before them.

No graph has a conditional or a reshape, so an exported model has the operations of Keras's layer.
"""

from functools import cache
from math import gcd, prod
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from batchnorm.affine import Affine
from batchnorm.kernels import reference
from batchnorm.kernels.plan import Plan

Tensor = Any

_FORMATS = {4: "NHWC", 5: "NDHWC"}
# Deviations from zero up to which a mean costs the fused operation at most 4e-6 of y where an
# exporter makes constants of the statistics, and `x * scale + (shift - mean * scale)` of it.
_NEAR = 16.0
_BIG = 1 << 19  # elements from which on the fused operation takes less time in eager code
_NARROW = 64  # channels below which it takes less time with positions side by side, as channels
_WIDTH = 512  # values that are worth putting side by side


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """See `Kernel.infer`."""
    if any(map(plan.is_map, affine)):
        return reference.infer(plan, x, mean, variance, affine, epsilon)
    x = tf.cast(x, plan.moments_dtype)
    scale = tf.math.rsqrt(variance + epsilon)
    step = Affine(scale if _is(affine.scale, 1.0) else scale * affine.scale, affine.shift)
    if not _per_channel(plan, step) or x.dtype != tf.float32 or compiled() or not on_cpu():
        return _composed(plan, x, mean, step)
    if tf.executing_eagerly():
        big = prod(x.shape) >= _BIG and plan.shape[-1] != 1
        return _fused_rows(x, mean, step) if big else _composed(plan, x, mean, step)
    if plan.rank in _FORMATS and _near(mean, variance, epsilon):
        return _fused(x, mean, step)
    return _composed(plan, x, mean, step)


def compiled() -> bool:
    """Returns True in code that XLA compiles: it takes fused operations apart and loses digits."""
    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


@cache
def on_cpu() -> bool:
    """Returns True where CPUs are the only devices."""
    return all(device.device_type == "CPU" for device in tf.config.list_physical_devices())


def _per_channel(plan: Plan, step: Affine) -> bool:
    """Returns True if the channels come last and the step is the same for all samples."""
    ranks = (0 if isinstance(value, Real) else len(value.shape) for value in step)
    return plan.axis == (plan.rank - 1,) and bool(plan.shape[-1]) and max(ranks) <= 1


def _composed(plan: Plan, x: Tensor, mean: Tensor, step: Affine) -> Tensor:
    """Subtracts the mean, multiplies and adds; a large mean in the shift would cost digits."""
    if not _per_channel(plan, step):  # elsewhere they broadcast as they are
        mean, step = plan.spread(mean), Affine(*map(plan.spread, step))
    # ONNX Runtime 1.32 folds no subtraction, and LiteRT none into a dense layer; of the addition of
    # a negation TensorFlow makes a subtraction again.
    x = x - mean if tf.executing_eagerly() else x + mean * -1.0
    y = x * step.scale
    return y if _is(step.shift, 0.0) else y + step.shift


def _fused(x: Tensor, mean: Tensor, step: Affine) -> Tensor:
    """Calls the fused operation on inputs of four axes or five.

    Its statistics are given as they are, but for the deviation, which is in the scale: it has no
    gradient in mean and variance of its own.
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
    *positions, channels = x.shape
    lanes = 1
    if channels < _NARROW:
        most = 1 << (_WIDTH // channels).bit_length() - 1
        lanes = gcd(prod(positions), most)
    shift = tf.broadcast_to(step.shift, (channels,))
    mean, scale, shift = (tf.tile(value, (lanes,)) for value in (mean, step.scale, shift))
    rows = tf.reshape(x, (1, 1, -1, lanes * channels))
    return tf.reshape(_fused(rows, mean, Affine(scale, shift)), x.shape)


def _near(mean: Tensor, variance: Tensor, epsilon: float) -> bool:
    """Returns True if the mean is near zero in every channel, or its value is not known.

    Both ways are exact as long as the statistics are variables. An exporter makes constants of
    them, and traces the model for that, so that the value that is read here is the exported one.
    """
    center, square = _value(mean), _value(variance)
    if center is None or square is None or not isinstance(epsilon, Real):
        return True
    with np.errstate(invalid="ignore"):  # of a negative variance nothing is near
        return bool(np.all(np.abs(center) <= _NEAR * np.sqrt(square + epsilon)))


def _value(statistic: Tensor) -> npt.NDArray[Any] | None:
    """Reads a constant, or a variable while a graph is traced; returns `None` for other tensors."""
    if not isinstance(statistic, tf.Variable):
        value: npt.NDArray[Any] | None = tf.get_static_value(statistic)
        return value
    with tf.init_scope():
        try:
            return np.asarray(statistic) if tf.executing_eagerly() else None
        except tf.errors.FailedPreconditionError:  # a function's own, to be set when it is written
            return None


def _is(value: Tensor, number: float) -> bool:
    return isinstance(value, Real) and value == number
