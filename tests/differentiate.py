"""Runs and differentiates functions as users do, on the backend in use."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

Tensor = Any
Array = npt.NDArray[Any]
Function = Callable[..., Tensor]

BACKEND: str = keras.backend.backend()
# torch.compile takes seconds a shape: only the tests of compilation itself use it.
MODES = {"tensorflow": ("eager", "graph", "xla"), "jax": ("eager", "jit"), "torch": ("eager",)}[
    BACKEND
]


def to_numpy(value: Tensor) -> Array:
    array: Array = ops.convert_to_numpy(value)
    return array


def compiled(function: Function, mode: str) -> Function:
    """Returns the function, run in one of `MODES`."""
    if mode in ("graph", "xla"):
        import tensorflow as tf

        wrapped: Function = tf.function(function, jit_compile=mode == "xla")
    elif mode == "jit":
        import jax

        wrapped = jax.jit(function)
    elif mode == "compile":
        import torch

        torch.compiler.reset()
        # Inductor needs a C++ compiler and half a minute; the graph that it gets is the same.
        wrapped = torch.compile(function, backend="aot_eager", fullgraph=True)
    else:
        wrapped = function
    return wrapped


def gradients(loss: Function, *arguments: Tensor) -> list[Tensor]:
    """The gradients of a scalar function in each of its arguments; may be nested."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = loss(*arguments)
        result = tape.gradient(value, arguments, unconnected_gradients="zero")
    elif BACKEND == "jax":
        import jax

        result = jax.grad(loss, argnums=tuple(range(len(arguments))))(*arguments)
    else:
        import torch

        leaves = [a if a.requires_grad else a.detach().requires_grad_() for a in arguments]
        result = torch.autograd.grad(
            loss(*leaves), leaves, create_graph=True, allow_unused=True, materialize_grads=True
        )
    return list(result)


def tensors(arrays: Sequence[npt.ArrayLike], dtype: str | None = None) -> list[Tensor]:
    return [ops.convert_to_tensor(np.asarray(array), dtype) for array in arrays]


def precision(dtype: str) -> Any:
    """A context that enables float64 on JAX, where it is off by default."""
    if BACKEND == "jax" and dtype == "float64":
        import jax

        return jax.enable_x64(True)
    return contextlib.nullcontext()
