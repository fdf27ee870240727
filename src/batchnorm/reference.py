"""Batch normalization from scratch in NumPy: training, inference and the backward pass.

Read this file first; the rest of the package does the same, faster and with more options. While a
network trains, the layer shifts and scales every channel to mean 0 and variance 1 over the batch,
then applies a scale gamma and a shift beta that are learned. It keeps moving averages of what it
measured, so that a single sample can be normalized once training is over. Each equation of Ioffe
and Szegedy, "Batch Normalization", 2015 (arXiv:1502.03167), stands beside the line that computes
it; μ and σ² are mean and variance, ε is epsilon, γ and β are gamma and beta, x̂ is the normalized
x, ℓ is the loss, and Σ sums over the m values that one channel has in the batch.

    μ = Σ x / m,   σ² = Σ (x - μ)² / m,   y = γ (x - μ) / √(σ² + ε) + β

Example:
    >>> import numpy as np
    >>> from batchnorm.reference import batch_norm_backward, batch_norm_infer, batch_norm_train
    >>> x = np.array([[1.0, 10.0], [2.0, 60.0], [6.0, 20.0]])  # three samples, two channels
    >>> gamma, beta = np.array([1.0, 2.0]), np.array([0.0, 5.0])
    >>> y, cache, moving_mean, moving_variance = batch_norm_train(
    ...     x, gamma, beta, np.zeros(2), np.ones(2), momentum=0.9
    ... )
    >>> mu, variance = x.mean(axis=0), x.var(axis=0)
    >>> np.allclose(y, gamma * (x - mu) / np.sqrt(variance + 1e-3) + beta)
    True
    >>> np.allclose(moving_mean, 0.9 * 0 + 0.1 * mu)
    True
    >>> batch_norm_infer(x[:1], gamma, beta, moving_mean, moving_variance).shape
    (1, 2)
    >>> dx, dgamma, dbeta = batch_norm_backward(np.ones((3, 2)), cache)
    >>> np.allclose(dx, 0)  # whatever x is, y sums to 3 beta
    True
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


class Cache(NamedTuple):
    """The values of the forward pass that the backward pass needs."""

    centred: Array  # x - mean, shaped like x: more exact than x and the rounded mean
    mean: Array  # of the mini-batch, shape (C,), as are the next two
    variance: Array
    gamma: Array
    axis: int
    epsilon: float
    dtype: np.dtype[Any]  # of y, and so of dx


def batch_norm_train(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike,
    beta: npt.ArrayLike,
    moving_mean: npt.ArrayLike,
    moving_variance: npt.ArrayLike,
    *,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
) -> tuple[Array, Cache, Array, Array]:
    """Normalizes a mini-batch by its own mean and variance: Algorithm 1 of the paper.

        y = γ (x - μ) / √(σ² + ε) + β

    Args:
        x: the mini-batch, shape (N, C), (N, ..., C), or any other with the channels on `axis`.
        gamma: scale, shape (C,).
        beta: shift, shape (C,).
        moving_mean: moving average of the means so far, shape (C,).
        moving_variance: moving average of the variances so far, shape (C,).
        axis: which axis of x holds the channels.
        momentum: the weight of the old moving average, in [0, 1).
        epsilon: added to the variance, at least 0; 0 leaves a constant channel as 0 / 0.

    Returns:
        (y, cache, moving_mean, moving_variance): y in the shape and dtype of x (integers become
        floats), the cache for `batch_norm_backward`, and new moving averages; nothing is changed
        in place. A batch that is empty, or whose moments are not finite, does not change them.

    Raises:
        ValueError: a shape, dtype, axis, momentum or epsilon is not one of those above.
    """
    if not 0 <= momentum < 1:
        raise ValueError(
            f"momentum={momentum} is not allowed: it must be at least 0 and below 1, such as 0.99."
        )
    values, dtype = _prepare(x, axis, epsilon)
    gamma, beta, new_mean, new_variance = _columns(
        values, gamma=gamma, beta=beta, moving_mean=moving_mean, moving_variance=moving_variance
    )

    if values.size:
        mean, variance, centred = _moments(values)
    else:  # Nothing to measure: the averages stand in for it, and so stay as they are.
        mean, variance, centred = new_mean, new_variance, values
    normalized = centred / np.sqrt(variance + float(epsilon))  # x̂ = (x - μ) / √(σ² + ε)
    y = gamma * normalized + beta  # y = γ x̂ + β

    centred = _from_rows(centred, np.shape(x), axis, values.dtype)
    cache = Cache(centred, mean[:, 0], variance[:, 0], gamma[:, 0], axis, float(epsilon), dtype)
    if np.isfinite(variance).all():  # Where the mean is not finite, the variance is not either.
        new_mean += (1 - momentum) * (mean - new_mean)
        new_variance += (1 - momentum) * (variance - new_variance)
    return _from_rows(y, np.shape(x), axis, dtype), cache, new_mean[:, 0], new_variance[:, 0]


def batch_norm_infer(
    x: npt.ArrayLike,
    gamma: npt.ArrayLike,
    beta: npt.ArrayLike,
    moving_mean: npt.ArrayLike,
    moving_variance: npt.ArrayLike,
    *,
    axis: int = -1,
    epsilon: float = 1e-3,
) -> Array:
    """Normalizes by the moving averages, each sample on its own: Algorithm 2 of the paper.

        y = γ (x - E[x]) / √(Var[x] + ε) + β

    We differ from the paper in two places. It takes the unbiased Var[x] = m / (m - 1) · E[σ²];
    Keras, and so we, average the biased σ² of Algorithm 1 as it is. And it multiplies out to
    y = a x + (β - a E[x]), where digits are lost if E[x] is large; we centre first.

    Args:
        x: samples, shape (N, C), (N, ..., C), or any other with the channels on `axis`.
        gamma: scale, shape (C,).
        beta: shift, shape (C,).
        moving_mean: E[x], shape (C,).
        moving_variance: Var[x], shape (C,).
        axis: which axis of x holds the channels.
        epsilon: what was added to the variance in training.

    Returns:
        y, in the shape and dtype of x (integers become floats).

    Raises:
        ValueError: a shape, dtype, axis or epsilon is not one of those above.
    """
    values, dtype = _prepare(x, axis, epsilon)
    gamma, beta, mean, variance = _columns(
        values, gamma=gamma, beta=beta, moving_mean=moving_mean, moving_variance=moving_variance
    )
    y = gamma * (values - mean) / np.sqrt(variance + float(epsilon)) + beta
    return _from_rows(y, np.shape(x), axis, dtype)


def batch_norm_backward(dy: npt.ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Computes gradients of a loss ℓ through `batch_norm_train`: the six equations of section 3.

    Args:
        dy: ∂ℓ/∂y, in the shape of x.
        cache: what `batch_norm_train` returned for that x.

    Returns:
        (dx, dgamma, dbeta): ∂ℓ/∂x in the shape and dtype of x, ∂ℓ/∂γ and ∂ℓ/∂β of shape (C,).

    Raises:
        ValueError: dy does not have the shape of x.
    """
    if np.shape(dy) != cache.centred.shape:
        raise ValueError(
            f"dy has shape {np.shape(dy)}, but x had {cache.centred.shape} and dy must have the "
            "same. Pass the gradient of the loss in y and the cache of the same forward pass."
        )
    centred = _to_rows(cache.centred, cache.axis, cache.centred.dtype)
    dout = _to_rows(_floats("dy", dy), cache.axis, centred.dtype)
    gamma, m = cache.gamma[:, None], centred.shape[1]
    stddev = np.sqrt(cache.variance[:, None] + cache.epsilon)
    normalized = centred / stddev

    dnormalized = dout * gamma  # ∂ℓ/∂x̂ = ∂ℓ/∂y · γ
    # ∂ℓ/∂σ² = Σ ∂ℓ/∂x̂ · (x - μ) · (-1/2) (σ² + ε)^(-3/2), that is -1/2 Σ ∂ℓ/∂x̂ · x̂ / (σ² + ε).
    dvariance = -0.5 * (dnormalized * normalized).sum(1, keepdims=True) / stddev**2
    # ∂ℓ/∂μ = Σ ∂ℓ/∂x̂ · (-1) / √(σ² + ε); the paper adds ∂ℓ/∂σ² · Σ -2 (x - μ) / m, which is 0.
    dmean = -dnormalized.sum(1, keepdims=True) / stddev
    # ∂ℓ/∂x = ∂ℓ/∂x̂ / √(σ² + ε) + ∂ℓ/∂σ² · 2 (x - μ) / m + ∂ℓ/∂μ / m
    dx = dnormalized / stddev + (dvariance * 2 * centred + dmean) / m
    dgamma = (dout * normalized).sum(1)  # ∂ℓ/∂γ = Σ ∂ℓ/∂y · x̂
    dbeta = dout.sum(1)  # ∂ℓ/∂β = Σ ∂ℓ/∂y
    return _from_rows(dx, np.shape(dy), cache.axis, cache.dtype), dgamma, dbeta


def _moments(values: Array) -> tuple[Array, Array, Array]:
    """Computes μ = Σ x / m, σ² = Σ (x - μ)² / m and x - μ of every row."""
    # Near 1e6 the steps of float32 are 0.06, so the first mean is wrong by as much. What it missed
    # is the mean c of d = x - m0, which is small and so exact: μ = m0 + c, σ² = Σ d² / m - c².
    m0 = values.mean(axis=1, keepdims=True)
    d = values - m0
    c = d.mean(axis=1, keepdims=True)
    variance = (d * d).mean(axis=1, keepdims=True) - c * c
    return m0 + c, np.maximum(variance, 0), d - c  # Rounding may leave a variance just below 0.


def _to_rows(x: Array, axis: int, dtype: np.dtype[Any]) -> Array:
    """Lays x out as (C, m): every channel a row, so that a parameter is a column beside it."""
    moved = np.moveaxis(x, axis, 0)
    # Contiguous, because NumPy sums pairwise, with small errors, only along contiguous memory.
    return np.ascontiguousarray(moved.reshape(len(moved), np.prod(moved.shape[1:])), dtype)


def _from_rows(rows: Array, shape: tuple[int, ...], axis: int, dtype: np.dtype[Any]) -> Array:
    """Undoes `_to_rows` for an x of that shape."""
    moved = rows.reshape(shape[axis], *np.delete(shape, axis))
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis), dtype)


def _prepare(x: npt.ArrayLike, axis: int, epsilon: float) -> tuple[Array, np.dtype[Any]]:
    """Checks x, axis and epsilon; returns x as rows to compute with, and the dtype of y."""
    floats = _floats("x", x)
    if floats.ndim < 2 or not -floats.ndim <= axis < floats.ndim:
        raise ValueError(
            f"axis={axis} does not fit x of shape {floats.shape}: x needs two axes or more, axis "
            "being one. Pass -1 for (N, ..., C), 1 for (N, C, ...), and x[:, None] for shape (N,)."
        )
    if not 0 <= epsilon < np.inf:
        raise ValueError(
            f"epsilon={epsilon} is not allowed: added to the variance under a square root, it must "
            "be finite and at least 0. Pass a value such as 1e-3."
        )
    dtype = np.asarray(x).dtype
    return _to_rows(floats, axis, floats.dtype), dtype if dtype.kind == "f" else floats.dtype


def _floats(name: str, value: npt.ArrayLike) -> Array:
    """Returns the value as a new array of its own float dtype, but at least float32."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} has dtype {array.dtype}, but only real numbers are allowed: floats, or "
            "integers, which become floats. Convert it first, e.g. with .astype(np.float32)."
        )
    return array.astype(np.result_type(array.dtype, np.float32))


def _columns(values: Array, **parameters: npt.ArrayLike) -> list[Array]:
    """Returns the parameters, each of shape (C,), as new columns of shape (C, 1)."""
    columns = []
    for name, value in parameters.items():
        vector = _floats(name, value)
        if vector.shape != (len(values),):
            raise ValueError(
                f"{name} has shape {vector.shape}, but x has {len(values)} channels: it must have "
                f"shape ({len(values)},). Pass one number per channel, or correct axis."
            )
        columns.append(vector[:, None])
    return columns
