"""Kernels: implementations of the arithmetic of a plan, by backend and device."""

from importlib import import_module
from importlib.util import find_spec

import keras

from batchnorm.kernels import reference
from batchnorm.kernels.kernel import Kernel
from batchnorm.stages.plan import Plan

__all__ = ["Kernel", "choose"]


def _native() -> tuple[Kernel, ...]:
    """Returns the kernels of Keras's backend, fastest first; none where it has no folder."""
    name = f"{__name__}.{keras.backend.backend()}"
    kernels: tuple[Kernel, ...] = import_module(name).KERNELS if find_spec(name) else ()
    return kernels


KERNELS: tuple[Kernel, ...] = (*_native(), reference)


def choose(plan: Plan) -> Kernel:
    """Returns the first kernel that supports the plan."""
    for kernel in KERNELS:
        if kernel.supports(plan):
            return kernel
    raise AssertionError("the reference supports every plan")
