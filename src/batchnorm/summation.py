"""Sums that keep their digits.

PyTorch and JAX add in a tree. TensorFlow adds in sequence: of a sum of 200,000 float32 terms the
last two digits are wrong, and where a mean is large beside the deviation, all of them. One axis
at a time keeps the sequences short, and is faster. XLA would merge such sums again, but not means
of means, so each is divided by its length before the next.
"""

from typing import Any

import keras
from keras import ops

Tensor = Any

_SHORT = 64  # so many terms may be added in sequence


def add(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The sum over axes, to about 1e-7 of the values' magnitude; the axes are gone."""
    if keras.backend.backend() != "tensorflow":
        return ops.sum(values, axes)
    size: Tensor = 1
    for axis in sorted(axes, reverse=True):
        length = ops.shape(values)[axis]
        values = _sum_along(values, axis, length)
        if axis != min(axes):
            length = ops.cast(ops.maximum(length, 1), values.dtype)
            values, size = values / length, size * length
    return values * size if len(axes) > 1 else values


def _sum_along(values: Tensor, axis: int, length: Tensor) -> Tensor:
    known = isinstance(length, int)
    # An unknown length is cut only where that is free: along the rows of a matrix.
    if length <= _SHORT if known else len(values.shape) > 2:
        return ops.sum(values, axis)
    block = _block(length)
    count = length // block
    cut, shape, before = count * block, ops.shape(values), (slice(None),) * axis
    even = known and cut == length
    whole = values if even else values[(*before, slice(0, cut))]
    blocks = ops.reshape(whole, [*shape[:axis], count, block, *shape[axis + 1 :]])
    weight = ops.cast(block, values.dtype)
    sums = ops.sum(blocks, axis + 1) / weight
    total = (_sum_along(sums, axis, count) if known else ops.sum(sums, axis)) * weight
    return total if even else total + ops.sum(values[(*before, slice(cut, None))], axis)


def _block(length: Tensor) -> Tensor:
    """How many terms of a long axis to add in sequence: a divisor of its length, if known."""
    if isinstance(length, int):
        return next((size for size in range(_SHORT, 15, -1) if length % size == 0), _SHORT)
    return ops.cast(ops.ceil(ops.sqrt(ops.cast(length + 1, "float32"))), length.dtype)
