"""Batch normalization in float64 NumPy, the reference for all other tests.

It imports nothing from batchnorm and shares no line with it. Every function lays its input out as
a matrix of M rows, the positions, and C columns, the channels, with one weight for every row, and
writes the definitions down. Inputs of any dtype are taken as the exact numbers that they hold.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Limit = float | None

_quiet = np.errstate(invalid="ignore", over="ignore")


class Result(NamedTuple):
    """The output, the moments it was normalized with, and the moving statistics afterwards."""

    y: Array
    mean: Array
    variance: Array
    moving_mean: Array
    moving_variance: Array


class RenormResult(NamedTuple):
    """A `Result` of batch renormalization, its further states, and the correction it used."""

    y: Array
    mean: Array
    variance: Array
    moving_mean: Array
    moving_variance: Array
    moving_stddev: Array
    renorm_mean: Array
    renorm_stddev: Array
    r: Array
    d: Array


class Gradients(NamedTuple):
    """Gradients of sum(y * dy)."""

    dx: Array
    dgamma: Array
    dbeta: Array


class Step(NamedTuple):
    """The output and the state afterwards."""

    y: Array
    state: dict[str, Array]


class Options(NamedTuple):
    """The keyword options of `step` and `step_gradients`."""

    axis: int | tuple[int, ...] = -1  # of the channels, or all that keep statistics
    training: bool = True  # if not, ghost, renorm and adjustment have no effect
    epsilon: float = 1e-3
    weights: npt.ArrayLike | None = None  # as for `batch_norm`
    # (size, strided): G = ceil(N / size) groups of axis 0 are measured apart, each of `size`
    # consecutive samples, the last of the remainder; strided, group j is j, j + G, j + 2G, ...
    ghost: tuple[int, bool] | None = None
    # The batch's share in a moving statistic, or in the mean and in the variance or stddev.
    rate: float | tuple[float, float] = 0.01
    # The variance of a group whose weights sum to n > 1 moves the state n / max(n - 1, 1) times.
    unbiased: bool = False
    # (rmin, rmax, dmax, the rate of renorm_mean and renorm_stddev); a None is no limit.
    renorm: tuple[Limit, Limit, Limit, float] | None = None
    # (scale, shift), each of a shape that broadcasts to x, or (C,) or (N, C).
    adjustment: tuple[npt.ArrayLike, npt.ArrayLike] | None = None


def step(
    x: npt.ArrayLike,
    state: Mapping[str, npt.ArrayLike],
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    **options: Any,
) -> Step:
    """One call of the layer: normalize, correct by (r, d), adjust, scale by gamma and add beta.

    The state holds moving_mean and moving_variance, with renorm also moving_stddev, renorm_mean and
    renorm_stddev, and comes back in the shapes it came in. Its arrays, gamma and beta are (C,), or
    have the rank of x and 1 on the axes that share them; gamma and beta may also be (N, C).

    A group is normalized by its own moments. The batch's are the groups' means and biased variances
    averaged, each as often as its weights sum to; they give (r, d) and move the state. A group of
    weight 0 is normalized by the moving statistics and not corrected. The state stays as it is if
    all groups are such, and if a moment of the batch is not finite.
    """
    done = _forward(x, state, Options(**options))
    after = {name: value.reshape(np.shape(state[name])) for name, value in done.state.items()}
    return Step(done.output(gamma, beta), after)


def step_gradients(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    state: Mapping[str, npt.ArrayLike],
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    **options: Any,
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of sum(y * dy) by x, gamma and beta in their shapes; None for what is None.

    (r, d), the adjustment and the state are constants. Every group follows the formula that
    `gradients` gives, with g = dy * gamma * scale * r, and p = 0 in a group of weight 0.
    """
    done = _forward(x, state, Options(**options))
    dx, dgamma, dbeta = done.gradients(dy, gamma)
    return dx, done.layout.sum_like(dgamma, gamma), done.layout.sum_like(dbeta, beta)


def batch_norm(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    beta: npt.ArrayLike | None = None,
    moving_mean: npt.ArrayLike | None = None,
    moving_variance: npt.ArrayLike | None = None,
    *,
    axis: int = -1,
    training: bool = True,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    weights: npt.ArrayLike | None = None,
) -> Result:
    """Batch normalization in training or in inference; an argument that is None has no effect.

    Weights have the shape of x without its channel axis, or broadcast to it; axes that are missing
    on the right count as 1. In training, mean and variance in the result are those of the batch,
    the variance biased. In inference, and where the weights sum to 0, they are the moving ones.
    Moving statistics stay as they are there, and where any moment of the batch is not finite.
    """
    options = Options(axis, training, epsilon, weights, rate=1 - momentum)
    done = _forward(x, _moving(moving_mean, moving_variance), options)
    return Result(done.output(gamma, beta), done.mean, done.variance, **done.state)


def gradients(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-3,
    weights: npt.ArrayLike | None = None,
) -> Gradients:
    """Gradients of sum(y * dy) in training, through the mean and the variance of the batch.

    Every row j enters the mean and the variance with its share p_j = w_j / sum(w), and every row,
    also one of weight 0, is normalized by them. With g = dy * gamma this makes

        dx_j = (g_j - p_j * (sum(g) + xhat_j * sum(g * xhat))) / sqrt(variance + epsilon)
    """
    done = _forward(x, _moving(), Options(axis, epsilon=epsilon, weights=weights))
    if not done.share.any():
        raise ValueError("the weights sum to 0: use inference_gradients")
    dx, *rows = done.gradients(dy, gamma)
    return Gradients(dx, *(gradient.sum(axis=0) for gradient in rows))


def inference_gradients(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    gamma: npt.ArrayLike | None = None,
    moving_mean: npt.ArrayLike | None = None,
    moving_variance: npt.ArrayLike | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-3,
) -> Gradients:
    """Gradients of sum(y * dy) in inference, where the moving statistics are constants."""
    state = _moving(moving_mean, moving_variance)
    done = _forward(x, state, Options(axis, training=False, epsilon=epsilon))
    dx, *rows = done.gradients(dy, gamma)
    return Gradients(dx, *(gradient.sum(axis=0) for gradient in rows))


def renorm(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike | None,
    beta: npt.ArrayLike | None,
    moving_mean: npt.ArrayLike,
    moving_stddev: npt.ArrayLike,
    renorm_mean: npt.ArrayLike,
    renorm_stddev: npt.ArrayLike,
    *,
    moving_variance: npt.ArrayLike | None = None,
    rmin: float | None = None,
    rmax: float | None = None,
    dmax: float | None = None,
    axis: int = -1,
    momentum: float = 0.99,
    renorm_momentum: float = 0.99,
    epsilon: float = 1e-3,
    weights: npt.ArrayLike | None = None,
) -> RenormResult:
    """One training step of batch renormalization as Keras defines it; None is no limit.

    The correction (r, d) comes from the states before the step. Where the weights sum to 0, the
    output is that of inference, (r, d) is (1, 0), and all states stay as they are; they stay, too,
    where a moment of the batch is not finite. moving_variance is only read there, and follows from
    moving_stddev if it is None.
    """
    if moving_variance is None:
        moving_variance = np.maximum(np.square(moving_stddev, dtype=np.float64) - epsilon, 0.0)
    own = {"moving_stddev": moving_stddev, "renorm_mean": renorm_mean}
    state = _moving(moving_mean, moving_variance) | own | {"renorm_stddev": renorm_stddev}
    limits = (rmin, rmax, dmax, 1 - renorm_momentum)
    options = Options(axis, True, epsilon, weights, rate=1 - momentum, renorm=limits)
    done = _forward(x, state, options)
    y = done.output(gamma, beta)
    return RenormResult(y, done.mean, done.variance, r=done.r, d=done.d, **done.state)


def finite_difference(
    f: Callable[[Array], float], x: npt.ArrayLike, direction: npt.ArrayLike, step: float
) -> float:
    """The derivative of f at x along a direction, by a central difference."""
    point = np.asarray(x).astype(np.float64)
    change = step * np.asarray(direction).astype(np.float64)
    return (f(point + change) - f(point - change)) / (2.0 * step)


class _Layout:
    """The layout of arrays of one shape as a matrix of rows and channels."""

    def __init__(self, shape: tuple[int, ...], axis: int | tuple[int, ...]) -> None:
        self.shape = shape
        axes = axis if isinstance(axis, tuple) else (axis,)
        self.axes = tuple(sorted(range(len(shape))[a] for a in axes))
        self.last = tuple(range(-len(axes), 0))
        self.rest = tuple(n for i, n in enumerate(shape) if i not in self.axes)
        self.channel_shape = tuple(shape[a] for a in self.axes)
        self.rows, self.channels = int(np.prod(self.rest)), int(np.prod(self.channel_shape))

    def matrix(self, value: npt.ArrayLike | None, default: float = 0.0) -> Array:
        """The values as (M, C)."""
        full = np.broadcast_to(self._spread(default if value is None else value), self.shape)
        return np.moveaxis(full, self.axes, self.last).reshape(self.rows, self.channels)

    def restore(self, matrix: Array) -> Array:
        parted: Array = matrix.reshape(self.rest + self.channel_shape)
        return np.moveaxis(parted, self.last, self.axes)

    def sum_like(self, matrix: Array, value: npt.ArrayLike | None) -> Array | None:
        """The sum over all that share an element of value, in its shape; None for None."""
        if value is None:
            return None
        shared = tuple(i for i, n in enumerate(self._spread(value).shape) if n == 1)
        total: Array = self.restore(matrix).sum(axis=shared)
        return total.reshape(np.shape(value))

    def weights(self, weights: npt.ArrayLike | None) -> Array:
        """One weight for each row of the matrix."""
        values = np.asarray(1.0 if weights is None else weights).astype(np.float64)
        padded = values.reshape(values.shape + (1,) * (len(self.rest) - values.ndim))
        return np.broadcast_to(padded, self.rest).reshape(-1)

    def groups(self, ghost: tuple[int, bool] | None) -> list[npt.NDArray[np.intp]]:
        """The rows of each group."""
        if ghost is None:
            return [np.arange(self.rows)]
        if 0 in self.axes:
            raise ValueError("ghost batches part axis 0, which here has statistics of its own")
        (size, strided), samples = ghost, np.arange(self.shape[0])
        count = -(-len(samples) // size)
        group = samples % count if strided else samples // size
        of_row = np.repeat(group, self.rows // max(len(samples), 1))
        return [np.flatnonzero(of_row == j) for j in range(count)]

    def _spread(self, value: npt.ArrayLike) -> Array:
        """Reshapes (C,), (N, C) or a number to the rank of x."""
        array = np.asarray(value).astype(np.float64)
        if array.ndim == len(self.shape):
            return array
        own = ((), self.axes, (0, *self.axes))[array.ndim]
        return array.reshape([n if i in own else 1 for i, n in enumerate(self.shape)])


class _Forward(NamedTuple):
    """The results of a step: (M, C) for each row, or (C,) for the batch."""

    layout: _Layout
    groups: list[npt.NDArray[np.intp]]
    share: Array  # (M, 1), the weights divided by their sum in the group
    normalized: Array
    stddev: Array
    factor: Array  # d carried / d normalized
    carried: Array  # what gamma multiplies
    mean: Array
    variance: Array
    r: Array
    d: Array
    state: dict[str, Array]

    @_quiet
    def output(self, gamma: npt.ArrayLike | None, beta: npt.ArrayLike | None) -> Array:
        layout = self.layout
        return layout.restore(layout.matrix(gamma, 1.0) * self.carried + layout.matrix(beta))

    @_quiet
    def gradients(self, dy: npt.ArrayLike, gamma: npt.ArrayLike | None) -> tuple[Array, ...]:
        """The gradient by x in its shape, and by a gamma and a beta of each row's own as (M, C)."""
        dout = self.layout.matrix(dy)
        g = dout * self.layout.matrix(gamma, 1.0) * self.factor
        dx = np.empty_like(g)
        for rows in self.groups:
            xhat, sums = self.normalized[rows], _times(g, self.normalized)[rows].sum(axis=0)
            through = _times(self.share[rows], g[rows].sum(axis=0) + xhat * sums)
            dx[rows] = (g[rows] - through) / self.stddev[rows]
        return self.layout.restore(dx), _times(dout, self.carried), dout


@_quiet
def _forward(x: npt.ArrayLike, state: Mapping[str, npt.ArrayLike], options: Options) -> _Forward:
    axis, training, epsilon, weights, ghost, rate, unbiased, renorm, adjustment = options
    layout = _Layout(np.shape(x), axis)
    matrix, weight = layout.matrix(x), layout.weights(weights)
    groups = layout.groups(ghost)
    old = {name: np.asarray(value).astype(np.float64) for name, value in state.items()}
    new = {name: np.broadcast_to(v.reshape(-1), layout.channels) for name, v in old.items()}
    mean, variance = new["moving_mean"], new["moving_variance"]
    r, d = np.ones_like(mean), np.zeros_like(mean)
    # Of each row; what follows replaces them in the groups that have weight.
    means, variances = (np.tile(moment, (len(matrix), 1)) for moment in (mean, variance))
    share, measured = np.zeros((len(matrix), 1)), np.zeros((len(matrix), 1), bool)
    counts, moments = [], []
    for rows in groups:
        n = weight[rows].sum()
        if training and n != 0:
            means[rows], variances[rows] = own = _moments(matrix[rows], weight[rows])
            share[rows, 0], measured[rows] = weight[rows] / n, True
            counts.append(n)
            bessel = n / max(n - 1.0, 1.0) if unbiased and n > 1 else 1.0
            moments.append([*own, bessel * own[1]])
    if counts:
        parts = np.array(counts) / np.sum(counts)
        mean, variance, corrected = np.einsum("g,gmc->mc", parts, moments)
        mean_rate, variance_rate = np.broadcast_to(rate, 2)
        towards = [("moving_mean", mean, mean_rate)]
        towards += [("moving_variance", corrected, variance_rate)]
        if renorm is not None:
            *limits, own_rate = renorm
            unlimited = zip(limits, (0.0, np.inf, np.inf), strict=True)
            rmin, rmax, dmax = (none if limit is None else limit for limit, none in unlimited)
            stddev = np.sqrt(variance + epsilon)
            floored = np.maximum(new["renorm_stddev"], np.sqrt(epsilon))
            r = np.clip(stddev / floored, rmin, rmax)
            d = np.clip((mean - new["renorm_mean"]) / floored, -dmax, dmax)
            towards += [("moving_stddev", np.sqrt(corrected + epsilon), variance_rate)]
            towards += [("renorm_mean", mean, own_rate), ("renorm_stddev", stddev, own_rate)]
        if np.isfinite([mean, corrected]).all():
            new |= {name: (1.0 - part) * new[name] + part * to for name, to, part in towards}
            if renorm is not None:
                new["moving_variance"] = np.maximum(new["moving_stddev"] ** 2 - epsilon, 0.0)
    scale, shift = adjustment if training and adjustment is not None else (1.0, 0.0)
    scales, stddevs = layout.matrix(scale), np.sqrt(variances + epsilon)
    normalized = (matrix - means) / stddevs
    factor = scales * np.where(measured, r, 1.0)
    carried = factor * normalized + scales * np.where(measured, d, 0.0) + layout.matrix(shift)
    return _Forward(
        layout, groups, share, normalized, stddevs, factor, carried, mean, variance, r, d, new
    )


def _moments(matrix: Array, weight: Array) -> tuple[Array, Array]:
    # A row of weight 0 is no row: its values do not matter, NaN included.
    rows, share = matrix[weight != 0], weight[weight != 0, np.newaxis] / weight.sum()
    # Sums of numbers near 1e6 lose digits that float64 implementations keep; distances from one of
    # the rows do not. The definitions are the same for x and for x - origin.
    origin = np.where(np.isfinite(rows[0]), rows[0], 0.0)
    distance = rows - origin
    mean = (share * distance).sum(axis=0)
    variance = (share * (distance - mean) ** 2).sum(axis=0)
    return origin + mean, variance


def _times(a: Array, b: Array) -> Array:
    """The product, and 0 where a is 0: a term without weight may be NaN."""
    return np.where(a == 0.0, 0.0, a * b)


def _moving(
    mean: npt.ArrayLike | None = None, variance: npt.ArrayLike | None = None
) -> dict[str, npt.ArrayLike]:
    mean, variance = 0.0 if mean is None else mean, 1.0 if variance is None else variance
    return {"moving_mean": mean, "moving_variance": variance}
