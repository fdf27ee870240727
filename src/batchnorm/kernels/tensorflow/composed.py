"""Any device: inference in three operations that exporters fold; the reference trains."""

from numbers import Real
from typing import Any

import tensorflow as tf

from batchnorm.kernels import reference
from batchnorm.kernels.kernel import Call
from batchnorm.stages.affine import Affine
from batchnorm.stages.moments import Moments
from batchnorm.stages.plan import Plan

Tensor = Any


def supports(plan: Plan) -> bool:
    """Returns True for one replica and no maps."""
    return not plan.synchronized and plan.affine != "map"


def train(plan: Plan, call: Call) -> tuple[Tensor, Moments]:
    """Normalizes by the batch's own moments; see `Kernel.train`."""
    return reference.train(plan, call)


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """Normalizes by statistics; see `Kernel.infer`."""
    scale = tf.math.rsqrt(variance + epsilon)
    if not is_number(affine.scale, 1.0):
        scale = scale * affine.scale
    return compose(plan, tf.cast(x, plan.moments_dtype), mean, Affine(scale, affine.shift))


def compose(plan: Plan, x: Tensor, mean: Tensor, step: Affine) -> Tensor:
    """Subtracts the mean, multiplies and adds; a large mean in the shift would cost digits."""
    if plan.axis != (plan.rank - 1,) or plan.affine != "channels":  # else they broadcast
        mean, step = plan.spread(mean), Affine(*map(plan.spread, step))
    # ONNX Runtime 1.32 folds no subtraction, and LiteRT none into a dense layer; TensorFlow 2.21
    # turns the addition of a negation back into a subtraction, so the negation is a product.
    x = x - mean if plan.mode == "eager" else x + mean * -1.0
    y = x * step.scale
    return y if is_number(step.shift, 0.0) else y + step.shift


def is_number(value: Tensor, number: float) -> bool:
    """Returns True for a Python number of this value; a tensor is not read."""
    return isinstance(value, Real) and value == number
