"""The layers of any Keras model, in order: functional, Sequential, subclassed, nested or shared.

Keras has no public names for the layers within a layer that is not a model, nor for the layer that
made a tensor. All private names that the library reads a model by are in this file; they are those
of Keras 3.15, and a Keras without one of them is refused with a message that says so.
"""

from collections.abc import Iterator
from typing import Any

import keras

Layer = Any  # a keras.layers.Layer; Keras has no types
Variable = Any


def layers(model: Layer) -> list[Layer]:
    """Returns a model and all layers within it, in the model's order.

    Args:
        model: a model or a layer.

    Returns:
        Each layer once, where it comes first, also if it is shared; a layer before those in it.

    Raises:
        RuntimeError: Keras does not have the names that tell the layers.

    Example:
        >>> block = keras.Sequential([keras.layers.Dense(2, name="dense")], name="block")
        >>> [layer.name for layer in layers(keras.Sequential([block, block], name="model"))]
        ['model', 'block', 'dense']
    """
    return list({id(layer): layer for layer, _ in layer_paths(model)}.values())


def layer_paths(
    model: Layer, closed: type | tuple[type, ...] = ()
) -> Iterator[tuple[Layer, tuple[str, ...]]]:
    """Yields a model and all layers within it with their paths, in the model's order.

    Args:
        model: a model or a layer.
        closed: types of layers whose inner layers are left out.

    Yields:
        A layer, and the names of the layers on the way to it: without the model's, with its own. A
        layer that is shared by several others comes once for each of them.

    Raises:
        RuntimeError: Keras does not have the names that tell the layers.
    """
    return _paths_below(model, (), closed)


def own_variables(layer: Layer) -> list[Variable]:
    """Returns the variables of a layer that belong to none of the layers within it.

    Args:
        layer: a layer or a model, built.

    Raises:
        RuntimeError: Keras does not have the names that tell the layers.
    """
    inner = {id(variable) for child in _children(layer) for variable in child.weights}
    return [variable for variable in layer.weights if id(variable) not in inner]


def preceding_layer(layer: Layer) -> Layer | None:
    """Returns the layer, or operation, whose output is the only input of a layer.

    Args:
        layer: of a functional model.

    Returns:
        The `InputLayer` behind the input of a model; `None` where no graph tells it: the layer was
        never called in one, was called several times, or has several inputs.

    Raises:
        RuntimeError: Keras does not have the names that tell the graph.
    """
    # Of several calls, layer.input of Keras 3.15 is that of the first.
    if len(_private(layer, "_inbound_nodes")) != 1:
        return None
    try:
        source = layer.input
    except (AttributeError, ValueError):  # it was called with values alone
        return None
    if not isinstance(source, keras.KerasTensor):
        return None
    return _private(source, "_keras_history").operation


def _paths_below(
    layer: Layer, path: tuple[str, ...], closed: type | tuple[type, ...]
) -> Iterator[tuple[Layer, tuple[str, ...]]]:
    yield layer, path
    if not isinstance(layer, closed):
        for child in _children(layer):
            yield from _paths_below(child, (*path, child.name), closed)


def _children(layer: Layer) -> list[Layer]:
    """Returns the layers directly within a layer, each once."""
    flatten = _private(layer, "_flatten_layers")
    children: list[Layer] = flatten(include_self=False, recursive=False)
    return children


def _private(owner: Any, name: str) -> Any:
    """Returns a private attribute of Keras's.

    Raises:
        RuntimeError: this Keras does not have it.
    """
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise RuntimeError(
            f"{type(owner).__name__} of Keras {keras.__version__} has no {name}, by which "
            "batchnorm finds the layers of a model. Keras 3.15 has it: pip install 'keras==3.15.*'"
        ) from error
