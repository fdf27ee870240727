"""Kernels: who does the arithmetic of a plan. The reference kernel can do all of it."""

from importlib import import_module
from importlib.util import find_spec

import keras

from batchnorm.kernels import reference
from batchnorm.kernels.plan import Kernel, Plan, channel_axes, moments_dtype, plan

__all__ = ["Kernel", "Plan", "channel_axes", "choose", "moments_dtype", "plan"]


def _native() -> tuple[Kernel, ...]:
    """The kernel of Keras's backend: a shortcut, so that none is missed where there is no file."""
    name = f"{__name__}.{keras.backend.backend()}"
    return (import_module(name),) if find_spec(name) else ()


KERNELS: tuple[Kernel, ...] = (*_native(), reference)


def choose(plan: Plan) -> Kernel:
    """The first kernel that supports the plan."""
    return next(kernel for kernel in KERNELS if kernel.supports(plan))
