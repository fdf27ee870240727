"""Batch renormalization: a clipped correction from the batch's moments to running ones."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from batchnorm.affine import Affine
from batchnorm.moving import update
from batchnorm.statistics import Centred, Moments

Tensor = Any


class Renorm:
    """The correction (r, d), which no gradient flows through.

    y = (x - mean) / stddev * r + d
    r = clip(stddev / renorm_stddev, rmin, rmax)
    d = clip((mean - renorm_mean) / renorm_stddev, -dmax, dmax)

    with stddev = sqrt(variance + epsilon), and the running values as they were before the step;
    renorm_stddev is taken as at least sqrt(epsilon).

    Args:
        rmin: the least r, at least 0; `None` for no limit.
        rmax: the largest r, at least `rmin`; `None` for no limit.
        dmax: the largest |d|, at least 0; `None` for no limit.
        momentum: of `renorm_mean` and `renorm_stddev`, in [0, 1).

    Raises:
        ValueError: a limit is out of range.

    References:
        Ioffe 2017, "Batch Renormalization", arXiv:1702.03275, Algorithm 1.
    """

    STATE = ("moving_stddev", "renorm_mean", "renorm_stddev")

    def __init__(
        self,
        rmin: float | None = None,
        rmax: float | None = None,
        dmax: float | None = None,
        momentum: float = 0.99,
    ) -> None:
        self.rmin = 0.0 if rmin is None else float(rmin)
        self.rmax = float("inf") if rmax is None else float(rmax)
        self.dmax = float("inf") if dmax is None else float(dmax)
        self.momentum = float(momentum)
        if not 0 <= self.rmin <= self.rmax:
            raise ValueError(
                f"rmax should be at least rmin, and both at least 0; received rmin={rmin}, "
                f"rmax={rmax}. The paper uses rmin=1/rmax with rmax=3."
            )
        if not self.dmax >= 0:
            raise ValueError(
                f"dmax should be non-negative, received dmax={dmax}. The paper uses dmax=5."
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"renorm_momentum must be in [0, 1), received {momentum}.")

    @classmethod
    def from_clipping(cls, clipping: dict[str, float] | None, momentum: float) -> "Renorm":
        """Keras's spelling: a dictionary with any of the keys rmin, rmax and dmax.

        Raises:
            ValueError: another key.
        """
        clipping = clipping or {}
        if unknown := sorted(set(clipping) - {"rmin", "rmax", "dmax"}):
            raise ValueError(
                f"Received invalid keys for renorm_clipping: {unknown}. Allowed: rmin, rmax, dmax."
            )
        return cls(**clipping, momentum=momentum)

    def correction(self, batch: Centred, state: Mapping[str, Tensor], epsilon: float) -> Affine:
        """The affine step (r, d); the identity where there was no weight to measure."""
        moments = batch.moments
        stddev = ops.sqrt(moments.variance + epsilon)
        # At least what a variance of zero gives: a running deviation of zero would divide by it.
        renorm_stddev = ops.clip(state["renorm_stddev"], epsilon**0.5, float("inf"))
        r = ops.clip(stddev / renorm_stddev, self.rmin, self.rmax)
        # The rounded mean would bring back the error that centring has taken out.
        distance = (batch.provisional - state["renorm_mean"]) + batch.residual
        d = ops.clip(distance / renorm_stddev, -self.dmax, self.dmax)
        measured = moments.count > 0
        r, d = ops.where(measured, r, 1.0), ops.where(measured, d, 0.0)
        return Affine(ops.stop_gradient(r), ops.stop_gradient(d))

    def step(
        self, state: Mapping[str, Tensor], moments: Moments, rate: Tensor, epsilon: float
    ) -> dict[str, Tensor]:
        """The state after a batch: averages of the deviation, from which the variance follows."""
        stddev = ops.sqrt(moments.variance + epsilon)
        own = 1 - self.momentum
        moving_stddev = update(state["moving_stddev"], stddev, rate)
        return {
            "moving_mean": update(state["moving_mean"], moments.mean, rate),
            "moving_variance": ops.relu(moving_stddev * moving_stddev - epsilon),
            "moving_stddev": moving_stddev,
            "renorm_mean": update(state["renorm_mean"], moments.mean, own),
            "renorm_stddev": update(state["renorm_stddev"], stddev, own),
        }
