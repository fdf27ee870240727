"""An input as parts of rows, `(P, R, C)`: facts of a view, and reshapes into it and back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import tensorflow as tf
from keras import ops

from batchnorm.kernels.tensorflow.cpu.sums import FEW, PIECE, Shape, shape_of, static
from batchnorm.stages.plan import Plan

Tensor = Any
_BIG = 1 << 17  # elements from which on a condition or a compiled pass is worth its set-up
_NARROW = 64  # channels below which operations take twice as long as with some beside each other
_BATCH = 32  # samples that a batch of unknown size is taken for


@dataclass(frozen=True)
class Layout:
    """A view of the input: its parts are samples, or ghost batches.

    Attributes:
        plan: of the input.
        channels: C.
        length: R, the rows of a part, each of which holds every channel once; `None` where sizes
            beside the batch are unknown. With the channels last all parts are then one,
            `(1, P * R, C)`.
        last: whether the channels come last, `(P, R, C)`, or before the rows, `(P, C, R)`.
        compiled: whether XLA reads the code, which makes passes of operations by itself.
        lanes: rows that lie beside each other as one, which makes narrow inputs wide enough for
            vectors: `(P, R / lanes, lanes * C)`.
    """

    plan: Plan
    channels: int
    length: int | None
    last: bool
    compiled: bool
    lanes: int

    @cached_property
    def width(self) -> int:
        """The channels of all lanes: the size of a row of the view."""
        return self.channels * self.lanes

    @cached_property
    def elements(self) -> int | None:
        """The elements of the input, those of an unknown batch estimated; `None` if unknown."""
        if self.length is None:
            return None
        parts = self.plan.shape[0]
        return self.length * self.channels * (_BATCH if parts is None else parts)

    @cached_property
    def count(self) -> int | None:
        """The elements of a channel, of a group's if there are groups; `None` if unknown."""
        parts = 1 if self.plan.grouped else self.plan.shape[0]
        return None if parts is None or self.length is None else parts * self.length

    @cached_property
    def big(self) -> bool:
        """True if passes over memory take longer than the set-up of a choice between them."""
        return self.elements is None or self.elements >= _BIG

    @cached_property
    def piecewise(self) -> bool:
        """True if values that are only added up are computed a few rows at a time."""
        return self.elements is not None and self.elements >= 2 * PIECE and not self.compiled

    @cached_property
    def one_part(self) -> bool:
        """True if all parts are seen as one."""
        return self.length is None and self.last

    @cached_property
    def joint(self) -> bool:
        """True if the rows of all parts are added up at once, as those of one matrix."""
        return self.last and not self.plan.grouped and not self.compiled

    @cached_property
    def few(self) -> bool:
        """True if there are so few rows that a plain sum is as quick as products, and as exact."""
        parts = self.plan.shape[0]
        if parts is None or self.length is None:
            return False
        return parts * (self.length // self.lanes) <= FEW

    @cached_property
    def row_axis(self) -> int:
        """The axis of the rows in a view."""
        return 1 if self.last else 2

    @cached_property
    def shape(self) -> Shape | None:
        """The shape of the input; `None` if a size is unknown."""
        sizes = self.plan.shape
        return None if None in sizes else shape_of(*sizes)

    @cached_property
    def view_shape(self) -> Shape | None:
        """The shape of the view; `None` if a size is unknown."""
        parts = self.plan.shape[0]
        return None if parts is None or self.length is None else shape_of(*self._view_sizes(parts))

    @cached_property
    def without_lanes(self) -> "Layout":
        """The same layout with rows as they are."""
        return self if self.lanes == 1 else replace(self, lanes=1)

    def for_weights(self, weights: Tensor) -> "Layout":
        """Returns the layout for weights; rows that weigh differently make no lanes."""
        alike = all(size == 1 for size in weights.shape[1:])
        return self if alike else self.without_lanes

    def flat(self, x: Tensor) -> Tensor:
        """Returns the view of an input."""
        if self.view_shape is not None:
            return tf.reshape(x, self.view_shape)
        if self.one_part:
            return tf.reshape(x, (1, -1, self.channels))
        return tf.reshape(x, self._view_sizes(sizes_of(x)[0]))

    def _view_sizes(self, parts: Tensor) -> tuple[Tensor, ...]:
        length = -1 if self.length is None else self.length // self.lanes
        return (parts, length, self.width) if self.last else (parts, self.width, length)

    def first_row(self, x: Tensor) -> Tensor:
        """Returns the first row of a view; of each part, where parts have their statistics.

        It is -inf if there are no rows.
        """
        samples, width = -1 if self.plan.grouped else 1, self.channels
        if self.length and self.plan.shape[0]:
            sizes = (samples, 1, width) if self.last else (samples, width, 1)
            return tf.slice(x, shape_of(0, 0, 0), shape_of(*sizes))
        rows = x[:1, :1, :width] if self.last else x[:1, :, :1]  # of an empty batch none
        return tf.reduce_max(rows, (0, self.row_axis), keepdims=True)

    def weights(self, weights: Tensor, x: Tensor) -> Tensor:
        """Returns weights of the rank of x as `(P, 1 or R, 1)`, or with the last two exchanged."""
        sizes, inner = sizes_of(x), list(weights.shape[1:])
        if self.one_part or any(size != 1 for size in inner):
            inner = [
                1 if axis in self.plan.axis else sizes[axis] for axis in range(1, self.plan.rank)
            ]
        weights = tf.broadcast_to(weights, (sizes[0], *inner))
        if self.one_part:
            return tf.reshape(weights, (1, -1, 1))
        parts, count = sizes[0], prod(inner)
        return tf.reshape(weights, (parts, count, 1) if self.last else (parts, 1, count))

    def parameter(self, value: Tensor) -> Tensor:
        """Returns a number, `(C,)` or `(P, C)` as `(1 or P, 1, C)`, or the last two exchanged."""
        value = tf.convert_to_tensor(value, self.plan.moments_dtype)
        rank = value.shape.rank
        if rank == 0:
            value = tf.broadcast_to(value, (self.channels,))
        if rank < 2:
            return tf.reshape(value, shape_of(1, 1, -1) if self.last else shape_of(1, -1, 1))
        parts = sizes_of(value)[0]
        return tf.reshape(value, (parts, 1, -1) if self.last else (parts, -1, 1))

    def vectors(self, *values: Tensor) -> list[Tensor]:
        """Returns statistics `(1 or P, 1, C)` as `(C,)`; where parts have their own, `(P, C)`."""
        shape = shape_of(-1, self.channels) if self.plan.grouped else shape_of(-1)
        vectors = []
        for value in values:
            vectors.append(tf.reshape(value, shape))
        return vectors

    def without_rows(self, value: Tensor) -> Tensor:
        """Returns a result of `parameter` as `(C,)` or `(P, C)`."""
        return tf.reshape(value, (-1,) if static(value)[0] == 1 else (-1, self.channels))

    def wide(self, parameter: Tensor) -> Tensor:
        """Repeats a parameter for each lane, as wide as the view."""
        return parameter if self.lanes == 1 else tf.tile(parameter, shape_of(1, 1, self.lanes))


def sizes_of(tensor: Tensor) -> Sequence[Tensor]:
    """Returns the sizes of a tensor, numbers where they are known."""
    sizes: Sequence[Tensor] = static(tensor)
    return ops.shape(tensor) if None in sizes else sizes


@lru_cache(1024)
def layout_of(plan: Plan) -> Layout | None:
    """Returns the layout of an input; `None` if it has none."""
    channel, rank, compiled = plan.axis[-1], plan.rank, plan.mode == "compiled"
    last = channel == rank - 1
    groups_last = plan.grouped and plan.axis == (0, rank - 1)
    if rank < 2 or not (groups_last or (len(plan.axis) == 1 and (last or channel == 1))):
        return None
    channels = plan.shape[channel]
    sizes = [size for axis, size in enumerate(plan.shape) if axis not in (0, channel)]
    if not channels or 0 in sizes:
        return None
    if None in sizes:
        return None if compiled or plan.grouped else Layout(plan, channels, None, last, False, 1)
    length, lanes = prod(size or 0 for size in sizes), 1
    if last and not compiled and channels < _NARROW:
        lanes = _lanes(channels, length, 2 * _NARROW)
    return Layout(plan, channels, length, last, compiled, lanes)


def _lanes(channels: int, length: int, most: int) -> int:
    """Returns the largest power of two that divides the length, for rows of at most that width."""
    lanes = 1
    while length % (2 * lanes) == 0 and 2 * lanes * channels <= most:
        lanes *= 2
    return lanes
