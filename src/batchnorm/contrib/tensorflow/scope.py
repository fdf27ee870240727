"""Where graph code stands: in a graph, and in a variable scope of its layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any
Variable = Any


def check_graph(who: str, instead: str) -> None:
    """Refuses to go on where no graph is being built.

    Args:
        who: was called.
        instead: what eager code uses.

    Raises:
        RuntimeError: the code is eager.
    """
    if tf.executing_eagerly():
        raise RuntimeError(
            f"{who} would add to a graph, and this code runs eagerly. Call within `with "
            "tf.Graph().as_default():`, or call tf.compat.v1.disable_eager_execution() before "
            f"everything else. In eager code use {instead}."
        )


@contextmanager
def layer_scope(
    default_name: str, scope: Any, inputs: Tensor, reuse: Any
) -> Iterator[tuple[str, Tensor]]:
    """Opens the variable scope of a layer, in which all variables are the model's.

    Args:
        default_name: of the scope, made unique, where `scope` is `None`.
        scope: a name or a variable scope.
        inputs: what `tf.convert_to_tensor` takes.
        reuse: as for `tf.variable_scope`.

    Yields:
        The scope's name and the inputs as a tensor.

    Raises:
        RuntimeError: the code is eager, and builds no graph.
    """
    check_graph("Layers of batchnorm.contrib", "keras.layers")
    with tf.variable_scope(
        scope, default_name, [inputs], reuse=reuse, custom_getter=_of_the_model
    ) as within:
        yield within.name, tf.convert_to_tensor(inputs)


def _of_the_model(getter: Callable[..., Variable], *args: Any, **kwargs: Any) -> Variable:
    """What a normalizer makes with `tf.get_variable` is in MODEL_VARIABLES, too."""
    collections = kwargs.pop("collections", None) or [tf.GraphKeys.GLOBAL_VARIABLES]
    return getter(*args, collections=[*collections, tf.GraphKeys.MODEL_VARIABLES], **kwargs)
