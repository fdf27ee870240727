"""How an input is seen: rows of positions, with the channels behind the positions or before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, Self

import tensorflow as tf
from keras import ops

from batchnorm.affine import Affine
from batchnorm.kernels.plan import Plan
from batchnorm.kernels.tensorflow.sums import (
    FEW,
    PIECE,
    Function,
    column_sums,
    column_sums_of,
    position_sums,
    static,
    sum_of_sums,
)
from batchnorm.summation import add

Tensor = Any
_BIG = 1 << 17  # elements from which on a condition or a compiled pass is worth its set-up
_NARROW = 64  # channels below which operations take twice as long as with some beside each other


@dataclass(frozen=True)
class Layout:
    """A view of the input: rows are samples, or ghost batches.

    Attributes:
        plan: of the input.
        channels: C.
        positions: in a row, P; `None` where sizes beside the batch are not known. Then rows of
            positions before channels are one, `(1, R * P, C)`.
        last: whether the channels come last, `(R, P, C)`, or before the positions, `(R, C, P)`.
        compiled: whether XLA reads the code, which makes passes of operations by itself.
        lanes: so many positions lie beside each other as if they were channels, which makes narrow
            inputs wide enough for vectors: `(R, P / lanes, lanes * C)`.
    """

    plan: Plan
    channels: int
    positions: int | None
    last: bool
    compiled: bool
    lanes: int

    @property
    def size(self) -> int | None:
        """How many elements there are; a batch that is not known is taken for 32 samples."""
        rows = self.plan.shape[0]
        if self.positions is None:
            return None
        return self.positions * self.channels * (32 if rows is None else rows)

    @property
    def big(self) -> bool:
        """Whether passes over memory are worth a choice between them, and take longer than that."""
        return self.size is None or self.size >= _BIG

    @property
    def in_pieces(self) -> bool:
        """Whether what is made of the rows only to be added up is made a few at a time."""
        return self.size is not None and self.size >= 2 * PIECE and not self.compiled

    @property
    def one_row(self) -> bool:
        """Whether the input is seen as one row."""
        return self.positions is None and self.last

    def fits(self, affine: Affine, weights: Tensor | None) -> bool:
        """Whether a step is per channel or per row, and weights are the same for all channels."""
        most = 1 if self.one_row else 2
        steps = all(isinstance(value, int | float) or len(value.shape) <= most for value in affine)
        return steps and (weights is None or weights.shape[self.plan.axis[-1]] == 1)

    def weighing(self, weights: Tensor | None) -> Self:
        """The layout for these weights: positions that weigh differently make no lanes."""
        alike = weights is None or all(size == 1 for size in weights.shape[1:])
        return self if alike else replace(self, lanes=1)

    def flat(self, x: Tensor) -> Tensor:
        """The input in this layout."""
        if self.one_row:
            return tf.reshape(x, (1, -1, self.channels))
        rows, width = sizes_of(x)[0], self.channels * self.lanes
        count = -1 if self.positions is None else self.positions // self.lanes
        return tf.reshape(x, (rows, count, width) if self.last else (rows, width, count))

    def first(self, x: Tensor) -> Tensor:
        """The first position of a flat input; of each row, where rows have their statistics.

        Without any it is -inf.
        """
        samples, width = -1 if self.plan.grouped else 1, self.channels
        sizes = (samples, 1, width) if self.last else (samples, width, 1)
        if all(static(x)):
            return tf.slice(x, (0, 0, 0), sizes)
        rows = x[:1, :1, :width] if self.last else x[:1, :, :1]  # there may be none
        return tf.reduce_max(rows, (0, 1 if self.last else 2), keepdims=True)

    def weights(self, weights: Tensor, x: Tensor) -> Tensor:
        """Weights of the rank of `x` as `(R, 1 or P, 1)`, or with the last two exchanged."""
        sizes, inner = sizes_of(x), list(weights.shape[1:])
        if self.one_row or any(size != 1 for size in inner):
            inner = [1 if a in self.plan.axis else sizes[a] for a in range(1, self.plan.rank)]
        weights = tf.broadcast_to(weights, (sizes[0], *inner))
        if self.one_row:
            return tf.reshape(weights, (1, -1, 1))
        rows, count = sizes[0], prod(inner)
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
        if self.last and not self.compiled:
            return self._narrowed(position_sums(values, weights))
        values = values if weights is None else values * weights
        if self.compiled:
            return tf.expand_dims(add(values, (axis,)), axis)
        return tf.reduce_sum(values, axis, keepdims=True)

    def sums_of(
        self, function: Function, arrays: Sequence[Tensor], weights: Tensor | None = None
    ) -> Tensor:
        """The sums of what a function makes of arrays, a few rows at a time.

        What it makes of them all would be an array more, and be gone from the cache before it is
        added up.
        """
        if not self.in_pieces or self.positions is None or self.plan.shape[0] == 1:
            return self.sums(function(*arrays), weights)
        step = max(PIECE // (self.positions * self.channels), 1)
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
            lambda index, _: index < count,
            add_up,
            (0, found),
            parallel_iterations=2,
            maximum_iterations=count,  # without it no gradient of a v1 loop, though none is taken
        )
        return tf.reshape(found.concat(), (-1, *shape))

    def total(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """The sum over all rows, `(1, 1, C)`; or of each, where rows have their own statistics."""
        if not self._as_matrix(weights):
            return self.over(self.sums(values, weights))
        rows, positions, _ = static(values)
        # As `column_sums` would, without two reshapes: small inputs are a matter of calls.
        if None not in (rows, positions) and rows * positions <= FEW:
            values = values if weights is None else values * weights
            return self._narrowed(tf.reduce_sum(values, (0, 1), keepdims=True))
        return self._total(column_sums(*map(self._matrix, (values, weights))))

    def total_of(
        self, function: Function, arrays: Sequence[Tensor], weights: Tensor | None = None
    ) -> Tensor:
        """`total` of what a function makes of arrays."""
        if not self._as_matrix(weights):
            return self.over(self.sums_of(function, arrays, weights))
        if not self.in_pieces:
            return self.total(function(*arrays), weights)
        matrices, weights = [self._matrix(array) for array in arrays], self._matrix(weights)
        return self._total(column_sums_of(function, matrices, weights))

    def over(self, sums: Tensor) -> Tensor:
        """The sums of rows as one, `(1, 1, C)`; or as they are, where each has its statistics."""
        if self.plan.grouped or static(sums)[0] == 1:
            return sums
        total = sum_of_sums(tf.reshape(sums, (-1, self.channels)), 0)
        return tf.reshape(total, (1, 1, -1) if self.last else (1, -1, 1))

    def _as_matrix(self, weights: Tensor | None) -> bool:
        """Whether all rows are added up at once, cut where it is best and not at their ends."""
        rows_alone = self.plan.grouped or not self.last or self.compiled
        return not rows_alone and (weights is None or static(weights)[1] != 1)

    @staticmethod
    def _matrix(values: Tensor | None) -> Tensor | None:
        return None if values is None else tf.reshape(values, (-1, static(values)[2]))

    def _total(self, sums: Tensor) -> Tensor:
        return self._narrowed(tf.reshape(sums, (1, 1, -1)))

    def _narrowed(self, sums: Tensor) -> Tensor:
        """The sums of lanes, `(R, 1, lanes * C)`, as those of channels."""
        if self.lanes == 1:
            return sums
        lanes = tf.reshape(sums, (-1, self.lanes, self.channels))
        return sum_of_sums(lanes, 1, keepdims=True)


def sizes_of(tensor: Tensor) -> Sequence[Tensor]:
    """The sizes, numbers where they are known."""
    sizes: Sequence[Tensor] = static(tensor)
    return ops.shape(tensor) if None in sizes else sizes


@cache
def layout(plan: Plan, compiled: bool = False) -> Layout | None:
    """The layout of an input; `None` if it has none."""
    channel, rank = plan.axis[-1], plan.rank
    last = channel == rank - 1
    rows_alone = plan.grouped and plan.axis == (0, rank - 1)
    if rank < 2 or not (rows_alone or (len(plan.axis) == 1 and (last or channel == 1))):
        return None
    channels = plan.shape[channel]
    sizes = [size for axis, size in enumerate(plan.shape) if axis not in (0, channel)]
    if not channels or 0 in sizes:
        return None
    if None in sizes:
        return None if compiled or plan.grouped else Layout(plan, channels, None, last, False, 1)
    positions, lanes = prod(size or 0 for size in sizes), 1
    if last and not compiled and channels < _NARROW:
        lanes = _lanes(channels, positions, 2 * _NARROW)
    return Layout(plan, channels, positions, last, compiled, lanes)


def _lanes(channels: int, positions: int, most: int) -> int:
    """The largest power of two that divides the positions, for so many values side by side."""
    lanes = 1
    while positions % (2 * lanes) == 0 and 2 * lanes * channels <= most:
        lanes *= 2
    return lanes
