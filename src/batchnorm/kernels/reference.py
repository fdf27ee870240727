"""The specification: every plan, every backend, in `keras.ops`."""

from typing import Any

from keras import ops

from batchnorm.kernels.kernel import Call
from batchnorm.stages.affine import Affine, then
from batchnorm.stages.moments import Moments, centre
from batchnorm.stages.plan import Plan
from batchnorm.stages.sums import spread

Tensor = Any


def supports(plan: Plan) -> bool:
    """Returns True: it serves every plan."""
    return True


def train(plan: Plan, call: Call) -> tuple[Tensor, Moments]:
    """Normalizes by the batch's own moments; see `Kernel.train`."""
    x = ops.cast(call.x, plan.moments_dtype)
    deviation, moments = centre(x, plan.axes, call.weights, call.prior, call.replicas)
    step = _normalizing(moments.variance, call.epsilon)
    if call.correction is not None:
        step = then(step, call.correction(moments))
    scale, shift = then(_spread(plan, step), _spread(plan, call.affine))
    # (deviation - residual) * scale + shift with one pass over x less.
    shift = shift - plan.spread(moments.residual) * scale
    scale, shift = (spread(value, x, plan.axes) for value in (scale, shift))
    return deviation * scale + shift, moments.rounded


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """Normalizes by statistics; see `Kernel.infer`."""
    x = ops.cast(x, plan.moments_dtype)
    step = then(_spread(plan, _normalizing(variance, epsilon)), _spread(plan, affine))
    return (x - plan.spread(mean)) * step.scale + step.shift


def _normalizing(variance: Tensor, epsilon: float) -> Affine:
    return Affine(ops.rsqrt(variance + epsilon))


def _spread(plan: Plan, affine: Affine) -> Affine:
    return Affine(plan.spread(affine.scale), plan.spread(affine.shift))
