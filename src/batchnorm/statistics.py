"""What a batch is measured by: moments, plain or weighted, and how parts of a batch merge."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

from batchnorm.casting import cast, dtype_of
from batchnorm.summation import add
from batchnorm.weights import frequencies

Tensor = Any  # a tensor of the backend in use; Keras has no type for it
Total = Callable[[Tensor], Tensor]  # adds a tensor up across replicas

_LARGE = 1e12  # the squares of so much fit into float32, 1e14 of them


class Moments(NamedTuple):
    """What was measured: how much, its mean and its biased variance.

    Attributes:
        count: the sum of the weights, or the number of elements; a scalar, or like `mean`.
        mean: in units of x, shape of x without the measured axes.
        variance: the mean squared deviation, in units of x squared, shaped like `mean`.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor


class Settled(Moments):
    """Moments that have weight, are finite and carry no gradients: nobody needs to look again."""


class Measured(NamedTuple):
    """Moments with a mean that no single number holds: it is `provisional + residual`.

    Attributes:
        provisional: almost the mean; no gradient flows through it.
        residual: what it lacks.
        moments: of the batch, the mean rounded.
    """

    provisional: Tensor
    residual: Tensor
    moments: Moments

    def about(self, origin: Tensor) -> Moments:
        """The moments with the mean measured from an origin, to the last digit."""
        # The rounded mean would bring back the error that centring has taken out.
        distance = (self.provisional - origin) + self.residual
        return self.moments._replace(mean=distance)


def moments(x: Tensor, axes: Sequence[int], weights: Tensor | None = None) -> Moments:
    """Mean and biased variance over axes, each element counted by its weight.

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
    weights = None if weights is None else frequencies(weights, x.dtype)
    return centre(x, [axis % len(x.shape) for axis in axes], weights)[1].moments


def centre(
    x: Tensor,
    axes: Sequence[int],
    weights: Tensor | None = None,
    prior: tuple[Tensor, Tensor] = (0.0, 0.0),
    total: Total | None = None,
) -> tuple[Tensor, Measured]:
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
        total: adds sums up across replicas.

    Returns:
        d, shaped like `x`, and `Measured`: m0, c, the residual of d, and the moments.
    """
    axes = tuple(axes)
    count = _count(x, axes, weights)
    if total is not None:
        count = total(ops.convert_to_tensor(count, x.dtype))

    def mean_of(values: Tensor, otherwise: Tensor) -> Tensor:
        values = _sum(values, axes, weights)
        if total is not None:
            values = total(values)
        return _divide(values, count, otherwise)

    # Any constant serves as m0, so no gradient flows through it: the one through c is exact.
    provisional = mean_of(usual(ops.stop_gradient(x), weights), prior[0])
    # XLA computes m0 anew at each use, and may contract a product at its end with the subtraction
    # there, which makes the two differ by a bit. A selection it cannot contract.
    provisional = ops.where(ops.isnan(provisional), 0.0, provisional)
    deviation = usual(x - ops.expand_dims(provisional, axes), weights)
    residual = mean_of(deviation, 0.0)
    # d * d, not square(d): JAX saves 2 * d for the derivative of a square, a second array like x.
    spread = mean_of(deviation * deviation, prior[1]) - residual * residual
    count = count if isinstance(count, int) else ops.cast(count, x.dtype)
    count = ops.ones((), x.dtype) * count  # a tensor whatever came, torch.compile's sizes too
    mean, variance = provisional + residual, ops.relu(spread)
    return deviation, Measured(provisional, residual, Moments(count, mean, variance))


def average(groups: Moments) -> Moments:
    """The mean of the means and the mean of the variances, each group counting by its weight.

    mean = sum(n_g * mean_g) / sum(n_g);  variance = sum(n_g * variance_g) / sum(n_g)

    Args:
        groups: moments with the groups along axis 0.

    Returns:
        `Moments` without that axis; their variance does not hold that between the groups.
    """
    mean = groups.mean
    counts = cast(groups.count, dtype_of(mean))
    # About the first, not about zero: large means would cancel.
    first = mean[:1]
    if len(counts.shape) == 0:  # all groups are as large
        count = counts * ops.cast(ops.shape(mean)[0], dtype_of(counts))
        # A sum of the first, because of an empty batch there are no groups.
        mean = ops.sum(first, 0) + ops.mean(mean - first, 0)
        return Moments(count, mean, ops.mean(groups.variance, 0))
    count = ops.sum(counts, 0)
    mean = ops.sum(first, 0) + _divide(ops.sum(counts * (mean - first), 0), count, 0.0)
    variance = _divide(ops.sum(counts * groups.variance, 0), count, 0.0)
    return Moments(count, mean, variance)


def merge(*parts: Moments) -> Moments:
    """The moments of a whole from those of its parts.

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
    counts = [part.count for part in parts]
    count = sum(counts)
    means = [ops.where(part.count > 0, part.mean, 0.0) for part in parts]
    # Means are compared with the first, not with zero: large ones would cancel.
    offsets = [mean - means[0] for mean in means]
    offset = _divide(_dot(counts, offsets), count, 0.0)
    spreads = [
        ops.where(part.count > 0, part.variance, 0.0) + (each - offset) ** 2
        for part, each in zip(parts, offsets, strict=True)
    ]
    return Moments(count, means[0] + offset, _divide(_dot(counts, spreads), count, 0.0))


def _dot(counts: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    return sum(count * value for count, value in zip(counts, values, strict=True))


def usual(values: Tensor, weights: Tensor | None) -> Tensor:
    """Zero for what is hidden and may be NaN, or overflow in the square: 0 times that is no 0."""
    if weights is None:
        return values
    size = ops.abs(ops.stop_gradient(values))
    usual = ops.logical_or(size < _LARGE, ops.not_equal(weights, 0))
    return ops.where(usual, values, 0.0)


def _sum(values: Tensor, axes: tuple[int, ...], weights: Tensor | None) -> Tensor:
    """The sum over axes, each element times its weight."""
    if weights is None:
        return add(values, axes)
    # First over what shares a weight: a product as large as x would be kept for its derivative.
    inner = tuple(axis for axis in axes if weights.shape[axis] == 1 and values.shape[axis])
    outer = tuple(axis - sum(each < axis for each in inner) for axis in axes if axis not in inner)
    if inner:
        values, weights = add(values, inner), ops.squeeze(weights, inner)
    return add(values * weights, outer) if outer else values * weights


def _count(x: Tensor, axes: tuple[int, ...], weights: Tensor | None) -> Tensor:
    sizes = ops.shape(x)
    shared = [axis for axis in axes if weights is None or weights.shape[axis] == 1]
    each = functools.reduce(operator.mul, (sizes[axis] for axis in shared), 1)
    if weights is None:
        return each
    kept = ops.shape(weights)
    full = [sizes[a] if a in axes and a not in shared else kept[a] for a in range(len(sizes))]
    count = add(ops.broadcast_to(weights, full), axes) * ops.cast(each, weights.dtype)
    return count if any(size != 1 for size in count.shape) else ops.reshape(count, ())


def _divide(total: Tensor, count: Tensor, otherwise: Tensor) -> Tensor:
    """The total by the count, or `otherwise` where nothing was counted."""
    if isinstance(count, int):
        return total / count if count else total + otherwise
    count = ops.cast(count, total.dtype)
    counted = ops.not_equal(count, 0)  # of NaN, the sum of invalid weights, NaN follows
    return ops.where(counted, total / ops.where(counted, count, 1.0), otherwise)
