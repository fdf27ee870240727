"""Ghost batches: a batch cut into groups, and joined again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from batchnorm.stages.plan import Plan, moments_dtype
from batchnorm.stages.tensors import dtype_name, reshaped

Tensor = Any


@dataclass(frozen=True)
class Groups:
    """A batch in groups.

    Attributes:
        samples: their number, N.
        count: the number of groups, G.
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
        """The axis of the groups after `split`."""
        return 1 if self.strided else 0

    @property
    def short(self) -> bool:
        """False if every group is known to be full."""
        return self.spare or not (isinstance(self.samples, int) and self.samples % self.size == 0)

    def split(self, values: Tensor) -> Tensor:
        """Reshapes `(N, ...)` to `(G, size, ...)`, strided `(size, G, ...)`, padded with zeros."""
        if self.spare:
            return self._gathered(values)
        rest = ops.shape(values)[1:]
        if self.short:
            missing = self.count * self.size - self.samples
            values = ops.concatenate([values, ops.zeros((missing, *rest), values.dtype)], 0)
        leading: Sequence[Tensor] = (self.count, self.size)
        return reshaped(values, (*(leading[::-1] if self.strided else leading), *rest))

    def join(self, values: Tensor) -> Tensor:
        """Reverses `split`, back to `(N, ...)`."""
        if self.spare:
            sample = ops.arange(self.samples, dtype="int64")
            row = self.count if self.strided else self.size
            return values[sample // row, sample % row]
        values = reshaped(values, (self.count * self.size, *ops.shape(values)[2:]))
        return values[: self.samples] if self.short else values

    def _gathered(self, values: Tensor) -> Tensor:
        """Splits without a shape that would hold for some numbers of samples alone."""
        group = ops.arange(self.count + 1, dtype="int64")
        place = ops.arange(self.size, dtype="int64")
        if self.strided:
            sample = place[:, None] * self.count + group
            sample = sample + ops.cast(group >= self.count, "int64") * self.samples
        else:
            sample = group[:, None] * self.size + place
        zeros = ops.zeros((1, *ops.shape(values)[1:]), values.dtype)
        return ops.concatenate([values, zeros], 0)[sample.clamp(max=self.samples)]


def split_weights(groups: Groups, x: Tensor, weights: Tensor | None) -> Tensor | None:
    """Splits weights of the rank of `x`; a short group gets weights of 0 for what it lacks."""
    if weights is None:
        if not groups.short:
            return None
        weights = ops.ones((1,) * len(x.shape), moments_dtype(dtype_name(x.dtype)))
    if weights.shape[0] == 1:
        weights = ops.broadcast_to(weights, (groups.samples, *ops.shape(weights)[1:]))
    return groups.split(weights)


def split_affine(groups: Groups, plan: Plan, value: Tensor) -> Tensor:
    """Splits a scale or a shift, if it differs between samples.

    Args:
        groups: of the batch.
        plan: of the batch as a whole.
        value: number, `(C,)`, `(N, C)` or a map.
    """
    if plan.is_map(value) and value.shape[0] == 1:  # the same for all samples
        return ops.expand_dims(value, 0)
    per_sample = len(getattr(value, "shape", ())) > len(plan.axis)
    return groups.split(value) if per_sample else value
