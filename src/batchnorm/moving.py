"""Moving statistics: one update rule, and the rates that make it an average over time."""

from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, Self, runtime_checkable

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from batchnorm.schedule import Scheduled, at, checked
from batchnorm.slots import Slot
from batchnorm.statistics import Moments

Tensor = Any

_MANY = 2.0**60


@runtime_checkable
class Moving(Protocol):
    """What fills the slot `moving=`: a serialisable object that knows a rate."""

    @property
    def unbiased(self) -> bool:
        """Whether the moving variance is that of the population, by Bessel's factor."""

    @property
    def counts(self) -> bool:
        """Whether the rate depends on the step, so that steps have to be counted."""

    def rate(self, step: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """How far the moving statistics go towards the batch's, 0 to 1.

        Args:
            step: how many batches they have followed before, a float scalar; `None` if `counts`
                is false.

        Returns:
            A scalar; or two, the mean's and the variance's.
        """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that `get_config` described."""


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class Exponential(Slot):
    """An exponential average, Keras's: the last `1 / (1 - momentum)` batches, roughly.

    moving += (1 - momentum) * (batch - moving)

    Args:
        momentum: what a step keeps of the moving statistics, in [0, 1); or a
            `keras.optimizers.schedules.LearningRateSchedule` over the steps, counted from 0, whose
            values are held in [0, 1].
        unbiased: whether the batch's variance is taken times n / (n - 1), Bessel's factor, on its
            way to the moving variance, as PyTorch and TensorFlow's fused kernel do. What is
            normalized by stays biased. n is the sum of the weights (of a ghost batch).

    Raises:
        ValueError: `momentum` is outside [0, 1).

    Example:
        >>> round(Exponential(0.9).rate(None), 6)
        0.1
    """

    momentum: Scheduled = 0.99
    unbiased: bool = False

    def __post_init__(self) -> None:
        """Refuses a momentum that is none."""
        check_momentum("momentum", self.momentum)

    @property
    def counts(self) -> bool:
        """Whether `momentum` is a schedule."""
        return isinstance(self.momentum, LearningRateSchedule)

    def rate(self, step: Tensor) -> Tensor:
        """How far a step goes towards the batch."""
        return 1 - at(self.momentum, step, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class ZeroDebiased(Slot):
    """An exponential average that knows how young it is: right from the first step.

    moving += (1 - momentum) / (1 - momentum**t) * (batch - moving),  t = 1, 2, ...

    The first batch replaces the initial values, the early ones are averaged evenly, and after about
    `1 / (1 - momentum)` batches it is `Exponential`.

    Args:
        momentum: as for `Exponential`. With a schedule it is that of the step.
        unbiased: as for `Exponential`.
        variance: whether the moving variance is averaged like this, too; `False` for the moving
            mean alone, which is TensorFlow 1's `zero_debias_moving_mean=True`.

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
        """Refuses a momentum that is none."""
        check_momentum("momentum", self.momentum)

    def rate(self, step: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """How far a step goes towards the batch; the mean and the variance, if they differ."""
        step = ops.convert_to_tensor(step)
        # Not above what float32 can tell from 1: a rate of 0 / 0 at step 0 would follow.
        rate = 1 - at(self.momentum, step, 0.0, 1 - 2.0**-24)
        # log(momentum), exact where it is near 1.
        kept = ops.log1p(-ops.convert_to_tensor(rate, step.dtype))
        # A first rate that is rounded to above 1 would make a variance negative.
        debiased = ops.where(step > 0, -rate / ops.expm1((step + 1) * kept), 1.0)
        return debiased if self.variance else (debiased, rate)


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class Cumulative(Slot):
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
        """How far a step goes towards the batch."""
        return 1 / (step + 1)


def check_momentum(name: str, momentum: Scheduled) -> None:
    """Refuses a momentum outside [0, 1)."""
    checked(
        name,
        momentum,
        lambda value: 0 <= value < 1,
        "in [0, 1)",
        "It is what a step keeps of the moving statistics: 0.99 averages about 100 batches, 0.9 "
        "about 10.",
    )


def update(moving: Tensor, batch: Tensor, rate: Tensor) -> Tensor:
    """One step of a moving statistic: `moving + rate * (batch - moving)`.

    From a rate of 1/2 on it is `batch - (1 - rate) * (batch - moving)`: the old value is there in
    the share that it keeps, and so is its rounding. Either form leaves a value that equals the
    batch's as it is, and goes past neither of the two, which `(1 - rate) * moving + rate * batch`
    does not promise. At rate 1 it is the batch, whatever the old value was, NaN too.
    """
    change = batch - moving
    if isinstance(rate, Real):
        if rate == 1:
            return batch
        return moving + rate * change if rate < 0.5 else batch - (1 - rate) * change
    late = ops.where(ops.equal(rate, 1), batch, batch - (1 - rate) * change)
    return ops.where(rate < 0.5, moving + rate * change, late)


def bessel(moments: Moments, unit: Tensor = 1.0) -> Moments:
    """The moments with the population's variance, estimated: times n / (n - 1) where n > 1.

    Args:
        moments: their count is n in units of `unit`.
        unit: as `weights.scaled` returns it.
    """
    count = ops.cast(moments.count, moments.variance.dtype) * unit
    # From there on n - 1 is n, and an infinite n would make NaN.
    count = ops.where(count < _MANY, count, _MANY)
    # relu(n - 2) + 1 is n - 1, but at least 1: a weight sum just above 1 must not blow up.
    factor = ops.where(count > 1, count / (ops.relu(count - 2) + 1), 1.0)
    return moments._replace(variance=moments.variance * factor)


def usable(moments: Moments) -> Tensor:
    """Whether a batch may reach the moving statistics: it has weight, and its moments are finite.

    A moment that is not finite bars all channels: a step that overflows in one is a bad step.
    """
    finite = ops.all(ops.isfinite(moments.mean + moments.variance))
    return finite & (moments.count > 0)
