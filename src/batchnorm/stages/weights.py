"""Masks and example weights: their checks, shapes and units."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from batchnorm.stages.placement import concrete, on_host
from batchnorm.stages.plan import Plan
from batchnorm.stages.tensors import dtype_of, largest

Tensor = Any

_MASK_LIMIT = 1.01  # values above 1 by rounding pass; lengths of sequences do not


def combined_weights(
    plan: Plan, x: Tensor, mask: Tensor | None, sample_weight: Tensor | None, synchronized: bool
) -> tuple[Tensor | None, Tensor]:
    """Returns the weights of a training call and their unit.

    Args:
        plan: of `x`.
        x: the input.
        mask: of the call.
        sample_weight: of the call.
        synchronized: whether replicas share the statistics: then each would have its own unit, and
            it is 1.

    Returns:
        The product of both, of the rank of `x`, `None` for neither; and the unit, see `scaled`.
    """
    weights = None
    for name, value, axes in _named(plan, mask, sample_weight):
        aligned = align(name, value, x.shape, axes, plan.moments_dtype)
        weights = aligned if weights is None else weights * aligned
    return (weights, 1.0) if synchronized else scaled(weights, mask, sample_weight)


def check_weights(plan: Plan, x: Tensor, mask: Tensor | None, sample_weight: Tensor | None) -> None:
    """Raises if the weights of an inference call, which does not use them, do not fit.

    Args:
        plan: of `x`.
        x: the input.
        mask: of the call.
        sample_weight: of the call.
    """
    for name, value, axes in _named(plan, mask, sample_weight):
        check_weight(name, value, x.shape, axes)


def _named(
    plan: Plan, mask: Tensor | None, sample_weight: Tensor | None
) -> list[tuple[str, Tensor, tuple[Sequence[int], ...]]]:
    """Lists the weights of a call with their names, and the axes that they may lack."""
    weights: list[tuple[str, Tensor, tuple[Sequence[int], ...]]] = []
    if mask is not None:
        # Keras's own masks lack the last axis, whichever is the channels'.
        weights.append(("mask", mask, (plan.axis, (plan.rank - 1,))))
    if sample_weight is not None:
        weights.append(("sample_weight", sample_weight, (plan.axis,)))
    return weights


def align(
    name: str,
    weights: Tensor,
    shape: Sequence[int | None],
    missing_axes: Sequence[Sequence[int]],
    dtype: str,
) -> Tensor:
    """Returns weights of the rank of the input, so that they broadcast against it.

    Args:
        name: what the caller calls the weights; those called "mask" are at most 1.
        weights: boolean or numbers from 0, of a shape that `axes_to_add` accepts.
        shape: of the input.
        missing_axes: as for `axes_to_add`.
        dtype: of the result.

    Returns:
        The weights, 1 along the axes that were added.

    Raises:
        ValueError: the shapes do not fit, or a weight that can be read is negative, NaN or, in a
            mask, above 1.
    """
    weights = weights if hasattr(weights, "shape") else np.asarray(weights)
    added = axes_to_add(name, weights.shape, shape, missing_axes)
    weights = frequencies(check_mask(weights, dtype) if name == "mask" else weights, dtype, name)
    for axes in added:
        weights = ops.expand_dims(weights, axes)
    return weights


def axes_to_add(
    name: str,
    weights: Sequence[int | None],
    shape: Sequence[int | None],
    missing_axes: Sequence[Sequence[int]],
) -> tuple[tuple[int, ...], ...]:
    """Returns the axes to add to weights so that they have the rank of an input.

    Weights have the shape of the input without some axes, or its rank and 1 along the first of
    those; any size may be 1, and axes are added on the right, so that `(N,)` weighs samples.

    Args:
        name: what the caller calls the weights.
        weights: their shape.
        shape: of the input.
        missing_axes: alternatives of axes that they may lack, not negative: the channel axes
            first; the next is tried where these do not fit.

    Returns:
        The axes to add, in this order.

    Raises:
        ValueError: the shapes do not fit.
    """
    broadcast = [1 if axis in missing_axes[0] else size for axis, size in enumerate(shape)]
    shared = len(weights) == len(shape) and all(weights[axis] == 1 for axis in missing_axes[0])
    if shared and _fit(weights, broadcast):
        return ()
    for axes in missing_axes:
        measured = [size for axis, size in enumerate(shape) if axis not in axes]
        added = tuple(range(len(weights), len(measured)))
        sizes = [*weights, *[1] * len(added)]
        if len(sizes) == len(measured) and _fit(sizes, measured):
            return (added, tuple(axes)) if added else (tuple(axes),)
    measured = [size for axis, size in enumerate(shape) if axis not in missing_axes[0]]
    raise ValueError(
        f"{name} of shape {tuple(weights)} does not fit an input of shape {tuple(shape)} with its "
        f"channels at axis {', '.join(map(str, missing_axes[0]))}: without them the input is "
        f"{tuple(measured)}. That shape fits, {tuple(broadcast)} and {tuple(measured[:1])} do, and "
        "a 1 in any place."
    )


def _fit(sizes: Sequence[int | None], shape: Sequence[int | None]) -> bool:
    return all(
        size in (1, None) or limit in (size, None) for size, limit in zip(sizes, shape, strict=True)
    )


def check_mask(mask: Tensor, dtype: str) -> Tensor:
    """Checks that a mask holds no counts, such as the lengths of sequences.

    Args:
        mask: boolean or numbers.
        dtype: to compute in, where it is compiled.

    Returns:
        The mask; in compiled code, NaN where it is above 1.

    Raises:
        ValueError: a number that can be read is above 1.
    """
    if dtype_of(mask) == "bool":
        return mask
    if not concrete(mask):
        mask = ops.cast(mask, dtype)
        return ops.where(mask > _MASK_LIMIT, np.nan, mask)
    _refuse_counts(ops.convert_to_numpy(mask))
    return mask


def _refuse_counts(values: Any) -> None:
    if (values > _MASK_LIMIT).any():
        raise ValueError(
            f"mask must be boolean or from 0 to 1, and holds {values[values > _MASK_LIMIT][0]}. Of "
            "lengths make one, mask=ops.arange(L) < lengths[:, None] with L steps; how often each "
            "element counts is sample_weight=."
        )


def check_weight(
    name: str, weights: Tensor, shape: Sequence[int | None], missing_axes: Any
) -> None:
    """Raises like `align` for weights that are not used, and computes nothing.

    Values are read where they lie in the host's memory.

    Args:
        name: as for `align`.
        weights: as for `align`.
        shape: as for `align`.
        missing_axes: as for `align`.

    Raises:
        ValueError: as for `align`.
    """
    weights = weights if hasattr(weights, "shape") else np.asarray(weights)
    axes_to_add(name, weights.shape, shape, missing_axes)
    if dtype_of(weights) != "bool" and on_host(weights):
        values = ops.convert_to_numpy(weights)
        _refuse_invalid(name, values)
        if name == "mask":
            _refuse_counts(values)


def frequencies(weights: Tensor, dtype: str, name: str = "weights") -> Tensor:
    """Returns weights as non-negative numbers.

    Args:
        weights: boolean or numbers.
        dtype: of the result.
        name: what the caller calls them.

    Returns:
        The weights in `dtype`; in compiled code, NaN where they are negative.

    Raises:
        ValueError: a weight that can be read is negative, NaN or infinite in `dtype`.
    """
    values = weights if hasattr(weights, "shape") else np.asarray(weights)
    weights = ops.convert_to_tensor(values)
    if dtype_of(weights) == "bool":
        return ops.cast(weights, dtype)
    weights = ops.cast(weights, dtype)
    if not concrete(values):
        return ops.where(weights >= 0, weights, np.nan)
    with np.errstate(over="ignore"):
        _refuse_invalid(name, ops.convert_to_numpy(values).astype(dtype))
    return weights


def _refuse_invalid(name: str, values: Any) -> None:
    if not (values >= 0).all():
        raise ValueError(
            f"{name} must not be negative, and holds {values[~(values >= 0)][0]}. Weights are "
            "frequencies: 2 counts an element twice, 0 leaves it out."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} must be finite, and holds {values.max()} in {values.dtype}. A common factor "
            "changes nothing: divide them by the largest."
        )


def scaled(weights: Tensor | None, *sources: Any) -> tuple[Tensor | None, Tensor]:
    """Returns weights in a unit in which neither sums nor products with squares overflow.

    Only the n of Bessel's factor depends on the unit.

    Args:
        weights: of `frequencies`, or the product of such; `None` for none.
        *sources: the arguments that they were computed from. Booleans stay as they are.

    Returns:
        The weights divided by the unit, and the unit: 1 where the largest weight is an ordinary
        number, or else that.
    """
    if weights is None or all(value is None or _boolean(value) for value in sources):
        return weights, 1.0
    if concrete(weights):
        peak = float(ops.convert_to_numpy(weights).max(initial=0.0))
        return (weights, 1.0) if _ordinary(peak) else (weights / peak, peak)
    if 0 in weights.shape:
        return weights, 1.0
    unit = ops.stop_gradient(largest(weights))
    unit = ops.where(_ordinary(unit), ops.ones_like(unit), unit)
    return weights / unit, unit


def _ordinary(weight: Tensor) -> Tensor:
    """Returns True if the largest weight is near 1, or 0."""
    return (weight <= 0) | ((weight > 2.0**-10) & (weight < 2.0**10))


def _boolean(value: Any) -> bool:
    return dtype_of(value if hasattr(value, "dtype") else np.asarray(value)) == "bool"
