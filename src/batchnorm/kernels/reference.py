"""The specification: every plan, every backend, in `keras.ops`."""

from typing import Any

from keras import ops

from batchnorm.affine import Affine, then
from batchnorm.kernels.plan import Correction, Plan
from batchnorm.statistics import Moments, Total, centre
from batchnorm.summation import spread

Tensor = Any


def supports(plan: Plan) -> bool:
    """Every plan."""
    return True


def train(
    plan: Plan,
    x: Tensor,
    affine: Affine,
    epsilon: float,
    prior: tuple[Tensor, Tensor],
    weights: Tensor | None = None,
    total: Total | None = None,
    correction: Correction | None = None,
) -> tuple[Tensor, Moments]:
    """See `Kernel.train`."""
    x = ops.cast(x, plan.moments_dtype)
    deviation, measured = centre(x, plan.axes, weights, prior, total)
    step = _normalizing(measured.moments.variance, epsilon)
    if correction is not None:
        step = then(step, correction(measured))
    scale, shift = then(_spread(plan, step), _spread(plan, affine))
    # (deviation - residual) * scale + shift with one pass over x less.
    shift = shift - plan.spread(measured.residual) * scale
    scale, shift = (spread(value, x, plan.axes) for value in (scale, shift))
    return deviation * scale + shift, measured.moments


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """See `Kernel.infer`."""
    x = ops.cast(x, plan.moments_dtype)
    step = then(_spread(plan, _normalizing(variance, epsilon)), _spread(plan, affine))
    return (x - plan.spread(mean)) * step.scale + step.shift


def _normalizing(variance: Tensor, epsilon: float) -> Affine:
    return Affine(ops.rsqrt(variance + epsilon))


def _spread(plan: Plan, affine: Affine) -> Affine:
    return Affine(plan.spread(affine.scale), plan.spread(affine.shift))
