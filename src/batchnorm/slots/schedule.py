"""Numbers that may change while a model trains."""

from collections.abc import Callable
from numbers import Real
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from batchnorm.slots.representation import call
from batchnorm.stages.tensors import dtype_of

Tensor = Any
Scheduled = Any  # a number or a LearningRateSchedule; Keras has no types


def value_at(value: Scheduled, step: Tensor, lowest: float, highest: float) -> Tensor:
    """Returns a number as it is, or a schedule's value at a step, clipped to two limits."""
    if not isinstance(value, LearningRateSchedule):
        return value
    return ops.clip(ops.cast(value(step), step.dtype), lowest, highest)


def check_number(
    name: str, value: Any, allowed: Callable[[float], bool], interval: str, reason: str
) -> None:
    """Raises unless the value is a schedule or a number in range.

    Args:
        name: of the argument.
        value: the argument.
        allowed: whether a number is in range.
        interval: the range, in words.
        reason: a sentence about it.

    Raises:
        ValueError: with all of this.
    """
    if isinstance(value, LearningRateSchedule):
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not allowed(float(value)):
        raise ValueError(
            f"{name} should be {interval}, or a keras.optimizers.schedules.LearningRateSchedule; "
            f"received {value!r}. {reason}"
        )


@keras.saving.register_keras_serializable(package="batchnorm")
class Ramp(LearningRateSchedule):
    """A line between two values, level before and after it.

    value = first + (last - first) * clip((step - begin) / (end - begin), 0, 1)

    Args:
        first: the value until step `begin`.
        last: the value from step `end`.
        begin: the step at which it starts to change.
        end: the step at which it has arrived, above `begin`.

    Raises:
        ValueError: `end` is not above `begin`.

    Example:
        >>> [float(Ramp(1.0, 3.0, begin=10, end=20)(step)) for step in (0, 10, 15, 99)]
        [1.0, 1.0, 2.0, 3.0]
    """

    def __init__(self, first: float, last: float, begin: int, end: int) -> None:
        if not begin < end:
            raise ValueError(f"end must be above begin; received begin={begin}, end={end}.")
        self.first, self.last, self.begin, self.end = first, last, begin, end

    def __call__(self, step: Tensor) -> Tensor:
        """The value at a step, counted from 0; a float32 tensor, or float64 where the step is."""
        wide = dtype_of(step) == "float64" if hasattr(step, "dtype") else False
        step = ops.cast(step, "float64" if wide else "float32")
        passed = (step - self.begin) / (self.end - self.begin)
        return self.first + (self.last - self.first) * ops.clip(passed, 0.0, 1.0)

    def __repr__(self) -> str:
        """The constructor's call."""
        return call(type(self), self.get_config())

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"first": self.first, "last": self.last, "begin": self.begin, "end": self.end}
