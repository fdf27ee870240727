"""Batch renormalization: a clipped correction from the batch's moments to running ones."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from batchnorm.slots.moving import check_momentum
from batchnorm.slots.schedule import Ramp, Scheduled, check_number, value_at
from batchnorm.slots.slot import Slot
from batchnorm.stages.affine import Affine
from batchnorm.stages.moments import Moments
from batchnorm.stages.state import State, update

Tensor = Any

_INFINITY = float("inf")


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class Renorm(Slot):
    """Batch renormalization: in training, a step (r, d) towards running moments.

    y = (x - mean) / stddev * r + d
    r = clip(stddev / renorm_stddev, rmin, rmax)
    d = clip((mean - renorm_mean) / renorm_stddev, -dmax, dmax)

    with stddev = sqrt(variance + epsilon), and the running values as they were before the step;
    renorm_stddev is taken as at least sqrt(epsilon). No gradient flows through r and d. With ghost
    batches, mean and variance are the averages over the groups, which share r and d.

    Each argument is a number or a `keras.optimizers.schedules.LearningRateSchedule` over the steps,
    counted from 0, whose values are held in the range of a number.

    Args:
        rmin: the least r, in [0, 1]; `None` for `1 / rmax`, as in the paper.
        rmax: the largest r, at least 1; `None` for no limit.
        dmax: the largest |d|, at least 0; `None` for no limit.
        momentum: of `renorm_mean` and `renorm_stddev`, in [0, 1).

    Raises:
        ValueError: a limit is out of range.

    Example:
        >>> Renorm(rmax=3.0, dmax=5.0)
        Renorm(rmin=None, rmax=3.0, dmax=5.0, momentum=0.99)

    References:
        Ioffe 2017, "Batch Renormalization", arXiv:1702.03275, Algorithm 1.
    """

    rmin: Scheduled | None = None
    rmax: Scheduled | None = None
    dmax: Scheduled | None = None
    momentum: Scheduled = 0.99

    @property
    def state(self) -> tuple[str, ...]:
        """The names of its variables beside the moving mean and variance."""
        return ("moving_stddev", "renorm_mean", "renorm_stddev")

    def __post_init__(self) -> None:
        """Raises if a limit is out of range."""
        paper = "In the paper rmax goes from 1 to 3, dmax from 0 to 5, and rmin is 1 / rmax."
        for name, lowest, highest, words in (
            ("rmin", 0, 1, "in [0, 1]"),
            ("rmax", 1, _INFINITY, "at least 1"),
            ("dmax", 0, _INFINITY, "non-negative"),
        ):
            if (limit := getattr(self, name)) is not None:
                check_number(
                    name, limit, functools.partial(_between, lowest, highest), words, paper
                )
        check_momentum("renorm_momentum", self.momentum)

    @classmethod
    def paper(cls) -> Self:
        """Returns the paper's schedule, for trainings of more than 40,000 steps.

        Plain batch normalization for 5,000 steps; then rmax goes from 1 to 3 until step 40,000, and
        dmax from 0 to 5 until step 25,000.

        Returns:
            `Renorm`, with momentum 0.99.

        References:
            Ioffe 2017, section 4.
        """
        return cls(rmax=Ramp(1.0, 3.0, 5_000, 40_000), dmax=Ramp(0.0, 5.0, 5_000, 25_000))

    @classmethod
    def from_clipping(cls, clipping: Mapping[str, float] | None, momentum: float) -> Self:
        """Returns the object of Keras's arguments, where a limit left out means no limit.

        Args:
            clipping: any of the keys rmin, rmax and dmax.
            momentum: as above.

        Raises:
            ValueError: another key, or a limit out of range.
        """
        clipping = {"rmin": 0.0, **(clipping or {})}
        if unknown := sorted(set(clipping) - {"rmin", "rmax", "dmax"}):
            raise ValueError(
                f"Received invalid keys for renorm_clipping: {unknown}. Allowed: rmin, rmax, dmax."
            )
        return cls(**clipping, momentum=momentum)

    def start(self, mean: Tensor, stddev: Tensor) -> dict[str, Tensor]:
        """Returns the values of its variables that go with a moving mean and deviation."""
        values = {"moving_stddev": stddev, "renorm_mean": mean, "renorm_stddev": stddev}
        return {name: values[name] for name in self.state}

    @property
    def counts(self) -> bool:
        """True if anything is a schedule, so that steps have to be counted."""
        values = (self.rmin, self.rmax, self.dmax, self.momentum)
        return any(isinstance(value, LearningRateSchedule) for value in values)

    def correction(
        self, batch: Moments, renorm_stddev: Tensor, step: Tensor, epsilon: float
    ) -> Affine:
        """Returns the affine step (r, d) for a batch, its mean measured from renorm_mean."""
        stddev = ops.sqrt(batch.variance + epsilon)
        # At least what a variance of zero gives: a running deviation of zero would divide by it.
        renorm_stddev = _clip(renorm_stddev, epsilon**0.5, _INFINITY)
        rmax = _INFINITY if self.rmax is None else value_at(self.rmax, step, 1.0, _INFINITY)
        rmin = 1 / rmax if self.rmin is None else value_at(self.rmin, step, 0.0, 1.0)
        dmax = _INFINITY if self.dmax is None else value_at(self.dmax, step, 0.0, _INFINITY)
        r = _clip(stddev / renorm_stddev, rmin, rmax)
        d = _clip(batch.mean / renorm_stddev, -dmax, dmax)
        return Affine(ops.stop_gradient(r), ops.stop_gradient(d))

    def variance(self, stddev: Tensor, epsilon: float) -> Tensor:
        """Returns the moving variance that goes with a moving_stddev."""
        return ops.relu(stddev * stddev - epsilon)

    def advance(
        self,
        state: State,
        batch: Moments,
        variance: Tensor,
        rates: tuple[Tensor, Tensor],
        step: Tensor,
        epsilon: float,
    ) -> dict[str, Tensor]:
        """Returns the state after a batch: averages of the deviation give the moving variance.

        Args:
            state: before it.
            batch: its moments.
            variance: the batch's that the moving variance follows, biased or not.
            rates: of the moving mean and of the moving variance.
            step: batches before this one, where something is a schedule.
            epsilon: added to the variance under the root.
        """
        rate = 1 - value_at(self.momentum, step, 0.0, 1.0)
        stddev = ops.sqrt(batch.variance + epsilon)
        moving_stddev = update(state["moving_stddev"], ops.sqrt(variance + epsilon), rates[1])
        return {
            "moving_mean": update(state["moving_mean"], batch.mean, rates[0]),
            "moving_variance": self.variance(moving_stddev, epsilon),
            "moving_stddev": moving_stddev,
            "renorm_mean": update(state["renorm_mean"], batch.mean, rate),
            "renorm_stddev": update(state["renorm_stddev"], stddev, rate),
        }


def _between(lowest: float, highest: float, value: float) -> bool:
    return lowest <= value <= highest


def _clip(value: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    # In the dtype of the value: on PyTorch Keras 3.15 makes float32 of a number, and of what is the
    # larger of two float64 tensors.
    limits = (ops.convert_to_tensor(limit, value.dtype) for limit in (lowest, highest))
    return ops.clip(value, *limits)
