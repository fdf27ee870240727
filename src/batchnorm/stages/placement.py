"""Placement of a call: the device of its tensors, who reads its code, which values exist."""

from collections.abc import Callable
from functools import cache
from numbers import Real
from typing import Any, TypeVar

import keras
import numpy as np

Tensor = Any
Function = TypeVar("Function", bound=Callable[..., Any])


def device_of(x: Tensor) -> str:
    """Returns the kind of device that holds a tensor, such as "cpu" or "cuda".

    On TensorFlow and JAX placement is decided later: it is "cpu" where there are only CPUs.
    """
    if keras.backend.backend() == "torch":
        kind: str = x.device.type
        return kind
    return _devices()


@cache
def _devices() -> str:
    if keras.backend.backend() == "jax":
        import jax

        return str(jax.default_backend())
    import tensorflow as tf

    kinds = {device.device_type for device in tf.config.list_physical_devices()}
    return "cpu" if kinds <= {"CPU"} else "gpu"


def mode_of(*values: Any) -> str:
    """Returns "eager", "graph" or "compiled"; see `Plan`.

    Args:
        *values: the tensors of a call; numbers and `None` do not matter.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        return _torch_mode(values)
    if backend == "jax":
        return "compiled"
    import tensorflow as tf

    if tf.executing_eagerly():
        return "eager"
    # TensorFlow 2.21 has no public way to ask whether XLA compiles a graph.
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return "compiled" if control_flow_util.GraphOrParentsInXlaContext(graph) else "graph"


def _torch_mode(values: tuple[Any, ...]) -> str:
    """Returns "eager" for plain tensors in memory that nobody records or transforms."""
    import torch
    from torch.autograd.forward_ad import unpack_dual

    # PyTorch 2.13 tells neither of the last two by a public function.
    if (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
    ):
        return "compiled"
    for value in values:
        if value is None or isinstance(value, Real):
            continue
        if isinstance(value, keras.Variable):
            value = value.value
        # A subclass of tensors defines its operations itself.
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            return "compiled"
        if unpack_dual(value).tangent is not None:  # type: ignore[no-untyped-call]
            return "compiled"
    return "eager"


def compiling() -> bool:
    """Returns True where torch.compile or torch.export reads the code."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return bool(torch.compiler.is_compiling())


def exporting() -> bool:
    """Returns True where torch.export makes a program of the code, for sizes that may differ."""
    if not compiling():
        return False
    import torch

    return bool(torch.compiler.is_exporting())


def recording() -> bool:
    """Returns True where torch.export or torch.jit.trace makes a program of the code."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return exporting() or torch._C._get_tracing_state() is not None


def fixed(size: Any) -> bool:
    """Returns True for a size that is one number in all calls of a compiled program.

    torch.compile compiles anew where the answer to a question about a size changes; a program that
    is exported would refuse other sizes.
    """
    if not exporting():
        return isinstance(size, int)
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return bool(has_static_value(size))


def is_size(size: Any) -> bool:
    """Returns True for an integer, or a symbol of PyTorch that acts as one; False for a tensor."""
    return isinstance(size, int) or (compiling() and not hasattr(size, "dtype"))


def concrete(tensor: Any) -> bool:
    """Returns True where the values of a tensor or an array can be read: not in compiled code."""
    if compiling():
        return False
    if isinstance(tensor, np.ndarray):
        return True
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return isinstance(tensor, jax.Array) and not isinstance(tensor, jax.core.Tracer)
    if backend == "torch":
        return _in_memory(tensor)
    return hasattr(tensor, "numpy")  # symbolic tensors of TensorFlow have no such method


def unconverted(function: Function) -> Function:
    """Keeps AutoGraph from rewriting a public function that a `tf.function` calls, and all below.

    The library has no control flow that depends on tensors, and TensorFlow 2.21's AutoGraph warns
    of what it cannot rewrite, such as assignment expressions.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    wrapped: Function = tf.autograph.experimental.do_not_convert(function)
    return wrapped


def on_host(tensor: Any) -> bool:
    """Tells whether a tensor's values can be read without waiting for an accelerator."""
    if isinstance(tensor, np.ndarray):
        return True
    return concrete(tensor) and "cpu" in str(getattr(tensor, "device", "")).lower()


def _in_memory(tensor: Any) -> bool:
    """Returns True for a PyTorch tensor with numbers in memory that nothing records."""
    import torch

    # A transformation of torch.func wraps what its function makes of any tensor, so that even one
    # from outside cannot be read within it; a dispatch mode may have made it without memory.
    return not (
        tensor.device.type == "meta"
        or recording()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
    )


def wide_integers() -> bool:
    """Returns True if the backend keeps integers of 64 bits."""
    if keras.backend.backend() != "jax":
        return True
    import jax

    config: Any = jax.config  # its flags have no types
    return bool(config.jax_enable_x64)
