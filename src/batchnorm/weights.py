"""What counts in a batch, and how much: masks and example weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from batchnorm.casting import dtype_of, largest
from batchnorm.tracing import concrete, on_host

Tensor = Any

_MOST = 1.01  # of a mask; what is above 1 by rounding is none of a length


def align(
    name: str,
    weights: Tensor,
    shape: Sequence[int | None],
    lacking: Sequence[Sequence[int]],
    dtype: str,
) -> Tensor:
    """Gives weights the rank of the input, so that they broadcast against it.

    Args:
        name: what the caller calls the weights; those called "mask" are at most 1.
        weights: boolean or numbers from 0, of a shape that `places` finds to fit.
        shape: of the input.
        lacking: as for `places`.
        dtype: of the result.

    Returns:
        The weights, 1 along the axes that they lacked.

    Raises:
        ValueError: the shapes do not fit, or a weight that can be read is negative, NaN or, in a
            mask, above 1.
    """
    weights = weights if hasattr(weights, "shape") else np.asarray(weights)
    added = places(name, weights.shape, shape, lacking)
    weights = frequencies(shares(weights, dtype) if name == "mask" else weights, dtype, name)
    for axes in added:
        weights = ops.expand_dims(weights, axes)
    return weights


def places(
    name: str,
    weights: Sequence[int | None],
    shape: Sequence[int | None],
    lacking: Sequence[Sequence[int]],
) -> tuple[tuple[int, ...], ...]:
    """Finds the axes that weights lack to have the rank of an input.

    Weights have the shape of the input without some axes, or its rank and 1 along the first of
    those; they may be 1 in any place, and what they lack on the right is added, so that `(N,)`
    weighs samples.

    Args:
        name: what the caller calls the weights.
        weights: their shape.
        shape: of the input.
        lacking: which axes they may lack, not negative: the channel axes, and what comes after
            them is tried where those do not fit.

    Returns:
        The axes to add, in this order.

    Raises:
        ValueError: the shapes do not fit.
    """
    whole = [1 if axis in lacking[0] else size for axis, size in enumerate(shape)]
    shared = len(weights) == len(shape) and all(weights[axis] == 1 for axis in lacking[0])
    if shared and _fit(weights, whole):
        return ()
    for axes in lacking:
        measured = [size for axis, size in enumerate(shape) if axis not in axes]
        added = tuple(range(len(weights), len(measured)))
        sizes = [*weights, *[1] * len(added)]
        if len(sizes) == len(measured) and _fit(sizes, measured):
            return (added, tuple(axes)) if added else (tuple(axes),)
    measured = [size for axis, size in enumerate(shape) if axis not in lacking[0]]
    raise ValueError(
        f"{name} of shape {tuple(weights)} does not fit an input of shape {tuple(shape)} "
        f"with its channels at axis {', '.join(map(str, lacking[0]))}: without them the input is "
        f"{tuple(measured)}. That shape fits, {tuple(whole)} and {tuple(measured[:1])} do, and a 1 "
        "in any place."
    )


def _fit(sizes: Sequence[int | None], shape: Sequence[int | None]) -> bool:
    return all(
        size in (1, None) or most in (size, None) for size, most in zip(sizes, shape, strict=True)
    )


def shares(mask: Tensor, dtype: str) -> Tensor:
    """Checks that a mask holds no counts, such as the lengths of sequences.

    Args:
        mask: boolean or numbers.
        dtype: to compute in, where it is compiled.

    Returns:
        The mask; in code that is compiled, NaN where it is above 1.

    Raises:
        ValueError: a number that can be read is above 1.
    """
    if dtype_of(mask) == "bool":
        return mask
    if not concrete(mask):
        mask = ops.cast(mask, dtype)
        return ops.where(mask > _MOST, np.nan, mask)
    _refuse_counts(ops.convert_to_numpy(mask))
    return mask


def _refuse_counts(values: Any) -> None:
    if (values > _MOST).any():
        raise ValueError(
            f"mask must be boolean or from 0 to 1, and holds {values[values > _MOST][0]}. Of "
            "lengths make one, mask=ops.arange(L) < lengths[:, None] with L steps; how often each "
            "element counts is sample_weight=."
        )


def check(name: str, weights: Tensor, shape: Sequence[int | None], lacking: Any) -> None:
    """Raises as `align` does, of weights that are not needed, and computes nothing of them.

    Values are read where they lie in the host's memory.

    Args:
        name: as for `align`.
        weights: as for `align`.
        shape: as for `align`.
        lacking: as for `align`.

    Raises:
        ValueError: as for `align`.
    """
    weights = weights if hasattr(weights, "shape") else np.asarray(weights)
    places(name, weights.shape, shape, lacking)
    if dtype_of(weights) != "bool" and on_host(weights):
        values = ops.convert_to_numpy(weights)
        _refuse_invalid(name, values)
        if name == "mask":
            _refuse_counts(values)


def frequencies(weights: Tensor, dtype: str, name: str = "weights") -> Tensor:
    """Weights as numbers that are not negative.

    Args:
        weights: boolean or numbers.
        dtype: of the result.
        name: what the caller calls them.

    Returns:
        The weights in `dtype`; in code that is compiled, NaN where they are negative.

    Raises:
        ValueError: a weight that can be read is negative, NaN or infinite in `dtype`.
    """
    given = weights if hasattr(weights, "shape") else np.asarray(weights)
    weights = ops.convert_to_tensor(given)
    if dtype_of(weights) == "bool":
        return ops.cast(weights, dtype)
    weights = ops.cast(weights, dtype)
    if not concrete(given):
        return ops.where(weights >= 0, weights, np.nan)
    with np.errstate(over="ignore"):
        _refuse_invalid(name, ops.convert_to_numpy(given).astype(dtype))
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


def scaled(weights: Tensor | None, *given: Any) -> tuple[Tensor | None, Tensor]:
    """Weights in a unit in which their products with squares and their sums do not overflow.

    Only the n of Bessel's factor depends on the unit.

    Args:
        weights: of `frequencies`, or the product of such; `None` for none.
        *given: what they were made of. Booleans stay as they are.

    Returns:
        The weights divided by the unit, and the unit: 1 where the largest weight is an ordinary
        number, or else that.
    """
    if weights is None or all(value is None or _boolean(value) for value in given):
        return weights, 1.0
    if concrete(weights):
        most = float(ops.convert_to_numpy(weights).max(initial=0.0))
        return (weights, 1.0) if _ordinary(most) else (weights / most, most)
    if 0 in weights.shape:
        return weights, 1.0
    unit = ops.stop_gradient(largest(weights))
    unit = ops.where(_ordinary(unit), ops.ones_like(unit), unit)
    return weights / unit, unit


def _ordinary(most: Tensor) -> Tensor:
    """Whether the largest of some weights is near 1, or there is none above 0."""
    return (most <= 0) | ((most > 2.0**-10) & (most < 2.0**10))


def _boolean(value: Any) -> bool:
    return dtype_of(value if hasattr(value, "dtype") else np.asarray(value)) == "bool"
