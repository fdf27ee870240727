"""Calibration: moving statistics measured anew on batches, for weights that were averaged."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from batchnorm.layer import BatchNormalization
from batchnorm.slots.pooled import Pooled
from batchnorm.surgery.layers import layers, own_variables
from batchnorm.variables import Counter, reset_renorm

Layer = Any
Forward = Callable[..., Any]

# Arguments that the moving rule replaces.
_REPLACED = ("momentum", "renorm", "renorm_clipping", "renorm_momentum")
_PARAMETERS = ("gamma", "beta", "gamma_bias", "beta_bias", "gamma_u", "beta_u")


class Calibration:
    """Measures a model's moving statistics anew, as often as its weights change.

    A copy of the model, whose normalization layers have the moving rule `Pooled`, runs in training
    mode; the model itself never does.

    Args:
        model: functional, Sequential, or with a `get_config`; built. Its normalization layers are
            ours or Keras's.
        compiled: returns a compiled form of a function that calls the copy; `None` runs it as it
            is. It receives the function and the copy's variables.

    Attributes:
        model: the model.
        copy: the copy.

    Raises:
        NotImplementedError: Keras's, for a subclassed model without `get_config`.
    """

    def __init__(
        self,
        model: keras.Model,
        compiled: Callable[[Forward, list[Any]], Forward] | None = None,
    ) -> None:
        self.model = model
        self.copy = _pooling_copy(model)
        self._pairs = list(zip(_layers(model), _layers(self.copy), strict=True))

        def forward(*inputs: Any) -> Any:
            return self.copy([*inputs] if len(inputs) > 1 else inputs[0], training=True)

        self._forward = compiled(forward, self.copy.variables) if compiled else forward

    def run(self, batches: Iterable[tuple[Any, ...]]) -> None:
        """Assigns the pooled mean and variance of the batches to the moving statistics.

        The pooled variance holds that between the batches' means. Renorm's state follows; nothing
        else of the model changes. Without batches nothing does.

        Args:
            batches: the inputs of the model, a tuple for each call, all of one size.
        """
        for source, target in self._pairs:
            _assign(source, target)
        batches = list(batches)
        for batch in batches:
            self._forward(*batch)
        for source, target in self._pairs:
            if batches and isinstance(target, BatchNormalization):
                _copy_value(target.moving_mean, source.moving_mean)
                _copy_value(target.moving_variance, source.moving_variance)
                reset_renorm(source)


def recalibrate(model: keras.Model, batches: Iterable[tuple[Any, ...]]) -> None:
    """Measures a model's moving statistics anew, once.

    Args:
        model: see `Calibration`.
        batches: see `Calibration.run`.

    Example:
        >>> import keras, numpy as np
        >>> layer = BatchNormalization()
        >>> model = keras.Sequential([keras.Input((1,)), layer])
        >>> recalibrate(model, [(np.array([[1.0], [3.0]]),), (np.array([[5.0], [7.0]]),)])
        >>> float(layer.moving_mean[0]), float(layer.moving_variance[0])
        (4.0, 5.0)
    """
    Calibration(model).run(batches)


def _pooling_copy(model: keras.Model) -> keras.Model:
    """Returns a copy of a model whose normalization layers have the moving rule `Pooled`."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    # A model in memory may hold functions that Keras would refuse to load from a file.
    return keras.saving.deserialize_keras_object(_pooling(config), safe_mode=False)


def _pooling(config: Any) -> Any:
    """Rewrites the normalization layers in a configuration."""
    if isinstance(config, list | tuple):
        return type(config)(map(_pooling, config))
    if not isinstance(config, dict):
        return config
    if _is_normalization(config):
        own = {k: value for k, value in config["config"].items() if k not in _REPLACED}
        own["moving"] = keras.saving.serialize_keras_object(Pooled())
        ours = keras.saving.serialize_keras_object(BatchNormalization(name="ours"))
        names = {key: ours[key] for key in ("module", "class_name", "registered_name")}
        return {**config, **names, "config": own}
    return {key: _pooling(value) for key, value in config.items()}


def _is_normalization(config: dict[str, Any]) -> bool:
    """Returns True for the configuration of our layer, or of Keras's."""
    return (
        config.get("class_name") == "BatchNormalization"
        and isinstance(config.get("config"), dict)
        and config.get("registered_name") in (None, "", "batchnorm>BatchNormalization")
    )


def _layers(model: keras.Model) -> list[Layer]:
    return [layer for layer in layers(model) if not isinstance(layer, Counter)]


def _assign(source: Layer, target: Layer) -> None:
    """Assigns a layer's own variables to its copy; statistics begin anew."""
    if not isinstance(target, BatchNormalization):
        for value, variable in zip(own_variables(source), own_variables(target), strict=True):
            _copy_value(value, variable)
        return
    for name in _PARAMETERS:
        if getattr(target, name, None) is not None:
            _copy_value(getattr(source, name), getattr(target, name))
    count = target.counter.moving_count
    count.assign(ops.zeros(count.shape, count.dtype))


def _copy_value(source: keras.Variable, target: keras.Variable) -> None:
    # On JAX an assignment shares the array, and Keras's `fit` and `predict` donate a model's arrays
    # to the compiler: they are gone for the other model, too.
    target.assign(ops.copy(source.value))
