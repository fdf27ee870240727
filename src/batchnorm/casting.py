"""A cast that costs nothing where there is nothing to do."""

from typing import Any

import keras
from keras import ops

Tensor = Any


def cast(value: Tensor, dtype: str) -> Tensor:
    """The tensor in a dtype; it is returned as it is where that is its own.

    Keras's cast converts, wraps and asks the backend first, which on small inputs takes longer than
    the arithmetic does.
    """
    return (
        value if keras.backend.standardize_dtype(value.dtype) == dtype else ops.cast(value, dtype)
    )
