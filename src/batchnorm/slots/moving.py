"""Moving rules: one update, and the rates that make it an average over time."""

from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from batchnorm.slots.schedule import Scheduled, check_number, value_at
from batchnorm.slots.slot import Slot
from batchnorm.stages.moments import Moments
from batchnorm.stages.state import State, update

Tensor = Any


@runtime_checkable
class Moving(Protocol):
    """A moving rule, the value of the slot `moving=`: it owns its variables and its step."""

    @property
    def unbiased(self) -> bool:
        """True if the moving variance follows the population's, by Bessel's factor."""

    @property
    def state(self) -> tuple[str, ...]:
        """The names of its variables beside the moving mean and variance.

        "step" is an integer scalar that counts batches; all others are vectors like the moving mean
        that start at 0.
        """

    def advance(self, state: State, batch: Moments, step: Tensor) -> dict[str, Tensor]:
        """Returns the state after a batch, without the step.

        Args:
            state: before it.
            batch: its moments; the variance is the population's if `unbiased`.
            step: the number of batches before it, a float scalar; `None` if nothing counts them.
        """

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns the object that `get_config` described."""


class Average(Slot):
    """The base of rules that move towards each batch: `moving += rate * (batch - moving)`.

    A subclass has a `rate`, and `counts` tells whether this depends on the step.
    """

    counts: bool = False
    unbiased: bool

    @property
    def state(self) -> tuple[str, ...]:
        """The names of its variables beside the moving mean and variance."""
        return ("step",) if self.counts else ()

    def rate(self, step: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the share of the batch in a step, 0 to 1; or the mean's and the variance's."""
        raise NotImplementedError

    def rates(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rates of the moving mean and of the moving variance."""
        rate = self.rate(step)
        return rate if isinstance(rate, tuple) else (rate, rate)

    def advance(self, state: State, batch: Moments, step: Tensor) -> dict[str, Tensor]:
        """Returns the moving mean and variance after a batch; see `Moving.advance`."""
        rates = self.rates(step)
        return {
            "moving_mean": update(state["moving_mean"], batch.mean, rates[0]),
            "moving_variance": update(state["moving_variance"], batch.variance, rates[1]),
        }


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class Exponential(Average):
    """An exponential average, Keras's: the last `1 / (1 - momentum)` batches, roughly.

    moving += (1 - momentum) * (batch - moving)

    Args:
        momentum: the share of the moving statistics that a step keeps, in [0, 1); or a
            `keras.optimizers.schedules.LearningRateSchedule` over the steps, counted from 0, whose
            values are held in [0, 1].
        unbiased: whether the moving variance follows the batch's times n / (n - 1), Bessel's
            factor, as in PyTorch and TensorFlow's fused kernel. The batch is normalized by the
            biased one. n is the sum of the weights (of a ghost batch).

    Raises:
        ValueError: `momentum` is outside [0, 1).

    Example:
        >>> round(Exponential(0.9).rate(None), 6)
        0.1
    """

    momentum: Scheduled = 0.99
    unbiased: bool = False

    def __post_init__(self) -> None:
        """Raises if the momentum is outside [0, 1)."""
        check_momentum("momentum", self.momentum)

    @property
    def counts(self) -> bool:  # type: ignore[override]
        """True if `momentum` is a schedule."""
        return isinstance(self.momentum, LearningRateSchedule)

    def rate(self, step: Tensor) -> Tensor:
        """Returns the share of the batch in a step."""
        return 1 - value_at(self.momentum, step, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class ZeroDebiased(Average):
    """A zero-debiased exponential average: right from the first step.

    moving += (1 - momentum) / (1 - momentum**t) * (batch - moving),  t = 1, 2, ...

    The first batch replaces the initial values, the early ones are averaged evenly, and after about
    `1 / (1 - momentum)` batches it is `Exponential`.

    Args:
        momentum: as for `Exponential`. With a schedule it is that of the step.
        unbiased: as for `Exponential`.
        variance: whether the moving variance is debiased, too; `False` for the moving mean alone,
            which is TensorFlow 1's `zero_debias_moving_mean=True`.

    Raises:
        ValueError: `momentum` is outside [0, 1).

    Example:
        >>> [round(float(ZeroDebiased(0.5).rate(float(step))), 3) for step in range(3)]
        [1.0, 0.667, 0.571]

    References:
        Kingma and Ba 2015, "Adam", arXiv:1412.6980, section 3, for the correction by 1 - m**t.
    """

    momentum: Scheduled = 0.99
    unbiased: bool = False
    variance: bool = True

    counts = True

    def __post_init__(self) -> None:
        """Raises if the momentum is outside [0, 1)."""
        check_momentum("momentum", self.momentum)

    def rate(self, step: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the share of the batch in a step; that of the mean and that of the variance."""
        step = ops.convert_to_tensor(step)
        # Not above what float32 can tell from 1: a rate of 0 / 0 at step 0 would follow.
        rate = 1 - value_at(self.momentum, step, 0.0, 1 - 2.0**-24)
        # Exact where the momentum is near 1.
        log_momentum = ops.log1p(-ops.convert_to_tensor(rate, step.dtype))
        # A first rate that is rounded to above 1 would make a variance negative.
        debiased = ops.where(step > 0, -rate / ops.expm1((step + 1) * log_momentum), 1.0)
        return debiased if self.variance else (debiased, rate)


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class Cumulative(Average):
    """The average of all batches, each counting the same.

    moving += 1 / t * (batch - moving),  t = 1, 2, ...

    For statistics of a model that no longer changes: calibration, or the end of a training.

    Args:
        unbiased: as for `Exponential`; with it, this is PyTorch's `momentum=None`.

    Example:
        >>> [round(Cumulative().rate(step), 3) for step in range(3)]
        [1.0, 0.5, 0.333]
    """

    unbiased: bool = False

    counts = True

    def rate(self, step: Tensor) -> Tensor:
        """Returns the share of the batch in a step."""
        return 1 / (step + 1)


def check_momentum(name: str, momentum: Scheduled) -> None:
    """Raises if a momentum is outside [0, 1)."""
    check_number(
        name,
        momentum,
        lambda value: 0 <= value < 1,
        "in [0, 1)",
        "It is what a step keeps of the moving statistics: 0.99 averages about 100 batches, 0.9 "
        "about 10.",
    )
