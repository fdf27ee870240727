"""`Kernel`: one implementation of the arithmetic, and `Call`: the values that it works on."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from batchnorm.stages.affine import Affine
from batchnorm.stages.moments import Moments, Replicas, SplitMoments
from batchnorm.stages.plan import Plan

Tensor = Any
Correction = Callable[[SplitMoments], Affine]


class Call(NamedTuple):
    """The values of one training call.

    Attributes:
        x: the input, `(N, ..., C)` or with the channels at `Plan.axis`.
        affine: the step after normalization and correction; per channel, per sample, maps or
            numbers, see `Plan.spread`.
        epsilon: added to the variance under the root.
        prior: mean and variance `(C,)` that stand in where there is no weight.
        weights: of the rank of `x`, broadcast against it; `None` for all ones, and then
            `Plan.weighted` is false.
        replicas: sums tensors across replicas; `None` for one replica, and then
            `Plan.synchronized` is false.
        correction: computes the step between normalization and `affine` from the measured batch:
            renorm's; `None` for none.
    """

    x: Tensor
    affine: Affine
    epsilon: float
    prior: tuple[Tensor, Tensor]
    weights: Tensor | None = None
    replicas: Replicas | None = None
    correction: Correction | None = None


class Kernel(Protocol):
    """One implementation of the arithmetic; a module of this package is one."""

    def supports(self, plan: Plan) -> bool:
        """Returns True for the plans that this kernel serves; the only way to decline a call."""

    def train(self, plan: Plan, call: Call) -> tuple[Tensor, Moments]:
        """Normalizes by the batch's own moments, and returns them.

        Differentiable in `x` and the affine step, through the moments; twice, too. The moments
        need not be.

        Args:
            plan: of `call.x`.
            call: the values.

        Returns:
            y in `plan.moments_dtype`, shaped like `x`, and the moments, `(C,)`, or `(G, C)` where
            the batch is grouped.
        """

    def infer(
        self, plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
    ) -> Tensor:
        """Normalizes by statistics `(C,)`; returns y in `plan.moments_dtype`."""
