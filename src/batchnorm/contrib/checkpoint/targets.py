"""The layers of a model that own variables, with the names that one may call them by."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras

Layer = Any
Variable = Any

_SHOWN = 6  # variables or layers that a text names


@dataclass(frozen=True, eq=False)
class Wanted:
    """A variable of the model that needs a value.

    Attributes:
        variable: itself.
        name: the last part of its path, such as "kernel".
        path: what to call it; no other variable of the model has the same.
        squeezes: whether values may have ones in their shape that it has not: those of batch
            normalization anywhere, kernels of dense layers, which may come from a convolution with
            a window of 1, in front.
    """

    variable: Variable
    name: str
    path: str
    squeezes: bool = False

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the variable."""
        return tuple(self.variable.shape)


@dataclass(frozen=True, eq=False)
class Target:
    """A layer with variables of its own.

    Attributes:
        layer: itself.
        path: through the layers that it lies in.
        wanted: its own variables.
        aliases: all paths that it is known by.
    """

    layer: Layer
    path: str
    wanted: tuple[Wanted, ...]
    aliases: frozenset[str] = field(default_factory=frozenset)

    @property
    def normalization(self) -> bool:
        """Whether it is batch normalization, Keras's or this package's."""
        return isinstance(self.layer, keras.layers.BatchNormalization)

    @property
    def follows(self) -> Layer:
        """The layer whose output is its only input, in a functional model; else `None`."""
        if len(self.layer._inbound_nodes) != 1:  # of several calls, Keras 3.15 gives the first
            return None
        try:
            source = self.layer.input
        except (AttributeError, ValueError):  # it was called with values alone
            return None
        history = getattr(source, "_keras_history", None)
        return None if history is None else history.operation

    def __str__(self) -> str:
        """The path and what the layer has."""
        variables = [f"{each.name} {each.shape}" for each in self.wanted[:_SHOWN]]
        more = ", ..." if len(self.wanted) > _SHOWN else ""
        return f"{self.path} ({', '.join(variables)}{more})"


def targets(model: Layer) -> list[Target]:
    """The layers of a model that own variables, in the model's order.

    Args:
        model: any, built.

    Returns:
        Each layer once, and each variable once, also where they are shared.

    Raises:
        ValueError: the model has no variables, or some layers have none yet.
    """
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"model must be a Keras model or layer that is built; received {model!r}.")
    layers = list(_walk(model, ()))
    needing = (keras.layers.BatchNormalization, keras.layers.Dense, *_convolutions())
    unbuilt = [path for layer, path in layers if isinstance(layer, needing) and not layer.built]
    if unbuilt or not model.weights:
        what = ", ".join("/".join(path) for path in unbuilt[:_SHOWN]) or model.name
        what += f" and {len(unbuilt) - _SHOWN} more" if len(unbuilt) > _SHOWN else ""
        raise ValueError(
            f"{what} has no variables yet: call model.build(input_shape), or the model on inputs, "
            "before its checkpoint is loaded."
        )
    paths = Counter(variable.path for variable in model.weights)
    seen: set[int] = set()
    found = []
    for layer, path in layers:
        own = [each for each in _own(layer) if id(each) not in seen]
        seen.update(map(id, own))
        if own:
            found.append(_target(layer, path, own, paths))
    return found


def _convolutions() -> list[type]:
    names = ("Conv{}D", "Conv{}DTranspose", "DepthwiseConv{}D", "SeparableConv{}D")
    every = [name.format(rank) for name in names for rank in (1, 2, 3)]
    return [getattr(keras.layers, name) for name in every if hasattr(keras.layers, name)]


def _walk(layer: Layer, path: tuple[str, ...]) -> Iterator[tuple[Layer, tuple[str, ...]]]:
    yield layer, path
    if isinstance(layer, keras.layers.BatchNormalization):  # its counter is its own
        return
    for each in layer._flatten_layers(include_self=False, recursive=False):
        yield from _walk(each, (*path, each.name))


def _own(layer: Layer) -> list[Variable]:
    if isinstance(layer, keras.layers.BatchNormalization):
        return list(layer.weights)
    below = layer._flatten_layers(include_self=False, recursive=False)
    others = {id(variable) for each in below for variable in each.weights}
    return [variable for variable in layer.weights if id(variable) not in others]


def _target(
    layer: Layer, path: tuple[str, ...], own: list[Variable], paths: Counter[str]
) -> Target:
    walked = "/".join(path) or layer.name
    squeezes = isinstance(layer, keras.layers.BatchNormalization | keras.layers.Dense)
    names = [each.path if paths[each.path] == 1 else f"{walked}/{each.name}" for each in own]
    wanted = tuple(
        Wanted(each, each.name, name, squeezes) for each, name in zip(own, names, strict=True)
    )
    aliases = {walked, *(each.path.rpartition("/")[0] for each in own if each.name != "step")}
    return Target(layer, walked, wanted, frozenset(aliases))
