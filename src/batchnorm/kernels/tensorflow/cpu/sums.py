"""Sums by products with ones, of few terms each: as quick as memory, and to the last digits.

TensorFlow adds the terms of a product, and those of a sum over rows, in sequence. Equal terms then
drift: 64 of them by 1e-6 of their sum, 4,096 by 2e-5. Such are the values of a constant channel,
and the squares beside an outlier. Only a sum over the last axis is a tree.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from batchnorm.stages.sums import add

Tensor = Any
Function = Callable[..., Tensor]
Shape = npt.NDArray[np.int32]

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
    rows, width = matrix.shape.as_list()
    if rows is None or rows <= FEW:
        matrix = matrix if weights is None else matrix * weights
        return _sum_of_any(matrix) if rows is None else tf.reduce_sum(matrix, 0)
    # Rows beside each other as one would have the same weight.
    terms, lanes = _cut(rows, max(_WIDTH // width, 1) if weights is None else 1)
    head = rows // (terms * lanes) * terms * lanes
    if weights is None:
        factors = _ones(terms, matrix.dtype)
    else:
        factors = tf.reshape(weights[:head], shape_of(-1, terms, 1))
    blocks = matrix[:head] if head < rows else matrix
    blocks = tf.reshape(blocks, shape_of(-1, terms, lanes * width))
    sums = tf.reshape(tf.matmul(factors, blocks, transpose_a=True), shape_of(-1, width))
    total = sum_of_sums(sums, 0)
    if head == rows:
        return total
    return total + column_sums(matrix[head:], None if weights is None else weights[head:])


def column_sums_of(
    function: Function, arrays: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """Sums the rows of a function of matrices, a piece at a time.

    Its result for all rows would be one more array in memory, and no longer in the cache when it
    is added up.

    Args:
        function: of the pieces, to a matrix of as many rows.
        arrays: `(M, W)`, or `(1, W)` for values that belong to every row.
        weights: as for `column_sums`.

    Returns:
        `(W,)`.
    """
    rows, width = arrays[0].shape.as_list()
    step = max(PIECE // (width * FEW), 1) * FEW
    if rows is not None and rows < 2 * step:
        return column_sums(function(*arrays), weights)
    if rows is not None and tf.executing_eagerly():
        return _in_loop(function, arrays, weights, rows, step)
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
        values = function(*[piece(array, start, size) for array in arrays])
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


def _in_loop(
    function: Function, arrays: Sequence[Tensor], weights: Tensor | None, rows: int, step: int
) -> Tensor:
    """Computes `column_sums_of` in eager code, where TensorFlow's loop costs calls in Python."""
    pieces, share, width = [], weights, arrays[0].shape[1]
    for start in range(0, rows, step):
        values, end = [], min(start + step, rows)
        for array in arrays:
            if array.shape[0] == 1:
                values.append(array)
            else:
                size = shape_of(end - start, width)
                values.append(tf.slice(array, shape_of(start, 0), size))
        if weights is not None:
            share = weights[start:end]
        pieces.append(column_sums(function(*values), share))
    if rows % step == 0:
        return sum_of_sums(tf.stack(pieces), 0)
    last = pieces.pop()
    return sum_of_sums(tf.stack(pieces), 0) + last


def part_sums(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums the rows of each part, each times its weight.

    Args:
        values: `(P, R, W)`; P need not be known.
        weights: `(P, R, 1)`, or `None` for ones.

    Returns:
        `(P, 1, W)`.
    """
    _, length, width = static(values)
    if length == 1:
        return values if weights is None else values * weights
    terms = _divisor(length)
    if terms is None:
        values = values if weights is None else values * weights
        return tf.expand_dims(add(values, (1,)), 1)
    if weights is None:
        factors = _ones(terms, values.dtype)
    else:
        factors = tf.reshape(weights, shape_of(-1, terms, 1))
    blocks = tf.reshape(values, shape_of(-1, terms, width))
    sums = tf.matmul(factors, blocks, transpose_a=True)
    sums = tf.reshape(sums, shape_of(-1, length // terms, width))
    return sums if terms == length else sum_of_sums(sums, 1, keepdims=True)


def sum_of_sums(sums: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    """Adds up sums over an axis, in float64: they are few, and the larger they are the worse."""
    total = tf.reduce_sum(tf.cast(sums, tf.float64), shape_of(axis), keepdims=keepdims)
    return tf.cast(total, sums.dtype)


def static(tensor: Tensor) -> list[Any]:
    """Returns the known sizes, `None` for others; after `disable_v2_behavior`, too."""
    sizes: list[Any] = tensor.shape.as_list()
    return sizes


@lru_cache(4096)
def shape_of(*sizes: int) -> Shape:
    """Returns sizes, or axes, as an array, which TensorFlow converts sooner than a tuple.

    To convert a tuple takes TensorFlow 2.21 longer than an operation on a small input: in eager
    code a reshape to an array takes a third of the time. A graph gets the same constant from both.
    """
    array = np.array(sizes, np.int32)
    array.setflags(write=False)
    return array


@cache
def _ones(terms: int, dtype: tf.DType) -> npt.NDArray[Any]:
    return np.ones((1, terms, 1), dtype.as_numpy_dtype)


def _sum_of_any(matrix: Tensor) -> Tensor:
    """Sums an unknown number of rows, in few operations."""
    width = static(matrix)[1]
    # Rows beside each other as one, so that these are wide enough for vectors.
    lanes = min(max(_WIDTH // width, 1), FEW // 8)
    terms = FEW // lanes
    head, tail = tf.split(matrix, tf.stack([-1, tf.shape(matrix)[0] % (terms * lanes)]))
    sums = tf.reduce_sum(tf.reshape(head, (-1, terms, lanes * width)), 1)
    return sum_of_sums(tf.reshape(sums, (-1, width)), 0) + tf.reduce_sum(tail, 0)


@cache
def _cut(rows: int, most: int) -> tuple[int, int]:
    """Returns the terms of a product, and the rows that lie beside each other as one."""
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
    """Returns the terms of products that divide a length; `None` if there is no such divisor."""
    if length is None or length <= TERMS:
        return length
    sizes = (*range(TERMS, TERMS // 4 - 1, -1), *range(TERMS + 1, 2 * TERMS + 1))
    return next((size for size in sizes if length % size == 0), None)
