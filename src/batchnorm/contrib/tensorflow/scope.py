"""Shared parts of graph layers: the graph check, the variable scope, and the last steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow.compat.v1 as tf

from batchnorm.contrib.tensorflow.variables import collect

Tensor = Any
Variable = Any


def check_graph(function: str, alternative: str) -> None:
    """Raises unless a graph is being built.

    Args:
        function: the one that was called.
        alternative: the counterpart for eager code.

    Raises:
        RuntimeError: the code is eager.
    """
    if tf.executing_eagerly():
        raise RuntimeError(
            f"{function} would add to a graph, and this code runs eagerly. Call within `with "
            "tf.Graph().as_default():`, or call tf.compat.v1.disable_eager_execution() before "
            f"everything else. In eager code use {alternative}."
        )


@contextmanager
def layer_scope(
    default_name: str, scope: Any, inputs: Tensor, reuse: Any
) -> Iterator[tuple[str, Tensor]]:
    """Opens the variable scope of a layer, and adds all its variables to MODEL_VARIABLES.

    Args:
        default_name: of the scope, made unique, where `scope` is `None`.
        scope: a name or a variable scope.
        inputs: anything that `tf.convert_to_tensor` takes.
        reuse: as for `tf.variable_scope`.

    Yields:
        The scope's name and the inputs as a tensor.

    Raises:
        RuntimeError: the code is eager, and builds no graph.
    """
    check_graph("Layers of batchnorm.contrib", "keras.layers")
    with tf.variable_scope(
        scope, default_name, [inputs], reuse=reuse, custom_getter=_get_model_variable
    ) as variable_scope:
        yield variable_scope.name, tf.convert_to_tensor(inputs)


def finish_layer(
    y: Tensor,
    name: str,
    variable: Callable[..., Variable],
    *,
    normalizer_fn: Callable[..., Tensor] | None,
    normalizer_params: Mapping[str, Any] | None,
    biases_initializer: Any,
    biases_regularizer: Callable[[Tensor], Tensor] | None,
    activation_fn: Callable[[Tensor], Tensor] | None,
    outputs_collections: str | Sequence[str] | None,
    channels_first: bool = False,
) -> Tensor:
    """Normalizes a layer's product or adds biases, applies the activation, collects the output.

    Args:
        y: the product, with a static number of channels.
        name: of the layer's scope.
        variable: `model_variable` with the layer's dtype and collections.
        normalizer_fn: as for the layer; so are all following arguments but the last.
        normalizer_params: likewise.
        biases_initializer: likewise.
        biases_regularizer: likewise.
        activation_fn: likewise.
        outputs_collections: likewise.
        channels_first: whether the channels are the second axis, and not the last.

    Returns:
        The layer's output.
    """
    if normalizer_fn is not None:
        y = normalizer_fn(y, **(normalizer_params or {}))
    elif biases_initializer is not None:
        biases = variable(
            "biases",
            [y.shape.as_list()[1 if channels_first else -1]],
            initializer=biases_initializer,
            regularizer=biases_regularizer,
        )
        y = tf.nn.bias_add(y, biases, "NCHW" if channels_first else "NHWC")  # of any rank
    if activation_fn is not None:
        y = activation_fn(y)
    return collect(outputs_collections, name, y)


def _get_model_variable(getter: Callable[..., Variable], *args: Any, **kwargs: Any) -> Variable:
    """Adds variables that a normalizer makes with `tf.get_variable` to MODEL_VARIABLES, too."""
    collections = kwargs.pop("collections", None) or [tf.GraphKeys.GLOBAL_VARIABLES]
    return getter(*args, collections=[*collections, tf.GraphKeys.MODEL_VARIABLES], **kwargs)
