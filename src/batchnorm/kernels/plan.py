"""What a kernel is told of a normalization, and what it must do."""

from dataclasses import dataclass
from typing import Any, Protocol

import keras
from keras import ops

from batchnorm.affine import Affine
from batchnorm.statistics import Moments, Total

Tensor = Any


@dataclass(frozen=True)
class Plan:
    """The static facts of one normalization.

    Attributes:
        rank: how many axes the input has, 1 or more.
        axis: the channel axis, counted from 0.
        dtype: of the input.
    """

    rank: int
    axis: int
    dtype: str

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that are measured over: all but the channels'."""
        return tuple(axis for axis in range(self.rank) if axis != self.axis)

    @property
    def moments_dtype(self) -> str:
        """Of the moments and of all arithmetic: float64 for float64 input, else float32."""
        return moments_dtype(self.dtype)

    def spread(self, value: Tensor) -> Tensor:
        """Makes `(C,)` or `(N, C)` broadcast against the input; numbers do already."""
        rank = len(getattr(value, "shape", ()))
        return ops.expand_dims(value, self.axes[rank - 1 :]) if rank else value


def moments_dtype(dtype: Any) -> str:
    """What values of a dtype are computed in: float64 for float64, float32 for all others."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"


def plan(rank: int, axis: int, dtype: str) -> Plan:
    """The plan of an input, checked.

    Args:
        rank: how many axes the input has.
        axis: the channel axis; negative ones count from the end.
        dtype: of the input.

    Returns:
        `Plan`, with the axis counted from 0.

    Raises:
        ValueError: `axis` is out of range, or `dtype` is complex.
    """
    if not -rank <= axis < rank:
        raise ValueError(
            f"axis={axis} names no axis of an input of rank {rank}: use {-rank} to {rank - 1}, "
            "-1 for channels last, 1 for channels first."
        )
    if dtype.startswith("complex"):
        raise ValueError(
            f"Batch normalization of {dtype} input is not defined here: normalize the real and "
            "imaginary parts as two channels, ops.stack([ops.real(x), ops.imag(x)], axis=-1)."
        )
    return Plan(rank, axis % rank, dtype)


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
        weights: Tensor | None,
        total: Total | None,
    ) -> tuple[Tensor, Moments]:
        """Normalizes by the batch's own moments, and hands them back.

        Differentiable in `x` and the affine step, through the moments; twice, too.

        Args:
            plan: of `x`.
            x: the input, `(N, ..., C)` or with the channels at `plan.axis`.
            affine: what is done after normalizing; `(C,)`, `(N, C)` or numbers.
            epsilon: added to the variance under the root.
            prior: mean and variance `(C,)` that stand in where there is no weight.
            weights: of the rank of `x`, broadcast against it; `None` for all ones.
            total: adds a tensor up across replicas; `None` for one replica.

        Returns:
            y in `plan.moments_dtype`, shaped like `x`, and the moments `(C,)`.
        """

    def infer(
        self, plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
    ) -> Tensor:
        """Normalizes by given statistics `(C,)`; returns y in `plan.moments_dtype`."""
