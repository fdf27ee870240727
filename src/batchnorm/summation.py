"""Sums that keep their digits.

JAX adds in a tree, and so does PyTorch as long as it is not compiling. TensorFlow and PyTorch's
Inductor add in sequence: of a sum of 200,000 float32 terms the last two digits are wrong, and where
a mean is large beside the deviation, all of them. One axis at a time keeps the sequences short, and
is faster. XLA would merge such sums again, but not means of means, so each is divided by its length
before the next.
"""

from typing import Any

import keras
from keras import ops

from batchnorm.tracing import compiling

Tensor = Any

_SHORT = 64  # so many terms may be added in sequence


def add(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The sum over axes, to about 1e-7 of the values' magnitude; the axes are gone."""
    if not _in_sequence():
        return ops.sum(values, axes)
    inner = [ops.shape(values)[axis] for axis in axes[1:]]
    if axes == tuple(range(len(values.shape) - 1)) and not all(_known(size) for size in inner):
        # What has no known length is best cut as the rows of a matrix, where a cut is free.
        values, axes = ops.reshape(values, (-1, values.shape[-1])), (0,)
    size: Tensor = 1
    for axis in sorted(axes, reverse=True):
        length = ops.shape(values)[axis]
        values = _sum_along(values, axis, length)
        if axis != min(axes):
            length = max(length, 1) if _known(length) else ops.cast(length, values.dtype)
            values, size = values / length, size * length
    return values * size if len(axes) > 1 else values


def _sum_along(values: Tensor, axis: int, length: Tensor) -> Tensor:
    known = _known(length)
    if length <= _SHORT if known else len(values.shape) > 2:
        return ops.sum(values, axis)
    block = _block(length)
    count = length // block
    cut, shape, before = count * block, ops.shape(values), (slice(None),) * axis
    even = _exact(length) and cut == length
    whole = values if even else values[(*before, slice(0, cut))]
    blocks = ops.reshape(whole, [*shape[:axis], count, block, *shape[axis + 1 :]])
    weight = block if known else ops.cast(block, values.dtype)
    sums = ops.sum(blocks, axis + 1) / weight
    total = (_sum_along(sums, axis, count) if known else ops.sum(sums, axis)) * weight
    return total if even else total + ops.sum(values[(*before, slice(cut, None))], axis)


def _block(length: Tensor) -> Tensor:
    """How many terms of a long axis to add in sequence: a divisor of its length, if known."""
    if _exact(length):
        return next((size for size in range(_SHORT, 15, -1) if length % size == 0), _SHORT)
    if _known(length):
        return _SHORT
    return ops.cast(ops.ceil(ops.sqrt(ops.cast(length + 1, "float32"))), length.dtype)


def _in_sequence() -> bool:
    return keras.backend.backend() == "tensorflow" or compiling()


def _known(length: Tensor) -> bool:
    return isinstance(length, int)


def _exact(length: Tensor) -> bool:
    # torch.compile compiles anew for every length that is asked what divides it.
    return _known(length) and keras.backend.backend() != "torch"
