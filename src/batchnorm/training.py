"""What a training step does: normalize a batch by its own moments, and advance the state."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keras import ops

from batchnorm import kernels
from batchnorm.affine import Affine
from batchnorm.casting import cast, dtype_of
from batchnorm.ghost import Ghost, Groups
from batchnorm.kernels import Plan, moments_dtype
from batchnorm.moving import Moving, bessel, update, usable
from batchnorm.renorm import Renorm
from batchnorm.statistics import Measured, Moments, Settled, Total, average

Tensor = Any
State = Mapping[str, Tensor]


def train(
    plan: Plan,
    x: Tensor,
    state: State,
    affine: Affine,
    epsilon: float,
    ghost: Ghost | None,
    renorm: Renorm | None,
    weights: Tensor | None,
    total: Total | None,
) -> tuple[Tensor, Moments]:
    """Normalizes a batch by its own moments, or each of its groups by theirs.

    Args:
        plan: of `x`.
        x: the batch.
        state: before it.
        affine: what is done after renorm.
        epsilon: added to the variance under the root.
        ghost: how the batch is cut in groups; `None` for not.
        renorm: the correction; `None` for none.
        weights: of the rank of `x`, or `None`.
        total: adds a tensor up across replicas; `None` for one replica.

    Returns:
        y in `plan.moments_dtype`, and the moments, `(C,)`, or `(G, C)` of the groups.

    Raises:
        ValueError: the batch cannot be cut, because its first axis is a channel axis.
    """
    known = {name: cast(value, plan.moments_dtype) for name, value in state.items()}
    if weights is not None or ghost is not None:  # elsewhere nothing of it reaches y
        known = {name: ops.stop_gradient(value) for name, value in known.items()}
    prior = (known["moving_mean"], known["moving_variance"])
    if weights is not None and any(weights.shape[each] != 1 for each in plan.axis):
        # A mask of Keras's that covers the channel axis: a channel that it hides in every sample
        # is padding, which Keras leaves at beta, and its own tests want it to differ from
        # inference.
        prior = (0.0, 0.0)
    correction = None if renorm is None else functools.partial(_correction, renorm, known, epsilon)
    groups = ghost.cut(ops.shape(x)[0]) if ghost else None
    if weights is not None or total is not None:
        plan = replace(plan, weighted=weights is not None, synchronized=total is not None)
    if groups is None:
        kernel = kernels.choose(plan)
        return kernel.train(plan, x, affine, epsilon, prior, weights, total, correction)
    if 0 in plan.axis:
        raise ValueError("Ghost cuts the batch along axis 0, which here is a channel axis.")
    weights = _split_weights(groups, x, weights)
    affine = Affine(*(_split_affine(groups, plan, value) for value in affine))
    x = groups.split(x)
    plan = replace(plan.groups(ops.shape(x), groups.axis), weighted=weights is not None)
    kernel = kernels.choose(plan)
    y, batch = kernel.train(plan, x, affine, epsilon, prior, weights, total, correction)
    return groups.join(y), batch


def _split_weights(groups: Groups, x: Tensor, weights: Tensor | None) -> Tensor | None:
    if weights is None:
        if not groups.short:
            return None
        weights = ops.ones((1,) * len(x.shape), moments_dtype(dtype_of(x)))
    if weights.shape[0] == 1:
        weights = ops.broadcast_to(weights, (groups.samples, *ops.shape(weights)[1:]))
    return groups.split(weights)


def _split_affine(groups: Groups, plan: Plan, value: Tensor) -> Tensor:
    """A scale or a shift for the input in groups."""
    if plan.is_map(value) and value.shape[0] == 1:  # the same for all samples
        return ops.expand_dims(value, 0)
    per_sample = len(getattr(value, "shape", ())) > len(plan.axis)
    return groups.split(value) if per_sample else value


def _correction(renorm: Renorm, state: State, epsilon: float, measured: Measured) -> Affine:
    """Renorm's step for a batch; the groups of one share it. None where nothing was measured."""
    batch = measured.about(state["renorm_mean"])
    whole = average(batch) if _in_groups(batch, state) else batch
    r, d = renorm.correction(whole, state["renorm_stddev"], state.get("step"), epsilon)
    counted = batch.count > 0
    return Affine(ops.where(counted, r, 1.0), ops.where(counted, d, 0.0))


def advance(
    state: State,
    batch: Moments,
    epsilon: float,
    moving: Moving,
    renorm: Renorm | None,
    unit: Tensor = 1.0,
) -> dict[str, Tensor]:
    """The state after a batch.

    Args:
        state: before it.
        batch: its moments, or those of its groups.
        epsilon: added to the variance under the root.
        moving: how the moving statistics follow.
        renorm: the correction that was made; `None` for none.
        unit: of the batch's counts, as `weights.scaled` returns it.

    Returns:
        The same names; the same values where the batch has no weight or is not finite.
    """
    # In the dtype of the state, which may be finer than that of the batch; and without gradients,
    # or the state of a custom loop on PyTorch would drag along the graphs of all steps before.
    dtype = moments_dtype(dtype_of(state["moving_mean"]))
    if not isinstance(batch, Settled) or dtype != dtype_of(batch.mean):  # a cast may overflow
        mean, variance = (cast(ops.stop_gradient(value), dtype) for value in batch[1:])
        batch = Moments(batch.count, mean, variance)
    followed = bessel(batch, unit) if moving.unbiased else batch
    if _in_groups(batch, state):
        whole = average(batch)
        batch, followed = whole, whole if followed is batch else average(followed)
    step = ops.cast(state["step"], dtype) if "step" in state else None
    rate = moving.rate(step)
    rates = rate if isinstance(rate, tuple) else (rate, rate)
    if renorm is not None:
        new = renorm.step(state, batch, followed.variance, rates, step, epsilon)
    else:
        new = {
            "moving_mean": update(state["moving_mean"], batch.mean, rates[0]),
            "moving_variance": update(state["moving_variance"], followed.variance, rates[1]),
        }
    if step is not None:
        new["step"] = state["step"] + 1
    if isinstance(batch, Settled):
        return new
    kept = usable(batch)
    return {
        name: ops.where(ops.any(kept) if name == "step" else kept, value, state[name])
        for name, value in new.items()
    }


def _in_groups(batch: Moments, state: State) -> bool:
    return len(batch.mean.shape) > len(state["moving_mean"].shape)
