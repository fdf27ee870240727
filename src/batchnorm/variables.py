"""The layer's variables: made as Keras makes them, and loaded from files that lack some."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from batchnorm.kernels import moments_dtype
from batchnorm.spectral import random_direction

Layer = Any  # a `BatchNormalization`
Variable = Any


class Counter(keras.layers.Layer):
    """Counts the batches that the moving statistics have followed.

    A layer of its own, because Keras's files hold a layer's variables by number: one more would
    keep Keras's layer from reading them.

    Attributes:
        step: an integer scalar, not trainable.
    """

    step: Any

    def build(self, input_shape: Any = None) -> None:
        """Makes the variable."""
        self.step = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            # Each replica counts the same steps, and whole numbers have no mean.
            aggregation="only_first_replica",
            name="step",
        )

    def load_own_variables(self, store: Any) -> None:
        """Loads the step; a file of a layer that did not count has none, and it starts at 0."""
        if store.keys():
            super().load_own_variables(store)
            return
        self.step.assign(0)
        warnings.warn(
            f"The file has no step for {self.path}: it starts at 0. Schedules begin anew, and with "
            "ZeroDebiased or Cumulative the first training batch replaces the moving statistics "
            "that were loaded.",
            stacklevel=2,
        )


def make(
    layer: Layer, shape: Sequence[int | None], names: Sequence[str], rows: int | None = None
) -> None:
    """Adds a layer's variables, in Keras's order: gamma, beta, moving_mean, moving_variance, ...

    Biases of gamma and beta come behind these two, and the vectors of spectral normalization last.

    Keras's `build` knows one axis alone, and averages in half precision with `dtype="float16"`.

    Args:
        layer: receives them as attributes.
        shape: of each.
        names: of its state.
        rows: of gamma and beta, each of that shape; `None` where they have none.
    """
    options = {"dtype": moments_dtype(layer.variable_dtype), "autocast": False}
    several = shape if rows is None else (rows, *shape[1 if len(shape) > 1 else 0 :])
    parameters = [n for n, used in (("gamma", layer.scale), ("beta", layer.center)) if used]
    for name in parameters:
        kinds = ("initializer", "regularizer", "constraint")
        arguments = {kind: getattr(layer, f"{name}_{kind}") for kind in kinds}
        initializer = getattr(layer.affine, "initializer", None)
        if initializer is not None:
            arguments["initializer"] = _again(initializer)
        weight = layer.add_weight(name=name, shape=several, **arguments, **options)
        setattr(layer, name, weight)
    if getattr(layer.affine, "bias", False):
        for name in parameters:
            weight = layer.add_weight(
                name=f"{name}_bias", shape=shape, initializer="zeros", **options
            )
            setattr(layer, f"{name}_bias", weight)
    _make_state(layer, shape, names, options)
    if getattr(layer.affine, "spectral_normalization", False):
        options |= {"initializer": random_direction, "trainable": False}
        for name in parameters:
            channels = math.prod(getattr(layer, name).shape[1:])
            weight = layer.add_weight(name=f"{name}_u", shape=(channels,), **options)
            setattr(layer, f"{name}_u", weight)


def _make_state(
    layer: Layer, shape: Sequence[int | None], names: Sequence[str], options: dict[str, Any]
) -> None:
    mean, variance = layer.moving_mean_initializer, layer.moving_variance_initializer
    starts = {
        "moving_mean": mean,
        "moving_variance": variance,
        "moving_stddev": _root(variance),
        "renorm_mean": _again(mean),
        "renorm_stddev": _root(variance),
    }
    for name in names:
        if name == "step":
            layer.counter = Counter(name="counter")
            layer.counter.build()
            continue
        arguments = {"shape": shape, "initializer": starts[name], "trainable": False}
        setattr(layer, name, layer.add_weight(name=name, **arguments, **options))


def state(layer: Layer, names: Sequence[str]) -> dict[str, Variable]:
    """The variables that `batch_norm` knows as the state.

    Raises:
        ValueError: a slot was filled after they were made.
    """
    if "step" in names and not hasattr(layer, "counter"):
        raise ValueError(
            f"{layer.path} was built without a step counter, and a slot filled since then needs "
            "one: give it to the constructor, or make the layer anew from its configuration."
        )
    return {name: layer.counter.step if name == "step" else getattr(layer, name) for name in names}


def load_plain(layer: Layer, store: Any) -> bool:
    """Loads a file of plain batch normalization into a layer with renorm, and says so.

    Args:
        layer: any.
        store: the file's variables, by number.

    Returns:
        Whether it did; not if the layer has no renorm, or the file has its state.
    """
    parameters, statistics = ("gamma", "beta"), ("moving_mean", "moving_variance")
    names = (*parameters, *(f"{name}_bias" for name in parameters))
    names = (*names, *statistics, *(f"{name}_u" for name in parameters))
    variables = [getattr(layer, name, None) for name in names]
    plain = [variable for variable in variables if variable is not None]
    if not layer.renorm or len(store.keys()) != len(plain):
        return False
    for index, variable in enumerate(plain):
        variable.assign(store[str(index)])
    start_renorm(layer)
    warnings.warn(
        f"The file has no renorm state for {layer.path}: it starts from the moving mean and "
        "variance that were loaded.",
        stacklevel=3,
    )
    return True


def start_renorm(layer: Layer) -> None:
    """Lets renorm's state, as far as a layer has it, follow from the moving mean and variance.

    Args:
        layer: any.
    """
    stddev = ops.sqrt(layer.moving_variance + layer.epsilon)
    values = {"moving_stddev": stddev, "renorm_mean": layer.moving_mean, "renorm_stddev": stddev}
    for name, value in values.items():
        if hasattr(layer, name):
            getattr(layer, name).assign(value)


def _again(initializer: Any) -> Any:
    """A copy of an initializer, which Keras wants to be used once."""
    return initializer.clone() if isinstance(initializer, keras.Initializer) else initializer


def _root(initializer: Any) -> Any:
    return lambda shape, dtype=None: ops.sqrt(_again(initializer)(shape, dtype=dtype))
