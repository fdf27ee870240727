"""Variables and outputs of graph code, and the collections that contrib put them in."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any
Variable = Any
# Of all variables, or by the last part of a variable's name.
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
    **others: Any,
) -> Variable:
    """Gets or makes a variable of the current scope, in GLOBAL_VARIABLES and MODEL_VARIABLES.

    Args:
        name: within the scope.
        shape: static.
        dtype: of the variable.
        initializer: whatever `tf.get_variable` takes.
        regularizer: what it makes of a new variable goes to REGULARIZATION_LOSSES.
        trainable: whether it goes to TRAINABLE_VARIABLES.
        collections: `variables_collections` of the layer: further ones.
        **others: as for `tf.get_variable`.

    Returns:
        What `tf.get_variable` returns; under a partitioner a partitioned variable.
    """
    variable = tf.get_variable(
        name,
        shape,
        dtype,
        initializer=initializer,
        regularizer=regularizer,
        trainable=trainable,
        collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.MODEL_VARIABLES],
        **others,
    )
    if isinstance(collections, Mapping):
        collections = collections.get(name)
    if isinstance(collections, str):
        collections = [collections]
    # Not an argument above: a reused variable goes to the collections of its new use, too.
    parts = list(variable) if hasattr(variable, "as_tensor") else [variable]
    for collection in collections or ():
        held = tf.get_collection_ref(collection)
        held.extend(part for part in parts if not any(part is other for other in held))
    return variable


def collect(collections: str | Sequence[str] | None, alias: str, output: Tensor) -> Tensor:
    """Puts a layer's output in `outputs_collections`, by the name of its scope.

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


def positive(name: str, value: Any) -> int:
    """A size, which may be NumPy's, a `tf.Dimension`, or a whole float as `n / 2` gives.

    Args:
        name: of the argument.
        value: a positive integer.

    Raises:
        ValueError: it is something else.
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
