"""The moments of a batch, in a `Layout`, to the last digits whatever the mean."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from batchnorm.kernels.tensorflow.layout import Layout, sizes_of
from batchnorm.kernels.tensorflow.passes import deviation, in_pieces, squared_deviation
from batchnorm.statistics import usual

Tensor = Any

# How far from zero a mean may be, in deviations, for one measurement of it to be enough: its drift
# of 1e-6 is then 8e-6 of a deviation. Where one is farther its rounding is measured, too.
_NEAR = 8.0


class Statistics(NamedTuple):
    """The input and its moments, each `(1, 1, C)`, or `(R, 1, C)` where rows have their own.

    Attributes:
        x: the input; what is hidden by a weight of 0 and not finite is replaced.
        origin: almost the mean, to be subtracted from x; `None` where that is done.
        residual: the mean of what is left then; `None` where that is subtracted, too.
        variance: of the input.
        count: the sum of the weights: a number, or `(1 or R, 1, 1)`.
        weights: `(R, 1 or P, 1)`, or `None`.
        epsilon: added to the variance under the root.
    """

    x: Tensor
    origin: Tensor | None
    residual: Tensor | None
    variance: Tensor
    count: Tensor
    weights: Tensor | None
    epsilon: float


def measure(
    layout: Layout, x: Tensor, weights: Tensor | None, prior: tuple[Tensor, Tensor], epsilon: float
) -> tuple[Statistics, tuple[Tensor, Tensor]]:
    """Measures a batch, without gradients.

    Args:
        layout: of `x`.
        x: the input, flat.
        weights: as `Layout.weights` makes them, or `None`.
        prior: mean and variance `(C,)` that stand in where there is no weight.
        epsilon: added to the variance under the root.

    Returns:
        The statistics, and the mean in two parts that float32 can hold: almost all of it, and what
        that lacks.
    """
    if weights is not None:
        prior = layout.parameter(prior[0]), layout.parameter(prior[1])
    batch = _Batch(layout, weights, _count(layout, x, weights), *prior)
    constant = (batch.count, weights, epsilon)
    if not layout.big or (layout.compiled and weights is not None):
        x, mean, variance = batch.centred(x)
        return Statistics(x, None, None, variance, *constant), mean
    origin = batch.mean(x)
    nothing = tf.zeros_like(origin)
    if weights is None and layout.positions is not None:
        variance = batch.variance(x, origin)
        near = is_near(origin, variance, epsilon)
        # Each pass subtracts the mean anew, so that nothing need be stored.
        (origin, residual), variance = tf.cond(
            near, lambda: ((origin, nothing), variance), lambda: batch.remeasured(x, origin)
        )
        return Statistics(x, origin, residual, variance, *constant), (origin, residual)

    # There are no compiled passes, of which each could subtract the mean anew.
    deviations = x - layout.wide(origin)
    variance = batch.square(deviations)
    near = is_near(origin, variance, epsilon)
    x, mean, variance = tf.cond(
        near,
        lambda: (deviations, (origin, nothing), variance),
        lambda: batch.recentred(deviations, origin) if weights is None else batch.centred(x),
    )
    return Statistics(x, None, None, variance, *constant), mean


def is_near(mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    """Returns whether no mean is far from zero beside its deviation."""
    return tf.reduce_all(tf.abs(mean) <= _NEAR * tf.sqrt(variance + epsilon))


@dataclass(frozen=True)
class _Batch:
    """A batch to be measured, and the moments that stand in where its weights are 0."""

    layout: Layout
    weights: Tensor | None
    count: Tensor
    prior_mean: Tensor
    prior_variance: Tensor

    def mean(self, x: Tensor) -> Tensor:
        """The mean, as far as a sum of large terms can tell it."""
        layout, weights = self.layout, self.weights
        if weights is None:
            mean = self._divide(layout.total(x), self.prior_mean)
        else:  # times shares, whose sum is no larger than x
            shares = tf.math.divide_no_nan(weights, self.count)
            mean = tf.where(self._counted(), layout.total(x, shares), self.prior_mean)
        return _settled(mean, layout.first(x))

    def variance(self, x: Tensor, origin: Tensor) -> Tensor:
        """The mean squared deviation from an origin."""
        return self._mean_square(self._total_of(squared_deviation, x, origin))

    def remeasured(self, x: Tensor, mean: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The mean in two parts and the variance, from a mean that is off by its rounding."""
        rest = self._divide(self._total_of(deviation, x, mean), 0.0)
        origin = _settled(mean + rest, mean)
        # At most half a digit of the origin's, and of a constant channel nothing: its square
        # neither cancels nor overflows.
        residual = (mean - origin) + rest
        variance = self.variance(x, origin) - residual * residual
        return (origin, residual), tf.nn.relu(variance)

    def centred(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """The deviations from the mean, this in two parts, and the variance."""
        mean = self.mean(usual(x, self.weights))
        return self.recentred(usual(x - self.layout.wide(mean), self.weights), mean)

    def recentred(
        self, deviations: Tensor, mean: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """The same, from the deviations from a mean that is off by its rounding."""
        residual = self._divide(self.layout.total(deviations, self.weights), 0.0)
        deviations = usual(deviations - self.layout.wide(residual), self.weights)
        return deviations, (mean, residual), self.square(deviations)

    def square(self, deviations: Tensor) -> Tensor:
        """The mean square."""
        return self._mean_square(self.layout.total_of(tf.square, [deviations], self.weights))

    def _mean_square(self, squares: Tensor) -> Tensor:
        # Of infinity NaN, which tells that a training has diverged; normalized by infinity, all
        # would be 0.
        variance = self._divide(squares, self.prior_variance)
        return variance + (variance - variance)

    def _total_of(self, function: Any, x: Tensor, origin: Tensor) -> Tensor:
        layout = self.layout
        arrays = [x, layout.wide(origin)]
        return layout.total_of(in_pieces(layout, function), arrays, self.weights)

    def _divide(self, sums: Tensor, otherwise: Tensor) -> Tensor:
        if isinstance(self.count, int):
            return sums / self.count
        quotient = tf.math.divide_no_nan(sums, self.count)
        if self.weights is None:  # without rows nothing is normalized
            return quotient
        return tf.where(self._counted(), quotient, otherwise)

    def _counted(self) -> Tensor:
        # NaN, the sum of invalid weights, is not 0, and NaN follows of it.
        return tf.not_equal(self.count, 0)


def _settled(origin: Tensor, otherwise: Tensor) -> Tensor:
    """Returns the origin; where it is not finite, since a sum has overflowed, another one.

    XLA may contract a product at the origin's end with the subtraction of each use, and it must be
    the same for all: a selection cannot be contracted.
    """
    return tf.where(tf.math.is_finite(origin), origin, otherwise)


def _count(layout: Layout, x: Tensor, weights: Tensor | None) -> Tensor:
    """The sum of the weights: a number, or a tensor `(1 or R, 1, 1)`."""
    if weights is None:
        if layout.one_row:
            size = tf.shape(x)[1]
        else:
            size = math.prod(sizes_of(x)[1 if layout.plan.grouped else 0 :]) // layout.channels
        if isinstance(size, int) and size:
            return size
        return tf.reshape(tf.cast(size, x.dtype), (1, 1, 1))
    axis = 1 if layout.last else 2
    each = 1 if weights.shape[axis] != 1 else sizes_of(x)[axis] * layout.lanes
    rows = tf.reduce_sum(weights, (1, 2), keepdims=True) * tf.cast(each, x.dtype)
    return rows if layout.plan.grouped else tf.reduce_sum(rows, 0, keepdims=True)
