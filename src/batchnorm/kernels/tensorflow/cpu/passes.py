"""Elementwise arithmetic, compiled to one pass over memory where that pays."""

from functools import cache
from typing import Any

import tensorflow as tf

from batchnorm.kernels.tensorflow.cpu.layout import Layout
from batchnorm.kernels.tensorflow.cpu.sums import Function

Tensor = Any


def one_pass(layout: Layout, function: Function, arguments: int, loop: bool = False) -> Function:
    """Compiles one of the functions below, if that pays for a layout.

    XLA compiles for each shape, of which a training has two: full batches, and the last one. Where
    other sizes than the batch's are unknown there may be any number of them.

    Args:
        layout: of the arrays.
        function: the arithmetic.
        arguments: the number of its arguments; each has a function of its own, because TensorFlow
            2.21 fails to relax shapes across them.
        loop: whether it is called in a loop; those of TensorFlow 1 call no functions of XLA's.
    """
    if not layout.big or layout.length is None or layout.compiled:
        return function
    if loop and not tf.compat.v1.control_flow_v2_enabled():
        return function
    return _compiled(function, arguments)


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
