"""Tensors: conversions, casts and look-ups of dtypes.

Keras's own casts take longer than the arithmetic on small inputs.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

import keras
from keras import ops

Tensor = Any

# The name of a backend's dtype: Keras computes it anew each time.
dtype_name: Callable[[Any], str] = lru_cache(64)(keras.backend.standardize_dtype)


def dtype_of(value: Tensor) -> str:
    """Returns the name of the dtype of a tensor, an array or a variable."""
    return dtype_name(value.dtype)


def cast(value: Tensor, dtype: str) -> Tensor:
    """Returns the tensor in a dtype: itself where that is its own."""
    return value if dtype_name(value.dtype) == dtype else ops.cast(value, dtype)


def tensor(value: Tensor, dtype: str | None = None) -> Tensor:
    """Returns a value as a tensor of the backend; a variable of Keras is read.

    Args:
        value: a tensor, an array or a variable, which keeps its dtype; a Python number, or a list
            of such, which has none.
        dtype: of Python numbers; `None` for Keras's own, which would round them to float32.
    """
    if dtype is not None and isinstance(value, Real | list | tuple) and _plain(value):
        return ops.convert_to_tensor(value, dtype)
    if isinstance(value, keras.Variable):
        value = value.value
        if not hasattr(value, "assign"):  # TensorFlow's variables are still to be read
            return value
    return ops.convert_to_tensor(value)


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return isinstance(value, Real)


def reshaped(value: Tensor, shape: Sequence[Any]) -> Tensor:
    """Reshapes a tensor; Keras's function takes the shape apart for symbols first."""
    if hasattr(value, "reshape"):  # TensorFlow's tensors have no such method
        return value.reshape(tuple(shape))
    return ops.reshape(value, shape)


def largest(values: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """Returns the largest value over axes, or over all; -inf for an empty tensor."""
    if keras.backend.backend() != "torch":
        return ops.max(values, axes, initial=-float("inf"))
    if 0 in values.shape:
        return -float("inf")
    # torch.compile stops at Keras 3.15's `max`.
    return values.amax() if axes is None else values.amax(axes)
