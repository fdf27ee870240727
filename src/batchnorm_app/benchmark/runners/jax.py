"""The runner of JAX: compiled functions."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import jax
import keras

from batchnorm_app.benchmark.inputs import EPSILON, MOMENTUM, Array, Inputs
from batchnorm_app.benchmark.memory_limit import fastest_copier
from batchnorm_app.benchmark.runners import CallArguments

Tensor = Any

NATIVE = "flax.nnx"

copier = fastest_copier


class Contestant(NamedTuple):
    """A pure function from parameters, state and input to y and the new state."""

    call: Callable[[Any, Any, Tensor, bool, CallArguments], tuple[Tensor, Any]]
    parameters: Any
    state: Any


def from_layer(layer: keras.layers.Layer) -> Contestant:
    """See `Runner`."""

    def call(
        parameters: Any, state: Any, x: Tensor, training: bool, arguments: CallArguments
    ) -> Any:
        return layer.stateless_call(parameters, state, x, training=training, **arguments)

    variables = layer.trainable_variables, layer.non_trainable_variables
    return Contestant(call, *([variable.value for variable in group] for group in variables))


def native(inputs: Inputs) -> Contestant:
    """Returns `flax.nnx.BatchNorm`, with its default way to the variance."""
    nnx: Any = import_module("flax.nnx")
    layer = nnx.BatchNorm(inputs.shape[-1], momentum=MOMENTUM, epsilon=EPSILON, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = inputs.gamma[0], inputs.beta[0]
    graph, parameters, state = nnx.split(layer, nnx.Param, nnx.BatchStat)

    def call(
        parameters: Any, state: Any, x: Tensor, training: bool, arguments: CallArguments
    ) -> Any:
        layer = nnx.merge(graph, parameters, state, copy=True)
        y = layer(x, use_running_average=not training)
        return y, nnx.state(layer, nnx.BatchStat)

    return Contestant(call, parameters, state)


def tensor(array: Array) -> Tensor:
    """See `Runner`."""
    return jax.numpy.asarray(array)


def work(
    contestant: Contestant,
    pass_name: str,
    mode: str,
    x: Tensor,
    dy: Tensor,
    arguments: CallArguments,
) -> Callable[[], Any]:
    """See `Runner`."""
    call, parameters, state = contestant

    def forward(
        parameters: Any, state: Any, x: Tensor, dy: Tensor, arguments: CallArguments
    ) -> Any:
        return call(parameters, state, x, True, arguments)

    def backward(
        parameters: Any, state: Any, x: Tensor, dy: Tensor, arguments: CallArguments
    ) -> Any:
        y, pull_back, new_state = jax.vjp(
            lambda parameters, x: call(parameters, state, x, True, arguments),
            parameters,
            x,
            has_aux=True,
        )
        dparameters, dx = pull_back(dy)
        return y, dx, dparameters, new_state

    def inference(
        parameters: Any, state: Any, x: Tensor, dy: Tensor, arguments: CallArguments
    ) -> Any:
        return (call(parameters, state, x, False, arguments)[0],)

    function = {"forward": forward, "forward+backward": backward, "inference": inference}[pass_name]
    compiled = jax.jit(function)
    wait: Callable[[Any], Any] = jax.block_until_ready
    return lambda: wait(compiled(parameters, state, x, dy, arguments))


def saved_bytes(contestant: Contestant, x: Tensor, arguments: CallArguments) -> int:
    """Sums the arrays that the pullback holds, each once, without those below half of x."""
    call, parameters, state = contestant
    _, pull_back, _ = jax.vjp(
        lambda parameters, x: call(parameters, state, x, True, arguments),
        parameters,
        x,
        has_aux=True,
    )
    leaves = [
        leaf for leaf in jax.tree.leaves(pull_back) if getattr(leaf, "nbytes", 0) * 2 >= x.nbytes
    ]
    return sum({leaf.unsafe_buffer_pointer(): leaf.nbytes for leaf in leaves}.values())
