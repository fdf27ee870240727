"""Sums by products with ones, of few terms each: as quick as memory, and to the last digits.

TensorFlow adds the terms of a product, and those of a sum over rows, in sequence. Equal terms then
drift: 64 of them by 1e-6 of their sum, 4,096 by 2e-5. Such are the values of a constant channel,
and the squares beside an outlier. Only a sum over the last axis is a tree.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import tensorflow as tf

from batchnorm.summation import add

Tensor = Any
Function = Callable[..., Tensor]

TERMS = 64  # of a product
FEW = 256  # rows that a plain sum adds as quickly, and with no more drift than a product of TERMS
_WIDTH = 128  # values in a row from which on products take no less time, and soon more
PIECE = 1 << 20  # elements that are in the cache when they are added up


def column_sums(matrix: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums the rows of a matrix, each times its weight.

    Args:
        matrix: `(M, W)`; M need not be known.
        weights: `(M, 1)`, or `None` for ones.

    Returns:
        `(W,)`.
    """
    rows, width = static(matrix)
    if rows is None or rows <= FEW:
        matrix = matrix if weights is None else matrix * weights
        return _sum_of_any(matrix) if rows is None else tf.reduce_sum(matrix, 0)
    # Rows beside each other as one have the same weight.
    terms, lanes = _cut(rows, max(_WIDTH // width, 1) if weights is None else 1)
    head = rows // (terms * lanes) * terms * lanes
    ones = tf.ones((1, terms, 1), matrix.dtype)
    if weights is not None:
        ones = tf.reshape(weights[:head], (-1, terms, 1))
    blocks = tf.reshape(matrix[:head] if head < rows else matrix, (-1, terms, lanes * width))
    sums = tf.reshape(tf.matmul(ones, blocks, transpose_a=True), (-1, width))
    total = sum_of_sums(sums, 0)
    if head == rows:
        return total
    return total + column_sums(matrix[head:], None if weights is None else weights[head:])


def column_sums_of(
    function: Function, arrays: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """Sums the rows of what a function makes of matrices, a piece at a time.

    All that it makes would be one more array in memory, and no longer in the cache when it is
    added up.

    Args:
        function: of the pieces, to a matrix of as many rows.
        arrays: `(M, W)`, or `(1, W)` for what belongs to every row.
        weights: as for `column_sums`.

    Returns:
        `(W,)`.
    """
    rows, width = static(arrays[0])
    step = max(PIECE // (width * FEW), 1) * FEW
    if rows is not None and rows < 2 * step:
        return column_sums(function(*arrays), weights)
    rows = tf.shape(arrays[0])[0] if rows is None else rows
    count = rows // step

    def piece(values: Tensor, start: Tensor, size: int) -> Tensor:
        if static(values)[0] == 1:
            return values
        width = static(values)[1]
        rows = tf.slice(values, (start, 0), (size, width))
        rows.set_shape((None, width))  # of which graphs of TensorFlow 1 know nothing
        return rows

    def sums(start: Tensor, size: int) -> Tensor:
        values = function(*(piece(array, start, size) for array in arrays))
        return column_sums(values, None if weights is None else piece(weights, start, size))

    pieces = tf.TensorArray(arrays[0].dtype, size=count, element_shape=(width,))
    _, pieces = tf.while_loop(
        lambda index, _: index < count,
        lambda index, pieces: (index + 1, pieces.write(index, sums(index * step, step))),
        (0, pieces),
        parallel_iterations=2,
        maximum_iterations=count,
    )
    total = sum_of_sums(pieces.stack(), 0)
    if isinstance(rows, int) and rows % step == 0:
        return total
    return total + sums(count * step, rows % step)


def position_sums(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums the positions of each row, each times its weight.

    Args:
        values: `(R, P, W)`; R need not be known.
        weights: `(R, P, 1)`, or `None` for ones.

    Returns:
        `(R, 1, W)`.
    """
    _, length, width = static(values)
    if length == 1:
        return values if weights is None else values * weights
    terms = _divisor(length)
    if terms is None:
        values = values if weights is None else values * weights
        return tf.expand_dims(add(values, (1,)), 1)
    ones = tf.ones((1, terms, 1), values.dtype)
    if weights is not None:
        ones = tf.reshape(weights, (-1, terms, 1))
    blocks = tf.reshape(values, (-1, terms, width))
    sums = tf.reshape(tf.matmul(ones, blocks, transpose_a=True), (-1, length // terms, width))
    return sums if terms == length else sum_of_sums(sums, 1, keepdims=True)


def sum_of_sums(sums: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    """Adds up sums over an axis, in float64: they are few, and the larger they are the worse."""
    total = tf.reduce_sum(tf.cast(sums, tf.float64), axis, keepdims=keepdims)
    return tf.cast(total, sums.dtype)


def static(tensor: Tensor) -> list[Any]:
    """The sizes that are known; `None` for others, after `disable_v2_behavior` too."""
    sizes: list[Any] = tensor.shape.as_list()
    return sizes


def _sum_of_any(matrix: Tensor) -> Tensor:
    """Sums so many rows as there are, in few operations."""
    width = static(matrix)[1]
    # Rows beside each other as one, so that these are wide enough for vectors.
    lanes = min(max(_WIDTH // width, 1), FEW // 8)
    terms = FEW // lanes
    head, tail = tf.split(matrix, tf.stack([-1, tf.shape(matrix)[0] % (terms * lanes)]))
    sums = tf.reduce_sum(tf.reshape(head, (-1, terms, lanes * width)), 1)
    return sum_of_sums(tf.reshape(sums, (-1, width)), 0) + tf.reduce_sum(tail, 0)


@cache
def _cut(rows: int, most: int) -> tuple[int, int]:
    """The terms of a product, and how many rows lie beside each other as one, at the most."""
    widest = 1 << (min(most, rows // TERMS).bit_length() - 1)
    lanes = widest
    while lanes:
        for terms in range(TERMS, TERMS // 2, -1):
            if rows % (terms * lanes) == 0:
                return terms, lanes
        lanes //= 2
    return TERMS, widest


@cache
def _divisor(length: int | None) -> int | None:
    """The terms of products that share a length out; `None` if there is no such divisor."""
    if length is None or length <= TERMS:
        return length
    sizes = (*range(TERMS, TERMS // 4 - 1, -1), *range(TERMS + 1, 2 * TERMS + 1))
    return next((size for size in sizes if length % size == 0), None)
