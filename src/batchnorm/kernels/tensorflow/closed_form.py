"""The arithmetic over memory, and the gradient in closed form, in a `Layout`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import tensorflow as tf

from batchnorm.affine import Affine
from batchnorm.kernels import reference
from batchnorm.kernels.tensorflow.layout import Layout, sizes_of, static

Tensor = Any


class Statistics(NamedTuple):
    """What a batch is normalized by, each `(1, 1, C)`, or `(R, 1, C)` where rows have their own.

    Attributes:
        x: the input; where `centred`, what it is beyond `provisional`.
        provisional: 0, or almost the mean.
        mean: of what x is beyond `provisional`.
        variance: of `x`.
        count: the sum of the weights: a number, or `(1 or R, 1, 1)`.
        weights: `(R, 1 or P, 1)`, or `None`.
        epsilon: added to the variance under the root.
        centred: whether `provisional` is taken from `x` already.
    """

    x: Tensor
    provisional: Tensor
    mean: Tensor
    variance: Tensor
    count: Tensor
    weights: Tensor | None
    epsilon: float
    centred: bool = True

    def beyond(self, form: Layout) -> Tensor:
        """What x is beyond `provisional`."""
        return self.x if self.centred else self.x - form.wide(self.provisional)


def normalized(form: Layout, known: Statistics, scale: Tensor, shift: Tensor) -> Tensor:
    """`(x - mean) / sqrt(variance + epsilon) * scale + shift`.

    Args:
        form: of `known.x`.
        known: the statistics, without gradients, and x, which is differentiable through them.
        scale: `(1 or R, 1, C)`, differentiable; all as often as is asked.
        shift: likewise.
    """
    # All tensors are arguments: where a condition of TensorFlow's is differentiated twice, what a
    # function finds around itself is out of reach.
    constants = {name: value for name, value in known._asdict().items() if tf.is_tensor(value)}
    del constants["x"]

    def known_by(x: Tensor, values: Sequence[Tensor]) -> Statistics:
        return known._replace(x=x, **dict(zip(constants, values, strict=True)))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def forward(x: Tensor, scale: Tensor, shift: Tensor, *values: Tensor) -> Any:
        given = known_by(x, values)
        inverse = tf.math.rsqrt(given.variance + given.epsilon)
        factor = inverse * scale
        constant = form.wide(shift - given.mean * factor)
        y = _in_one_pass(form, _multiply_add)(given.beyond(form), form.wide(factor), constant)

        def gradient(dy: Tensor) -> list[Tensor]:
            return [*backward(x, scale, shift, dy, *values), *[None] * len(values)]

        return y, gradient

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def backward(x: Tensor, scale: Tensor, shift: Tensor, dy: Tensor, *values: Tensor) -> Any:
        # Copies that this graph has, for the same reason; they cost nothing.
        x, scale, shift, dy = map(tf.identity, (x, scale, shift, dy))
        given = known_by(x, [tf.identity(value) for value in values])

        def gradient(*slopes: Tensor) -> list[Tensor]:
            found = _second(form, given, scale, shift, dy, *slopes)
            return [*found, *map(tf.zeros_like, values)]

        return _gradients(form, given, scale, shift, dy), gradient

    return forward(known.x, scale, shift, *constants.values())


def fused(form: Layout, x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`(x - mean) * scale + shift` for values `(1, 1, C)` and `form.vectors`.

    It takes somewhat longer than compiled code, but need not be compiled: in inference batches may
    be of any size. Where the mean is large beside the deviation it loses digits.
    """
    mean, scale, shift = (tf.reshape(form.wide(v), (-1,)) for v in (mean, scale, shift))
    y, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.expand_dims(form.flat(x), 0),
        scale=scale,
        offset=shift,
        mean=mean,
        variance=tf.ones_like(mean),
        epsilon=0.0,
        is_training=False,
    )
    return tf.reshape(y, sizes_of(x))


def _gradients(
    form: Layout, known: Statistics, scale: Tensor, shift: Tensor, dy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of x, scale and shift."""
    # With w the weights and xhat what is normalized, dshift = sum(dy), dscale = sum(dy * xhat),
    # dx = inverse * (scale * dy - w / count * (sum(scale * dy) + xhat * sum(scale * dy * xhat))).
    shared = static(scale)[0] == static(shift)[0] == 1
    inverse = tf.math.rsqrt(known.variance + known.epsilon)
    dshift = form.total(dy) if shared else form.sums(dy)
    of_product = (form.total_of if shared else form.sums_of)(tf.multiply, [dy, known.beyond(form)])
    dscale = inverse * (of_product - known.mean * dshift)
    per_dy = inverse * scale
    per_x = -inverse * _mean(form.over(dscale * per_dy), known.count)
    constant = -_mean(form.over(dshift * per_dy), known.count) - per_x * known.mean
    dx = _combined(form, known, dy, per_dy, per_x, constant)
    rows = [static(value)[0] != 1 for value in (scale, shift)]
    dscale, dshift = (
        each if row else tf.reduce_sum(each, 0, keepdims=True)
        for each, row in zip((dscale, dshift), rows, strict=True)
    )
    return dx, dscale, dshift


def _mean(sums: Tensor, count: Tensor) -> Tensor:
    return sums / count if isinstance(count, int) else tf.math.divide_no_nan(sums, count)


def _combined(
    form: Layout, known: Statistics, dy: Tensor, per_dy: Tensor, per_x: Tensor, constant: Tensor
) -> Tensor:
    """`dy * per_dy + (x * per_x + constant) * w`."""
    weights, axis = known.weights, 1 if form.last else 2
    if weights is not None and static(weights)[axis] == 1:
        per_x, constant, weights = per_x * weights, constant * weights, None
    per_dy, per_x, constant = (form.wide(value) for value in (per_dy, per_x, constant))
    values = (dy, known.beyond(form), per_dy, per_x, constant)
    if weights is None:
        return _in_one_pass(form, _two_products)(*values)
    return _in_one_pass(form, _weighted_products)(*values, weights)


def _second(
    form: Layout,
    known: Statistics,
    scale: Tensor,
    shift: Tensor,
    dy: Tensor,
    *slopes: Tensor,
) -> list[Tensor]:
    """The gradients of the gradients, times slopes, in x, scale, shift and dy; the reference's."""
    # Copies that the tapes of this graph see.
    x, scale, shift, dy = map(tf.identity, (known.x, scale, shift, dy))
    shape = (form.positions, form.channels)
    plan = replace(
        form.plan,
        shape=(static(x)[0], *(shape if form.last else shape[::-1])),
        axis=tuple(each for each in form.plan.axis[:-1]) + (2 if form.last else 1,),
    )
    unfolded = (-1, tf.size(x[0]) // form.channels, form.channels)

    def reference_of(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        step = Affine(*(form.row(value) for value in (scale, shift)))
        prior = form.vector(known.mean), form.vector(known.variance)
        flat = tf.reshape(x, unfolded) if form.lanes > 1 else x
        y, _ = reference.train(plan, flat, step, known.epsilon, prior, known.weights)
        return tf.reshape(y, tf.shape(x))

    inputs = [x, scale, shift]
    with tf.GradientTape() as outer:
        outer.watch([*inputs, dy])
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            y = reference_of(*inputs)
        first = inner.gradient(y, inputs, dy)
    found: list[Tensor] = outer.gradient(
        first, [*inputs, dy], list(slopes), unconnected_gradients="zero"
    )
    return found


def _multiply_add(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return x * scale + shift


def _two_products(dy: Tensor, x: Tensor, per_dy: Tensor, per_x: Tensor, constant: Tensor) -> Tensor:
    return dy * per_dy + (x * per_x + constant)


def _weighted_products(
    dy: Tensor, x: Tensor, per_dy: Tensor, per_x: Tensor, constant: Tensor, weights: Tensor
) -> Tensor:
    return dy * per_dy + (x * per_x + constant) * weights


_COMPILED = {
    function: tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)
    for function in (_multiply_add, _two_products, _weighted_products)
}


def _in_one_pass(form: Layout, function: Any) -> Any:
    """The function, compiled to one pass over memory if that pays.

    XLA compiles for each shape, of which a training has two: full batches, and the last one.
    """
    return _COMPILED[function] if form.big and not form.compiled else function
