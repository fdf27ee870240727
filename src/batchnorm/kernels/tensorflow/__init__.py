"""TensorFlow on CPUs: sums by products with ones, compiled passes, a gradient in closed form.

TensorFlow's own fused operation for training adds in sequence, and over 200,000 positions its
variance is off by 3e-5. A product of each sample with a row of ones keeps the digits, in less time.
"""

import math
from functools import cache
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from batchnorm.affine import Affine, then
from batchnorm.kernels import reference
from batchnorm.kernels.plan import Correction, Plan
from batchnorm.kernels.tensorflow.closed_form import Statistics, fused, normalized
from batchnorm.kernels.tensorflow.layout import Layout, layout, sizes_of
from batchnorm.statistics import Measured, Moments, Total, usual

Tensor = Any

# How far from zero a mean may be, in deviations, for a batch to be taken as it is: at 8 the error
# of y is 2e-6. Where one is farther the batch is centred first, which takes two more passes.
_NEAR = 8.0


def supports(plan: Plan) -> bool:
    """Rows of positions with one channel axis, or ghost batches of neighbours, on CPUs."""
    return layout(plan) is not None and not plan.synchronized and _on_cpu()


def train(
    plan: Plan,
    x: Tensor,
    affine: Affine,
    epsilon: float,
    prior: tuple[Tensor, Tensor],
    weights: Tensor | None = None,
    total: Total | None = None,
    correction: Correction | None = None,
) -> tuple[Tensor, Moments]:
    """See `Kernel.train`."""
    form = layout(plan, _compiled())
    if form is None or not form.fits(affine, weights):
        return reference.train(plan, x, affine, epsilon, prior, weights, total, correction)
    form = form.weighing(weights)
    x = tf.cast(x, plan.moments_dtype)
    weights = None if weights is None else form.weights(weights, x)
    flat = form.flat(x)
    known = _measured(form, tf.stop_gradient(flat), weights, prior, epsilon)
    provisional, residual = form.vector(known.provisional), form.vector(known.mean)
    count = tf.cast(known.count, x.dtype)
    count = tf.reshape(count, (-1, 1) if plan.grouped and plan.weighted else ())
    moments = Moments(count, provisional + residual, form.vector(known.variance))
    if correction is not None:
        affine = then(correction(Measured(provisional, residual, moments)), affine)
    scale, shift = (form.parameter(value) for value in affine)
    y = normalized(form, known._replace(x=_linked(flat, known.x)), scale, shift)
    return tf.reshape(y, sizes_of(x)), moments


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """See `Kernel.infer`."""
    form = layout(plan, _compiled())
    if form is None or not form.vectors or not form.fits(affine, None):
        return reference.infer(plan, x, mean, variance, affine, epsilon)
    step = then(Affine(tf.math.rsqrt(variance + epsilon)), affine)
    scale, shift = (form.parameter(value) for value in step)
    if scale.shape[0] != 1 or shift.shape[0] != 1:
        return reference.infer(plan, x, mean, variance, affine, epsilon)
    x, origin = tf.cast(x, plan.moments_dtype), form.parameter(mean)
    y = tf.cond(
        _near(origin, form.parameter(variance), epsilon),
        lambda: fused(form.widest, x, origin, scale, shift),
        lambda: reference.infer(plan, x, mean, variance, affine, epsilon),
    )
    y.set_shape(x.shape)
    return y


def _compiled() -> bool:
    # XLA takes TensorFlow's fused operations apart, into E[x^2] - E[x]^2.
    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


@cache
def _on_cpu() -> bool:
    return all(device.device_type == "CPU" for device in tf.config.list_physical_devices())


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _linked(x: Tensor, beyond: Tensor) -> Any:
    """What x is beyond a constant, so that x receives its gradient."""
    return tf.identity(beyond), lambda dy: (dy, None)


def _near(mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    return tf.reduce_all(tf.abs(mean) <= _NEAR * tf.sqrt(variance + epsilon))


def _measured(
    form: Layout, x: Tensor, weights: Tensor | None, prior: tuple[Tensor, Tensor], epsilon: float
) -> Statistics:
    count = _count(form, x, weights)
    start, spread = prior if isinstance(count, int) else map(form.parameter, prior)

    def mean_of(sums: Tensor, otherwise: Tensor) -> Tensor:
        if isinstance(count, int):
            return sums / count
        counted = tf.not_equal(count, 0)  # of NaN, the sum of invalid weights, NaN follows
        return tf.where(counted, tf.math.divide_no_nan(sums, count), otherwise)

    def far() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        provisional = mean_of(form.total(usual(x, weights), weights), start)
        if form.compiled:
            # XLA may contract a product at its end with the subtraction of each use, and it must be
            # the same for all: a selection cannot be contracted.
            zero = tf.zeros_like(provisional)
            provisional = tf.where(tf.math.is_nan(provisional), zero, provisional)
        beyond = usual(x - form.wide(provisional), weights)
        mean = mean_of(form.total(beyond, weights), tf.zeros_like(provisional))
        # Of a mean so small the square is taken off without a loss, and in less time.
        squares = form.total_of(tf.square, [beyond], weights)
        variance = tf.nn.relu(mean_of(squares, spread) - mean * mean)
        return beyond, provisional, mean, variance

    if not form.big or (form.compiled and weights is not None):
        return Statistics(*far(), count, weights, epsilon)
    mean = mean_of(form.total(x, weights), start)
    squares = form.total_of(tf.math.squared_difference, [x, form.wide(mean)], weights)
    variance = mean_of(squares, spread)
    near = _near(mean, variance, epsilon)
    if form.compiled:
        # What x is beyond that XLA makes in each pass; it need not be stored.
        provisional, mean, variance = tf.cond(
            near, lambda: (tf.zeros_like(mean), mean, variance), lambda: far()[1:]
        )
        return Statistics(x, provisional, mean, variance, count, weights, epsilon, centred=False)
    x, provisional, mean, variance = tf.cond(
        near, lambda: (tf.identity(x), tf.zeros_like(mean), mean, variance), far
    )
    return Statistics(x, provisional, mean, variance, count, weights, epsilon)


def _count(form: Layout, x: Tensor, weights: Tensor | None) -> Tensor:
    """The sum of the weights: a number, or a tensor `(1 or R, 1, 1)`."""
    if weights is None:
        count = math.prod(sizes_of(x)[1 if form.plan.grouped else 0 :]) // form.channels
        if isinstance(count, int) and count:
            return count
        return tf.reshape(tf.cast(count, x.dtype), (1, 1, 1))
    axis = 1 if form.last else 2
    each = 1 if weights.shape[axis] != 1 else sizes_of(x)[axis] * form.lanes
    rows = tf.reduce_sum(weights, (1, 2), keepdims=True) * tf.cast(each, x.dtype)
    return rows if form.plan.grouped else tf.reduce_sum(rows, 0, keepdims=True)
