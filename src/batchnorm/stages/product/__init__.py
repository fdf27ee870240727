"""Products of matrices in the precision that these have."""

from typing import Any

import keras

Tensor = Any


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices of one dtype, in this dtype.

    Not `ops.matmul`, which for float64 is float32 on PyTorch in Keras 3.15; and under
    `torch.autocast` any product is one of half precision.

    Args:
        a: `(N, K)`.
        b: `(K, M)`.

    Returns:
        `(N, M)`.
    """
    if keras.backend.backend() == "torch":
        import torch

        if torch.is_autocast_enabled(a.device.type):
            from batchnorm.stages.product import torch as without_autocast

            return without_autocast.product(a, b)
    return a @ b
