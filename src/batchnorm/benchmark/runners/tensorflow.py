"""TensorFlow runs eagerly, in graphs, of known and unknown sizes, and in graphs of XLA's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from batchnorm.benchmark.inputs import EPSILON, MOMENTUM, Array, Inputs
from batchnorm.benchmark.limit import threaded
from batchnorm.benchmark.runners import Given

Tensor = Any

OWN = "FusedBatchNormV3"
# Operations whose result is their input, seen otherwise.
_VIEWS = {"Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "IdentityN"}
# Operations of a backward pass that read nothing of a tensor but its shape, which is known.
_SHAPES = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}

copier = threaded


class Contestant(NamedTuple):
    """Code that assigns to its own state."""

    call: Callable[[Tensor, bool, Given], Tensor]
    parameters: list[Any]


def of_layer(layer: keras.layers.Layer) -> Contestant:
    """See `Runner`."""
    parameters = [variable.value for variable in layer.trainable_variables]
    return Contestant(lambda x, training, given: layer(x, training=training, **given), parameters)


def own(inputs: Inputs) -> Contestant:
    """The fused kernel, with its update of the moving statistics."""
    channels = inputs.shape[-1]
    gamma, beta = tf.Variable(inputs.gamma[0]), tf.Variable(inputs.beta[0])
    mean, variance = (tf.Variable(how([channels]), trainable=False) for how in (tf.zeros, tf.ones))

    def call(x: Tensor, training: bool, given: Given) -> Tensor:
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
    contestant: Contestant, which: str, mode: str, x: Tensor, dy: Tensor, given: Given
) -> Callable[[], Any]:
    """See `Runner`."""
    call, parameters = contestant

    def forward(x: Tensor, dy: Tensor, given: Given) -> Any:
        return (call(x, True, given),)

    def backward(x: Tensor, dy: Tensor, given: Given) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x, True, given)
        return y, *tape.gradient(y, [x, *parameters], output_gradients=dy)

    def inference(x: Tensor, dy: Tensor, given: Given) -> Any:
        return (call(x, False, given),)

    function = {"forward": forward, "forward+backward": backward, "inference": inference}[which]
    if mode == "unsized":
        spec = tf.TensorSpec((*[None] * (x.shape.rank - 1), x.shape[-1]), x.dtype)
        arguments = {name: tf.TensorSpec.from_tensor(value) for name, value in given.items()}
        function = tf.function(function, input_signature=[spec, spec, arguments], autograph=False)
    elif mode != "eager":
        function = tf.function(function, jit_compile=mode == "jit", autograph=False)
    if not tf.config.list_physical_devices("GPU"):  # on processors it waits by itself
        return lambda: function(x, dy, given)
    return lambda: (function(x, dy, given), tf.test.experimental.sync_devices())[0]


def kept(contestant: Contestant, x: Tensor, given: Given) -> int:
    """The tensors of the forward pass that operations of the backward pass read, each once.

    As the graph is written; what TensorFlow makes of it then, may keep less.
    """
    call, parameters = contestant
    ends: list[int] = []

    def differentiated(x: Tensor, given: Given) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x, True, given)
        # Made before the backward pass, so that they do not count as results of it.
        dy = tf.ones(y.shape)
        ends.append(len(tf.compat.v1.get_default_graph().get_operations()))
        return tape.gradient(y, [x, *parameters], output_gradients=dy), dy

    traced = tf.function(differentiated, autograph=False)
    graph = traced.get_concrete_function(x, given).graph
    operations = graph.get_operations()
    forward = {operation.name for operation in operations[: ends[-1]]}
    dy = graph.outputs[-1]
    found = {
        origin.name: origin
        for operation in operations[ends[-1] :]
        if operation.type not in _SHAPES
        for origin in map(_origin, operation.inputs)
        if origin.op.name in forward
    }
    found.pop(_origin(dy).name, None)
    read = {"ReadVariableOp", "Const", "Fill"}
    return sum(
        each.shape.num_elements() * each.dtype.size
        for each in found.values()
        if each.op.type not in read and each.shape.is_fully_defined() and each.dtype.size
    )


def _origin(value: Tensor) -> Tensor:
    while value.op.type in _VIEWS:
        value = value.op.inputs[value.value_index if value.op.type == "IdentityN" else 0]
    return value
