"""JAX runs what it has compiled."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import jax
import keras

from batchnorm.benchmark.inputs import EPSILON, MOMENTUM, Array, Inputs
from batchnorm.benchmark.limit import threaded
from batchnorm.benchmark.runners import Given

Tensor = Any

OWN = "flax.nnx"

copier = threaded


class Contestant(NamedTuple):
    """A pure function of parameters, state and input, to y and the new state."""

    call: Callable[[Any, Any, Tensor, bool, Given], tuple[Tensor, Any]]
    parameters: Any
    state: Any


def of_layer(layer: keras.layers.Layer) -> Contestant:
    """See `Runner`."""

    def call(parameters: Any, state: Any, x: Tensor, training: bool, given: Given) -> Any:
        return layer.stateless_call(parameters, state, x, training=training, **given)

    variables = layer.trainable_variables, layer.non_trainable_variables
    return Contestant(call, *([variable.value for variable in each] for each in variables))


def own(inputs: Inputs) -> Contestant:
    """`flax.nnx.BatchNorm`, with its usual way to the variance."""
    nnx: Any = import_module("flax.nnx")
    layer = nnx.BatchNorm(inputs.shape[-1], momentum=MOMENTUM, epsilon=EPSILON, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = inputs.gamma[0], inputs.beta[0]
    graph, parameters, state = nnx.split(layer, nnx.Param, nnx.BatchStat)

    def call(parameters: Any, state: Any, x: Tensor, training: bool, given: Given) -> Any:
        made = nnx.merge(graph, parameters, state, copy=True)
        y = made(x, use_running_average=not training)
        return y, nnx.state(made, nnx.BatchStat)

    return Contestant(call, parameters, state)


def tensor(array: Array) -> Tensor:
    """See `Runner`."""
    return jax.numpy.asarray(array)


def work(
    contestant: Contestant, which: str, mode: str, x: Tensor, dy: Tensor, given: Given
) -> Callable[[], Any]:
    """See `Runner`."""
    call, parameters, state = contestant

    def forward(parameters: Any, state: Any, x: Tensor, dy: Tensor, given: Given) -> Any:
        return call(parameters, state, x, True, given)

    def backward(parameters: Any, state: Any, x: Tensor, dy: Tensor, given: Given) -> Any:
        y, pull, new = jax.vjp(
            lambda parameters, x: call(parameters, state, x, True, given),
            parameters,
            x,
            has_aux=True,
        )
        of_parameters, dx = pull(dy)
        return y, dx, of_parameters, new

    def inference(parameters: Any, state: Any, x: Tensor, dy: Tensor, given: Given) -> Any:
        return (call(parameters, state, x, False, given)[0],)

    chosen = {"forward": forward, "forward+backward": backward, "inference": inference}[which]
    compiled = jax.jit(chosen)
    wait: Callable[[Any], Any] = jax.block_until_ready
    return lambda: wait(compiled(parameters, state, x, dy, given))


def kept(contestant: Contestant, x: Tensor, given: Given) -> int:
    """What the function that pulls gradients back holds, each once, without what is small."""
    call, parameters, state = contestant
    _, pull, _ = jax.vjp(
        lambda parameters, x: call(parameters, state, x, True, given),
        parameters,
        x,
        has_aux=True,
    )
    leaves = [leaf for leaf in jax.tree.leaves(pull) if getattr(leaf, "nbytes", 0) * 2 >= x.nbytes]
    return sum({leaf.unsafe_buffer_pointer(): leaf.nbytes for leaf in leaves}.values())
