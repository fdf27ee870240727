"""Conversions of values that TensorFlow 1 stored in another form than the layer."""

import math
from numbers import Real
from typing import Any

import numpy as np

from batchnorm.contrib.checkpoint.saver_file import Array

Layer = Any

# How far a count of steps may be from an integer, apart from what float32 rounds.
_TOLERANCE = 0.01


def step_count(value: Array) -> Array:
    """Returns a count of steps, which TensorFlow 1 stored as any number, as an integer.

    Raises:
        ValueError: the value is not a non-negative integer.
    """
    if value.size != 1 or not np.isfinite(value).all() or value < 0 or value != np.round(value):
        raise ValueError(f"{value} is not a count of steps.")
    return np.asarray(np.round(value), "int64").reshape(())


def debiased(value: Array, weight: Array) -> Array:
    """Returns the average of a weighted sum: sum / weight, or the sum where the weight is 0.

    Args:
        value: the sum, `(C,)`.
        weight: 1 - decay**t after t steps, `()`.
    """
    average: Array = value / np.where(weight > 0, weight, 1.0).astype(value.dtype)
    return average


def average_or_moving(
    average: Array, weight: Array, moving_mean: Array, moving_variance: Array, stddev: float
) -> Array:
    """Returns `debiased`, or the moving statistics where no step was ever taken.

    Args:
        average: the weighted sum, `(C,)`.
        weight: `()`.
        moving_mean: `(C,)`.
        moving_variance: `(C,)`.
        stddev: the epsilon of an average of deviations; negative for an average of means.
    """
    if weight > 0:
        return debiased(average, weight)
    return moving_mean if stddev < 0 else deviation(moving_variance, stddev)


def deviation(variance: Array, epsilon: float) -> Array:
    """Returns sqrt(variance + epsilon), `(C,)`."""
    root: Array = np.sqrt(variance + np.asarray(epsilon, variance.dtype))
    return root


def momentum(layer: Layer) -> float | None:
    """Returns the momentum of a layer's renorm; `None` if it is a schedule."""
    value = getattr(layer.renorm, "momentum", layer.renorm_momentum)
    return float(value) if isinstance(value, Real) else None


def steps(layer: Layer, *weights: Array) -> Array:
    """Computes the number of steps behind renorm's weights: log(1 - weight) / log(momentum).

    For a weight that has rounded to about 1 it is a lower bound; more steps make no difference.

    Args:
        layer: with renorm.
        weights: 1 - decay**t each, `()`, which must agree.

    Raises:
        ValueError: the momentum is a schedule, or not the momentum that the weights come from.
    """
    if (decay := momentum(layer)) is None:
        raise ValueError(
            "the steps cannot be told from the weight, because the layer's renorm momentum is a "
            "schedule: name a variable that counts them, such as global_step, in names."
        )
    counts = [_steps(float(weight), decay) for weight in weights]
    if max(counts) - min(counts) > 1e-3 * max(counts):
        raise ValueError(f"the weights stand for different steps, {counts}.")
    return np.asarray(counts[0], "int64")


def _steps(weight: float, decay: float) -> int:
    if not 0 <= weight <= 1:
        raise ValueError(f"{weight} cannot be a weight of renorm: these are from 0 to 1.")
    if weight == 0 or decay == 0:
        return int(weight > 0)
    # One unit in the last place of float32 below 1.
    remainder = max(1 - weight, 2.0**-24)
    count = math.log(remainder) / math.log(decay)
    rounding = 8 * 2.0**-24 / (remainder * -math.log(decay))
    if abs(count - round(count)) > _TOLERANCE + rounding:
        raise ValueError(
            f"a weight of {weight:.6g} stands for {count:.2f} steps at the layer's renorm momentum "
            f"of {decay:g}, which is not an integer: give the layer the renorm_decay that the "
            "checkpoint was trained with, as in OldRenorm(momentum=0.99)."
        )
    return round(count)
