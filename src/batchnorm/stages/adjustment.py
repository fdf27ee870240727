"""Adjustment: a step of the user's between normalization and gamma and beta, in training."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from batchnorm.stages.affine import Affine, fitted, then
from batchnorm.stages.plan import Plan

Tensor = Any
Adjustment = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]


def adjusted(adjustment: Adjustment, plan: Plan, x: Tensor, affine: Affine) -> Affine:
    """Returns an affine step that the adjustment's precedes.

    Args:
        adjustment: returns a scale and a shift for the shape of the input.
        plan: of the input.
        x: the input.
        affine: the step.

    Raises:
        ValueError: the adjustment returns no pair, or a shape does not fit.
    """
    pair = adjustment(ops.shape(x))
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(
            f"The adjustment must return a pair, (scale, shift), and returned {pair!r}. Return "
            "(scale, 0.0) where there is nothing to add."
        )
    scale, shift = pair
    first = Affine(
        fitted("The adjustment's scale", scale, x.shape, plan.axis, plan.moments_dtype),
        fitted("The adjustment's shift", shift, x.shape, plan.axis, plan.moments_dtype),
    )
    # A map broadcasts against its own rank alone.
    if any(plan.is_map(value) for value in (*first, *affine)):
        first, affine = (Affine(*map(plan.spread, step)) for step in (first, affine))
    return then(first, affine)
