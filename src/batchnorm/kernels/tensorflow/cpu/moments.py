"""The moments of a batch, in a `Layout`, to the last digits whatever the mean."""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from batchnorm.kernels.tensorflow.cpu.layout import Layout, sizes_of
from batchnorm.kernels.tensorflow.cpu.passes import deviation, one_pass, squared_deviation
from batchnorm.kernels.tensorflow.cpu.sums import Function
from batchnorm.kernels.tensorflow.cpu.totals import total, total_of
from batchnorm.stages.moments import zero_where_hidden

Tensor = Any

# Deviations from zero up to which one measurement of a mean is enough: its drift of 1e-6 is then
# 8e-6 of a deviation. Of a larger mean the rounding is measured, too.
_SMALL_MEAN = 8.0


class Statistics(NamedTuple):
    """The input and its moments, each `(1, 1, C)`, or `(P, 1, C)` where parts have their own.

    Attributes:
        x: what replaces the input: its deviations from `origin`, or from the mean; hidden elements
            that are not finite are 0. `None` for the input itself.
        origin: almost the mean, to be subtracted from the input; `None` where x is centred.
        residual: the mean less `origin`; `None` where x is centred to the last digit.
        variance: of the input.
        count: the sum of the weights: a number, or `(1 or P, 1, 1)`.
        weights: `(P, 1 or R, 1)`, or `None`.
        epsilon: added to the variance under the root.
    """

    x: Tensor | None
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
        x: the view of an input.
        weights: as `Layout.weights` returns them, or `None`.
        prior: mean and variance `(C,)` that stand in where there is no weight.
        epsilon: added to the variance under the root.

    Returns:
        The statistics, and the mean in two parts that float32 can hold: the mean, rounded, and
        the remainder.
    """
    if weights is not None:
        prior = layout.parameter(prior[0]), layout.parameter(prior[1])
    count = _count(layout, x, weights) if weights is not None or not layout.count else layout.count
    batch = _Batch(layout, weights, count, *prior)
    constant = (batch.count, weights, epsilon)
    if not layout.big or (layout.compiled and weights is not None):
        centred, mean, variance = batch.centred(x)
        return Statistics(centred, None, None, variance, *constant), mean
    origin = batch.mean(x)
    zeros = tf.zeros_like(origin)
    if weights is None and layout.length is not None:
        variance = batch.variance(x, origin)
        # Each pass subtracts the mean anew, so that no array of deviations is stored.
        (origin, residual), variance = tf.cond(
            mean_is_small(origin, variance, epsilon),
            lambda: ((origin, zeros), variance),
            lambda: batch.remeasured(x, origin),
        )
        return Statistics(None, origin, residual, variance, *constant), (origin, residual)

    # There are no compiled passes, each of which could subtract the mean anew.
    deviations = x - layout.wide(origin)
    variance = batch.mean_square(deviations)
    centred, mean, variance = tf.cond(
        mean_is_small(origin, variance, epsilon),
        lambda: (deviations, (origin, zeros), variance),
        lambda: batch.recentred(deviations, origin) if weights is None else batch.centred(x),
    )
    return Statistics(centred, None, None, variance, *constant), mean


def mean_is_small(mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    """Returns True where no mean is large beside its deviation."""
    return tf.reduce_all(tf.abs(mean) <= _SMALL_MEAN * tf.sqrt(variance + epsilon))


class _Batch(NamedTuple):
    """A batch to be measured, and the moments that stand in where its weights are 0."""

    layout: Layout
    weights: Tensor | None
    count: Tensor
    prior_mean: Tensor
    prior_variance: Tensor

    def mean(self, x: Tensor) -> Tensor:
        """Returns the mean, as exact as a sum of large terms is."""
        layout, weights = self.layout, self.weights
        if weights is None:
            mean = self._divide(total(layout, x), self.prior_mean)
        else:  # times shares, whose sum is no larger than x
            shares = tf.math.divide_no_nan(weights, self.count)
            mean = tf.where(self._counted(), total(layout, x, shares), self.prior_mean)
        return _finite_or(mean, layout.first_row(x))

    def variance(self, x: Tensor, origin: Tensor) -> Tensor:
        """Returns the mean squared deviation from an origin."""
        return self._mean_of_squares(self._total_of(squared_deviation, x, origin))

    def remeasured(self, x: Tensor, mean: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Returns the mean in two parts and the variance, from a rounded mean."""
        rest = self._divide(self._total_of(deviation, x, mean), 0.0)
        origin = _finite_or(mean + rest, mean)
        # At most half a digit of the origin's, and of a constant channel 0: its square neither
        # cancels nor overflows.
        residual = (mean - origin) + rest
        variance = self.variance(x, origin) - residual * residual
        return (origin, residual), tf.nn.relu(variance)

    def centred(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Returns the deviations from the mean, the mean in two parts, and the variance."""
        layout, weights = self.layout, self.weights
        if weights is None:
            mean = self.mean(x)
            return self.recentred(x - layout.wide(mean), mean)
        mean = self.mean(zero_where_hidden(x, weights))
        return self.recentred(zero_where_hidden(x - layout.wide(mean), weights), mean)

    def recentred(
        self, deviations: Tensor, mean: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Returns the same as `centred`, from the deviations from a rounded mean."""
        layout, weights = self.layout, self.weights
        residual = self._divide(total(layout, deviations, weights), 0.0)
        deviations = deviations - layout.wide(residual)
        if weights is not None:
            deviations = zero_where_hidden(deviations, weights)
        return deviations, (mean, residual), self.mean_square(deviations)

    def mean_square(self, deviations: Tensor) -> Tensor:
        """Returns the mean square of deviations."""
        squares = total_of(self.layout, tf.square, [deviations], self.weights)
        return self._mean_of_squares(squares)

    def _mean_of_squares(self, squares: Tensor) -> Tensor:
        # NaN for infinity, which tells that a training has diverged: normalized by infinity, all
        # elements would be 0.
        variance = self._divide(squares, self.prior_variance)
        return variance + (variance - variance)

    def _total_of(self, function: Function, x: Tensor, origin: Tensor) -> Tensor:
        layout = self.layout
        compiled = one_pass(layout, function, 2, loop=True)
        return total_of(layout, compiled, [x, layout.wide(origin)], self.weights)

    def _divide(self, sums: Tensor, otherwise: Tensor) -> Tensor:
        if isinstance(self.count, int):
            return sums / self.count
        quotient = tf.math.divide_no_nan(sums, self.count)
        if self.weights is None:  # an empty batch: there is nothing to normalize
            return quotient
        return tf.where(self._counted(), quotient, otherwise)

    def _counted(self) -> Tensor:
        # NaN, the sum of invalid weights, is not 0, and NaN follows from it.
        return tf.not_equal(self.count, 0)


def _finite_or(origin: Tensor, otherwise: Tensor) -> Tensor:
    """Returns the origin; where it is not finite, since a sum has overflowed, another one.

    XLA may contract a product at the origin's end with the subtraction of each use, and it must be
    the same for all: a selection cannot be contracted.
    """
    return tf.where(tf.math.is_finite(origin), origin, otherwise)


def _count(layout: Layout, x: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the sum of the weights, `(1 or P, 1, 1)`, or the size of a batch until it runs."""
    if weights is None:
        sizes = sizes_of(x)[1 if layout.plan.grouped else 0 :]
        size = tf.shape(x)[1] if layout.one_part else math.prod(sizes) // layout.channels
        return tf.reshape(tf.cast(size, x.dtype), (1, 1, 1))
    axis = layout.row_axis
    shared = 1 if weights.shape[axis] != 1 else sizes_of(x)[axis] * layout.lanes
    parts = tf.reduce_sum(weights, (1, 2), keepdims=True) * tf.cast(shared, x.dtype)
    return parts if layout.plan.grouped else tf.reduce_sum(parts, 0, keepdims=True)
