"""PyTorch runs eagerly."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import torch

from batchnorm.benchmark.inputs import EPSILON, MOMENTUM, Array, Inputs
from batchnorm.benchmark.runners import Given

Tensor = torch.Tensor

OWN = "torch.nn"
_LAYERS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}


class Contestant(NamedTuple):
    """Code that assigns to its own state."""

    call: Callable[[Tensor, bool, Given], Tensor]
    parameters: list[Tensor]


def of_layer(layer: keras.layers.Layer) -> Contestant:
    """See `Runner`."""
    parameters = [variable.value for variable in layer.trainable_variables]
    return Contestant(lambda x, training, given: layer(x, training=training, **given), parameters)


def own(inputs: Inputs) -> Contestant:
    """`torch.nn.BatchNorm2d`, and its like, on the view that has the channels second."""
    kind = _LAYERS.get(len(inputs.shape), torch.nn.BatchNorm3d)
    layer = kind(inputs.shape[-1], eps=EPSILON, momentum=1 - MOMENTUM)
    layer.to(keras.ops.convert_to_tensor(0.0).device)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(inputs.gamma[0]))
        layer.bias.copy_(torch.from_numpy(inputs.beta[0]))

    def call(x: Tensor, training: bool, given: Given) -> Tensor:
        if layer.training != training:
            layer.train(training)
        y: Tensor = layer(x.movedim(-1, 1))
        return y.movedim(1, -1)

    return Contestant(call, [layer.weight, layer.bias])


def tensor(array: Array) -> Tensor:
    """See `Runner`."""
    made: Tensor = keras.ops.convert_to_tensor(array)
    return made.requires_grad_() if made.is_floating_point() and made.ndim > 1 else made


def work(
    contestant: Contestant, which: str, mode: str, x: Tensor, dy: Tensor, given: Given
) -> Callable[[], Any]:
    """See `Runner`."""
    call, wanted = contestant.call, [x, *contestant.parameters]

    def forward() -> Any:
        return (call(x, True, given),)

    def backward() -> Any:
        y = call(x, True, given)
        return y.detach(), *torch.autograd.grad(y, wanted, dy)

    def inference() -> Any:
        with torch.no_grad():
            return (call(x, False, given),)

    done = {"forward": forward, "forward+backward": backward, "inference": inference}[which]
    return _waiting(done) if x.is_cuda else done


def _waiting(function: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        result = function()
        torch.cuda.synchronize()
        return result

    return run


def kept(contestant: Contestant, x: Tensor, given: Given) -> int:
    """The storages of all tensors that autograd saves, each once."""
    saved: dict[int, int] = {}

    def pack(each: Tensor) -> Tensor:
        storage = each.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return each

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
        y = contestant.call(x, True, given)
    del y
    for parameter in contestant.parameters:
        saved.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(saved.values())


def copier(array: Array) -> Callable[[], object]:
    """PyTorch's own copy, which uses all of its threads."""
    source = torch.from_numpy(array)
    target = torch.empty_like(source).fill_(0)
    return lambda: target.copy_(source)
