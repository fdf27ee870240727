"""Ghost batches: a batch in groups, each normalized by its own moments."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import keras

from batchnorm.slots.slot import Slot
from batchnorm.stages.groups import Groups
from batchnorm.stages.placement import compiling, exporting, fixed

Tensor = Any


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class Ghost(Slot):
    """Virtual batches: in training each group of samples is normalized by its own moments.

    The moving statistics follow the mean of the groups' means and the mean of the groups'
    variances, each group counting by its weight. A batch that the size does not divide has a
    shorter last group.

    Args:
        size: samples in a group, at least 1; a batch with no more is one group.
        strided: whether group j of G holds the samples j, j + G, j + 2 G, ..., as TensorFlow's
            `virtual_batch_size` has them, instead of neighbours.

    Raises:
        ValueError: `size` is not a positive integer.

    References:
        Hoffer, Hubara, Soudry 2017, "Train longer, generalize better", arXiv:1705.08741,
        Algorithm 1.
    """

    size: int
    strided: bool = False

    def __post_init__(self) -> None:
        """Raises unless the size is a positive integer."""
        if isinstance(self.size, bool) or not isinstance(self.size, Integral) or self.size < 1:
            raise ValueError(
                f"size must be a positive integer, the samples in a group. Received {self.size!r}."
            )

    def cut(self, samples: Tensor) -> Groups | None:
        """Returns the groups of a batch of so many samples; `None` where it is one group."""
        if isinstance(samples, int) and not compiling() and samples <= self.size:
            return None
        count = (samples + self.size - 1) // self.size
        spare = exporting() and not fixed(samples)
        return Groups(samples, count, self.size, self.strided, spare)
