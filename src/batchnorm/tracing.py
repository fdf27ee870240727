"""Whether code runs now or is being compiled: what can be read, and who will add up sums."""

from collections.abc import Callable
from typing import Any, TypeVar

import keras
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


def compiling() -> bool:
    """Whether torch.compile or torch.export reads the code that runs."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return bool(torch.compiler.is_compiling())


def exporting() -> bool:
    """Whether torch.export makes a program of the code that runs, for sizes that may differ."""
    if not compiling():
        return False
    import torch

    return bool(torch.compiler.is_exporting())


def recording() -> bool:
    """Whether torch.export or torch.jit.trace makes a program of the code that runs."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return exporting() or torch._C._get_tracing_state() is not None


def fixed(size: Any) -> bool:
    """Whether a size is a number that all calls of what is compiled have in common.

    torch.compile compiles anew where the answer to a question about a size changes; a program that
    is exported would refuse other sizes.
    """
    if not exporting():
        return isinstance(size, int)
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return bool(has_static_value(size))


def whole(size: Any) -> bool:
    """Whether a size is a number, or a symbol of PyTorch's that does as one, and no tensor."""
    return isinstance(size, int) or (compiling() and not hasattr(size, "dtype"))


def concrete(tensor: Any) -> bool:
    """Whether the values of a tensor or an array can be read, as in compiled code they cannot."""
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
    """Whether a tensor of PyTorch's holds numbers, and nobody records what is done with it."""
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
    """Whether the backend keeps integers of 64 bits."""
    if keras.backend.backend() != "jax":
        return True
    import jax

    config: Any = jax.config  # its flags have no types
    return bool(config.jax_enable_x64)
