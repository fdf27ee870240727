"""Copies of the state that a later assignment leaves alone.

PyTorch assigns in place. What a graph keeps for its backward pass would then be changed by the
next call, which eager code refuses ("modified by an inplace operation") and compiled code does not
notice. TensorFlow and JAX read a variable once, and have no such trouble.
"""

from collections.abc import Mapping
from typing import Any

import keras

from batchnorm.stages.placement import compiling, recording

Tensor = Any


def snapshot(
    state: Mapping[str, Tensor], training: bool, mode: str = "compiled"
) -> dict[str, Tensor]:
    """Returns the tensors of a state in memory of their own, where gradients may be taken.

    Args:
        state: tensors by name; those of one dtype have one shape, of one axis or more, but for
            scalars.
        training: whether they are about to be replaced; a program that is exported or traced for
            inference reads them where they are, without an operation more.
        mode: of the call, see `Plan`.
    """
    if keras.backend.backend() != "torch":
        return dict(state)
    import torch

    if not torch.is_grad_enabled():
        return dict(state)
    if mode != "eager":
        if recording() and not training:
            return dict(state)
        if compiling():
            return _kept_copies(state)
    copies = {}
    for name, value in state.items():
        copies[name] = value.clone()
    return copies


def _kept_copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies tensors in code that torch.compile reads."""
    scalars = {name: value for name, value in state.items() if value.dim() == 0}
    copies = {name: _joined([value.reshape(1)])[0].reshape(()) for name, value in scalars.items()}
    vectors = {name: value for name, value in state.items() if name not in scalars}
    for dtype in dict.fromkeys(value.dtype for value in vectors.values()):
        names = [name for name, value in vectors.items() if value.dtype == dtype]
        copies |= zip(names, _joined([vectors[name] for name in names]), strict=True)
    return {name: copies[name] for name in state}


def _joined(values: list[Tensor]) -> list[Tensor]:
    """The values as parts of one new tensor.

    Not clones: torch.compile computes those anew in the backward pass, from what has been assigned
    since (PyTorch 2.13, https://github.com/pytorch/pytorch/pull/197039). It keeps a `cat`, unless
    all its parts are the same tensor; therefore the zeros.
    """
    import torch

    zeros = torch.zeros_like(values[0])
    return list(torch.cat([*values, zeros]).chunk(len(values) + 1)[:-1])
