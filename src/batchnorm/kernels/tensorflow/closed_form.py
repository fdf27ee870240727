"""The arithmetic over memory, and the gradient in closed form, in a `Layout`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from batchnorm.affine import Affine
from batchnorm.kernels import reference
from batchnorm.kernels.tensorflow.layout import Layout
from batchnorm.kernels.tensorflow.measure import Statistics
from batchnorm.kernels.tensorflow.passes import (
    combination,
    in_pieces,
    multiply_add,
    one_pass,
    product,
    weighted_combination,
)
from batchnorm.kernels.tensorflow.sums import static

Tensor = Any


def normalized(form: Layout, statistics: Statistics, scale: Tensor, shift: Tensor) -> Tensor:
    """`(x - mean) / sqrt(variance + epsilon) * scale + shift`.

    Args:
        form: of `statistics.x`.
        statistics: without gradients, and x, which is differentiable through them.
        scale: `(1 or R, 1, C)`, differentiable; all as often as is asked.
        shift: likewise.
    """
    # All tensors are arguments: where a condition of TensorFlow's is differentiated twice, what a
    # function finds around itself is out of reach. Inside there are no gradients: in eager code
    # forward mode would follow the operations, too, and add what comes of them.
    constants = {n: value for n, value in statistics._asdict().items() if tf.is_tensor(value)}
    del constants["x"]

    def statistics_of(x: Tensor, values: Sequence[Tensor]) -> Statistics:
        return statistics._replace(x=x, **dict(zip(constants, values, strict=True)))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def forward(x: Tensor, scale: Tensor, shift: Tensor, *values: Tensor) -> Any:
        batch = statistics_of(tf.stop_gradient(x), values)
        factor = tf.math.rsqrt(batch.variance + batch.epsilon) * tf.stop_gradient(scale)
        constant = tf.stop_gradient(shift)
        if batch.residual is not None:
            constant = constant - batch.residual * factor
        parameters = map(form.wide, (factor, constant, *_origin(batch)))
        y = one_pass(form, multiply_add)(batch.x, *parameters)

        def gradient(dy: Tensor) -> list[Tensor]:
            return [*backward(x, scale, shift, dy, *values), *[None] * len(values)]

        return y, gradient

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def backward(x: Tensor, scale: Tensor, shift: Tensor, dy: Tensor, *values: Tensor) -> Any:
        # Copies that this graph has, for the same reason; they cost nothing.
        x, scale, shift, dy = inputs = [tf.identity(value) for value in (x, scale, shift, dy)]
        batch = statistics_of(x, [tf.identity(value) for value in values])
        constant, *rest = map(tf.stop_gradient, inputs)
        gradients = _gradients(form, batch._replace(x=constant), *rest)

        def gradient(*slopes: Tensor | None) -> list[Tensor]:
            # Forward mode leaves out what does not change.
            slopes = tuple(
                tf.zeros_like(value) if slope is None else slope
                for value, slope in zip(gradients, slopes, strict=True)
            )
            second = _second(form, batch, scale, shift, dy, *slopes)
            return [*second, *map(tf.zeros_like, values)]

        return gradients, gradient

    return forward(statistics.x, scale, shift, *constants.values())


def _gradients(
    form: Layout, batch: Statistics, scale: Tensor, shift: Tensor, dy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of x, scale and shift."""
    # With w the weights and xhat what is normalized, dshift = sum(dy), dscale = sum(dy * xhat),
    # dx = inverse * (scale * dy - w / count * (sum(scale * dy) + xhat * sum(scale * dy * xhat))).
    shared = static(scale)[0] == static(shift)[0] == 1
    inverse = tf.math.rsqrt(batch.variance + batch.epsilon)
    arrays = [dy, batch.x, *map(form.wide, _origin(batch))]
    dshift = form.total(dy) if shared else form.sums(dy)
    products = (form.total_of if shared else form.sums_of)(in_pieces(form, product), arrays)
    if batch.residual is not None:
        products = products - batch.residual * dshift
    dscale = inverse * products
    per_dy = inverse * scale
    per_x = -inverse * _mean(form.over(dscale * per_dy), batch.count)
    constant = -_mean(form.over(dshift * per_dy), batch.count)
    if batch.residual is not None:
        constant = constant - per_x * batch.residual
    dx = _combined(form, batch, dy, per_dy, per_x, constant)
    rows = [static(value)[0] != 1 for value in (scale, shift)]
    dscale, dshift = (
        each if row else tf.reduce_sum(each, 0, keepdims=True)
        for each, row in zip((dscale, dshift), rows, strict=True)
    )
    return dx, dscale, dshift


def _mean(sums: Tensor, count: Tensor) -> Tensor:
    return sums / count if isinstance(count, int) else tf.math.divide_no_nan(sums, count)


def _combined(
    form: Layout, batch: Statistics, dy: Tensor, per_dy: Tensor, per_x: Tensor, constant: Tensor
) -> Tensor:
    """`dy * per_dy + (deviation * per_x + constant) * w`."""
    weights, axis = batch.weights, 1 if form.last else 2
    if weights is not None and static(weights)[axis] == 1:
        per_x, constant, weights = per_x * weights, constant * weights, None
    values = [dy, batch.x, *map(form.wide, (per_dy, per_x, constant))]
    origin = map(form.wide, _origin(batch))
    if weights is None:
        return one_pass(form, combination)(*values, *origin)
    return one_pass(form, weighted_combination)(*values, weights, *origin)


def _origin(batch: Statistics) -> list[Tensor]:
    return [] if batch.origin is None else [batch.origin]


def _second(form: Layout, batch: Statistics, *inputs: Tensor) -> list[Tensor]:
    """The gradients of the gradients, times slopes, in x, scale, shift and dy; the reference's.

    Args:
        form: of `batch.x`.
        batch: the statistics.
        *inputs: scale, shift, dy, and the slopes of the gradients of x, scale and shift.
    """
    # In eager code forward mode stops all tapes while it asks for this; a graph needs none.
    return (_second_traced if tf.executing_eagerly() else _second_in_graph)(form, batch, *inputs)


def _second_in_graph(
    form: Layout, batch: Statistics, scale: Tensor, shift: Tensor, dy: Tensor, *slopes: Tensor
) -> list[Tensor]:
    x, scale, shift, dy = inputs = [tf.identity(v) for v in (batch.x, scale, shift, dy)]
    sizes = (form.positions, form.channels)
    plan = replace(
        form.plan,
        shape=(static(x)[0], *(sizes if form.last else sizes[::-1])),
        axis=(*form.plan.axis[:-1], 2 if form.last else 1),
    )
    flat = x if form.lanes == 1 else tf.reshape(x, (-1, tf.size(x[0]) // sizes[1], sizes[1]))
    mean = tf.zeros_like(batch.variance) if batch.origin is None else batch.origin
    prior = form.vector(mean), form.vector(batch.variance)
    step = Affine(form.row(scale), form.row(shift))
    y, _ = reference.train(plan, flat, step, batch.epsilon, prior, batch.weights)
    first = tf.gradients(y, inputs[:3], tf.reshape(dy, tf.shape(y)))
    second: list[Tensor] = tf.gradients(
        first, inputs, list(slopes), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return second


_second_traced = tf.function(_second_in_graph, autograph=False, reduce_retracing=True)
