"""JAX: the reference's arithmetic, with nothing as large as x stored between its passes.

XLA on a CPU writes a deviation that two sums share to memory, and autodiff keeps it for the
backward pass. Here each pass makes its own from x, and x alone is kept. It is all written for
autodiff, so that JAX's transformations work, in any order.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp
from keras import ops

from batchnorm.kernels.kernel import Call
from batchnorm.stages.affine import Affine, then
from batchnorm.stages.moments import Moments, SplitMoments, snapped, zero_where_hidden
from batchnorm.stages.plan import Plan
from batchnorm.stages.sums import add, in_sequence, spread

Tensor = Any
Values = tuple[Tensor, Tensor, Tensor]

# Deviations from zero: a mean no farther costs E[x^2] - E[x]^2 a factor of 1 + 2^2 in accuracy.
_SMALL_MEAN = 2.0


def supports(plan: Plan) -> bool:
    """Returns True for batches of a known size, not 0, on one replica."""
    return not plan.synchronized and all(plan.shape)


def train(plan: Plan, call: Call) -> tuple[Tensor, Moments]:
    """Normalizes by the batch's own moments; see `Kernel.train`."""
    x = ops.cast(call.x, plan.moments_dtype)
    moments = _measure(plan.axes, x, call.weights, call.prior)
    step = Affine(lax.rsqrt(moments.variance + call.epsilon))
    if call.correction is not None:
        step = then(step, call.correction(moments))
    scale, shift = _composed(plan, step, call.affine)
    shift = shift - plan.spread(moments.residual) * scale
    origin = plan.spread(moments.provisional)
    y = _normalize(plan.axes, x, origin, scale, shift, call.weights)
    return y, moments.rounded


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """Normalizes by statistics; see `Kernel.infer`."""
    x = ops.cast(x, plan.moments_dtype)
    scale, shift = _composed(plan, Affine(lax.rsqrt(variance + epsilon)), affine)
    # Spread axis by axis: the sums in the gradients of scale and shift keep their digits so.
    scale, shift = spread(scale, x, plan.axes), spread(shift, x, plan.axes)
    return (x - plan.spread(mean)) * scale + shift


def _composed(plan: Plan, step: Affine, affine: Affine) -> Affine:
    """Composes two steps, made to broadcast against the input."""
    step = Affine(plan.spread(step.scale), plan.spread(step.shift))
    return then(step, Affine(plan.spread(affine.scale), plan.spread(affine.shift)))


class _Weighting(NamedTuple):
    """Weights of elements, `None` where all are 1, and their sum, which is not used then."""

    weights: Tensor | None
    count: Tensor


# Compiled in eager code, too, where each call would compile the conditional anew.
@functools.partial(jax.jit, static_argnums=0)
def _measure(
    axes: tuple[int, ...], x: Tensor, weights: Tensor | None, prior: tuple[Tensor, Tensor]
) -> SplitMoments:
    """Measures as `stages.moments.centre` does, in fewer passes where the mean is near zero."""
    weighting = _Weighting(weights, _count(axes, x, weights))
    inputs = (axes, *lax.stop_gradient((x, weighting)))
    quick = functools.partial(_about_zero, *inputs, False)
    exact = functools.partial(_about_mean, *inputs, prior)
    if weights is not None:
        hiding = functools.partial(_about_zero, *inputs)
        quick = functools.partial(_quick_unless, _finite, quick, hiding)
    # On other devices the sums of one input are one pass, and a branch waits for its condition.
    values = lax.platform_dependent(
        cpu=functools.partial(_quick_unless, _mean_is_small, quick, exact), default=exact
    )
    provisional, residual, square = values
    origin = jnp.expand_dims(provisional, axes)
    residual = _with_tangent(residual, _moment(axes, x, weighting, 1, origin, 0.0))
    square = _with_tangent(square, _moment(axes, x, weighting, 2, origin, prior[1]))
    square_of_mean = residual * residual
    # XLA would contract the product with the difference, where it does not overflow. Then y would
    # be finite where the reference's is NaN, which tells that a training has diverged.
    variance = jnp.where(jnp.isinf(square_of_mean), jnp.nan, jax.nn.relu(square - square_of_mean))
    return SplitMoments(provisional, residual, weighting.count, variance)


def _quick_unless(
    accurate: Callable[[Values], Tensor], quick: Callable[[], Values], exact: Callable[[], Values]
) -> Values:
    """Returns the quick values, unless they are not accurate: then the exact ones."""
    values = quick()
    chosen: Values = lax.cond(accurate(values), lambda: values, exact)
    return chosen


def _mean_is_small(values: Values) -> Tensor:
    mean, _, square = values
    # Not where the square overflows: that case is left to the exact way.
    return _finite(values) & jnp.all(mean * mean <= _SMALL_MEAN**2 * square)


def _finite(values: Values) -> Tensor:
    return jnp.all(jnp.isfinite(values[2]))


def _about_zero(
    axes: tuple[int, ...], x: Tensor, weighting: _Weighting, hides: bool = True
) -> Values:
    """Returns the mean, a residual of 0, and the variance; NaN where there is no weight.

    Elements of weight 0 may be left in: 0 times one is 0, or else NaN.
    """

    def mean_square(x: Tensor, weighting: _Weighting) -> Tensor:
        return _mean(axes, x * x, weighting, jnp.nan)

    x = zero_where_hidden(x, weighting.weights) if hides else x
    mean, square = _mean(axes, x, weighting, jnp.nan), _isolated(mean_square)(x, weighting)
    return mean, jnp.zeros_like(mean), square - mean * mean


def _about_mean(
    axes: tuple[int, ...], x: Tensor, weighting: _Weighting, prior: tuple[Tensor, Tensor]
) -> Values:
    """Returns the rounded mean, its residual, and the mean square about it."""
    moment = functools.partial(_moment, axes, x, weighting)
    mean = snapped(moment(1, jnp.zeros((), x.dtype), prior[0]), x, axes, weighting.weights)
    # Any constant serves. A selection, because it cannot be contracted with the subtractions that
    # follow: XLA computes this anew at each, and it must be the same for all.
    mean = jnp.where(jnp.isnan(mean), 0.0, mean)
    origin = jnp.expand_dims(mean, axes)
    return mean, moment(1, origin, 0.0), moment(2, origin, prior[1])


def _moment(
    axes: tuple[int, ...],
    x: Tensor,
    weighting: _Weighting,
    power: int,
    origin: Tensor,
    otherwise: Tensor,
) -> Tensor:
    """Averages the deviations from the origin, or their squares."""

    def moment(x: Tensor, weighting: _Weighting, origin: Tensor, otherwise: Tensor) -> Tensor:
        deviation = zero_where_hidden(x - origin, weighting.weights)
        return _mean(axes, deviation if power == 1 else deviation * deviation, weighting, otherwise)

    return _isolated(moment)(x, weighting, origin, otherwise)


@functools.partial(jax.jit, static_argnums=0)
def _normalize(
    axes: tuple[int, ...],
    x: Tensor,
    origin: Tensor,
    scale: Tensor,
    shift: Tensor,
    weights: Tensor | None,
) -> Tensor:
    """Scales and shifts the deviation from the origin."""

    def apply(x: Tensor, weights: Tensor | None, *values: Tensor) -> Tensor:
        origin, scale, shift = values
        return zero_where_hidden(x - origin, weights) * scale + shift

    steps = (_spread_but_last(axes, x, value) for value in (scale, shift))
    return _isolated(apply)(x, weights, origin, *steps)


def _isolated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Returns a function that shares no work with others, and saves its arguments alone."""
    # Without the barrier XLA merges equal subexpressions of two passes, such as the deviation, and
    # stores it; the outputs of two barriers with different arguments are different to it.
    barrier: Any = lax.optimization_barrier

    return jax.checkpoint(lambda *arguments: function(*barrier(arguments)))


def _mean(
    axes: tuple[int, ...], values: Tensor, weighting: _Weighting, otherwise: Tensor
) -> Tensor:
    """Averages over axes; returns `otherwise` where there is no weight."""
    weights, count = weighting
    if weights is None:
        return add(values, axes) / math.prod(values.shape[axis] for axis in axes)
    weighed = count != 0  # of NaN, the sum of invalid weights, NaN follows
    total = add(values * weights, axes)
    return jnp.where(weighed, total / jnp.where(weighed, count, 1.0), otherwise)


def _count(axes: tuple[int, ...], x: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return jnp.asarray(math.prod(x.shape[axis] for axis in axes), x.dtype)
    repeats = math.prod(x.shape[axis] // weights.shape[axis] for axis in axes)
    count = add(weights, axes) * repeats
    return count if count.size > 1 else count.reshape(())


@jax.custom_jvp
def _with_tangent(value: Tensor, source: Tensor) -> Tensor:
    """Returns a value with the derivatives of another, which is not computed."""
    return value


@_with_tangent.defjvp
def _(primals: tuple[Tensor, Tensor], tangents: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return _with_tangent(*primals), tangents[1]


def _spread_but_last(axes: tuple[int, ...], x: Tensor, value: Tensor) -> Tensor:
    """Spreads a value per sample over all axes but the last that is measured.

    Its gradient is then a sum over that axis, and another over the rest: on a CPU XLA takes twice
    as long for both at once.
    """
    if in_sequence(x) or all(value.shape[axis] == 1 for axis in axes):
        return spread(value, x, axes)
    last = axes[-1]
    sizes = [value.shape[axis] if axis == last else size for axis, size in enumerate(x.shape)]
    return jnp.broadcast_to(value, sizes)
