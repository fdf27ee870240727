"""What counts in a batch, and how much: masks and example weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from batchnorm.casting import dtype_of
from batchnorm.tracing import concrete

Tensor = Any


def align(
    name: str,
    weights: Tensor,
    shape: Sequence[int | None],
    lacking: Sequence[Sequence[int]],
    dtype: str,
) -> Tensor:
    """Gives weights the rank of the input, so that they broadcast against it.

    Args:
        name: what the caller calls the weights.
        weights: boolean or numbers from 0, of a shape that broadcasts against the input's without
            some axes; missing axes are added on the right, so `(N,)` weighs samples.
        shape: of the input.
        lacking: which axes they may lack, not negative: the channel axes, and what comes after
            them is tried where those do not fit.
        dtype: of the result.

    Returns:
        The weights, 1 along the axes that they lacked.

    Raises:
        ValueError: the shapes do not fit, or a weight that can be read is negative or NaN.
    """
    weights = frequencies(weights, dtype, name)
    for axes in lacking:
        measured = [size for axis, size in enumerate(shape) if axis not in axes]
        added = [*range(len(weights.shape), len(measured))]
        sizes = [*weights.shape, *[1] * len(added)]
        if len(sizes) == len(measured) and all(
            size in (1, None) or wanted in (size, None)
            for size, wanted in zip(sizes, measured, strict=True)
        ):
            return ops.expand_dims(ops.expand_dims(weights, added), tuple(axes))
    measured = [size for axis, size in enumerate(shape) if axis not in lacking[0]]
    raise ValueError(
        f"{name} of shape {tuple(weights.shape)} does not fit an input of shape {tuple(shape)} "
        f"with its channels at axis {', '.join(map(str, lacking[0]))}: without them the input is "
        f"{tuple(measured)}. That shape fits, {tuple(measured[:1])} does, and a 1 in any place."
    )


def frequencies(weights: Tensor, dtype: str, name: str = "weights") -> Tensor:
    """Weights as numbers that are not negative.

    Args:
        weights: boolean or numbers.
        dtype: of the result.
        name: what the caller calls them.

    Returns:
        The weights in `dtype`; in code that is compiled, NaN where they are negative.

    Raises:
        ValueError: a weight that can be read is negative or NaN.
    """
    given = weights if hasattr(weights, "shape") else np.asarray(weights)
    weights = ops.convert_to_tensor(given)
    if dtype_of(weights) == "bool":
        return ops.cast(weights, dtype)
    weights = ops.cast(weights, dtype)
    if not concrete(given):
        return ops.where(weights >= 0, weights, np.nan)
    values = ops.convert_to_numpy(given)
    if not (values >= 0).all():
        raise ValueError(
            f"{name} must not be negative, and holds {values[~(values >= 0)][0]}. Weights are "
            "frequencies: 2 counts an element twice, 0 leaves it out."
        )
    return weights
