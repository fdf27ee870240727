"""Elementwise arithmetic, compiled to one pass over memory where that pays."""

from functools import cache
from typing import Any

import tensorflow as tf

from batchnorm.kernels.tensorflow.layout import Layout
from batchnorm.kernels.tensorflow.sums import Function

Tensor = Any


def one_pass(layout: Layout, function: Function) -> Function:
    """Compiles one of the functions below, if that pays for a layout.

    XLA compiles for each shape, of which a training has two: full batches, and the last one. Where
    other sizes than the batch's are unknown there may be any number of them.
    """

    def compiled(*values: Tensor) -> Tensor:
        # One for each number of arguments: TensorFlow 2.21 fails to relax shapes across them.
        return _compiled(function, len(values))(*values)

    alone = layout.big and layout.positions is not None and not layout.compiled
    return compiled if alone else function


def in_pieces(layout: Layout, function: Function) -> Function:
    """Compiles a function for loops, but for those of TensorFlow 1, which call none of XLA's."""
    if not tf.compat.v1.control_flow_v2_enabled():
        return function
    return one_pass(layout, function)


def deviation(x: Tensor, origin: Tensor | None = None) -> Tensor:
    """Subtracts an origin; `None` where nothing is left to subtract."""
    return x if origin is None else x - origin


def squared_deviation(x: Tensor, origin: Tensor) -> Tensor:
    """Squares the deviation of x from an origin."""
    return tf.math.squared_difference(x, origin)


def product(dy: Tensor, x: Tensor, origin: Tensor | None = None) -> Tensor:
    """Multiplies dy by the deviation of x from an origin."""
    return dy * deviation(x, origin)


def multiply_add(x: Tensor, scale: Tensor, shift: Tensor, origin: Tensor | None = None) -> Tensor:
    """Scales and shifts the deviation of x from an origin."""
    return deviation(x, origin) * scale + shift


def combination(
    dy: Tensor,
    x: Tensor,
    per_dy: Tensor,
    per_x: Tensor,
    constant: Tensor,
    origin: Tensor | None = None,
) -> Tensor:
    """Adds dy and the deviation of x from an origin, each times a factor, and a constant."""
    return dy * per_dy + (deviation(x, origin) * per_x + constant)


def weighted_combination(
    dy: Tensor,
    x: Tensor,
    per_dy: Tensor,
    per_x: Tensor,
    constant: Tensor,
    weights: Tensor,
    origin: Tensor | None = None,
) -> Tensor:
    """Computes `combination` with weights on all but dy."""
    return dy * per_dy + (deviation(x, origin) * per_x + constant) * weights


@cache
def _compiled(function: Function, arguments: int) -> Function:
    traced: Function = tf.function(
        function, jit_compile=True, reduce_retracing=True, autograph=False
    )
    return traced
