"""Sums over the rows of a `Layout`: of each part, or of all."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from batchnorm.kernels.tensorflow.cpu.layout import Layout, sizes_of
from batchnorm.kernels.tensorflow.cpu.sums import (
    PIECE,
    Function,
    column_sums,
    column_sums_of,
    part_sums,
    shape_of,
    static,
    sum_of_sums,
)
from batchnorm.stages.sums import add

Tensor = Any


def total(layout: Layout, values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums all rows, `(1, 1, C)`; or those of each part, where parts have their own statistics.

    Args:
        layout: of the values.
        values: a view.
        weights: as `Layout.weights` returns them, or `None` for ones.
    """
    if not (layout.joint and (weights is None or static(weights)[1] != 1)):
        return merged(layout, sums(layout, values, weights))
    if layout.few:  # as `column_sums` would, without its reshapes: small inputs are bound by calls
        values = values if weights is None else values * weights
        row = tf.reduce_sum(values, shape_of(0, 1), keepdims=True)
    else:
        if weights is not None:
            weights = tf.reshape(weights, shape_of(-1, 1))
        row = column_sums(tf.reshape(values, shape_of(-1, layout.width)), weights)
        row = tf.reshape(row, shape_of(1, 1, -1))
    return row if layout.lanes == 1 else _merged_lanes(layout, row)


def total_of(
    layout: Layout, function: Function, arrays: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """Computes `total` of a function of arrays, a few rows at a time where they are many.

    Its result for all of them would be an array more, and be gone from the cache before it is
    added up.
    """
    if not (layout.joint and (weights is None or static(weights)[1] != 1)):
        return merged(layout, sums_of(layout, function, arrays, weights))
    if not layout.piecewise:
        return total(layout, function(*arrays), weights)
    matrices = []
    for array in arrays:
        matrices.append(tf.reshape(array, shape_of(-1, layout.width)))
    if weights is not None:
        weights = tf.reshape(weights, shape_of(-1, 1))
    row = tf.reshape(column_sums_of(function, matrices, weights), shape_of(1, 1, -1))
    return row if layout.lanes == 1 else _merged_lanes(layout, row)


def sums(layout: Layout, values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums the rows of each part, each times its weight: `(P, 1, C)`, or `(P, C, 1)`."""
    axis = layout.row_axis
    if weights is not None and static(weights)[axis] == 1:
        return sums(layout, values) * weights
    if layout.last and not layout.compiled:
        rows = part_sums(values, weights)
        return rows if layout.lanes == 1 else _merged_lanes(layout, rows)
    values = values if weights is None else values * weights
    if layout.compiled:
        return tf.expand_dims(add(values, (axis,)), axis)
    return tf.reduce_sum(values, axis, keepdims=True)


def sums_of(
    layout: Layout, function: Function, arrays: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """Computes `sums` of a function of arrays, a few parts at a time where they are many."""
    if not layout.piecewise or layout.length is None or layout.plan.shape[0] == 1:
        return sums(layout, function(*arrays), weights)
    step = max(PIECE // (layout.length * layout.channels), 1)
    parts = sizes_of(arrays[0])[0]
    count = (parts + step - 1) // step

    def piece(value: Tensor, index: Tensor) -> Tensor:
        return value if static(value)[0] == 1 else value[index * step : (index + 1) * step]

    def add_piece(index: Tensor, pieces: Any) -> tuple[Tensor, Any]:
        values = function(*[piece(array, index) for array in arrays])
        share = None if weights is None else piece(weights, index)
        return index + 1, pieces.write(index, sums(layout, values, share))

    shape = (1, layout.channels) if layout.last else (layout.channels, 1)
    pieces = tf.TensorArray(
        arrays[0].dtype, size=count, element_shape=(None, *shape), infer_shape=False
    )
    _, pieces = tf.while_loop(
        lambda index, _: index < count,
        add_piece,
        (0, pieces),
        parallel_iterations=2,
        maximum_iterations=count,  # without it no gradient of a v1 loop, though none is taken
    )
    return tf.reshape(pieces.concat(), (-1, *shape))


def merged(layout: Layout, sums: Tensor) -> Tensor:
    """Adds up the sums of parts, `(1, 1, C)`; returns them where parts have their statistics."""
    if layout.plan.grouped or static(sums)[0] == 1:
        return sums
    row = sum_of_sums(tf.reshape(sums, shape_of(-1, layout.channels)), 0)
    return tf.reshape(row, shape_of(1, 1, -1) if layout.last else shape_of(1, -1, 1))


def _merged_lanes(layout: Layout, sums: Tensor) -> Tensor:
    """Adds up the sums of lanes, `(P, 1, lanes * C)`, to those of channels."""
    lanes = tf.reshape(sums, shape_of(-1, layout.lanes, layout.channels))
    return sum_of_sums(lanes, 1, keepdims=True)
