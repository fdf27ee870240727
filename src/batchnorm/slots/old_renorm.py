"""`OldRenorm`: batch renormalization as TensorFlow had it until 1.13."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from batchnorm.slots.moving import ZeroDebiased
from batchnorm.slots.renorm import Renorm
from batchnorm.slots.schedule import value_at
from batchnorm.stages.affine import Affine
from batchnorm.stages.moments import Moments
from batchnorm.stages.state import State, update

Tensor = Any


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class OldRenorm(Renorm):
    """Batch renormalization as TensorFlow had it until 1.13.

    The running values are zero-debiased: before step t = 0, 1, ... the initial values would weigh
    momentum**t, and that weight goes to the batch. The moving statistics follow the running values
    instead of the batch. The first step is plain batch normalization.

    Args:
        rmin: as for `Renorm`.
        rmax: as for `Renorm`.
        dmax: as for `Renorm`.
        momentum: as for `Renorm`.
    """

    counts = True

    @property
    def state(self) -> tuple[str, ...]:
        """The names of its variables beside the moving mean and variance."""
        return ("renorm_mean", "renorm_stddev")

    def correction(
        self, batch: Moments, renorm_stddev: Tensor, step: Tensor, epsilon: float
    ) -> Affine:
        """Returns the affine step (r, d) for a batch, its mean measured from renorm_mean."""
        share = value_at(self.momentum, step, 0.0, 1.0) ** step
        stddev = ops.sqrt(batch.variance + epsilon)
        batch = batch._replace(mean=(1 - share) * batch.mean)
        return super().correction(batch, update(renorm_stddev, stddev, share), step, epsilon)

    def advance(
        self,
        state: State,
        batch: Moments,
        variance: Tensor,
        rates: tuple[Tensor, Tensor],
        step: Tensor,
        epsilon: float,
    ) -> dict[str, Tensor]:
        """Returns the state after a batch; see `Renorm.advance`."""
        rate = ZeroDebiased(self.momentum).rate(step)
        mean = update(state["renorm_mean"], batch.mean, rate)
        stddev = update(state["renorm_stddev"], ops.sqrt(variance + epsilon), rate)
        return {
            "moving_mean": update(state["moving_mean"], mean, rates[0]),
            "moving_variance": update(
                state["moving_variance"], stddev * stddev - epsilon, rates[1]
            ),
            "renorm_mean": mean,
            "renorm_stddev": stddev,
        }
