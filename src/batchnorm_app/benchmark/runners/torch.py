"""The runner of PyTorch: eager code."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import torch

from batchnorm_app.benchmark.inputs import EPSILON, MOMENTUM, Array, Inputs
from batchnorm_app.benchmark.runners import CallArguments

Tensor = torch.Tensor

NATIVE = "torch.nn"
_LAYERS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}


class Contestant(NamedTuple):
    """A function that assigns to its own state."""

    call: Callable[[Tensor, bool, CallArguments], Tensor]
    parameters: list[Tensor]


def from_layer(layer: keras.layers.Layer) -> Contestant:
    """See `Runner`."""
    parameters = [variable.value for variable in layer.trainable_variables]
    return Contestant(
        lambda x, training, arguments: layer(x, training=training, **arguments), parameters
    )


def native(inputs: Inputs) -> Contestant:
    """Returns `torch.nn.BatchNorm2d`, or its 1d or 3d form, on a view with the channels second."""
    layer_class = _LAYERS.get(len(inputs.shape), torch.nn.BatchNorm3d)
    layer = layer_class(inputs.shape[-1], eps=EPSILON, momentum=1 - MOMENTUM)
    layer.to(keras.ops.convert_to_tensor(0.0).device)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(inputs.gamma[0]))
        layer.bias.copy_(torch.from_numpy(inputs.beta[0]))

    def call(x: Tensor, training: bool, arguments: CallArguments) -> Tensor:
        if layer.training != training:
            layer.train(training)
        y: Tensor = layer(x.movedim(-1, 1))
        return y.movedim(1, -1)

    return Contestant(call, [layer.weight, layer.bias])


def tensor(array: Array) -> Tensor:
    """See `Runner`."""
    value: Tensor = keras.ops.convert_to_tensor(array)
    return value.requires_grad_() if value.is_floating_point() and value.ndim > 1 else value


def work(
    contestant: Contestant,
    pass_name: str,
    mode: str,
    x: Tensor,
    dy: Tensor,
    arguments: CallArguments,
) -> Callable[[], Any]:
    """See `Runner`."""
    call, sources = contestant.call, [x, *contestant.parameters]

    def forward() -> Any:
        return (call(x, True, arguments),)

    def backward() -> Any:
        y = call(x, True, arguments)
        return y.detach(), *torch.autograd.grad(y, sources, dy)

    def inference() -> Any:
        with torch.no_grad():
            return (call(x, False, arguments),)

    function = {"forward": forward, "forward+backward": backward, "inference": inference}[pass_name]
    return _synchronized(function) if x.is_cuda else function


def _synchronized(function: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        result = function()
        torch.cuda.synchronize()
        return result

    return run


def saved_bytes(contestant: Contestant, x: Tensor, arguments: CallArguments) -> int:
    """Sums the storages of all tensors that autograd saves, each once."""
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = contestant.call(x, True, arguments)
    del y
    for parameter in contestant.parameters:
        saved.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(saved.values())


def copier(array: Array) -> Callable[[], object]:
    """Returns PyTorch's own copy, which uses all of its threads."""
    source = torch.from_numpy(array)
    target = torch.empty_like(source).fill_(0)
    return lambda: target.copy_(source)
