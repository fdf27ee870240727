"""Normalization by measured statistics in a `Layout`, and its gradients in closed form."""

from dataclasses import replace
from typing import Any

import tensorflow as tf

from batchnorm.kernels import reference
from batchnorm.kernels.kernel import Call
from batchnorm.kernels.tensorflow.cpu.layout import Layout
from batchnorm.kernels.tensorflow.cpu.moments import Statistics
from batchnorm.kernels.tensorflow.cpu.passes import (
    combination,
    multiply_add,
    one_pass,
    product,
    weighted_combination,
)
from batchnorm.kernels.tensorflow.cpu.sums import Function, shape_of, static
from batchnorm.kernels.tensorflow.cpu.totals import merged, sums, sums_of, total, total_of
from batchnorm.stages.affine import Affine

Tensor = Any


def normalize(
    layout: Layout, statistics: Statistics, x: Tensor, scale: Tensor, shift: Tensor
) -> Tensor:
    """Computes `(x - mean) / sqrt(variance + epsilon) * scale + shift`.

    Args:
        layout: of `x`.
        statistics: of `x`, without gradients.
        x: the view of an input, differentiable through the statistics, too.
        scale: `(1 or P, 1, C)`, differentiable; all of them twice.
        shift: likewise.
    """
    if statistics.x is not None and layout.big:
        x, statistics = _substituted(x, statistics.x), statistics._replace(x=None)
    # All tensors are arguments: where a condition of TensorFlow's is differentiated twice, a
    # tensor that a function captures is out of reach. Inside there are no gradients: in eager code
    # forward mode would follow the operations, too, and add their slopes.
    names, constants = [], []
    for name, value in zip(Statistics._fields, statistics, strict=True):
        if tf.is_tensor(value):
            names.append(name)
            constants.append(value)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def forward(x: Tensor, scale: Tensor, shift: Tensor, *values: Tensor) -> Any:
        batch = statistics._replace(**dict(zip(names, values, strict=True)))
        centred = tf.stop_gradient(x) if batch.x is None else batch.x
        factor = tf.math.rsqrt(batch.variance + batch.epsilon) * tf.stop_gradient(scale)
        constant = tf.stop_gradient(shift)
        if batch.residual is not None:
            constant = constant - batch.residual * factor
        arrays = [centred, layout.wide(factor), layout.wide(constant)]
        if batch.origin is not None:
            arrays.append(layout.wide(batch.origin))
        y = one_pass(layout, multiply_add, len(arrays))(*arrays)

        def gradient(dy: Tensor) -> list[Tensor]:
            return [*backward(x, scale, shift, dy, *values), *[None] * len(values)]

        return y, gradient

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def backward(x: Tensor, scale: Tensor, shift: Tensor, dy: Tensor, *values: Tensor) -> Any:
        if not tf.executing_eagerly():
            # Copies that this graph has, because those around it are out of reach; they are free.
            x, scale, shift, dy = map(tf.identity, (x, scale, shift, dy))
            values = tuple(map(tf.identity, values))
        batch = statistics._replace(**dict(zip(names, values, strict=True)))
        constant = tf.stop_gradient(x) if batch.x is None else batch.x
        rest = [tf.stop_gradient(value) for value in (scale, shift, dy)]
        gradients = _gradients(layout, batch._replace(x=constant), *rest)

        def gradient(*slopes: Tensor | None) -> list[Tensor]:
            # Forward mode leaves out the slopes of constants.
            slopes = tuple(
                tf.zeros_like(value) if slope is None else slope
                for value, slope in zip(gradients, slopes, strict=True)
            )
            centred = x if batch.x is None else _substituted(x, batch.x)
            second = _second(layout, batch._replace(x=centred), scale, shift, dy, *slopes)
            return [*second, *map(tf.zeros_like, values)]

        return gradients, gradient

    return forward(x, scale, shift, *constants)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _substituted(x: Tensor, centred: Tensor) -> Any:
    """Returns x less a constant, with the gradient of x, which then need not stay in memory."""
    return tf.identity(centred), lambda dy: (dy, None)


def _gradients(
    layout: Layout, batch: Statistics, scale: Tensor, shift: Tensor, dy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of x, scale and shift."""
    # With w the weights and xhat the normalized x, dshift = sum(dy), dscale = sum(dy * xhat),
    # dx = inverse * (scale * dy - w / count * (sum(scale * dy) + xhat * sum(scale * dy * xhat))).
    shared = static(scale)[0] == static(shift)[0] == 1
    inverse = tf.math.rsqrt(batch.variance + batch.epsilon)
    arrays = [dy, batch.x]
    if batch.origin is not None:
        arrays.append(layout.wide(batch.origin))
    dshift = total(layout, dy) if shared else sums(layout, dy)
    products = (total_of if shared else sums_of)(
        layout, one_pass(layout, product, len(arrays), loop=True), arrays
    )
    if batch.residual is not None:
        products = products - batch.residual * dshift
    dscale = inverse * products
    per_dy = inverse * scale
    per_x = -inverse * _mean(merged(layout, dscale * per_dy), batch.count)
    constant = -_mean(merged(layout, dshift * per_dy), batch.count)
    if batch.residual is not None:
        constant = constant - per_x * batch.residual
    dx = _combined(layout, batch, dy, per_dy, per_x, constant)
    return dx, _like(scale, dscale), _like(shift, dshift)


def _mean(sums: Tensor, count: Tensor) -> Tensor:
    return sums / count if isinstance(count, int) else tf.math.divide_no_nan(sums, count)


def _like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Adds up the gradients of parts that share a parameter."""
    if static(parameter)[0] != 1 or static(gradient)[0] == 1:
        return gradient
    return tf.reduce_sum(gradient, shape_of(0), keepdims=True)


def _combined(
    layout: Layout, batch: Statistics, dy: Tensor, per_dy: Tensor, per_x: Tensor, constant: Tensor
) -> Tensor:
    """Computes `dy * per_dy + (deviation * per_x + constant) * weights`."""
    weights = batch.weights
    if weights is not None and static(weights)[layout.row_axis] == 1:
        per_x, constant, weights = per_x * weights, constant * weights, None
    wide = layout.wide
    arrays = [dy, batch.x, wide(per_dy), wide(per_x), wide(constant)]
    if weights is not None:
        arrays.append(weights)
    if batch.origin is not None:
        arrays.append(wide(batch.origin))
    function: Function = combination if weights is None else weighted_combination
    return one_pass(layout, function, len(arrays))(*arrays)


def _second(layout: Layout, batch: Statistics, *inputs: Tensor) -> list[Tensor]:
    """Returns the gradients of the gradients, times slopes, in x, scale, shift and dy.

    They are the reference's, differentiated by TensorFlow.

    Args:
        layout: of `batch.x`.
        batch: the statistics.
        *inputs: scale, shift, dy, and the slopes of the gradients of x, scale and shift.
    """
    # In eager code forward mode stops all tapes while it calls this; a graph needs none.
    return (_second_traced if tf.executing_eagerly() else _second_in_graph)(layout, batch, *inputs)


def _second_in_graph(
    layout: Layout, batch: Statistics, scale: Tensor, shift: Tensor, dy: Tensor, *slopes: Tensor
) -> list[Tensor]:
    x, scale, shift, dy = inputs = [tf.identity(v) for v in (batch.x, scale, shift, dy)]
    sizes = (layout.length, layout.channels)
    plan = replace(
        layout.plan,
        shape=(static(x)[0], *(sizes if layout.last else sizes[::-1])),
        axis=(*layout.plan.axis[:-1], 2 if layout.last else 1),
    )
    rows = x if layout.lanes == 1 else tf.reshape(x, (-1, tf.size(x[0]) // sizes[1], sizes[1]))
    mean = tf.zeros_like(batch.variance) if batch.origin is None else batch.origin
    prior = tuple(layout.vectors(mean, batch.variance))
    step = Affine(layout.without_rows(scale), layout.without_rows(shift))
    y, _ = reference.train(plan, Call(rows, step, batch.epsilon, prior, batch.weights))
    first = tf.gradients(y, inputs[:3], tf.reshape(dy, tf.shape(y)))
    second: list[Tensor] = tf.gradients(
        first, inputs, list(slopes), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return second


_second_traced = tf.function(_second_in_graph, autograph=False, reduce_retracing=True)
