"""What a kernel is told of a normalization, and what it must do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Integral
from typing import Any, Protocol

from keras import ops

from batchnorm.affine import Affine
from batchnorm.statistics import Measured, Moments, Total

Tensor = Any
Correction = Callable[[Measured], Affine]


@dataclass(frozen=True)
class Plan:
    """The static facts of one normalization.

    Attributes:
        shape: of the input, one axis or more; `None` for a size that is not known.
        axis: the axes that keep statistics of their own, the channels', counted from 0, in order.
        dtype: of the input.
        grouped: whether the first of these axes is that of ghost batches.
        weighted: whether some elements count more than others.
        synchronized: whether the moments are those of all replicas.
    """

    shape: tuple[int | None, ...]
    axis: tuple[int, ...]
    dtype: str
    grouped: bool = False
    weighted: bool = False
    synchronized: bool = False

    @property
    def rank(self) -> int:
        """How many axes the input has."""
        return len(self.shape)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that are measured over: all but the channels'."""
        return tuple(axis for axis in range(self.rank) if axis not in self.axis)

    @property
    def moments_dtype(self) -> str:
        """Of the moments and of all arithmetic: float64 for float64 input, else float32."""
        return moments_dtype(self.dtype)

    def spread(self, value: Tensor) -> Tensor:
        """Makes a value broadcast against the input.

        Args:
            value: a number; `(C,)`, a value per channel, here for each of `axis` a size; the same
                with samples in front, `(N, C)`; a map; or, where the batch is grouped, without
                groups.
        """
        given, kept = 0 if isinstance(value, int | float) else len(value.shape), len(self.axis)
        if given == 0 or self.is_map(value):
            return value
        if given > kept:  # per sample
            return ops.expand_dims(value, self.axes[1:])
        shared = self.axis[:1] if self.grouped and given < kept else ()
        return ops.expand_dims(value, tuple(sorted(self.axes + shared)))

    def is_map(self, value: Tensor) -> bool:
        """Tells whether a value has the input's rank, and may differ along measured axes.

        Args:
            value: as for `spread`.
        """
        rank = 0 if isinstance(value, int | float) else len(value.shape)
        samples = 0 if 0 in self.axis and not self.grouped else 1
        return rank > len(self.axis) + samples

    def parameter_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Of gamma, beta and the state: `(C,)`; for several axes, 1 on all the others."""
        if len(self.axis) == 1:
            return (shape[self.axis[0]],)
        return tuple(size if axis in self.axis else 1 for axis, size in enumerate(shape))

    def groups(self, shape: Sequence[int | None], axis: int) -> "Plan":
        """The plan of the input after `Groups.split`, with the groups along an axis, 0 or 1."""
        kept = (axis, *(each + 1 for each in self.axis))
        return replace(self, shape=known(shape), axis=kept, grouped=True)


def moments_dtype(dtype: str) -> str:
    """What values of a dtype are computed in: float64 for float64, float32 for all others."""
    return "float64" if dtype == "float64" else "float32"


def known(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """A shape with `None` for what is a symbol of a compiler's."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def plan(shape: Sequence[Any], axis: int | Sequence[int], dtype: str) -> Plan:
    """The plan of an input, checked.

    Args:
        shape: of the input; what is no number is not known.
        axis: the channel axis, or several; negative ones count from the end.
        dtype: of the input.

    Returns:
        `Plan`, with the axes counted from 0.

    Raises:
        ValueError: an axis is no integer, out of range or there twice, or `dtype` is complex.
    """
    return _plan(known(shape), axis if type(axis) is int else channel_axes(axis), dtype)


def channel_axes(axis: Any) -> int | tuple[int, ...]:
    """Checks the type of a channel axis, or of several.

    Args:
        axis: an integer, or a sequence of integers; those of NumPy, too.

    Returns:
        An `int`, or a tuple of them.

    Raises:
        ValueError: it is something else.
    """
    several = axis.tolist() if hasattr(axis, "tolist") else axis
    several = several if isinstance(several, Sequence) and not isinstance(axis, str) else [several]
    integers = [isinstance(each, Integral) and not isinstance(each, bool) for each in several]
    if not integers or not all(integers):
        raise ValueError(
            f"axis must be an integer, or several like (1, 3); received {axis!r}. It is the "
            "channel axis: -1 for channels last (NHWC), 1 for channels first (NCHW)."
        )
    axes = tuple(int(each) for each in several)
    return axes if isinstance(axis, Sequence) or len(axes) != 1 else axes[0]


@lru_cache(1024)
def _plan(shape: tuple[int | None, ...], axis: int | tuple[int, ...], dtype: str) -> Plan:
    several, rank = (axis,) if isinstance(axis, int) else axis, len(shape)
    for each in several:
        if not -rank <= each < rank:
            raise ValueError(
                f"axis={axis} names no axis of an input of rank {rank}: use {-rank} to {rank - 1}, "
                "-1 for channels last, 1 for channels first."
            )
    kept = tuple(sorted({each % rank for each in several}))
    if len(kept) < len(several) or not kept:
        raise ValueError(f"axis={axis} must name at least one axis, and none of them twice.")
    if dtype.startswith("complex"):
        raise ValueError(
            f"Batch normalization of {dtype} input is not defined here: normalize the real and "
            "imaginary parts as two channels, ops.stack([ops.real(x), ops.imag(x)], axis=-1)."
        )
    return Plan(shape, kept, dtype)


class Kernel(Protocol):
    """One way to do the arithmetic; a module of this package is one."""

    def supports(self, plan: Plan) -> bool:
        """Whether this kernel serves the plan, from static facts alone."""

    def train(
        self,
        plan: Plan,
        x: Tensor,
        affine: Affine,
        epsilon: float,
        prior: tuple[Tensor, Tensor],
        weights: Tensor | None = None,
        total: Total | None = None,
        correction: Correction | None = None,
    ) -> tuple[Tensor, Moments]:
        """Normalizes by the batch's own moments, and hands them back.

        Differentiable in `x` and the affine step, through the moments; twice, too. What is handed
        back beside y need not be.

        Args:
            plan: of `x`.
            x: the input, `(N, ..., C)` or with the channels at `plan.axis`.
            affine: what is done after normalizing; per channel, per sample, maps or numbers, see
                `Plan.spread`.
            epsilon: added to the variance under the root.
            prior: mean and variance `(C,)` that stand in where there is no weight.
            weights: of the rank of `x`, broadcast against it; `None` for all ones, and then
                `plan.weighted` is false.
            total: adds a tensor up across replicas; `None` for one replica, and then
                `plan.synchronized` is false.
            correction: what is done between normalizing and `affine`, as it follows from the
                measured batch: renorm's step; `None` for nothing.

        Returns:
            y in `plan.moments_dtype`, shaped like `x`, and the moments, `(C,)`, or `(G, C)` where
            the batch is grouped.
        """

    def infer(
        self, plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
    ) -> Tensor:
        """Normalizes by given statistics `(C,)`; returns y in `plan.moments_dtype`."""
