"""The variables of the layer: created as Keras creates them, loaded also from incomplete files."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from batchnorm.functional import state_names
from batchnorm.slots.moving import Exponential, Moving
from batchnorm.slots.renorm import Renorm
from batchnorm.spectral import random_direction
from batchnorm.stages.plan import moments_dtype

Layer = Any  # a `BatchNormalization`
Variable = Any

_WORDS = {"step": "a step counter"}


@dataclass(frozen=True)
class Rules:
    """The rules by which a layer's state advances.

    Attributes:
        sources: the layer's arguments that they follow from.
        moving: the moving rule.
        renorm: the correction; `None` for none.
        names: of the state.
    """

    sources: tuple[Any, ...]
    moving: Moving
    renorm: Renorm | None
    names: tuple[str, ...]


def rules_of(layer: Layer) -> Rules:
    """Returns the rules of a layer: made in its `build`, and anew after an argument changed.

    Args:
        layer: any.
    """
    sources = (
        layer.moving,
        layer.momentum,
        layer.renorm,
        layer.renorm_clipping,
        layer.renorm_momentum,
    )
    rules: Rules | None = getattr(layer, "rules", None)
    if rules is None or rules.sources != sources:
        moving = layer.moving or Exponential(layer.momentum)
        renorm = layer.renorm or None
        if renorm is True:
            renorm = Renorm.from_clipping(layer.renorm_clipping, layer.renorm_momentum)
        rules = layer.rules = Rules(sources, moving, renorm, state_names(moving, renorm))
    return rules


class Counter(keras.layers.Layer):
    """Variables of a moving rule that Keras's layer does not have.

    A layer of its own, because Keras's files hold a layer's variables by number: one more would
    keep Keras's layer from reading them.

    Attributes:
        step: the number of batches, an integer scalar, if something depends on it.
        moving_count: the weight of all batches, `(C,)`, if the rule needs it.
    """

    def create(self, names: Sequence[str], shape: Sequence[int | None], dtype: str) -> None:
        """Creates the variables.

        Args:
            names: of the variables.
            shape: of a vector.
            dtype: of a vector.
        """
        for name in names:
            integer = {"shape": (), "dtype": "int32"} if name == "step" else {}
            variable = self.add_weight(
                name=name,
                initializer="zeros",
                trainable=False,
                # Each replica counts the same steps, and integers have no mean.
                aggregation="only_first_replica",
                **{"shape": shape, "dtype": dtype, **integer},
            )
            setattr(self, name, variable)
        self.built = True

    def load_own_variables(self, store: Any) -> None:
        """Loads the variables; a file of a layer without them has none, and they start at 0."""
        if store.keys():
            super().load_own_variables(store)
            return
        for variable in self.variables:
            variable.assign(ops.zeros(variable.shape, variable.dtype))
        names = ", ".join(variable.name for variable in self.variables)
        warnings.warn(
            f"The file has no {names} for {self.path}: it starts at 0. Schedules begin anew, and "
            "with ZeroDebiased, Cumulative or Pooled the first training batch replaces the moving "
            "statistics that were loaded.",
            stacklevel=2,
        )


def create_variables(
    layer: Layer,
    shape: Sequence[int | None],
    moving: Moving,
    renorm: Renorm | None,
    rows: int | None = None,
) -> None:
    """Adds a layer's variables, in Keras's order: gamma, beta, moving_mean, moving_variance, ...

    Biases of gamma and beta come after these two, and the vectors of spectral normalization last.

    Keras's `build` knows only one axis, and averages in half precision with `dtype="float16"`.

    Args:
        layer: receives them as attributes.
        shape: of each.
        moving: the moving rule.
        renorm: the correction; `None` for none.
        rows: of gamma and beta, each of that shape; `None` for no rows.
    """
    options = {"dtype": moments_dtype(layer.variable_dtype), "autocast": False}
    full = shape if rows is None else (rows, *shape[1 if len(shape) > 1 else 0 :])
    parameters = [name for name, used in (("gamma", layer.scale), ("beta", layer.center)) if used]
    for name in parameters:
        properties = ("initializer", "regularizer", "constraint")
        arguments = {key: getattr(layer, f"{name}_{key}") for key in properties}
        initializer = getattr(layer.affine, "initializer", None)
        if initializer is not None:
            arguments["initializer"] = _copy(initializer)
        weight = layer.add_weight(name=name, shape=full, **arguments, **options)
        setattr(layer, name, weight)
    if getattr(layer.affine, "bias", False):
        for name in parameters:
            weight = layer.add_weight(
                name=f"{name}_bias", shape=shape, initializer="zeros", **options
            )
            setattr(layer, f"{name}_bias", weight)
    _create_state(layer, shape, moving, renorm, options)
    if getattr(layer.affine, "spectral_normalization", False):
        options |= {"initializer": random_direction, "trainable": False}
        for name in parameters:
            channels = math.prod(getattr(layer, name).shape[1:])
            weight = layer.add_weight(name=f"{name}_u", shape=(channels,), **options)
            setattr(layer, f"{name}_u", weight)


def _create_state(
    layer: Layer,
    shape: Sequence[int | None],
    moving: Moving,
    renorm: Renorm | None,
    options: dict[str, Any],
) -> None:
    mean, variance = layer.moving_mean_initializer, layer.moving_variance_initializer
    initializers = {"moving_mean": mean, "moving_variance": variance}
    if renorm is not None:
        initializers |= renorm.start(_copy(mean), _root(variance))
    for name, initializer in initializers.items():
        weight = layer.add_weight(
            name=name, shape=shape, initializer=initializer, trainable=False, **options
        )
        setattr(layer, name, weight)
    names = [name for name in state_names(moving, renorm) if name not in initializers]
    if names:
        layer.counter = Counter(name="counter")
        layer.counter.create(names, shape, options["dtype"])


def state_variables(layer: Layer, names: Sequence[str]) -> dict[str, Variable]:
    """Returns the variables that are the state of `batch_norm`.

    Args:
        layer: built.
        names: of the state.

    Raises:
        ValueError: a slot that needs another variable was filled after they were created.
    """
    variables = {}
    for name in names:
        owner = layer if hasattr(layer, name) else getattr(layer, "counter", None)
        if not hasattr(owner, name):
            raise ValueError(
                f"{layer.path} was built without {_WORDS.get(name, name)}, and a slot filled since "
                "then needs one: pass it to the constructor, or make the layer anew from its "
                "configuration."
            )
        variables[name] = getattr(owner, name)
    return variables


def load_plain(layer: Layer, store: Any) -> bool:
    """Loads a file of plain batch normalization into a layer with renorm, with a warning.

    Args:
        layer: any.
        store: the file's variables, by number.

    Returns:
        False, without loading, if the layer has no renorm, or the file has its state.
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
    reset_renorm(layer)
    warnings.warn(
        f"The file has no renorm state for {layer.path}: it starts from the moving mean and "
        "variance that were loaded.",
        stacklevel=3,
    )
    return True


def reset_renorm(layer: Layer) -> None:
    """Computes renorm's state, if a layer has it, from the moving mean and variance.

    Args:
        layer: any.
    """
    stddev = ops.sqrt(layer.moving_variance + layer.epsilon)
    for name, value in Renorm().start(layer.moving_mean, stddev).items():
        if hasattr(layer, name):
            getattr(layer, name).assign(value)


def _copy(initializer: Any) -> Any:
    """Returns a copy of an initializer: Keras wants each to be used once."""
    return initializer.clone() if isinstance(initializer, keras.Initializer) else initializer


def _root(initializer: Any) -> Any:
    return lambda shape, dtype=None: ops.sqrt(_copy(initializer)(shape, dtype=dtype))
