"""The specification: every plan, every backend, in `keras.ops`."""

from typing import Any

from keras import ops

from batchnorm.affine import Affine, then
from batchnorm.kernels.plan import Plan
from batchnorm.statistics import Moments, Total, centre

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
) -> tuple[Tensor, Moments]:
    """See `Kernel.train`."""
    x = ops.cast(x, plan.moments_dtype)
    deviation, _, residual, moments = centre(x, plan.axes, weights, prior, total)
    scale, shift = then(_normalizing(moments.variance, epsilon), affine)
    # (deviation - residual) * scale + shift with one pass over x less.
    y = deviation * plan.spread(scale) + plan.spread(shift - residual * scale)
    return y, moments


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """See `Kernel.infer`."""
    x = ops.cast(x, plan.moments_dtype)
    scale, shift = then(_normalizing(variance, epsilon), affine)
    return (x - plan.spread(mean)) * plan.spread(scale) + plan.spread(shift)


def _normalizing(variance: Tensor, epsilon: float) -> Affine:
    return Affine(ops.rsqrt(variance + epsilon))
