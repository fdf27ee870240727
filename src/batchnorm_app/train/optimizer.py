"""Optimizers by name, and the schedules of their learning rates."""

from collections.abc import Callable
from typing import Any

import keras

from batchnorm_app.runs.expressions import drops_of

OPTIMIZERS: dict[str, Callable[[Any], keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "lion": keras.optimizers.Lion,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
# Functions of the learning rate and the number of steps. A schedule counts the optimizer's own
# iterations, so that a resumed run continues at the right place.
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda rate, steps: rate,
    "cosine": keras.optimizers.schedules.CosineDecay,
}


def learning_rates(expression: str, rate: float, epochs: int, steps: int) -> Any:
    """Returns the learning rate of an optimizer, or its schedule.

    Args:
        expression: a name of `SCHEDULES`; or `drop:60,90` to divide the rate by 10 after epoch 60
            and again after epoch 90.
        rate: the first learning rate.
        epochs: number of epochs.
        steps: per epoch.

    Raises:
        UserError: the expression is neither, its epochs do not increase, or the last of them is
            not before the end.
    """
    if expression in SCHEDULES:
        return SCHEDULES[expression](rate, epochs * steps)
    drops = drops_of(expression, epochs)
    boundaries = [drop * steps - 1 for drop in drops]  # the last step before each drop
    values = [rate / 10**count for count in range(len(drops) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
