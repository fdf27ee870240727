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

from batchnorm.affine import Affine, then
from batchnorm.kernels.plan import Correction, Plan
from batchnorm.statistics import Measured, Moments, Total, snapped, usual
from batchnorm.summation import add, in_sequence, spread

Tensor = Any
Values = tuple[Tensor, Tensor, Tensor]

# Deviations from zero: a mean no farther costs E[x^2] - E[x]^2 a factor of 1 + 2^2 in accuracy.
_NEAR = 2.0


def supports(plan: Plan) -> bool:
    """Batches of a size that is known, and not 0, on one replica."""
    return not plan.synchronized and all(plan.shape)


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
    measured = _measure(plan.axes, x, weights, prior)
    step = Affine(lax.rsqrt(measured.moments.variance + epsilon))
    if correction is not None:
        step = then(step, correction(measured))
    scale, shift = then(*(Affine(*map(plan.spread, each)) for each in (step, affine)))
    shift = shift - plan.spread(measured.residual) * scale
    y = _normalize(plan.axes, x, plan.spread(measured.provisional), scale, shift, weights)
    return y, measured.moments


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """See `Kernel.infer`."""
    # What the reference adds up in its gradients has a step for each axis here.
    x = ops.cast(x, plan.moments_dtype)
    step = Affine(lax.rsqrt(variance + epsilon))
    scale, shift = then(*(Affine(*map(plan.spread, each)) for each in (step, affine)))
    scale, shift = (spread(value, x, plan.axes) for value in (scale, shift))
    return (x - plan.spread(mean)) * scale + shift


class _Counted(NamedTuple):
    """How often elements count; `weights` is `None` for once, and then `count` is not used."""

    weights: Tensor | None
    count: Tensor


# Compiled in eager code, too, where each call would compile the conditional anew.
@functools.partial(jax.jit, static_argnums=0)
def _measure(
    axes: tuple[int, ...], x: Tensor, weights: Tensor | None, prior: tuple[Tensor, Tensor]
) -> Measured:
    """As `statistics.centre`, in fewer passes where the mean is near zero."""
    counted = _Counted(weights, _count(axes, x, weights))
    given = (axes, *lax.stop_gradient((x, counted)))
    quick = functools.partial(_about_zero, *given, False)
    exact = functools.partial(_about_mean, *given, prior)
    if weights is not None:
        quick = functools.partial(_first, _finite, quick, functools.partial(_about_zero, *given))
    # On other devices the sums of one input are one pass, and a branch waits for its condition.
    values = lax.platform_dependent(
        cpu=functools.partial(_first, _near, quick, exact), default=exact
    )
    provisional, residual, square = values
    origin = jnp.expand_dims(provisional, axes)
    residual = _with_tangent(residual, _moment(axes, x, counted, 1, origin, 0.0))
    square = _with_tangent(square, _moment(axes, x, counted, 2, origin, prior[1]))
    spread = residual * residual
    # XLA would contract the product with the difference, where it does not overflow. Then y would
    # be finite where the reference's is NaN, which tells that a training has diverged.
    variance = jnp.where(jnp.isinf(spread), jnp.nan, jax.nn.relu(square - spread))
    moments = Moments(counted.count, provisional + residual, variance)
    return Measured(provisional, residual, moments)


def _first(
    good: Callable[[Values], Tensor], quick: Callable[[], Values], exact: Callable[[], Values]
) -> Values:
    """The quick values where they are good, and the exact ones elsewhere."""
    values = quick()
    found: Values = lax.cond(good(values), lambda: values, exact)
    return found


def _near(values: Values) -> Tensor:
    mean, _, square = values
    # Not where the square overflows: what comes of that is left to the exact way.
    return _finite(values) & jnp.all(mean * mean <= _NEAR**2 * square)


def _finite(values: Values) -> Tensor:
    return jnp.all(jnp.isfinite(values[2]))


def _about_zero(axes: tuple[int, ...], x: Tensor, counted: _Counted, hides: bool = True) -> Values:
    """The mean, nothing for what it lacks, and the variance; NaN where nothing is counted.

    What is hidden by a weight of 0 may be left in: 0 times it is 0, or else NaN.
    """

    def mean_square(x: Tensor, counted: _Counted) -> Tensor:
        return _mean(axes, x * x, counted, jnp.nan)

    x = usual(x, counted.weights) if hides else x
    mean, square = _mean(axes, x, counted, jnp.nan), _apart(mean_square)(x, counted)
    return mean, jnp.zeros_like(mean), square - mean * mean


def _about_mean(
    axes: tuple[int, ...], x: Tensor, counted: _Counted, prior: tuple[Tensor, Tensor]
) -> Values:
    """The rounded mean, what it lacks, and the mean square about it."""
    moment = functools.partial(_moment, axes, x, counted)
    mean = snapped(moment(1, jnp.zeros((), x.dtype), prior[0]), x, axes, counted.weights)
    # Any constant serves. A selection, because it cannot be contracted with the subtractions that
    # follow: XLA computes this anew at each, and it must be the same for all.
    mean = jnp.where(jnp.isnan(mean), 0.0, mean)
    origin = jnp.expand_dims(mean, axes)
    return mean, moment(1, origin, 0.0), moment(2, origin, prior[1])


def _moment(
    axes: tuple[int, ...],
    x: Tensor,
    counted: _Counted,
    power: int,
    origin: Tensor,
    otherwise: Tensor,
) -> Tensor:
    """The mean of the deviations from the origin, or of their squares."""

    def moment(x: Tensor, counted: _Counted, origin: Tensor, otherwise: Tensor) -> Tensor:
        deviation = usual(x - origin, counted.weights)
        return _mean(axes, deviation if power == 1 else deviation * deviation, counted, otherwise)

    return _apart(moment)(x, counted, origin, otherwise)


@functools.partial(jax.jit, static_argnums=0)
def _normalize(
    axes: tuple[int, ...],
    x: Tensor,
    origin: Tensor,
    scale: Tensor,
    shift: Tensor,
    weights: Tensor | None,
) -> Tensor:
    """The deviation from the origin, scaled and shifted."""

    def apply(x: Tensor, weights: Tensor | None, *values: Tensor) -> Tensor:
        origin, scale, shift = values
        return usual(x - origin, weights) * scale + shift

    steps = (_in_steps(axes, x, value) for value in (scale, shift))
    return _apart(apply)(x, weights, origin, *steps)


def _apart(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that shares nothing with others, and keeps its arguments alone for backward."""
    # XLA takes what comes out of two barriers for different where their arguments are.
    barrier: Any = lax.optimization_barrier

    return jax.checkpoint(lambda *arguments: function(*barrier(arguments)))


def _mean(axes: tuple[int, ...], values: Tensor, counted: _Counted, otherwise: Tensor) -> Tensor:
    """The mean over axes, or `otherwise` where nothing is counted."""
    weights, count = counted
    if weights is None:
        return add(values, axes) / math.prod(values.shape[axis] for axis in axes)
    some = count != 0  # of NaN, the sum of invalid weights, NaN follows
    return jnp.where(some, add(values * weights, axes) / jnp.where(some, count, 1.0), otherwise)


def _count(axes: tuple[int, ...], x: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return jnp.asarray(math.prod(x.shape[axis] for axis in axes), x.dtype)
    each = math.prod(x.shape[axis] // weights.shape[axis] for axis in axes)
    count = add(weights, axes) * each
    return count if count.size > 1 else count.reshape(())


@jax.custom_jvp
def _with_tangent(value: Tensor, of: Tensor) -> Tensor:
    """A value that has the derivatives of another, which is not computed."""
    return value


@_with_tangent.defjvp
def _(primals: tuple[Tensor, Tensor], tangents: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return _with_tangent(*primals), tangents[1]


def _in_steps(axes: tuple[int, ...], x: Tensor, value: Tensor) -> Tensor:
    """A value per sample, spread over all axes but the last that is measured.

    So its gradient is a sum over that axis, and then over the others: on a CPU XLA takes twice as
    long for both at once.
    """
    if in_sequence(x) or all(value.shape[axis] == 1 for axis in axes):
        return spread(value, x, axes)
    last = axes[-1]
    sizes = [value.shape[axis] if axis == last else size for axis, size in enumerate(x.shape)]
    return jnp.broadcast_to(value, sizes)
