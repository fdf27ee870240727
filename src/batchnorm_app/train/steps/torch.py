"""Steps on PyTorch: eager code."""

from collections.abc import Callable
from typing import Any

import keras
import torch

from batchnorm_app.train.steps import Tensor, Variables


class Steps:
    """See `batchnorm_app.train.steps.Steps`."""

    def __init__(self, variables: Variables) -> None:
        pass

    def minimize(self, loss: Callable[[], Tensor], optimizer: Any, variables: Variables) -> Tensor:
        """See `batchnorm_app.train.steps.Steps`."""
        value = loss()
        gradients = torch.autograd.grad(value, [variable.value for variable in variables])
        with torch.no_grad():
            optimizer.apply(list(gradients), variables)
        return value.detach()

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """See `batchnorm_app.train.steps.Steps`."""
        return lambda *arguments: step(*map(keras.ops.convert_to_tensor, arguments))
