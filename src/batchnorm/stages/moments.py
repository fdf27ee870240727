"""Moments of a batch, plain or weighted, and the moments of a whole from those of its parts."""

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
from keras import ops

from batchnorm.stages.placement import is_size, unconverted
from batchnorm.stages.sums import add
from batchnorm.stages.tensors import cast, dtype_of, largest, tensor
from batchnorm.stages.weights import frequencies, scaled

Tensor = Any  # a tensor of the backend in use; Keras has no type for it

_LARGE = 1e12  # 1e14 squares of this still fit into float32


class Moments(NamedTuple):
    """Count, mean and biased variance of what was measured.

    Attributes:
        count: the sum of the weights, or the number of elements; a scalar, or like `mean`.
        mean: in units of x, shape of x without the measured axes.
        variance: the mean squared deviation, in units of x squared, shaped like `mean`.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor


class CheckedMoments(Moments):
    """Moments that a kernel has checked: with weight, finite, detached from gradients."""


class SplitMoments(NamedTuple):
    """Moments with the mean in two parts, `provisional + residual`: one number cannot hold it.

    Attributes:
        provisional: the mean, rounded; no gradient flows through it.
        residual: the mean less `provisional`.
        count: see `Moments`.
        variance: see `Moments`.
    """

    provisional: Tensor
    residual: Tensor
    count: Tensor
    variance: Tensor

    @property
    def rounded(self) -> Moments:
        """The moments with the mean as one number."""
        return Moments(self.count, self.provisional + self.residual, self.variance)

    def measured_from(self, origin: Tensor) -> Moments:
        """Returns the moments with the mean measured from an origin, to the last digit."""
        # The rounded mean would bring back the error that centring has taken out.
        return Moments(self.count, (self.provisional - origin) + self.residual, self.variance)


class Replicas(Protocol):
    """Replicas that each measure a part of one batch."""

    def sum(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over all replicas, differentiable."""


@unconverted
def moments(x: Tensor, axes: Sequence[int], weights: Tensor | None = None) -> Moments:
    """Returns mean and biased variance over axes, each element counted by its weight.

    mean = sum(w * x) / sum(w);  variance = sum(w * (x - mean)**2) / sum(w)

    Args:
        x: float tensor of any shape; half precision should be cast to float32 before.
        axes: the axes to measure over; negative ones count from the end.
        weights: same rank as `x`, broadcasts against it, 1 along the axes that stay. Weights are
            frequencies: doubling one equals repeating its element, and 0 leaves it out.

    Returns:
        `Moments`; zeros where there is no weight at all.

    Example:
        >>> import numpy as np
        >>> x = np.array([[1.0], [3.0], [100.0]], "float32")
        >>> count, mean, variance = moments(x, [0], np.array([[1.0], [1.0], [0.0]], "float32"))
        >>> float(count), float(mean[0]), float(variance[0])
        (2.0, 2.0, 1.0)

    References:
        Ioffe and Szegedy 2015, Algorithm 1, lines 1 and 2. The two passes are the corrected
        two-pass algorithm of Chan, Golub and LeVeque 1983, equation 1.7.
    """
    x = ops.convert_to_tensor(x)
    unit: Tensor = 1.0
    if weights is not None:
        weights, unit = scaled(frequencies(weights, dtype_of(x)), weights)
    measured = centre(x, [axis % len(x.shape) for axis in axes], weights)[1].rounded
    return measured._replace(count=measured.count * unit)


def centre(
    x: Tensor,
    axes: Sequence[int],
    weights: Tensor | None = None,
    prior: tuple[Tensor, Tensor] = (0.0, 0.0),
    replicas: Replicas | None = None,
) -> tuple[Tensor, SplitMoments]:
    """Measures `x` and centres it, to the last digit whatever its mean.

    A float32 mean of 1e6 is off by up to 0.03, so subtracting it leaves an error of 3 % of a unit
    deviation. That remainder is itself measured, and costs no pass of its own:

        m0 = mean(x);  d = x - m0;  c = mean(d)
        mean = m0 + c;  variance = mean(d * d) - c * c;  x - mean = d - c

    Args:
        x: as for `moments`.
        axes: as for `moments`, none negative, in order.
        weights: as for `moments`.
        prior: mean and variance that stand in where there is no weight.
        replicas: sums tensors across replicas; `None` for one replica.

    Returns:
        d, shaped like `x`, and `SplitMoments`: m0, c, the count and the variance.
    """
    axes = tuple(axes)
    count = _count(x, axes, weights)
    if replicas is not None:
        count = replicas.sum(ops.convert_to_tensor(count, x.dtype))

    def mean_of(values: Tensor, otherwise: Tensor) -> Tensor:
        values = _sum(values, axes, weights)
        if replicas is not None:
            values = replicas.sum(values)
        return _divide(values, count, otherwise)

    # Any constant serves as m0, so no gradient flows through it: the one through c is exact.
    provisional = mean_of(zero_where_hidden(ops.stop_gradient(x), weights), prior[0])
    if replicas is None:  # replicas would not agree on an element
        provisional = snapped(provisional, ops.stop_gradient(x), axes, weights)
    # XLA computes m0 anew at each use, and may contract a product at its end with the subtraction
    # there, which makes the two differ by a bit. A selection it cannot contract.
    provisional = ops.where(ops.isnan(provisional), 0.0, provisional)
    deviation = zero_where_hidden(x - ops.expand_dims(provisional, axes), weights)
    residual = mean_of(deviation, 0.0)
    # d * d, not square(d): JAX saves 2 * d for the derivative of a square, a second array like x.
    spread = mean_of(deviation * deviation, prior[1]) - residual * residual
    count = count if is_size(count) else ops.cast(count, x.dtype)
    count = ops.ones((), x.dtype) * count  # a tensor whatever came, torch.compile's sizes too
    return deviation, SplitMoments(provisional, residual, count, ops.relu(spread))


def snapped(mean: Tensor, x: Tensor, axes: tuple[int, ...], weights: Tensor | None) -> Tensor:
    """Replaces a large mean that equals an element but for rounding by that element.

    The mean of a channel of one value is off by some units in the last place, or infinite. From a
    value of 1e8 on such deviations are not small beside sqrt(epsilon), and from 1e20 on their
    squares overflow; from the value itself they are 0.

    Args:
        mean: of `x` over the axes, rounded.
        x: float32 or float64.
        axes: those that are measured over.
        weights: of the rank of `x`, or `None`.
    """
    rounding = float(np.finfo(dtype_of(x)).eps)
    if weights is not None:
        x = ops.where(ops.not_equal(weights, 0), x, -np.inf)
    if weights is None and keras.backend.backend() != "jax":
        first = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(len(x.shape)))
        element = ops.sum(x[first], axes)  # of an empty batch there is no first element
    else:  # JAX does not cut an axis that several devices share
        element = largest(x, axes)
    size = ops.abs(mean)
    close = ops.abs(mean - element) <= 16 * rounding * size
    return ops.where(ops.logical_and(size * rounding > 1, close), element, mean)


def average(groups: Moments) -> Moments:
    """Averages the means and the variances of groups, each counting by its weight.

    mean = sum(n_g * mean_g) / sum(n_g);  variance = sum(n_g * variance_g) / sum(n_g)

    Args:
        groups: moments with the groups along axis 0.

    Returns:
        `Moments` without that axis; their variance does not hold that between the groups.
    """
    counts = cast(groups.count, dtype_of(groups.mean))
    if len(counts.shape) == 0:  # all groups are as large
        size = ops.shape(groups.mean)[0]
        counts = ops.broadcast_to(counts, (size, *[1] * (len(groups.mean.shape) - 1)))
    count = add(counts, (0,))
    share = _divide(counts, count, 0.0)
    # Of a group without weight there are but the values that stood in, NaN perhaps.
    mean, variance = (ops.where(counts > 0, value, ops.zeros_like(value)) for value in groups[1:])
    # In two steps, as in `centre`: large means would cancel. Not about the mean of some group,
    # which may be one without weight.
    rounded = add(share * mean, (0,))
    mean = rounded + add(share * (mean - rounded), (0,))
    count = ops.reshape(count, ()) if all(size == 1 for size in count.shape) else count
    return Moments(count, mean, add(share * variance, (0,)))


@unconverted
def merge(*parts: Moments) -> Moments:
    """Returns the moments of a whole from those of its parts.

    count = sum(n_i);  mean = sum(n_i * mean_i) / count
    variance = sum(n_i * (variance_i + (mean_i - mean)**2)) / count

    Args:
        *parts: at least one; counts may differ, and a part of count 0 adds nothing.

    Returns:
        `Moments` of the shape of a part; zeros where no part has any weight.

    Example:
        >>> import numpy as np
        >>> part = lambda n, mean: Moments(n, np.array([mean]), np.array([0.0]))
        >>> count, mean, variance = merge(part(1.0, 0.0), part(3.0, 4.0))
        >>> float(count), float(mean[0]), float(variance[0])
        (4.0, 3.0, 3.0)

    References:
        Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
        sample variances", equation 2.1, for any number of parts.
    """
    dtype = dtype_of(ops.convert_to_tensor(parts[0].mean))
    parts = tuple(Moments(*(cast(tensor(v, dtype), dtype) for v in part)) for part in parts)
    count = sum(part.count for part in parts)
    shares = [_divide(part.count, count, 0.0) for part in parts]
    rounded = _dot(shares, [ops.where(part.count > 0, part.mean, 0.0) for part in parts])
    # In two steps, as in `centre`: large means would cancel. Not about the mean of some part,
    # which may be an empty one.
    offsets = [ops.where(part.count > 0, part.mean - rounded, 0.0) for part in parts]
    offset = _dot(shares, offsets)
    spreads = [
        ops.where(part.count > 0, part.variance + (distance - offset) ** 2, 0.0)
        for part, distance in zip(parts, offsets, strict=True)
    ]
    return Moments(count, rounded + offset, _dot(shares, spreads))


def _dot(shares: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    return sum(share * value for share, value in zip(shares, values, strict=True))


def zero_where_hidden(values: Tensor, weights: Tensor | None) -> Tensor:
    """Replaces masked values that are NaN or huge by 0, because 0 * NaN is not 0."""
    if weights is None:
        return values
    size = ops.abs(ops.stop_gradient(values))
    harmless = ops.logical_or(size < _LARGE, ops.not_equal(weights, 0))
    return ops.where(harmless, values, 0.0)


def _sum(values: Tensor, axes: tuple[int, ...], weights: Tensor | None) -> Tensor:
    """Sums over axes, each element times its weight."""
    if weights is None:
        return add(values, axes)
    # First over what shares a weight: a product as large as x would be kept for its derivative.
    inner = tuple(axis for axis in axes if weights.shape[axis] == 1 and values.shape[axis])
    outer = tuple(axis - sum(index < axis for index in inner) for axis in axes if axis not in inner)
    if inner:
        values, weights = add(values, inner), ops.squeeze(weights, inner)
    return add(values * weights, outer) if outer else values * weights


def _count(x: Tensor, axes: tuple[int, ...], weights: Tensor | None) -> Tensor:
    sizes = ops.shape(x)
    shared = [axis for axis in axes if weights is None or weights.shape[axis] == 1]
    repeats = functools.reduce(operator.mul, (sizes[axis] for axis in shared), 1)
    if weights is None:
        return repeats
    own = ops.shape(weights)
    full = [sizes[a] if a in axes and a not in shared else own[a] for a in range(len(sizes))]
    count = add(ops.broadcast_to(weights, full), axes)
    count = count * (repeats if is_size(repeats) else ops.cast(repeats, weights.dtype))
    return count if any(size != 1 for size in count.shape) else ops.reshape(count, ())


def _divide(total: Tensor, count: Tensor, otherwise: Tensor) -> Tensor:
    """Divides the total by the count; `otherwise` where nothing was counted."""
    if is_size(count):
        return total / count if count else total + otherwise
    count = ops.cast(count, total.dtype)
    counted = ops.not_equal(count, 0)  # of NaN, the sum of invalid weights, NaN follows
    return ops.where(counted, total / ops.where(counted, count, 1.0), otherwise)
