"""Tensors and dtypes, which Keras takes longer to see to than small inputs take to compute."""

from collections.abc import Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

import keras
from keras import ops

Tensor = Any

# By the backend's dtype: Keras works it out anew each time.
_name = lru_cache(64)(keras.backend.standardize_dtype)


def dtype_of(value: Tensor) -> str:
    """The name of a tensor's dtype, or of an array's or a variable's."""
    name: str = _name(value.dtype)
    return name


def cast(value: Tensor, dtype: str) -> Tensor:
    """The tensor in a dtype; it is returned as it is where that is its own."""
    return value if dtype_of(value) == dtype else ops.cast(value, dtype)


def tensor(value: Tensor, dtype: str | None = None) -> Tensor:
    """The value as a tensor of the backend's; a variable of Keras's is read.

    Args:
        value: a tensor, an array or a variable, which keeps its dtype; a Python number, or a list
            of such, which has none.
        dtype: of Python numbers; `None` for Keras's own, which would round them to float32.
    """
    if dtype is not None and _plain(value):
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
    """The tensor in a shape; Keras's way takes the shape apart for symbols first."""
    if hasattr(value, "reshape"):  # TensorFlow's tensors have no such method
        return value.reshape(tuple(shape))
    return ops.reshape(value, shape)


def largest(values: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """The largest value over axes, or over all; -inf of none."""
    if keras.backend.backend() != "torch":
        return ops.max(values, axes, initial=-float("inf"))
    if 0 in values.shape:
        return -float("inf")
    # torch.compile stops at Keras 3.15's `max`.
    return values.amax() if axes is None else values.amax(axes)
