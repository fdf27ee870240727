"""Migration from graph code: the Keras 3 layer for a call of contrib's `batch_norm`."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras

from batchnorm.contrib.contrib_path import UPDATE_OPS, axis_of, check_parameters, contrib_path
from batchnorm.contrib.foreign_arguments import hint
from batchnorm.layer import BatchNormalization
from batchnorm.slots.moving import Exponential, ZeroDebiased
from batchnorm.slots.old_renorm import OldRenorm
from batchnorm.slots.renorm import Renorm

# Arguments that a constructor does not take, and what to use instead.
REFUSED = {
    "inputs": "Call the layer with them; rank= tells how many axes they have.",
    "is_training": "Say it at each call: layer(x, training=...).",
    "batch_weights": "Give them to each call, layer(x, sample_weight=...), and fused=False here: "
    "beside weights contrib's fused kernel did not run.",
    "reuse": "Call the same layer again; its variables are its own.",
    "variables_collections": "There are no collections; the layer has weights.",
    "outputs_collections": "There are no collections; keras.Model(inputs, layer.output) has them.",
    "trainable": "In Keras trainable=False means inference mode, too, which contrib's did not. Set "
    "layer.gamma.trainable and layer.beta.trainable to False after building it.",
}
HARMLESS = {"reuse": (None, False), "trainable": (True,)}


def layer_from_arguments(
    *,
    decay: float = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Callable[[Any], Any] | None = None,
    param_initializers: Mapping[str, Any] | None = None,
    param_regularizers: Mapping[str, Any] | None = None,
    updates_collections: str | None = UPDATE_OPS,
    fused: bool | None = None,
    data_format: str = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: str | None = None,
    renorm: bool = False,
    renorm_clipping: Mapping[str, float] | None = None,
    renorm_decay: float = 0.99,
    adjustment: Callable[[Any], Any] | None = None,
    rank: int = 4,
    version: str = "2.15",
    dtype: Any = None,
    **unsupported: Any,
) -> BatchNormalization:
    """Returns the layer that behaves as `tf.contrib.layers.batch_norm` did with these arguments.

    It runs on every backend, and its numbers are the original's: outputs, gradients and statistics.

    Args:
        decay: momentum.
        center: whether there is a beta.
        scale: whether there is a gamma; False by default, unlike Keras's.
        epsilon: added to the variance under the root.
        activation_fn: activation. Functions of `tf.nn` become Keras's of the same name.
        param_initializers: of any of beta, gamma, moving_mean and moving_variance; TensorFlow's own
            as Keras's of the same name.
        param_regularizers: of beta and gamma; contrib's `l2_regularizer(scale)` becomes Keras's
            `L2(scale / 2)`.
        updates_collections: UPDATE_OPS or `None`: the layer records a step when it is called.
        fused: whether contrib ran its fused kernel where it could, which recorded n / (n - 1) times
            the variance; the layer then has `moving=Exponential(decay, unbiased=True)`.
        data_format: axis, -1 for NHWC and 1 for NCHW.
        zero_debias_moving_mean: `moving=ZeroDebiased(decay, variance=False)`.
        scope: name, with underscores for slashes.
        renorm: batch renormalization.
        renorm_clipping: of rmin, rmax and dmax, numbers; for a limit that changes give
            `BatchNormalization` a `Renorm` with schedules.
        renorm_decay: renorm_momentum.
        adjustment: adjustment; it is called with a tuple, and computes with `keras.ops` if it is to
            run on another backend than TensorFlow.
        rank: of the inputs: the fused kernel ran for 2 and 4, and since TensorFlow 2 for 5.
        version: of the TensorFlow whose behaviour the layer has; the default is the last one that
            ran contrib's code, as for `batchnorm.contrib.batch_norm`. Until 1.13 renorm was another
            one.
        dtype: of the layer, Keras's policy by default.
        **unsupported: arguments that a constructor does not take: refused, with the reason.

    Returns:
        `BatchNormalization`.

    Raises:
        ValueError: an argument has no counterpart, is unknown or out of range.

    Example:
        >>> layer = layer_from_arguments(decay=0.9, scale=True, fused=False)
        >>> layer.momentum, layer.epsilon, layer.center, layer.scale
        (0.9, 0.001, True, True)
    """
    _refuse(unsupported)
    if updates_collections not in (UPDATE_OPS, None):
        raise ValueError(
            f"updates_collections={updates_collections!r} has no counterpart: there are no "
            "collections, and the layer records a step when it is called. Leave it out."
        )
    axis = axis_of(data_format)
    check_parameters(param_initializers, param_regularizers)
    if not isinstance(rank, int) or rank < 2:
        raise ValueError(f"rank must be 2 or more, that of (N, ..., C); received {rank!r}.")
    tensorflow = _parse_version(version)
    path = contrib_path(
        rank,
        keras.dtype_policies.get(dtype).compute_dtype,
        fused=fused,
        renorm=renorm,
        adjustment=adjustment,
        zero_debias_moving_mean=zero_debias_moving_mean,
        updates_collections=updates_collections,
        version=tensorflow,
    )
    options: dict[str, Any] = {"momentum": decay}
    if zero_debias_moving_mean:
        options = {"moving": ZeroDebiased(decay, path.unbiased, variance=False)}
    elif path.unbiased:
        options = {"moving": Exponential(decay, unbiased=True)}
    if renorm:
        kind = OldRenorm if tensorflow < (1, 14) else Renorm
        options["renorm"] = kind.from_clipping(renorm_clipping, renorm_decay)
    for name, initializer in (param_initializers or {}).items():
        options[f"{name}_initializer"] = _initializer(initializer)
    for name, regularizer in (param_regularizers or {}).items():
        options[f"{name}_regularizer"] = _regularizer(regularizer)
    return BatchNormalization(
        axis=axis,
        epsilon=epsilon,
        center=center,
        scale=scale,
        adjustment=adjustment,
        activation=_activation(activation_fn),
        name=scope and scope.strip("/").replace("/", "_"),
        dtype=dtype,
        **options,
    )


def _refuse(unsupported: Mapping[str, Any]) -> None:
    for name, value in unsupported.items():
        if name not in REFUSED:
            allowed = [*inspect.signature(layer_from_arguments).parameters, *REFUSED]
            allowed.remove("unsupported")
            raise ValueError(
                f"contrib's batch_norm had no argument {name!r}. {hint(name, allowed)}"
            )
        if not any(value is harmless for harmless in HARMLESS.get(name, (None,))):
            raise ValueError(f"{name} has no counterpart in a layer's constructor. {REFUSED[name]}")


def _parse_version(version: str) -> tuple[int, int]:
    if isinstance(version, str) and (match := re.match(r"(\d+)\.(\d+)", version)):
        return int(match[1]), int(match[2])
    raise ValueError(f'version must be TensorFlow\'s, such as "1.15"; received {version!r}.')


def _initializer(initializer: Any) -> Any:
    """Returns Keras's initializer for TensorFlow's of the same name; any other as it is."""
    kind = type(initializer)
    if not kind.__module__.startswith("tensorflow."):
        return initializer
    counterpart = getattr(keras.initializers, kind.__name__, None)
    if counterpart is None:
        raise ValueError(
            f"{kind.__name__} of TensorFlow has no namesake in keras.initializers; give one of "
            "those, or a function from shape and dtype to a tensor."
        )
    allowed = inspect.signature(counterpart).parameters
    config = initializer.get_config()
    return counterpart(**{name: value for name, value in config.items() if name in allowed})


def _regularizer(regularizer: Any) -> Any:
    """Returns Keras's regularizer for contrib's; any other as it is."""
    if str(getattr(regularizer, "__module__", "")).startswith(("tf_slim.", "tensorflow.contrib.")):
        raise ValueError(
            f"{regularizer.__qualname__.partition('.')[0]} of tf_slim needs variables of "
            "TensorFlow 1: give batchnorm.contrib's function of the same name, or "
            "keras.regularizers.L2(scale / 2), which is l2_regularizer(scale)."
        )
    to_keras = getattr(regularizer, "to_keras", None)
    return regularizer if to_keras is None else to_keras()


def _activation(function: Callable[[Any], Any] | None) -> Any:
    """Returns Keras's activation for TensorFlow's of the same name; any other as it is."""
    if str(getattr(function, "__module__", "")).startswith("tensorflow."):
        return getattr(keras.activations, getattr(function, "__name__", ""), function)
    return function
