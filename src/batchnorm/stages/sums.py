"""Sums that keep their digits, forward and in gradients.

PyTorch adds in a tree as long as it is not compiling. TensorFlow and PyTorch's Inductor add in
sequence: of a sum of 200,000 float32 terms the last two digits are wrong, and where a mean is large
beside the deviation, all of them. XLA on a CPU adds in sequence, too, if there are fewer than 4,096
elements and no axis above 32. Larger sums go to a library (jaxlib 0.10), though not in float64, and
that adds in sequence along an axis that is parted from the rest by axes which stay.

One axis at a time keeps the sequences short, and is faster. XLA would merge such sums again, but
not means of means, so each is divided by about its length before the next: by a power of two, which
costs no digit.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from batchnorm.stages.placement import compiling, exporting, fixed
from batchnorm.stages.tensors import dtype_of

Tensor = Any

_SHORT = 64  # terms that may be added in sequence
_APART = 8.0  # divides a sum that another one follows along its axis; less than any `_power` there
_SMALL = 1 << 13  # elements; twice as many as XLA adds in sequence, in case that it changes


def add(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Sums over axes, which are gone then, to about 1e-7 of the values' magnitude."""
    if not in_sequence(values):
        runs = _runs(axes)
        for run in runs[:0:-1]:
            values = ops.sum(values, run) / _APART
        values = ops.sum(values, runs[0])
        return values if len(runs) == 1 else values * _APART ** (len(runs) - 1)
    inner = [ops.shape(values)[axis] for axis in axes[1:]]
    if axes == tuple(range(len(values.shape) - 1)) and not all(_constant(size) for size in inner):
        # An axis of unknown length is best cut as the rows of a matrix, where a cut is free.
        values, axes = ops.reshape(values, (-1, values.shape[-1])), (0,)
    size = 1.0
    for axis in sorted(axes, reverse=True):
        length = ops.shape(values)[axis]
        values = _sum_along(values, axis, length)
        if axis != min(axes):
            values, size = values / _power(length), size * _power(length)
    return values * size if size != 1 else values


def spread(value: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Broadcasts a value along axes of `x` so that its gradient is a sum like that of `add`.

    Args:
        value: a number; or of the rank of `x`, with 1 along the axes, or along some of them.
        x: the tensor that the value is going to meet.
        axes: in order. A short last one is left at 1. For a scalar, they are all.
    """
    if isinstance(value, int | float):
        return value
    if not len(value.shape):
        value, axes = ops.reshape(value, [1] * len(x.shape)), tuple(range(len(x.shape)))
    # Loops and few calls: in eager code they take as long as the operations.
    shape, sizes = ops.shape(x), {}
    for axis in axes:
        if value.shape[axis] == 1:
            sizes[axis] = shape[axis]
    if not in_sequence(x):
        return _spread_runs(value, shape, _runs(tuple(sizes))[:-1])
    # In a program that is exported, a cut would fix the number of pieces.
    if keras.backend.backend() == "torch" and exporting():
        sizes = {axis: size for axis, size in sizes.items() if _constant(size)}
    if sizes and _constant(last := sizes[max(sizes)]) and last <= 4 * _SHORT:
        del sizes[max(sizes)]
    powers = {axis: _power(length) for axis, length in sizes.items()}
    for power in powers.values():
        value = value * power
    for axis, length in sizes.items():
        value = _spread_along(value, axis, length) / powers[axis]
    return value


def in_sequence(values: Tensor) -> bool:
    """Returns True where a plain sum of the values may add them in sequence."""
    backend = keras.backend.backend()
    if backend != "jax":
        return backend == "tensorflow" or compiling()
    for size in values.shape:
        if not isinstance(size, int):
            return True
    return math.prod(values.shape) < _SMALL or dtype_of(values) == "float64"


def _runs(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Groups axes that may be added up at once."""
    if keras.backend.backend() != "jax":
        return [axes]
    runs: list[tuple[int, ...]] = []
    for axis in axes:
        if runs and runs[-1][-1] == axis - 1:
            runs[-1] += (axis,)
        else:
            runs.append((axis,))
    return runs or [()]


def _spread_runs(value: Tensor, shape: Sequence[Any], runs: list[tuple[int, ...]]) -> Tensor:
    if not runs:
        return value
    value = value * _APART ** len(runs)
    for run in runs:
        sizes = [shape[axis] if axis in run else size for axis, size in enumerate(ops.shape(value))]
        value = ops.broadcast_to(value, sizes) / _APART
    return value


def _sum_along(values: Tensor, axis: int, length: Tensor) -> Tensor:
    constant = _constant(length)
    if length <= _SHORT if constant else len(values.shape) > 2 or exporting():
        return ops.sum(values, axis)
    block = _block(length)
    count = length // block
    cut, shape, before = count * block, ops.shape(values), (slice(None),) * axis
    even = _exact(length) and cut == length
    head = values if even else values[(*before, slice(0, cut))]
    blocks = ops.reshape(head, [*shape[:axis], count, block, *shape[axis + 1 :]])
    sums = ops.sum(blocks, axis + 1) / _APART
    total = (_sum_along(sums, axis, count) if constant else ops.sum(sums, axis)) * _APART
    return total if even else total + ops.sum(values[(*before, slice(cut, None))], axis)


def _spread_along(value: Tensor, axis: int, length: Tensor) -> Tensor:
    shape = ops.shape(value)
    before, after = shape[:axis], shape[axis + 1 :]
    if _constant(length) and length <= _SHORT:
        return ops.broadcast_to(value, [*before, length, *after])
    block = _block(length)
    count = (length + block - 1) // block
    if _constant(count):
        value = _spread_along(value, axis, count)
    blocks = ops.expand_dims(value / _APART, axis + 1)
    blocks = ops.broadcast_to(blocks, [*before, count, block, *after]) * _APART
    value = ops.reshape(blocks, [*before, count * block, *after])
    return value[(*(slice(None),) * axis, slice(0, length))]


def _block(length: Tensor) -> Tensor:
    """Returns how many terms of a long axis to add in sequence: a divisor of a constant length."""
    if _exact(length):
        return next((size for size in range(_SHORT, 15, -1) if length % size == 0), _SHORT)
    if keras.backend.backend() != "tensorflow":
        return _SHORT
    return ops.cast(ops.ceil(ops.sqrt(ops.cast(length + 1, "float32"))), length.dtype)


def _power(length: Tensor) -> float:
    """A power of two near a length; 32 where it is not known."""
    return 2.0 ** (length.bit_length() - 1 if _exact(length) else 5)


def _constant(length: Tensor) -> bool:
    return isinstance(length, int) if keras.backend.backend() == "jax" else fixed(length)


def _exact(length: Tensor) -> bool:
    # torch.compile compiles anew for every length that is asked what divides it.
    return isinstance(length, int) and keras.backend.backend() != "torch"
