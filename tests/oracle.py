"""What is right: batch normalization in float64 NumPy, against which all else is tested.

It imports nothing from batchnorm and shares no line with it. Every function lays its input out as
a matrix of M rows, the positions, and C columns, the channels, with one weight for every row, and
writes the definitions down. Inputs of any dtype are taken as the exact numbers that they hold.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


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
    matrix, shape = _matrix(x, axis)
    channels = matrix.shape[1]
    old_mean = _vector(moving_mean, 0.0, channels)
    old_variance = _vector(moving_variance, 1.0, channels)
    weight = _row_weights(weights, shape)
    mean, variance, new_mean, new_variance = old_mean, old_variance, old_mean, old_variance
    if training and weight.sum() != 0:
        mean, variance = _moments(matrix, weight)
        if _finite(mean, variance):
            new_mean = momentum * old_mean + (1.0 - momentum) * mean
            new_variance = momentum * old_variance + (1.0 - momentum) * variance
    with np.errstate(invalid="ignore"):
        normalized = (matrix - mean) / np.sqrt(variance + epsilon)
        output = _vector(gamma, 1.0, channels) * normalized + _vector(beta, 0.0, channels)
    return Result(_restore(output, shape, axis), mean, variance, new_mean, new_variance)


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
    matrix, shape = _matrix(x, axis)
    dout, _ = _matrix(dy, axis)
    weight = _row_weights(weights, shape)
    if weight.sum() == 0:
        raise ValueError("the weights sum to 0: use inference_gradients")
    mean, variance = _moments(matrix, weight)
    stddev = np.sqrt(variance + epsilon)
    normalized = (matrix - mean) / stddev
    g = dout * _vector(gamma, 1.0, matrix.shape[1])
    share = (weight / weight.sum())[:, np.newaxis]
    dx = (g - share * (g.sum(axis=0) + normalized * (g * normalized).sum(axis=0))) / stddev
    dgamma = (dout * normalized).sum(axis=0)
    return Gradients(_restore(dx, shape, axis), dgamma, dout.sum(axis=0))


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
    matrix, shape = _matrix(x, axis)
    dout, _ = _matrix(dy, axis)
    channels = matrix.shape[1]
    stddev = np.sqrt(_vector(moving_variance, 1.0, channels) + epsilon)
    normalized = (matrix - _vector(moving_mean, 0.0, channels)) / stddev
    dx = dout * _vector(gamma, 1.0, channels) / stddev
    dgamma = (dout * normalized).sum(axis=0)
    return Gradients(_restore(dx, shape, axis), dgamma, dout.sum(axis=0))


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
    matrix, shape = _matrix(x, axis)
    channels = matrix.shape[1]
    given = (moving_mean, moving_stddev, renorm_mean, renorm_stddev)
    states = np.stack([_vector(state, 0.0, channels) for state in given])
    if moving_variance is None:
        moving_variance = np.maximum(states[1] ** 2 - epsilon, 0.0)
    new_variance = _vector(moving_variance, 0.0, channels)
    mean, variance, r, d = states[0], new_variance, np.ones(channels), np.zeros(channels)
    weight = _row_weights(weights, shape)
    if weight.sum() != 0:
        mean, variance = _moments(matrix, weight)
        stddev = np.sqrt(variance + epsilon)
        r, d = _correction(mean, stddev, states[2], states[3], epsilon, (rmin, rmax, dmax))
        if _finite(mean, variance):
            kept = np.array([[momentum], [momentum], [renorm_momentum], [renorm_momentum]])
            states = kept * states + (1.0 - kept) * np.stack([mean, stddev, mean, stddev])
            new_variance = np.maximum(states[1] ** 2 - epsilon, 0.0)
    with np.errstate(invalid="ignore"):
        corrected = (matrix - mean) / np.sqrt(variance + epsilon) * r + d
        output = _vector(gamma, 1.0, channels) * corrected + _vector(beta, 0.0, channels)
    y = _restore(output, shape, axis)
    return RenormResult(
        y, mean, variance, states[0], new_variance, states[1], states[2], states[3], r, d
    )


def finite_difference(
    f: Callable[[Array], float], x: npt.ArrayLike, direction: npt.ArrayLike, step: float
) -> float:
    """The derivative of f at x along a direction, by a central difference."""
    point = np.asarray(x).astype(np.float64)
    change = step * np.asarray(direction).astype(np.float64)
    return (f(point + change) - f(point - change)) / (2.0 * step)


def _correction(
    mean: Array,
    stddev: Array,
    renorm_mean: Array,
    renorm_stddev: Array,
    epsilon: float,
    limits: tuple[float | None, float | None, float | None],
) -> tuple[Array, Array]:
    rmin, rmax, dmax = limits
    floored = np.maximum(renorm_stddev, np.sqrt(epsilon))
    r = stddev / floored
    d = (mean - renorm_mean) / floored
    if rmin is not None:
        r = np.maximum(r, rmin)
    if rmax is not None:
        r = np.minimum(r, rmax)
    if dmax is not None:
        d = np.clip(d, -dmax, dmax)
    return r, d


def _moments(matrix: Array, weight: Array) -> tuple[Array, Array]:
    # A row of weight 0 is no row: what it holds, be it NaN, does not matter.
    rows, share = matrix[weight != 0], weight[weight != 0, np.newaxis] / weight.sum()
    # Sums of numbers near 1e6 lose digits that float64 implementations keep; distances from one of
    # the rows do not. The definitions are the same for x and for x - origin.
    origin = np.where(np.isfinite(rows[0]), rows[0], 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = rows - origin
        mean = (share * distance).sum(axis=0)
        variance = (share * (distance - mean) ** 2).sum(axis=0)
        return origin + mean, variance


def _finite(mean: Array, variance: Array) -> bool:
    return bool(np.isfinite(mean).all() and np.isfinite(variance).all())


def _matrix(x: npt.ArrayLike, axis: int) -> tuple[Array, tuple[int, ...]]:
    """The values as (M, C), and the shape they had with the channels last."""
    last = np.moveaxis(np.asarray(x).astype(np.float64), axis, -1)
    rows = int(np.prod(last.shape[:-1]))
    return last.reshape(rows, last.shape[-1]), last.shape


def _restore(matrix: Array, shape: tuple[int, ...], axis: int) -> Array:
    return np.moveaxis(matrix.reshape(shape), -1, axis)


def _row_weights(weights: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """One weight for each row of the matrix."""
    given = np.asarray(1.0 if weights is None else weights).astype(np.float64)
    padded = given.reshape(given.shape + (1,) * (len(shape) - 1 - given.ndim))
    return np.broadcast_to(padded, shape[:-1]).reshape(-1)


def _vector(value: npt.ArrayLike | None, default: float, channels: int) -> Array:
    if value is None:
        return np.full(channels, default)
    return np.asarray(value).astype(np.float64).reshape(channels)
