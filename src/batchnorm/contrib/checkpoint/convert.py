"""Values that TensorFlow 1 kept in another form than the layer that they go to."""

import math
from numbers import Real
from typing import Any

import numpy as np

from batchnorm.contrib.checkpoint.saver_file import Array

Layer = Any

# How far from a whole number a count of steps may be: what float32 rounds comes on top.
_NEAR = 0.01


def whole(value: Array) -> Array:
    """A count of steps that was kept as a number.

    Raises:
        ValueError: it is none.
    """
    if value.size != 1 or not np.isfinite(value).all() or value < 0 or value != np.round(value):
        raise ValueError(f"{value} is no count of steps.")
    return np.asarray(np.round(value), "int64").reshape(())


def debiased(value: Array, weight: Array) -> Array:
    """The average that a weighted sum stands for: sum / weight, and the sum where it is 0.

    Args:
        value: the sum, `(C,)`.
        weight: 1 - decay**t after t steps, `()`.
    """
    average: Array = value / np.where(weight > 0, weight, 1.0).astype(value.dtype)
    return average


def started(
    average: Array, weight: Array, moving_mean: Array, moving_variance: Array, stddev: float
) -> Array:
    """`debiased`; where no step was ever taken, what follows from the moving statistics.

    Args:
        average: the weighted sum, `(C,)`.
        weight: `()`.
        moving_mean: `(C,)`.
        moving_variance: `(C,)`.
        stddev: the epsilon of the deviation where that is what is averaged, negative for the mean.
    """
    if weight > 0:
        return debiased(average, weight)
    return moving_mean if stddev < 0 else deviation(moving_variance, stddev)


def deviation(variance: Array, epsilon: float) -> Array:
    """sqrt(variance + epsilon), `(C,)`."""
    root: Array = np.sqrt(variance + np.asarray(epsilon, variance.dtype))
    return root


def momentum(layer: Layer) -> float | None:
    """The momentum of a layer's renorm; `None` where it changes with the steps."""
    value = getattr(layer.renorm, "momentum", layer.renorm_momentum)
    return float(value) if isinstance(value, Real) else None


def steps(layer: Layer, *weights: Array) -> Array:
    """How many steps renorm's weights have seen: log(1 - weight) / log(momentum).

    A weight that has rounded to about 1 has seen at least so many; more make no difference.

    Args:
        layer: with renorm.
        weights: 1 - decay**t each, `()`, which must agree.

    Raises:
        ValueError: the momentum is a schedule, or not the one that the weights come from.
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
        raise ValueError(f"{weight} is no weight of renorm's, which is from 0 to 1.")
    if weight == 0 or decay == 0:
        return int(weight > 0)
    # One unit in the last place of float32 below 1.
    kept = max(1 - weight, 2.0**-24)
    count = math.log(kept) / math.log(decay)
    rounding = 8 * 2.0**-24 / (kept * -math.log(decay))
    if abs(count - round(count)) > _NEAR + rounding:
        raise ValueError(
            f"a weight of {weight:.6g} stands for {count:.2f} steps at the layer's renorm momentum "
            f"of {decay:g}, which is no whole number: give the layer the renorm_decay that the "
            "checkpoint was trained with, as in OldRenorm(momentum=0.99)."
        )
    return round(count)
