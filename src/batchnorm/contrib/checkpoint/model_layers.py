"""The layers of a model that own variables, with the names that they may be called by."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras

from batchnorm.surgery.layers import layer_paths, own_variables, preceding_layer

Layer = Any
Variable = Any

_SHOWN = 6  # variables or layers that a text names
_NORMALIZATION = keras.layers.BatchNormalization  # Keras's, and this package's below it


@dataclass(frozen=True, eq=False)
class ModelVariable:
    """A variable of the model that needs a value.

    Attributes:
        keras_variable: the variable itself.
        name: the last part of its path, such as "kernel".
        path: its unique name within the model.
        squeezes: whether values may have ones in their shape that it has not: those of batch
            normalization anywhere, kernels of dense layers, which may come from a convolution with
            a window of 1, in front.
    """

    keras_variable: Variable
    name: str
    path: str
    squeezes: bool = False

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The variable's shape."""
        return tuple(self.keras_variable.shape)


@dataclass(frozen=True, eq=False)
class Target:
    """A layer with variables of its own.

    Attributes:
        layer: the layer itself.
        path: through the layers that it lies in.
        variables: its own.
        aliases: all paths that it is known by.
    """

    layer: Layer
    path: str
    variables: tuple[ModelVariable, ...]
    aliases: frozenset[str] = field(default_factory=frozenset)

    @property
    def normalization(self) -> bool:
        """True for batch normalization, Keras's or this package's."""
        return isinstance(self.layer, _NORMALIZATION)

    @property
    def follows(self) -> Layer:
        """The layer whose output is its only input, in a functional model; else `None`."""
        return preceding_layer(self.layer)

    def __str__(self) -> str:
        """Returns the path and the layer's variables."""
        texts = [f"{variable.name} {variable.shape}" for variable in self.variables[:_SHOWN]]
        more = ", ..." if len(self.variables) > _SHOWN else ""
        return f"{self.path} ({', '.join(texts)}{more})"


def targets(model: Layer) -> list[Target]:
    """Returns the layers of a model that own variables, in the model's order.

    Args:
        model: any, built.

    Returns:
        Each layer once, and each variable once, also where they are shared.

    Raises:
        ValueError: the model has no variables, or some layers have none yet.
    """
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"model must be a Keras model or layer that is built; received {model!r}.")
    # A normalization's inner layer is its counter, whose variable counts as its own.
    layers = list(layer_paths(model, closed=_NORMALIZATION))
    _check_built(model, layers)
    paths = Counter(variable.path for variable in model.weights)
    seen: set[int] = set()
    result = []
    for layer, path in layers:
        weights = layer.weights if isinstance(layer, _NORMALIZATION) else own_variables(layer)
        variables = [variable for variable in weights if id(variable) not in seen]
        seen.update(map(id, variables))
        if variables:
            result.append(_target(layer, path, variables, paths))
    return result


def _check_built(model: Layer, layers: list[tuple[Layer, tuple[str, ...]]]) -> None:
    with_variables = (_NORMALIZATION, keras.layers.Dense, *_convolutions())
    unbuilt = [
        "/".join(path)
        for layer, path in layers
        if isinstance(layer, with_variables) and not layer.built
    ]
    if unbuilt or not model.weights:
        subject = ", ".join(unbuilt[:_SHOWN]) or model.name
        subject += f" and {len(unbuilt) - _SHOWN} more" if len(unbuilt) > _SHOWN else ""
        raise ValueError(
            f"{subject} has no variables yet: call model.build(input_shape), or the model on "
            "inputs, before its checkpoint is loaded."
        )


def _convolutions() -> list[type]:
    patterns = ("Conv{}D", "Conv{}DTranspose", "DepthwiseConv{}D", "SeparableConv{}D")
    names = [pattern.format(rank) for pattern in patterns for rank in (1, 2, 3)]
    return [getattr(keras.layers, name) for name in names if hasattr(keras.layers, name)]


def _target(
    layer: Layer, path: tuple[str, ...], variables: list[Variable], paths: Counter[str]
) -> Target:
    layer_path = "/".join(path) or layer.name
    squeezes = isinstance(layer, _NORMALIZATION | keras.layers.Dense)
    aliases, members = {layer_path}, []
    for variable in variables:
        unique = paths[variable.path] == 1
        variable_path = variable.path if unique else f"{layer_path}/{variable.name}"
        members.append(ModelVariable(variable, variable.name, variable_path, squeezes))
        if variable.name != "step":  # it lies in the counter, a layer within this one
            aliases.add(variable.path.rpartition("/")[0])
    return Target(layer, layer_path, tuple(members), frozenset(aliases))
