"""Batch normalization as a function: the stages in order, state passed in and handed back."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import keras
from keras import ops

from batchnorm import kernels, replicas
from batchnorm.affine import Affine, fitted, then
from batchnorm.casting import cast, dtype_of, tensor
from batchnorm.ghost import Ghost
from batchnorm.kernels import Plan, moments_dtype
from batchnorm.moving import Exponential, Moving
from batchnorm.renorm import Renorm
from batchnorm.snapshot import snapshot
from batchnorm.tracing import unconverted
from batchnorm.training import advance, train
from batchnorm.weights import align, check, scaled

Tensor = Any
State = Mapping[str, Tensor]
Adjustment = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]

_MOVING = Exponential()


@unconverted
def batch_norm(
    x: Tensor,
    state: State,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    training: bool = False,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-3,
    statistics: Ghost | None = None,
    moving: Moving = _MOVING,
    renorm: Renorm | None = None,
    adjustment: Adjustment | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
    mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    synchronized: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Normalizes each channel to mean 0 and variance 1, then scales and shifts it.

    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    with the batch's mean and (biased) variance in training, the moving ones in inference. A pure
    function: it can be compiled, differentiated (twice, too) and, on JAX, vectorised.

    Args:
        x: `(N, ..., C)`, or with the channels at `axis`. Half precision is computed in float32,
            integers likewise.
        state: `moving_mean` and `moving_variance`, each `(C,)`, by name; with `renorm` also
            `moving_stddev`, `renorm_mean` and `renorm_stddev`; where something depends on the step
            also `step`, a whole number from 0. `state_names` tells which.
        gamma: scale `(C,)`, `(N, C)` per sample, or a map of the rank of `x` with 1 on any axes
            along which it is the same; `None` is 1.
        beta: shift, likewise; `None` is 0.
        training: whether to use and to record the statistics of this batch.
        axis: the channel axis, or several that keep statistics of their own; with several, gamma,
            beta and the state have the rank of `x`, and 1 on all other axes.
        epsilon: added to the variance under the root, in units of x squared.
        statistics: how a batch is measured: whole, or `Ghost(size)` for groups of samples.
        moving: how the moving statistics follow the batches'.
        renorm: correct the batch's moments towards running ones; `None` for not.
        adjustment: in training, from the shape of `x` to a scale and a shift, each like gamma, that
            come after the normalization and before gamma; a random one is a regularizer.
        activation: what is done to y in the end, in float32 or float64; `None` for nothing.
        mask: elements that count in the statistics, boolean or from 0 to 1, of any shape that
            broadcasts against `x` without its channel axis, or with 1 in its place: `(N,)`,
            `(N, ...)`, `(N, ..., 1)`. Missing axes are added on the right. The rest is normalized
            too, but not measured.
        sample_weight: how often each element counts, at least 0, of such shapes; 2 is as if the
            element were there twice. Times `mask`, where both are given.
        synchronized: measure over the batches of all replicas (TensorFlow's strategies).

    Returns:
        y, shaped like `x` and in its dtype (float32 for integers), and the state after this call,
        a new dictionary, in float32 or float64; after training it carries no gradients, in
        inference it is as it was. A batch (or a ghost batch) without any weight is normalized by
        the moving statistics; it leaves the state as it is, and so does a batch whose moments are
        not finite. Weights that are negative, and masks above 1, in code that is compiled make y
        NaN.

    Raises:
        ValueError: `axis` or `epsilon` is out of range, `x` is complex, the state lacks a name, or
            a shape does not fit; a weight is negative, a mask above 1; the adjustment returns no
            pair.

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
    x, epsilon = ops.convert_to_tensor(x), not_negative(epsilon)
    plan = kernels.plan(x.shape, axis, dtype_of(x))
    known = snapshot(_checked(state, state_names(moving, renorm), plan, x.shape), training)
    affine = Affine(
        1.0 if gamma is None else _fitted("gamma", gamma, plan, x),
        0.0 if beta is None else _fitted("beta", beta, plan, x),
    )
    if training:
        weights, unit = _weights(plan, x, mask, sample_weight), 1.0
        if not synchronized:  # each replica would have a unit of its own
            weights, unit = scaled(weights, mask, sample_weight)
        if adjustment is not None:
            affine = _then(plan, _adjusted(adjustment, plan, x), affine)
        total = replicas.total() if synchronized else None
        y, batch = train(plan, x, known, affine, epsilon, statistics, renorm, weights, total)
        known = advance(known, batch, epsilon, moving, renorm, unit)
    else:
        for name, value, lacking in _named_weights(plan, mask, sample_weight):
            check(name, value, x.shape, lacking)
        mean, variance = (_cast(known[name], plan) for name in ("moving_mean", "moving_variance"))
        y = kernels.choose(plan).infer(plan, x, mean, variance, affine, epsilon)
    y = y if activation is None else activation(y)
    if len(plan.axis) > 1:
        known = {
            name: ops.reshape(value, _state_shape(name, plan, x.shape))
            for name, value in known.items()
        }
    return _like(y, x), known


def state_names(moving: Moving = _MOVING, renorm: Renorm | None = None) -> tuple[str, ...]:
    """What the state of `batch_norm` holds.

    Args:
        moving: as for `batch_norm`.
        renorm: as for `batch_norm`.

    Returns:
        The names: of vectors `(C,)`, and "step", of a whole number, if it is needed.

    Example:
        >>> state_names()
        ('moving_mean', 'moving_variance')
    """
    counts = moving.counts or (renorm is not None and renorm.counts)
    return (
        "moving_mean",
        "moving_variance",
        *(renorm.state if renorm else ()),
        *(("step",) if counts else ()),
    )


def not_negative(epsilon: float) -> float:
    """Raises for an epsilon that is below 0, where it can be read, or that is no number."""
    number = isinstance(epsilon, Real) and not isinstance(epsilon, bool)
    if (number and not epsilon >= 0) or not (number or hasattr(epsilon, "dtype")):
        raise ValueError(
            f"epsilon must be at least 0, received {epsilon!r}. It is a number that is added to "
            "the variance under a root; 1e-3 is the default."
        )
    return epsilon


def _then(plan: Plan, first: Affine, second: Affine) -> Affine:
    """`then` for steps of which any may be a map, that broadcasts against its own rank alone."""
    if any(plan.is_map(value) for value in (*first, *second)):
        first, second = (Affine(*map(plan.spread, step)) for step in (first, second))
    return then(first, second)


def _adjusted(adjustment: Adjustment, plan: Plan, x: Tensor) -> Affine:
    pair = adjustment(ops.shape(x))
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(
            f"The adjustment must return a pair, (scale, shift), and returned {pair!r}. Return "
            "(scale, 0.0) where there is nothing to add."
        )
    names = ("The adjustment's scale", "The adjustment's shift")
    return Affine(*(_fitted(name, value, plan, x) for name, value in zip(names, pair, strict=True)))


def _weights(
    plan: Plan, x: Tensor, mask: Tensor | None, sample_weight: Tensor | None
) -> Tensor | None:
    """Both as one, of the rank of `x`."""
    weights = None
    for name, value, lacking in _named_weights(plan, mask, sample_weight):
        aligned = align(name, value, x.shape, lacking, plan.moments_dtype)
        weights = aligned if weights is None else weights * aligned
    return weights


def _named_weights(
    plan: Plan, mask: Tensor | None, sample_weight: Tensor | None
) -> list[tuple[str, Tensor, tuple[Sequence[int], ...]]]:
    """The weights of a call with their names, and which axes they may lack."""
    # Keras's own masks lack the last axis, whichever is the channels'.
    last = (plan.rank - 1,)
    named = (("mask", mask, (plan.axis, last)), ("sample_weight", sample_weight, (plan.axis,)))
    return [each for each in named if each[1] is not None]


def _checked(
    state: State, names: Sequence[str], plan: Plan, shape: Sequence[int | None]
) -> dict[str, Tensor]:
    """The state by name, its vectors in float32 or float64, a size for each channel axis."""
    vector = plan.parameter_shape(shape)
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(
            f"The state lacks {', '.join(missing)}: it needs {', '.join(names)}, each {vector}"
            f"{', step a whole number' if 'step' in names else ''}; it has "
            f"{', '.join(state) or 'nothing'}."
        )
    tensors = {name: tensor(state[name]) for name in names}
    for name, value in tensors.items():
        expected = _state_shape(name, plan, shape)
        if tuple(value.shape) != expected:
            raise ValueError(
                f"{name} is {tuple(value.shape)}, but for an input of shape {tuple(shape)} with "
                f"its channels at axis {', '.join(map(str, plan.axis))} it must be {expected}. Is "
                "axis the channels' axis?"
            )
        if name != "step":
            tensors[name] = value = cast(value, moments_dtype(dtype_of(value)))
            if len(plan.axis) > 1:
                tensors[name] = ops.reshape(value, [shape[axis] for axis in plan.axis])
    return tensors


def _state_shape(name: str, plan: Plan, shape: Sequence[int | None]) -> tuple[int | None, ...]:
    return () if name == "step" else plan.parameter_shape(shape)


def _fitted(name: str, value: Tensor, plan: Plan, x: Tensor) -> Tensor:
    return fitted(name, value, x.shape, plan.axis, plan.moments_dtype)


def _cast(value: Tensor, plan: Plan) -> Tensor:
    return cast(value, plan.moments_dtype)


def _like(y: Tensor, x: Tensor) -> Tensor:
    """In the dtype of `x`, if that can hold it."""
    dtype = dtype_of(x)
    return cast(y, dtype) if keras.backend.is_float_dtype(dtype) else y
