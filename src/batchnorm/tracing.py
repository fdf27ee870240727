"""Whether code runs now or is being compiled: what can be read, and who will add up sums."""

from typing import Any

import keras
import numpy as np


def compiling() -> bool:
    """Whether torch.compile or torch.export reads the code that runs."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return bool(torch.compiler.is_compiling())


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
        return bool(tensor.device.type != "meta")
    return hasattr(tensor, "numpy")  # symbolic tensors of TensorFlow have no such method
