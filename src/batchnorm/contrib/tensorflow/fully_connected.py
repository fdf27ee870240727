"""`tf.contrib.layers.fully_connected`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

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


@add_arg_scope
def fully_connected(
    inputs: Tensor,
    num_outputs: float,
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
    """Adds a fully connected layer to a graph, as `tf.contrib.layers.fully_connected` did.

    y = activation_fn(x weights + biases), or activation_fn(normalizer_fn(x weights))

    The variables `weights` `(C, num_outputs)` and `biases` `(num_outputs,)` have the inputs' dtype.

    Args:
        inputs: `(N, ..., C)`; C is static. The product is over the last axis alone.
        num_outputs: the number of units, positive; an integral float such as 32 / 2, too.
        activation_fn: applied to the outputs in the end; `None` for none.
        normalizer_fn: such as `batch_norm`. There are no biases then.
        normalizer_params: its arguments beside the outputs.
        weights_initializer: of the weights; `None` for that of the variable scope.
        weights_regularizer: of the weights; its value is in REGULARIZATION_LOSSES.
        biases_initializer: of the biases; `None` for no biases.
        biases_regularizer: of the biases.
        reuse: whether the variables are there already; give `scope` with it.
        variables_collections: further collections of all variables, or of each by its name.
        outputs_collections: of the output, whose `aliases` name the scope.
        trainable: whether the variables are in TRAINABLE_VARIABLES.
        scope: of the variables; "fully_connected" by default.

    Returns:
        `(N, ..., num_outputs)`, in the inputs' dtype.

    Raises:
        ValueError: the rank is below 2 or unknown, C is unknown, or `num_outputs` is not a
            positive integer.
        RuntimeError: the code is eager, and builds no graph.

    Example:
        >>> import tensorflow.compat.v1 as tf
        >>> with tf.Graph().as_default():
        ...     fully_connected(tf.zeros([4, 3]), 2).shape.as_list()
        [4, 2]
    """
    with layer_scope("fully_connected", scope, inputs, reuse) as (name, inputs):
        rank = inputs.shape.rank
        if rank is None or rank < 2 or inputs.shape.as_list()[-1] is None:
            raise ValueError(
                "fully_connected takes inputs (N, ..., C) of rank 2 or more with a static C; "
                f"received the shape {inputs.shape}. Use set_shape on the inputs if it is known."
            )
        units = positive_integer("num_outputs", num_outputs)
        variable = partial(
            model_variable,
            dtype=inputs.dtype.base_dtype,
            trainable=trainable,
            collections=variables_collections,
        )
        weights = variable(
            "weights",
            [inputs.shape.as_list()[-1], units],
            initializer=weights_initializer,
            regularizer=weights_regularizer,
        )
        y = tf.matmul(inputs, weights) if rank == 2 else tf.tensordot(inputs, weights, 1)
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
        )
