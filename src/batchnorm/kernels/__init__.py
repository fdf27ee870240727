"""Kernels: who does the arithmetic of a plan. The reference kernel can do all of it."""

from batchnorm.kernels import reference
from batchnorm.kernels.plan import Kernel, Plan, moments_dtype, plan

__all__ = ["Kernel", "Plan", "choose", "moments_dtype", "plan"]

KERNELS: tuple[Kernel, ...] = (reference,)


def choose(plan: Plan) -> Kernel:
    """The first kernel that supports the plan."""
    return next(kernel for kernel in KERNELS if kernel.supports(plan))
