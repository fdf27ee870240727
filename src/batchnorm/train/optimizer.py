"""The optimizers by name, and how their learning rates fall."""

from collections.abc import Callable
from typing import Any

import keras

from batchnorm.train.errors import RunError

OPTIMIZERS: dict[str, Callable[[Any], keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "lion": keras.optimizers.Lion,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
# From the learning rate and the number of steps to what an optimizer takes. A schedule counts the
# optimizer's own iterations, so that a run taken up again finds its place in it.
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda rate, steps: rate,
    "cosine": keras.optimizers.schedules.CosineDecay,
}


def learning_rates(expression: str, rate: float, epochs: int, steps: int) -> Any:
    """The learning rate of each step.

    Args:
        expression: a name of `SCHEDULES`; or `drop:60,90`, for a rate that is divided by 10 after
            epoch 60, and again after epoch 90.
        rate: the first one.
        epochs: how many there are.
        steps: in an epoch.

    Returns:
        What an optimizer of Keras's takes.

    Raises:
        RunError: the expression is neither, or its epochs do not grow, or the last of them is not
            before the end.
    """
    if expression in SCHEDULES:
        return SCHEDULES[expression](rate, epochs * steps)
    drops = drops_of(expression, epochs)
    boundaries = [drop * steps - 1 for drop in drops]  # the last steps before each fall
    values = [rate / 10**count for count in range(len(drops) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def drops_of(expression: str, epochs: int) -> list[int]:
    """Returns the epochs after which a schedule `drop:60,90` divides the rate by 10.

    Args:
        expression: the schedule.
        epochs: how many there are.

    Raises:
        RunError: as for `learning_rates`.
    """
    name, _, text = expression.partition(":")
    numbers = text.split(",")
    # No longer than the longest training: Python refuses to read numbers of thousands of digits.
    readable = all(number.isdecimal() and len(number) < 10 for number in numbers)
    drops = [int(number) for number in numbers] if readable else []
    if name != "drop" or not drops or [0, *drops, epochs] != sorted({0, *drops, epochs}):
        raise RunError(f"--schedule {expression}: expected {schedules(epochs)}")
    return drops


def schedules(epochs: int) -> str:
    """Describes the schedules of a training of so many epochs."""
    return (
        f"{', '.join(SCHEDULES)}, or drop:EPOCH,EPOCH for a rate that is divided by 10 after these "
        f"epochs, in their order and before the last, {epochs}."
    )
