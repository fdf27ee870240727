"""Batch normalization as a function: all stages in order, state passed in and returned."""

import functools
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import keras
from keras import ops

from batchnorm import kernels, replicas
from batchnorm.kernels.kernel import Call
from batchnorm.slots.ghost import Ghost
from batchnorm.slots.moving import Average, Exponential, Moving
from batchnorm.slots.renorm import Renorm
from batchnorm.stages.adjustment import Adjustment, adjusted
from batchnorm.stages.affine import Affine, fitted
from batchnorm.stages.groups import split_affine, split_weights
from batchnorm.stages.moments import Moments, SplitMoments
from batchnorm.stages.placement import device_of, mode_of, unconverted
from batchnorm.stages.plan import Plan, moments_dtype, plan_of
from batchnorm.stages.snapshot import snapshot
from batchnorm.stages.state import (
    State,
    accept,
    bessel,
    check_state,
    detached,
    like_parameters,
    merge_groups,
)
from batchnorm.stages.tensors import cast, dtype_name
from batchnorm.stages.weights import check_weights, combined_weights

Tensor = Any

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
            also `step`, an integer that counts the batches. `state_names` lists them.
        gamma: scale `(C,)`, `(N, C)` per sample, or a map of the rank of `x` with 1 on any axes
            along which it is the same; `None` is 1.
        beta: shift, likewise; `None` is 0.
        training: whether to use and record the statistics of this batch.
        axis: the channel axis, or several that keep statistics of their own; with several, gamma,
            beta and the state have the rank of `x`, and 1 on all other axes.
        epsilon: added to the variance under the root, in units of x squared.
        statistics: `Ghost(size)` measures groups of samples; `None` the whole batch.
        moving: the rule by which the moving statistics follow the batches'.
        renorm: corrects the batch's moments towards running ones; `None` for no correction.
        adjustment: in training, from the shape of `x` to a scale and a shift, each like gamma, that
            come after the normalization and before gamma; a random one is a regularizer.
        activation: a function of y, called last, in float32 or float64; `None` for none.
        mask: elements that count in the statistics, boolean or from 0 to 1, of any shape that
            broadcasts against `x` without its channel axis, or with 1 in its place: `(N,)`,
            `(N, ...)`, `(N, ..., 1)`. Missing axes are added on the right. Hidden elements are
            normalized too, but not measured.
        sample_weight: the frequency of each element, at least 0, of such shapes; 2 is as if the
            element occurred twice. Multiplied by `mask` if both are passed.
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
    x, epsilon = ops.convert_to_tensor(x), check_epsilon(epsilon)
    mode = mode_of(x, gamma, beta) if isinstance(epsilon, Real) else "compiled"
    plan = plan_of(x.shape, axis, dtype_name(x.dtype), device_of(x), mode)
    state = snapshot(check_state(state, state_names(moving, renorm), plan), training, mode)
    affine = Affine(
        1.0 if gamma is None else fitted("gamma", gamma, x.shape, plan.axis, plan.moments_dtype),
        0.0 if beta is None else fitted("beta", beta, x.shape, plan.axis, plan.moments_dtype),
    )
    if training:
        weights, unit = combined_weights(plan, x, mask, sample_weight, synchronized)
        if adjustment is not None:
            affine = adjusted(adjustment, plan, x, affine)
        past = _past(plan, state, detach=weights is not None or statistics is not None)
        call = Call(
            x,
            affine,
            epsilon,
            _prior(plan, past, weights),
            weights,
            replicas.current() if synchronized else None,
            None if renorm is None else functools.partial(_correction, renorm, past, epsilon),
        )
        y, batch = _normalize(plan, call, statistics)
        state = _advance(state, batch, epsilon, moving, renorm, unit)
    else:
        check_weights(plan, x, mask, sample_weight)
        past = _past(plan, state)
        plan = plan.with_facts(affine)
        kernel = kernels.choose(plan)
        y = kernel.infer(plan, x, past["moving_mean"], past["moving_variance"], affine, epsilon)
    if activation is not None:
        y = activation(y)
    if keras.backend.is_float_dtype(plan.dtype):  # y of integers stays in float32
        y = cast(y, plan.dtype)
    return y, like_parameters(state, plan)


def state_names(moving: Moving = _MOVING, renorm: Renorm | None = None) -> tuple[str, ...]:
    """Lists the names of the state of `batch_norm`.

    Args:
        moving: as for `batch_norm`.
        renorm: as for `batch_norm`.

    Returns:
        The names of vectors `(C,)`, and "step", an integer, if something counts batches.

    Example:
        >>> state_names()
        ('moving_mean', 'moving_variance')
    """
    names: tuple[str, ...] = ("moving_mean", "moving_variance")
    if renorm is None:
        return names + moving.state
    names += renorm.state + moving.state
    return (*names, "step") if renorm.counts and "step" not in names else names


def check_epsilon(epsilon: float) -> float:
    """Returns epsilon; raises if it is not a number, or one below 0."""
    number = isinstance(epsilon, Real) and not isinstance(epsilon, bool)
    if (number and not epsilon >= 0) or not (number or hasattr(epsilon, "dtype")):
        raise ValueError(
            f"epsilon must be at least 0, received {epsilon!r}. It is a number that is added to "
            "the variance under a root; 1e-3 is the default."
        )
    return epsilon


def _past(plan: Plan, state: State, detach: bool = False) -> State:
    """Returns the state as a step reads it: in the dtype of the arithmetic.

    Args:
        plan: of the input.
        state: before the step.
        detach: whether y depends on it without gradients.
    """
    past = {}
    for name, value in state.items():
        if dtype_name(value.dtype) != plan.moments_dtype:
            value = cast(value, plan.moments_dtype)
        past[name] = ops.stop_gradient(value) if detach else value
    return past


def _prior(plan: Plan, past: State, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the mean and variance of channels without weight."""
    if weights is not None and any(weights.shape[axis] != 1 for axis in plan.axis):
        # A mask of Keras's that covers the channel axis: a channel that it hides in every sample
        # is padding, which Keras leaves at beta, and its own tests want it to differ from
        # inference.
        return 0.0, 0.0
    return past["moving_mean"], past["moving_variance"]


def _correction(renorm: Renorm, past: State, epsilon: float, moments: SplitMoments) -> Affine:
    """Computes renorm's step for a batch, one for all its groups; none without weight."""
    batch = moments.measured_from(past["renorm_mean"])
    r, d = renorm.correction(
        merge_groups(batch, past), past["renorm_stddev"], past.get("step"), epsilon
    )
    measured = batch.count > 0
    return Affine(ops.where(measured, r, 1.0), ops.where(measured, d, 0.0))


def _normalize(plan: Plan, call: Call, ghost: Ghost | None) -> tuple[Tensor, Moments]:
    """Normalizes a batch by its own moments, or each of its groups by theirs."""
    groups = ghost.cut(ops.shape(call.x)[0]) if ghost else None
    if groups is None:
        plan = plan.with_facts(call.affine, call.weights, call.replicas is not None)
        return kernels.choose(plan).train(plan, call)
    if 0 in plan.axis:
        raise ValueError("Ghost cuts the batch along axis 0, which here is a channel axis.")
    call = call._replace(
        x=groups.split(call.x),
        affine=Affine(*(split_affine(groups, plan, value) for value in call.affine)),
        weights=split_weights(groups, call.x, call.weights),
    )
    plan = plan.groups(ops.shape(call.x), groups.axis)
    plan = plan.with_facts(call.affine, call.weights, call.replicas is not None)
    y, batch = kernels.choose(plan).train(plan, call)
    return groups.join(y), batch


def _advance(
    state: State,
    batch: Moments,
    epsilon: float,
    moving: Moving,
    renorm: Renorm | None,
    unit: Tensor,
) -> State:
    """Returns the state after a batch; unchanged where it has no weight or is not finite.

    Args:
        state: before it.
        batch: its moments, or those of its groups.
        epsilon: added to the variance under the root.
        moving: the rule of the moving statistics.
        renorm: the correction that was made; `None` for none.
        unit: of the batch's counts, as `weights.scaled` returns it.
    """
    dtype = moments_dtype(dtype_name(state["moving_mean"].dtype))
    batch = detached(batch, dtype)
    target = merge_groups(bessel(batch, unit), state) if moving.unbiased else None
    batch = merge_groups(batch, state)
    target = batch if target is None else batch._replace(variance=target.variance)
    step = ops.cast(state["step"], dtype) if "step" in state else None
    if renorm is None:
        if "moving_count" in state:
            target = target._replace(count=target.count * unit)
        advanced = moving.advance(state, target, step)
    elif isinstance(moving, Average):
        rates = moving.rates(step)
        advanced = renorm.advance(state, batch, target.variance, rates, step, epsilon)
    else:
        raise ValueError(
            f"renorm needs a moving rule with a rate, received moving={moving}: choose "
            "Exponential, ZeroDebiased or Cumulative, or leave renorm out."
        )
    if step is not None:
        advanced["step"] = state["step"] + 1
    return accept(state, advanced, batch)
