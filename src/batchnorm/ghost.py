"""Ghost batches: a batch in groups, each normalized by its own moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import keras
from keras import ops

from batchnorm.casting import reshaped
from batchnorm.slots import Slot
from batchnorm.tracing import compiling, exporting, fixed

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
        ValueError: `size` is no whole number from 1.

    References:
        Hoffer, Hubara, Soudry 2017, "Train longer, generalize better", arXiv:1705.08741,
        Algorithm 1.
    """

    size: int
    strided: bool = False

    def __post_init__(self) -> None:
        """Refuses a size that is none."""
        if isinstance(self.size, bool) or not isinstance(self.size, Integral) or self.size < 1:
            raise ValueError(
                f"size must be a whole number of samples, at least 1. Received {self.size!r}."
            )

    def cut(self, samples: Tensor) -> "Groups | None":
        """How a batch of so many samples is cut; `None` where it is one group."""
        if isinstance(samples, int) and not compiling() and samples <= self.size:
            return None
        count = (samples + self.size - 1) // self.size
        spare = exporting() and not fixed(samples)
        return Groups(samples, count, self.size, self.strided, spare)


@dataclass(frozen=True)
class Groups:
    """One batch in groups.

    Attributes:
        samples: how many there are, N.
        count: how many groups, G.
        size: samples in a full group.
        strided: whether groups are interleaved.
        spare: whether an empty group comes last, so that there are two at least: torch.export makes
            a program for one group that refuses more, or one that refuses one.
    """

    samples: Tensor
    count: Tensor
    size: int
    strided: bool
    spare: bool = False

    @property
    def axis(self) -> int:
        """Where `split` puts the axis of the groups."""
        return 1 if self.strided else 0

    @property
    def short(self) -> bool:
        """Whether a group is short, as far as is known."""
        return self.spare or not (isinstance(self.samples, int) and self.samples % self.size == 0)

    def split(self, values: Tensor) -> Tensor:
        """From `(N, ...)` to `(G, size, ...)`, strided `(size, G, ...)`, zeros behind the last."""
        if self.spare:
            return self._gathered(values)
        rest = ops.shape(values)[1:]
        if self.short:
            missing = self.count * self.size - self.samples
            values = ops.concatenate([values, ops.zeros((missing, *rest), values.dtype)], 0)
        leading: Sequence[Tensor] = (self.count, self.size)
        return reshaped(values, (*(leading[::-1] if self.strided else leading), *rest))

    def join(self, values: Tensor) -> Tensor:
        """Back from what `split` made to `(N, ...)`."""
        if self.spare:
            sample = ops.arange(self.samples, dtype="int64")
            row = self.count if self.strided else self.size
            return values[sample // row, sample % row]
        values = reshaped(values, (self.count * self.size, *ops.shape(values)[2:]))
        return values[: self.samples] if self.short else values

    def _gathered(self, values: Tensor) -> Tensor:
        """What `split` returns, without a shape that holds for some numbers of samples alone."""
        group = ops.arange(self.count + 1, dtype="int64")
        place = ops.arange(self.size, dtype="int64")
        if self.strided:
            sample = place[:, None] * self.count + group
            sample = sample + ops.cast(group >= self.count, "int64") * self.samples
        else:
            sample = group[:, None] * self.size + place
        zeros = ops.zeros((1, *ops.shape(values)[1:]), values.dtype)
        return ops.concatenate([values, zeros], 0)[sample.clamp(max=self.samples)]
