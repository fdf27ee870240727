"""TensorFlow on CPUs: sums by products with ones, compiled passes, a gradient in closed form.

TensorFlow's own fused operation for training adds in sequence, and over 200,000 positions its
variance is off by 3e-5. A product of each sample with a row of ones keeps the digits, in less time.
"""

from typing import Any

import tensorflow as tf

from batchnorm.affine import Affine, then
from batchnorm.kernels import reference
from batchnorm.kernels.plan import Correction, Plan
from batchnorm.kernels.tensorflow.closed_form import normalized
from batchnorm.kernels.tensorflow.inference import compiled, infer, on_cpu
from batchnorm.kernels.tensorflow.layout import layout, sizes_of
from batchnorm.kernels.tensorflow.measure import measure
from batchnorm.statistics import Measured, Moments, Total

Tensor = Any

__all__ = ["infer", "supports", "train"]


def supports(plan: Plan) -> bool:
    """Every plan on one replica; the reference trains what has no layout, and on other devices."""
    return not plan.synchronized


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
    form = layout(plan, compiled()) if on_cpu() else None
    if form is None or not form.fits(affine, weights):
        return reference.train(plan, x, affine, epsilon, prior, weights, total, correction)
    form = form.weighing(weights)
    x = tf.cast(x, plan.moments_dtype)
    weights = None if weights is None else form.weights(weights, x)
    flat = form.flat(x)
    statistics, mean = measure(form, tf.stop_gradient(flat), weights, prior, epsilon)
    provisional, residual = map(form.vector, mean)
    count = tf.cast(statistics.count, x.dtype)
    count = tf.reshape(count, (-1, 1) if plan.grouped and plan.weighted else ())
    moments = Moments(count, provisional + residual, form.vector(statistics.variance))
    if correction is not None:
        affine = then(correction(Measured(provisional, residual, moments)), affine)
    scale, shift = (form.parameter(value) for value in affine)
    y = normalized(form, statistics._replace(x=_linked(flat, statistics.x)), scale, shift)
    return tf.reshape(y, tf.shape(x) if form.positions is None else sizes_of(x)), moments


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _linked(x: Tensor, beyond: Tensor) -> Any:
    """What x is beyond a constant, or itself, so that x receives its gradient."""
    return tf.identity(beyond), lambda dy: (dy, None)
