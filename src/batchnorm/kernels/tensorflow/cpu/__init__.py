"""TensorFlow on CPUs: sums by products with ones, compiled passes, gradients in closed form.

TensorFlow's own fused operation for training adds in sequence: over 200,000 rows its variance is
off by 3e-5. A product of each part with a row of ones keeps the digits, in less time.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from batchnorm.kernels.kernel import Call
from batchnorm.kernels.tensorflow.cpu.gradients import normalize
from batchnorm.kernels.tensorflow.cpu.inference import infer
from batchnorm.kernels.tensorflow.cpu.layout import layout_of, sizes_of
from batchnorm.kernels.tensorflow.cpu.moments import measure
from batchnorm.stages.affine import then
from batchnorm.stages.moments import CheckedMoments, Moments, SplitMoments
from batchnorm.stages.plan import Plan

Tensor = Any

__all__ = ["infer", "supports", "train"]


@lru_cache(1024)
def supports(plan: Plan) -> bool:
    """Returns True for inputs on CPUs with a layout, one replica and no maps."""
    if plan.device != "cpu" or plan.synchronized or plan.general_weights or plan.affine == "map":
        return False
    layout = layout_of(plan)
    # A part of the layout has one scale: a sample, or in groups a ghost batch.
    per_part = plan.affine == "channels" or not (layout is None or layout.one_part or plan.grouped)
    return layout is not None and per_part


def train(plan: Plan, call: Call) -> tuple[Tensor, Moments]:
    """Normalizes by the batch's own moments; see `Kernel.train`."""
    x, weights, affine, layout = call.x, call.weights, call.affine, layout_of(plan)
    assert layout is not None, "`supports` declines plans without a layout"
    if plan.dtype != plan.moments_dtype:
        x = tf.cast(x, plan.moments_dtype)
    if weights is not None:
        layout = layout.for_weights(weights)
        weights = layout.weights(weights, x)
    flat = layout.flat(x)
    statistics, mean = measure(layout, tf.stop_gradient(flat), weights, call.prior, call.epsilon)
    count = statistics.count
    if isinstance(count, int):
        count = tf.constant(count, x.dtype)
    else:
        count = tf.reshape(count, (-1, 1) if plan.grouped and plan.weighted else ())
    provisional, residual, variance = layout.vectors(*mean, statistics.variance)
    moments = SplitMoments(provisional, residual, count, variance)
    if call.correction is not None:
        affine = then(call.correction(moments), affine)
    scale, shift = layout.parameter(affine.scale), layout.parameter(affine.shift)
    y = normalize(layout, statistics, flat, scale, shift)
    shape: Any = layout.shape
    if shape is None:
        shape = tf.shape(x) if layout.length is None else sizes_of(x)
    checkable = plan.mode == "eager" and isinstance(statistics.count, int)
    return tf.reshape(y, shape), _checked(moments.rounded) if checkable else moments.rounded


def _checked(moments: Moments) -> Moments:
    """Returns moments that need no further checks, if they are finite."""
    # Read by NumPy, they cost a tenth of the nine operations that would check and select them.
    finite = np.isfinite(moments.mean.numpy()).all() and np.isfinite(moments.variance.numpy()).all()
    return CheckedMoments(*moments) if finite else moments
