"""How an input is seen: rows of positions, with the channels behind the positions or before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, Self

import tensorflow as tf
from keras import ops

from batchnorm.affine import Affine
from batchnorm.kernels.plan import Plan
from batchnorm.summation import add

Tensor = Any
Function = Callable[..., Tensor]

_LONG = 4096  # so many terms of a product with ones may be added up; more lose digits
_BIG = 1 << 17  # elements from which on a condition or a compiled pass is worth its set-up
_WIDE = 16  # channels from which on fused operations are vectorised
_FEW = 256  # terms from which on a product with ones is as quick as a sum
_NARROW = 64  # channels below which operations take twice as long as with some beside each other
_PIECE = 1 << 20  # elements of a few rows that are in the cache when they are added up
_LONGEST = 512  # values that are worth putting beside each other


@dataclass(frozen=True)
class Layout:
    """A view of the input: rows are samples, or ghost batches.

    Attributes:
        plan: of the input.
        channels: C.
        positions: in a row, P.
        last: whether the channels come last, `(R, P, C)`, or before the positions, `(R, C, P)`.
        compiled: whether XLA reads the code, which makes passes of operations by itself.
        lanes: so many positions lie beside each other as if they were channels, which makes narrow
            inputs wide enough for vectors: `(R, P / lanes, lanes * C)`.
    """

    plan: Plan
    channels: int
    positions: int
    last: bool
    compiled: bool
    lanes: int

    @property
    def size(self) -> int:
        """How many elements there are; a batch that is not known is taken for 32 samples."""
        rows = self.plan.shape[0]
        return self.positions * self.channels * (32 if rows is None else rows)

    @property
    def big(self) -> bool:
        """Whether passes over memory are worth a choice between them, and take longer than that."""
        return self.size >= _BIG

    @property
    def in_pieces(self) -> bool:
        """Whether what is made of the input only to be added up is made a few rows at a time."""
        return self.size >= 2 * _PIECE and self.plan.shape[0] != 1 and not self.compiled

    @property
    def vectors(self) -> bool:
        """Whether TensorFlow's fused operations take it, and are quick."""
        wide = self.last and self.lanes * self.channels >= _WIDE
        return wide and self.big and not self.compiled and self.plan.moments_dtype == "float32"

    @property
    def widest(self) -> Self:
        """The layout for the fused operation of inference, which takes least time in long rows."""
        return replace(self, lanes=_lanes(self.channels, self.positions, _LONGEST))

    def fits(self, affine: Affine, weights: Tensor | None) -> bool:
        """Whether a step is per channel or per row, and weights are the same for all channels."""
        steps = all(isinstance(value, int | float) or len(value.shape) <= 2 for value in affine)
        return steps and (weights is None or weights.shape[self.plan.axis[-1]] == 1)

    def weighing(self, weights: Tensor | None) -> Self:
        """The layout for these weights: positions that weigh differently make no lanes."""
        alike = weights is None or all(size == 1 for size in weights.shape[1:])
        return self if alike else replace(self, lanes=1)

    def flat(self, x: Tensor) -> Tensor:
        """The input in this layout."""
        rows, count = sizes_of(x)[0], self.positions // self.lanes
        width = self.channels * self.lanes
        return tf.reshape(x, (rows, count, width) if self.last else (rows, width, count))

    def weights(self, weights: Tensor, x: Tensor) -> Tensor:
        """Weights of the rank of `x` as `(R, 1 or P, 1)`, or with the last two exchanged."""
        inner = list(weights.shape[1:])
        if any(size != 1 for size in inner):
            inner = [
                1 if axis + 1 in self.plan.axis else x.shape[axis + 1] for axis in range(len(inner))
            ]
        rows, count = sizes_of(x)[0], prod(inner)
        weights = tf.broadcast_to(weights, (rows, *inner))
        return tf.reshape(weights, (rows, count, 1) if self.last else (rows, 1, count))

    def parameter(self, value: Tensor) -> Tensor:
        """A number, `(C,)` or `(R, C)` as `(1 or R, 1, C)`, or with the last two exchanged."""
        value = tf.convert_to_tensor(value, self.plan.moments_dtype)
        if value.shape.rank == 0:
            value = tf.broadcast_to(value, (self.channels,))
        rows = 1 if value.shape.rank == 1 else sizes_of(value)[0]
        return tf.reshape(value, (rows, 1, -1) if self.last else (rows, -1, 1))

    def vector(self, value: Tensor) -> Tensor:
        """Of the statistics `(1 or R, 1, C)`, `(C,)`; where rows have their own, `(R, C)`."""
        return tf.reshape(value, (-1, self.channels) if self.plan.grouped else (-1,))

    def row(self, value: Tensor) -> Tensor:
        """Back from `parameter` to `(C,)` or `(R, C)`."""
        return tf.reshape(value, (-1,) if static(value)[0] == 1 else (-1, self.channels))

    def wide(self, parameter: Tensor) -> Tensor:
        """A parameter as wide as `flat`."""
        return parameter if self.lanes == 1 else tf.tile(parameter, (1, 1, self.lanes))

    def sums(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """Of each row, the sum over its positions, each times its weight: `(R, 1, C)`."""
        axis = 1 if self.last else 2
        if weights is not None and static(weights)[axis] == 1:
            return self.sums(values) * weights
        length = static(values)[axis]
        block = _block(length)
        if self.compiled or block is None or (weights is not None and block < length):
            values = values if weights is None else values * weights
            found, parts = tf.expand_dims(add(values, (axis,)), axis), 1
        elif length == 1 and weights is None:
            found, parts = values, 1
        else:
            parts = length // block
            ones = weights
            if weights is None:
                ones = tf.ones((1, block, 1) if self.last else (1, 1, block), values.dtype)
            found = self._product(values, ones, block)
        if parts * self.lanes == 1:
            return found
        shape = (-1, parts * self.lanes, self.channels)
        found = tf.reshape(found, shape if self.last else (-1, self.channels, parts))
        return tf.reduce_sum(found, axis, keepdims=True)

    def sums_of(
        self, function: Function, arrays: Sequence[Tensor], weights: Tensor | None = None
    ) -> Tensor:
        """The sums of what a function makes of arrays, a few rows at a time.

        What it makes of them all would be an array more, and be gone from the cache before it is
        added up.
        """
        if not self.in_pieces:
            return self.sums(function(*arrays), weights)
        step = max(_PIECE // (self.positions * self.channels), 1)
        rows = sizes_of(arrays[0])[0]
        count = (rows + step - 1) // step

        def piece(value: Tensor, index: Tensor) -> Tensor:
            return value if static(value)[0] == 1 else value[index * step : (index + 1) * step]

        def add_up(index: Tensor, found: Any) -> tuple[Tensor, Any]:
            values = function(*(piece(array, index) for array in arrays))
            each = None if weights is None else piece(weights, index)
            return index + 1, found.write(index, self.sums(values, each))

        shape = (1, self.channels) if self.last else (self.channels, 1)
        found = tf.TensorArray(
            arrays[0].dtype, size=count, element_shape=(None, *shape), infer_shape=False
        )
        _, found = tf.while_loop(
            lambda index, _: index < count, add_up, (0, found), parallel_iterations=2
        )
        return tf.reshape(found.concat(), (-1, *shape))

    def _product(self, values: Tensor, ones: Tensor, block: int) -> Tensor:
        """The sums of blocks of positions."""
        if self.last:
            cut = tf.reshape(values, (-1, block, static(values)[2]))
            return tf.matmul(ones, cut, transpose_a=True)
        cut = tf.reshape(values, (-1, self.channels * static(values)[2] // block, block))
        return tf.matmul(cut, ones, transpose_b=True)

    def total(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """The sum over all rows, `(1, 1, C)`; or of each, where rows have their own statistics."""
        rows, positions, _ = static(values)
        alone = self.plan.grouped or not self.last or weights is not None or self.compiled
        if alone or rows is None or rows * positions * self.lanes > _LONG:
            return self.over(self.sums(values, weights))
        count = rows * positions
        matrix = tf.reshape(values, (count, -1))
        if count <= _FEW:
            total = tf.reduce_sum(matrix, 0)
        else:
            total = tf.ones((1, count), values.dtype) @ matrix
        total = tf.reshape(total, (1, self.lanes, self.channels))
        return total if self.lanes == 1 else tf.reduce_sum(total, 1, keepdims=True)

    def total_of(
        self, function: Function, arrays: Sequence[Tensor], weights: Tensor | None = None
    ) -> Tensor:
        """`total` of what a function makes of arrays."""
        if not self.in_pieces:
            return self.total(function(*arrays), weights)
        return self.over(self.sums_of(function, arrays, weights))

    def over(self, sums: Tensor) -> Tensor:
        """The sums of rows as one, `(1, 1, C)`; or as they are, where each has its statistics."""
        if self.plan.grouped or static(sums)[0] == 1:
            return sums
        total = add(tf.reshape(sums, (-1, self.channels)), (0,))
        return tf.reshape(total, (1, 1, -1) if self.last else (1, -1, 1))


def sizes_of(tensor: Tensor) -> Sequence[Tensor]:
    """The sizes, numbers where they are known."""
    sizes: Sequence[Tensor] = static(tensor)
    return ops.shape(tensor) if None in sizes else sizes


def static(tensor: Tensor) -> list[Any]:
    """The sizes that are known; `None` for others, after `disable_v2_behavior` too."""
    sizes: list[Any] = tensor.shape.as_list()
    return sizes


@cache
def layout(plan: Plan, compiled: bool = False) -> Layout | None:
    """The layout of an input; `None` if it has none."""
    channel, rank = plan.axis[-1], plan.rank
    last = channel == rank - 1
    rows_alone = plan.grouped and plan.axis == (0, rank - 1)
    if rank < 2 or not (rows_alone or (len(plan.axis) == 1 and (last or channel == 1))):
        return None
    channels = plan.shape[channel]
    # XLA would compile for each length, and unknown ones cannot be cut where digits would be lost.
    if None in plan.shape[1:]:
        return None
    positions = prod(size or 0 for axis, size in enumerate(plan.shape) if axis not in (0, channel))
    if not channels or not positions:
        return None
    lanes = 1
    if last and not compiled and channels < _NARROW:
        lanes = _lanes(channels, positions, 2 * _NARROW)
    return Layout(plan, channels, positions, last, compiled, lanes)


def _lanes(channels: int, positions: int, most: int) -> int:
    """The largest power of two that divides the positions, for so many values side by side."""
    lanes = 1
    while positions % (2 * lanes) == 0 and 2 * lanes * channels <= most:
        lanes *= 2
    return lanes


@cache
def _block(length: int) -> int | None:
    """The largest divisor of a length that may be added at once; `None` if there is none."""
    if length <= _LONG:
        return length
    return next((size for size in range(_LONG, 31, -1) if length % size == 0), None)
