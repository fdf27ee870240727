"""Variables and outputs of graph code, and the collections that contrib put them in."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any
Variable = Any
# Collections of all variables, or those of each by the last part of its name.
VariablesCollections = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None


def model_variable(
    name: str,
    shape: Sequence[int],
    *,
    dtype: Any = tf.float32,
    initializer: Any,
    regularizer: Callable[[Tensor], Tensor] | None = None,
    trainable: bool = True,
    collections: VariablesCollections = None,
    **options: Any,
) -> Variable:
    """Gets or makes a variable of the current scope, in GLOBAL_VARIABLES and MODEL_VARIABLES.

    Args:
        name: within the scope.
        shape: static.
        dtype: of the variable.
        initializer: anything that `tf.get_variable` takes.
        regularizer: its loss of a new variable goes to REGULARIZATION_LOSSES.
        trainable: whether the variable goes to TRAINABLE_VARIABLES.
        collections: `variables_collections` of the layer: further ones.
        **options: as for `tf.get_variable`.

    Returns:
        The variable; under a partitioner a partitioned variable.
    """
    variable = tf.get_variable(
        name,
        shape,
        dtype,
        initializer=initializer,
        regularizer=regularizer,
        trainable=trainable,
        collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.MODEL_VARIABLES],
        **options,
    )
    if isinstance(collections, Mapping):
        collections = collections.get(name)
    if isinstance(collections, str):
        collections = [collections]
    # Not as an argument of get_variable: a reused variable goes to its new use's collections, too.
    parts = list(variable) if hasattr(variable, "as_tensor") else [variable]
    for collection in collections or ():
        members = tf.get_collection_ref(collection)
        members.extend(part for part in parts if not any(part is member for member in members))
    return variable


def collect(collections: str | Sequence[str] | None, alias: str, output: Tensor) -> Tensor:
    """Adds a layer's output to `outputs_collections`, with the name of its scope as an alias.

    Args:
        collections: one or several; `None` for none.
        alias: the scope's name, which the tensor has in its list `aliases`.
        output: the tensor.

    Returns:
        The output.
    """
    if collections:
        output.aliases = [*getattr(output, "aliases", []), alias.removesuffix("/")]
        tf.add_to_collections(collections, output)
    return output


def positive_integer(name: str, value: Any) -> int:
    """Returns a size as an int: of NumPy, a `tf.Dimension`, or an integral float such as `n / 2`.

    Args:
        name: of the argument.
        value: a positive integer.

    Raises:
        ValueError: the value is not a positive integer.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = int(value) if _is_finite(value) and value == int(value) else 0
    if number < 1:
        fraction = _is_finite(value) and value > 0
        raise ValueError(
            f"{name} must be a positive integer; received {value!r}"
            + (", which is not whole: n // 2 rounds down." if fraction else ".")
        )
    return number


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
