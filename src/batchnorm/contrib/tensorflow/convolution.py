"""`tf.contrib.layers.convolution`, and its forms for one rank: `conv1d`, `conv2d`, `conv3d`."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec

import tensorflow.compat.v1 as tf

from batchnorm.contrib.tensorflow.arg_scope import add_arg_scope
from batchnorm.contrib.tensorflow.initializers import xavier_initializer
from batchnorm.contrib.tensorflow.scope import finish_layer, layer_scope
from batchnorm.contrib.tensorflow.variables import (
    VariablesCollections,
    model_variable,
    positive_integer,
)

Tensor = Any
Function = Callable[..., Tensor]
Sizes = float | Sequence[float]  # integral values; n / 2 may be one
P = ParamSpec("P")

FORMATS = ("NWC", "NCW", "NHWC", "NCHW", "NDHWC", "NCDHW")


@add_arg_scope
def convolution(
    inputs: Tensor,
    num_outputs: float,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: str = "SAME",
    data_format: str | None = None,
    rate: Sizes = 1,
    activation_fn: Function | None = tf.nn.relu,
    normalizer_fn: Function | None = None,
    normalizer_params: Mapping[str, Any] | None = None,
    weights_initializer: Any = xavier_initializer(),  # noqa: B008, it has no state
    weights_regularizer: Function | None = None,
    biases_initializer: Any = tf.zeros_initializer(),  # noqa: B008, it has no state
    biases_regularizer: Function | None = None,
    reuse: Any = None,
    variables_collections: VariablesCollections = None,
    outputs_collections: str | Sequence[str] | None = None,
    trainable: bool = True,
    scope: Any = None,
) -> Tensor:
    """Adds a convolution to a graph, as `tf.contrib.layers.convolution` did.

    y = activation_fn(x * weights + biases), or activation_fn(normalizer_fn(x * weights))

    where * is the cross-correlation that networks call convolution. The variables
    `weights` `(*kernel_size, C, num_outputs)` and `biases` `(num_outputs,)` have the inputs' dtype.

    Args:
        inputs: `(N, W, C)`, `(N, H, W, C)` or `(N, D, H, W, C)`; `(N, C, ...)` if `data_format`
            says so. C is static.
        num_outputs: the number of filters, positive; an integral float such as 32 / 2, too.
        kernel_size: of the window, one integer or one for each spatial axis; integral floats, too.
        stride: of the window, likewise.
        padding: SAME or VALID.
        data_format: the channels' axis: the second one for NCW, NCHW and NCDHW, the last one for
            NWC, NHWC, NDHWC and `None`. The letters of the spatial axes do not matter.
        rate: how far apart the inputs are that a window sees (dilation), like `kernel_size`; not
            together with a stride.
        activation_fn: applied to the outputs in the end; `None` for none.
        normalizer_fn: such as `batch_norm`. There are no biases then. With NC... it needs a
            `data_format` of its own in `normalizer_params`.
        normalizer_params: its arguments beside the outputs.
        weights_initializer: of the weights; `None` for that of the variable scope.
        weights_regularizer: of the weights; its value is in REGULARIZATION_LOSSES.
        biases_initializer: of the biases; `None` for no biases.
        biases_regularizer: of the biases.
        reuse: whether the variables are there already; give `scope` with it.
        variables_collections: further collections of all variables, or of each by its name.
        outputs_collections: of the output, whose `aliases` name the scope.
        trainable: whether the variables are in TRAINABLE_VARIABLES.
        scope: of the variables; "Conv" by default.

    Returns:
        `(N, ..., num_outputs)`, or `(N, num_outputs, ...)`, in the inputs' dtype.

    Raises:
        ValueError: the rank does not fit, C is unknown, an argument is out of range, or both a
            stride and a rate are above 1.
        RuntimeError: the code is eager, and builds no graph.

    Example:
        >>> import tensorflow.compat.v1 as tf
        >>> with tf.Graph().as_default():
        ...     convolution(tf.zeros([2, 8, 8, 3]), 4, [3, 3], stride=2).shape.as_list()
        [2, 4, 4, 4]
    """
    if data_format not in (None, *FORMATS):
        raise ValueError(
            f"data_format must be None or one of {', '.join(FORMATS)}; received {data_format!r}. "
            "Keras's channels_first is NCHW here, channels_last NHWC."
        )
    if str(padding).upper() not in ("SAME", "VALID"):
        raise ValueError(f"padding must be SAME or VALID; received {padding!r}.")
    channels_first = data_format is not None and data_format.startswith("NC")
    with layer_scope("Conv", scope, inputs, reuse) as (name, inputs):
        channels = _channels(inputs, channels_first)
        axes = inputs.shape.rank - 2
        filters = positive_integer("num_outputs", num_outputs)
        variable = partial(
            model_variable,
            dtype=inputs.dtype.base_dtype,
            trainable=trainable,
            collections=variables_collections,
        )
        strides, rates = _sizes("stride", stride, axes), _sizes("rate", rate, axes)
        if max(strides) > 1 and max(rates) > 1:
            raise ValueError(
                f"Of stride and rate only one can be above 1; received {stride} and {rate}."
            )
        weights = variable(
            "weights",
            [*_sizes("kernel_size", kernel_size, axes), channels, filters],
            initializer=weights_initializer,
            regularizer=weights_regularizer,
        )
        y = _product(inputs, weights, padding.upper(), strides, rates, channels_first)
        return finish_layer(
            y,
            name,
            variable,
            normalizer_fn=normalizer_fn,
            normalizer_params=normalizer_params,
            biases_initializer=biases_initializer,
            biases_regularizer=biases_regularizer,
            activation_fn=activation_fn,
            outputs_collections=outputs_collections,
            channels_first=channels_first,
        )


def _channels(inputs: Tensor, channels_first: bool) -> int:
    """Returns the static number of channels; raises unless a convolution takes the inputs."""
    if (rank := inputs.shape.rank) not in (3, 4, 5):
        raise ValueError(
            "convolution takes inputs of rank 3, 4 or 5: the batch, one to three axes of space and "
            f"the channels; received rank {rank}, the shape {inputs.shape}."
        )
    channels: int | None = inputs.shape.as_list()[1 if channels_first else -1]
    if channels is None:
        raise ValueError(
            f"The number of channels must be static; received the shape {inputs.shape} with the "
            f"channels on axis {1 if channels_first else rank - 1}. Use set_shape on the inputs, "
            "or give data_format if they are elsewhere."
        )
    return channels


def _sizes(name: str, value: Any, axes: int) -> list[int]:
    """Returns a positive integer for each spatial axis."""
    try:
        values = list(value)  # a tf.TensorShape, too
    except TypeError:
        values = [value] * axes
    if len(values) != axes:
        raise ValueError(
            f"{name} must be one integer, or {axes} for inputs of rank {axes + 2}; received "
            f"{value!r}."
        )
    return [positive_integer(name, size) for size in values]


def _product(
    inputs: Tensor,
    weights: Tensor,
    padding: str,
    strides: list[int],
    rates: list[int],
    channels_first: bool,
) -> Tensor:
    """Returns the convolution without biases."""
    rank = inputs.shape.rank
    call = partial(
        tf.nn.convolution, filter=weights, padding=padding, strides=strides, dilation_rate=rates
    )
    if not channels_first:
        return call(inputs)
    if _takes_channels_first(inputs):
        return call(inputs, data_format=FORMATS[2 * (rank - 3) + 1])
    y = call(tf.transpose(inputs, [0, *range(2, rank), 1]))
    return tf.transpose(y, [0, rank - 1, *range(1, rank - 1)])


def _takes_channels_first(inputs: Tensor) -> bool:
    """Returns whether the device takes NCHW: TensorFlow 2.21's CPU does so for few cases only."""
    # On a CPU it needs float32 and oneDNN.
    device = tf.DeviceSpec.from_string(tf.identity(inputs).device).device_type
    return device != "CPU" and bool(device or tf.config.list_physical_devices("GPU"))


def _of_rank(rank: int, function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Returns the function for inputs of one rank."""
    signature, name = inspect.signature(function), f"convolution{rank - 2}d"

    # Without the attributes: by their key, arg_scope would take the two for one function.
    @functools.wraps(function, updated=())
    def fixed(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        bound = signature.bind(*args, **kwargs)
        inputs = bound.arguments["inputs"] = tf.convert_to_tensor(bound.arguments["inputs"])
        if inputs.shape.rank != rank:
            raise ValueError(
                f"{name} takes inputs of rank {rank}; received rank {inputs.shape.rank}, the "
                f"shape {inputs.shape}. `convolution` takes ranks 3, 4 and 5."
            )
        return function(*bound.args, **bound.kwargs)

    fixed.__name__ = fixed.__qualname__ = name
    _, _, rest = (function.__doc__ or "").partition("\n")
    fixed.__doc__ = (
        f"Is `convolution`, with its defaults in `arg_scope`, for rank {rank} alone.\n{rest}"
    )
    return fixed


convolution1d = add_arg_scope(_of_rank(3, convolution))
convolution2d = add_arg_scope(_of_rank(4, convolution))
convolution3d = add_arg_scope(_of_rank(5, convolution))
conv1d, conv2d, conv3d = convolution1d, convolution2d, convolution3d
