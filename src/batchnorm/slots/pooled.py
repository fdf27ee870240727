"""`Pooled`: the moments of all batches as if they were one."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from batchnorm.slots.slot import Slot
from batchnorm.stages.moments import Moments, merge
from batchnorm.stages.state import State

Tensor = Any


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class Pooled(Slot):
    """The mean and variance of all batches as if they were one.

    count = sum(n_i);  mean = sum(n_i * mean_i) / count
    variance = sum(n_i * (variance_i + (mean_i - mean)**2)) / count

    For statistics of a model that no longer changes: the variance holds that between the batches'
    means, which `Cumulative` leaves out. `moving_count`, `(C,)`, sums the weights of the batches so
    far; at 0 the first batch replaces the moving statistics.

    Args:
        unbiased: as for `Exponential`.

    Example:
        >>> import numpy as np
        >>> zero = np.zeros(1, "float32")
        >>> state = {"moving_mean": zero, "moving_variance": zero, "moving_count": zero}
        >>> for value in (1.0, 3.0):
        ...     batch = Moments(2.0, np.array([value], "float32"), zero)
        ...     state = Pooled().advance(state, batch, None)
        >>> float(state["moving_mean"][0]), float(state["moving_variance"][0])
        (2.0, 1.0)

    References:
        Chan, Golub and LeVeque 1979, equation 2.1.
    """

    unbiased: bool = False

    state = ("moving_count",)

    def advance(self, state: State, batch: Moments, step: Tensor) -> dict[str, Tensor]:
        """Returns the state after a batch; see `Moving.advance`."""
        count = state["moving_count"]
        past = Moments(count, state["moving_mean"], state["moving_variance"])
        share = ops.zeros_like(count) + ops.cast(batch.count, count.dtype)
        return dict(
            zip(
                ("moving_count", "moving_mean", "moving_variance"),
                merge(past, batch._replace(count=share)),
                strict=True,
            )
        )
