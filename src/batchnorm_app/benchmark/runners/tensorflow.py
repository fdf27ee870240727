"""The runner of TensorFlow: eager code, graphs of known and unknown sizes, and XLA."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from batchnorm_app.benchmark.inputs import EPSILON, MOMENTUM, Array, Inputs
from batchnorm_app.benchmark.memory_limit import fastest_copier
from batchnorm_app.benchmark.runners import CallArguments

Tensor = Any

NATIVE = "FusedBatchNormV3"
# Operations whose result is a view of their input.
_VIEWS = {"Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "IdentityN"}
# Operations of a backward pass that read only the shape of a tensor, which is static.
_SHAPES = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}

copier = fastest_copier


class Contestant(NamedTuple):
    """A function that assigns to its own state."""

    call: Callable[[Tensor, bool, CallArguments], Tensor]
    parameters: list[Any]


def from_layer(layer: keras.layers.Layer) -> Contestant:
    """See `Runner`."""
    parameters = [variable.value for variable in layer.trainable_variables]
    return Contestant(
        lambda x, training, arguments: layer(x, training=training, **arguments), parameters
    )


def native(inputs: Inputs) -> Contestant:
    """Returns the fused kernel, with its update of the moving statistics."""
    channels = inputs.shape[-1]
    gamma, beta = tf.Variable(inputs.gamma[0]), tf.Variable(inputs.beta[0])
    mean = tf.Variable(tf.zeros([channels]), trainable=False)
    variance = tf.Variable(tf.ones([channels]), trainable=False)

    def call(x: Tensor, training: bool, arguments: CallArguments) -> Tensor:
        y, *moving = tf.compat.v1.nn.fused_batch_norm(
            x if x.shape.rank == 4 else tf.reshape(x, [inputs.shape[0], -1, 1, channels]),
            gamma,
            beta,
            mean,
            variance,
            epsilon=EPSILON,
            is_training=training,
            exponential_avg_factor=1 - MOMENTUM,
        )
        if training:
            mean.assign(moving[0])
            variance.assign(moving[1])
        return y if x.shape.rank == 4 else tf.reshape(y, inputs.shape)

    return Contestant(call, [gamma, beta])


def tensor(array: Array) -> Tensor:
    """See `Runner`."""
    return tf.convert_to_tensor(array)


def work(
    contestant: Contestant,
    pass_name: str,
    mode: str,
    x: Tensor,
    dy: Tensor,
    arguments: CallArguments,
) -> Callable[[], Any]:
    """See `Runner`."""
    call, parameters = contestant

    def forward(x: Tensor, dy: Tensor, arguments: CallArguments) -> Any:
        return (call(x, True, arguments),)

    def backward(x: Tensor, dy: Tensor, arguments: CallArguments) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x, True, arguments)
        return y, *tape.gradient(y, [x, *parameters], output_gradients=dy)

    def inference(x: Tensor, dy: Tensor, arguments: CallArguments) -> Any:
        return (call(x, False, arguments),)

    function = {"forward": forward, "forward+backward": backward, "inference": inference}[pass_name]
    if mode == "unsized":
        spec = tf.TensorSpec((*[None] * (x.shape.rank - 1), x.shape[-1]), x.dtype)
        specs = {name: tf.TensorSpec.from_tensor(value) for name, value in arguments.items()}
        function = tf.function(function, input_signature=[spec, spec, specs], autograph=False)
    elif mode != "eager":
        function = tf.function(function, jit_compile=mode == "jit", autograph=False)
    if not tf.config.list_physical_devices("GPU"):  # on a CPU the call itself waits
        return lambda: function(x, dy, arguments)
    return lambda: (function(x, dy, arguments), tf.test.experimental.sync_devices())[0]


def saved_bytes(contestant: Contestant, x: Tensor, arguments: CallArguments) -> int:
    """Sums the tensors of the forward pass that operations of the backward pass read, each once.

    These are the tensors of the graph as traced; TensorFlow's optimizations of it may save less.
    """
    call, parameters = contestant
    forward_ends: list[int] = []

    def forward_and_backward(x: Tensor, arguments: CallArguments) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x, True, arguments)
        # Created before the mark, so that it does not count as a result of the backward pass.
        dy = tf.ones(y.shape)
        forward_ends.append(len(tf.compat.v1.get_default_graph().get_operations()))
        return tape.gradient(y, [x, *parameters], output_gradients=dy), dy

    traced = tf.function(forward_and_backward, autograph=False)
    graph = traced.get_concrete_function(x, arguments).graph
    operations = graph.get_operations()
    forward = {operation.name for operation in operations[: forward_ends[-1]]}
    dy = graph.outputs[-1]
    saved = {
        origin.name: origin
        for operation in operations[forward_ends[-1] :]
        if operation.type not in _SHAPES
        for origin in map(_origin, operation.inputs)
        if origin.op.name in forward
    }
    saved.pop(_origin(dy).name, None)
    variables_and_constants = {"ReadVariableOp", "Const", "Fill"}
    return sum(
        tensor.shape.num_elements() * tensor.dtype.size
        for tensor in saved.values()
        if tensor.op.type not in variables_and_constants
        and tensor.shape.is_fully_defined()
        and tensor.dtype.size
    )


def _origin(value: Tensor) -> Tensor:
    while value.op.type in _VIEWS:
        value = value.op.inputs[value.value_index if value.op.type == "IdentityN" else 0]
    return value
