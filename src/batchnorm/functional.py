"""Batch normalization as a function: the stages in order, state passed in and handed back."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from batchnorm import kernels, replicas
from batchnorm.affine import Affine, then
from batchnorm.moving import Exponential, Moving, update, usable
from batchnorm.renorm import Renorm
from batchnorm.statistics import Moments, align, centre

Tensor = Any
State = Mapping[str, Tensor]

_MOVING = Exponential()


def batch_norm(
    x: Tensor,
    state: State,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    training: bool = False,
    axis: int = -1,
    epsilon: float = 1e-3,
    moving: Moving = _MOVING,
    renorm: Renorm | None = None,
    mask: Tensor | None = None,
    synchronized: bool = False,
) -> tuple[Tensor, State]:
    """Normalizes each channel to mean 0 and variance 1, then scales and shifts it.

    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    with the batch's mean and (biased) variance in training, the moving ones in inference. A pure
    function: it can be compiled, differentiated (twice, too) and, on JAX, vectorised.

    Args:
        x: `(N, ..., C)`, or with the channels at `axis`. Half precision is computed in float32,
            integers likewise.
        state: `moving_mean` and `moving_variance`, each `(C,)`, by name; with `renorm` also
            `moving_stddev`, `renorm_mean` and `renorm_stddev`.
        gamma: scale `(C,)`; `None` is 1.
        beta: shift `(C,)`; `None` is 0.
        training: whether to use and to record the statistics of this batch.
        axis: the channel axis.
        epsilon: added to the variance under the root, in units of x squared.
        moving: how the moving statistics follow the batches'.
        renorm: correct the batch's moments towards running ones; `None` for not.
        mask: elements that count in the statistics, boolean or 0 and 1, of any shape that
            broadcasts against `x` without its channel axis: `(N,)`, `(N, ...)`. Missing axes are
            added on the right. The rest is normalized too, but not measured.
        synchronized: measure over the batches of all replicas (TensorFlow's strategies).

    Returns:
        y, shaped like `x` and in its dtype (float32 for integers), and the state after this call,
        a new dictionary, in float32 or float64; after training it carries no gradients, in
        inference it is as it was. A batch without a single counted element is normalized by the
        moving statistics; it leaves the state as it is, and so does one whose moments are not
        finite.

    Raises:
        ValueError: `axis` is out of range, `x` is complex, the state lacks a name or has another
            shape, or `mask` does not fit.

    Example:
        >>> import numpy as np
        >>> x = np.array([[1.0], [3.0]], "float32")
        >>> zero, one = np.zeros(1, "float32"), np.ones(1, "float32")
        >>> state = {"moving_mean": zero, "moving_variance": one}
        >>> y, state = batch_norm(x, state, training=True, epsilon=0.0, moving=Exponential(0.5))
        >>> [float(v) for v in y[:, 0]], float(state["moving_mean"][0])
        ([-1.0, 1.0], 1.0)

    References:
        Ioffe and Szegedy 2015, arXiv:1502.03167, Algorithms 1 and 2.
    """
    x = ops.convert_to_tensor(x)
    plan = kernels.plan(len(x.shape), axis, keras.backend.standardize_dtype(x.dtype))
    kernel = kernels.choose(plan)
    state = _checked(state, x.shape[plan.axis], renorm)
    weights = None if mask is None else align(mask, x.shape, plan.axis, plan.moments_dtype)
    affine = Affine(
        1.0 if gamma is None else _cast(gamma, plan), 0.0 if beta is None else _cast(beta, plan)
    )
    if not training:
        mean, variance = _cast(state["moving_mean"], plan), _cast(state["moving_variance"], plan)
        return _like(kernel.infer(plan, x, mean, variance, affine, epsilon), x), state

    known = {name: _cast(ops.stop_gradient(value), plan) for name, value in state.items()}
    prior = (known["moving_mean"], known["moving_variance"])
    if weights is not None and weights.shape[plan.axis] != 1:
        # A mask of Keras's that covers the channel axis: a channel that it hides in every sample
        # is padding, which Keras leaves at beta, and its own tests want it to differ from
        # inference.
        prior = (0.0, 0.0)
    total = replicas.total() if synchronized else None
    if renorm is not None:
        measured = centre(_cast(ops.stop_gradient(x), plan), plan.axes, weights, prior, total)
        affine = then(renorm.correction(measured, known, epsilon), affine)
    y, batch = kernel.train(plan, x, affine, epsilon, prior, weights, total)
    return _like(y, x), _advance(state, batch, epsilon, moving, renorm)


def _advance(
    state: State, batch: Moments, epsilon: float, moving: Moving, renorm: Renorm | None
) -> State:
    # In the dtype of the state, which may be finer than that of the batch; and without gradients,
    # or the state of a custom loop on PyTorch would drag along the graphs of all steps before.
    dtype = state["moving_mean"].dtype
    mean, variance = (ops.cast(ops.stop_gradient(value), dtype) for value in batch[1:])
    batch = Moments(batch.count, mean, variance)
    if renorm is not None:
        new = renorm.step(state, batch, moving.rate(), epsilon)
    else:
        new = {
            "moving_mean": update(state["moving_mean"], batch.mean, moving.rate()),
            "moving_variance": update(state["moving_variance"], batch.variance, moving.rate()),
        }
    kept = usable(batch)
    return {name: ops.where(kept, value, state[name]) for name, value in new.items()}


def _checked(state: State, channels: int | None, renorm: Renorm | None) -> dict[str, Tensor]:
    """The state by name, in float32 or float64; its names and shapes are right."""
    names = ("moving_mean", "moving_variance", *(renorm.STATE if renorm else ()))
    if missing := [name for name in names if name not in state]:
        raise ValueError(
            f"The state lacks {', '.join(missing)}: it needs {', '.join(names)}, each ({channels},)"
            f", and has {', '.join(state) or 'nothing'}."
        )
    tensors = {name: ops.convert_to_tensor(state[name]) for name in names}
    for name, value in tensors.items():
        if tuple(value.shape) != (channels,):
            raise ValueError(
                f"{name} is {tuple(value.shape)}, but the input has {channels} channels: it must "
                f"be ({channels},). Is axis the channels' axis?"
            )
    return {
        name: ops.cast(value, kernels.moments_dtype(value.dtype)) for name, value in tensors.items()
    }


def _cast(value: Tensor, plan: kernels.Plan) -> Tensor:
    return ops.cast(value, plan.moments_dtype)


def _like(y: Tensor, x: Tensor) -> Tensor:
    """In the dtype of `x`, if that can hold it."""
    return ops.cast(y, x.dtype) if keras.backend.is_float_dtype(x.dtype) else y
