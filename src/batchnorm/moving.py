"""Moving statistics: one update rule, and the rates that make it an average over time."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self, runtime_checkable

import keras
from keras import ops

from batchnorm.statistics import Moments

Tensor = Any


@runtime_checkable
class Moving(Protocol):
    """What fills the slot `moving=`: a serialisable object that knows a rate."""

    def rate(self) -> Tensor:
        """How far the moving statistics go towards the batch's, 0 to 1."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that `get_config` described."""


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True)
class Exponential:
    """An exponential average, Keras's: the last `1 / (1 - momentum)` batches, roughly.

    moving += (1 - momentum) * (batch - moving)

    Args:
        momentum: what a step keeps of the moving statistics, in [0, 1).

    Raises:
        ValueError: `momentum` is outside [0, 1).

    Example:
        >>> round(Exponential(0.9).rate(), 6)
        0.1
    """

    momentum: float = 0.99

    def __post_init__(self) -> None:
        """Refuses a momentum that is none."""
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"momentum must be in [0, 1), received {self.momentum}. It is what a step keeps of "
                "the moving statistics: 0.99 averages about 100 batches, 0.9 about 10."
            )

    def rate(self) -> float:
        """How far a step goes towards the batch."""
        return 1 - self.momentum

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that `get_config` described."""
        return cls(**config)


def update(moving: Tensor, batch: Tensor, rate: Tensor) -> Tensor:
    """One step of a moving statistic: `moving + rate * (batch - moving)`."""
    return moving + rate * (batch - moving)


def usable(moments: Moments) -> Tensor:
    """Whether a batch may reach the moving statistics: it has weight, and its moments are finite.

    A moment that is not finite bars all channels: a step that overflows in one is a bad step.
    """
    finite = ops.all(ops.isfinite(moments.mean) & ops.isfinite(moments.variance))
    return ops.logical_and(finite, moments.count > 0)
