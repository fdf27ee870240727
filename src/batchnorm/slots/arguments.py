"""Arguments that go by another name elsewhere, and the name or the place that they have here."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from keras import ops

Tensor = Any

_AT_A_CALL = "give it to each call, layer(x, training=True)"
_CHANNELS = "leave it out: the layer takes the number of channels from its first inputs"
_RENORM = "write renorm=Renorm(rmax=3.0, dmax=5.0)"
_COLLECTIONS = "leave it out: Keras has no collections, and a call in training records its step"
_SAMPLE_WEIGHT = "give weights to each call, layer(x, sample_weight=...)"
_STATISTICS = "the layer measures the batch where training=True, and nowhere else: leave it out"

# Arguments of constructors in TensorFlow 1, tf.keras, Keras 1, PyTorch, Flax, Haiku, Caffe, MXNet
# and in layers written for one project.
CONSTRUCTOR = {
    "virtual_batch_size": "write statistics=Ghost({value}), and strided=True for the groups that "
    "TensorFlow forms",
    "ghost_batch_size": "write statistics=Ghost({value})",
    "num_virtual_batches": "write statistics=Ghost(size), with the samples of a virtual batch",
    "decay": "write momentum={value}",
    "decay_rate": "write momentum={value}",
    "moving_average_fraction": "write momentum={value}",
    "renorm_decay": "write renorm_momentum={value}",
    "eps": "write epsilon={value}",
    "variance_epsilon": "write epsilon={value}",
    "fused": "leave it out: the fastest code that is exact is chosen. TensorFlow's fused kernel "
    "recorded n / (n - 1) times the variance, which is moving=Exponential(0.99, unbiased=True)",
    "unbiased": "write moving=Exponential(0.99, unbiased={value})",
    "bessels_correction": "write moving=Exponential(0.99, unbiased={value})",
    "zero_debias_moving_mean": "write moving=ZeroDebiased(0.99, variance=False)",
    "mode": "leave it out: the layer is Keras 1's mode=0. For mode=2, which uses the batch's "
    "statistics in inference too, call layer(x, training=True)",
    "is_training": _AT_A_CALL,
    "training": _AT_A_CALL,
    "use_running_average": "give each call the opposite, layer(x, training=False) for True",
    "use_global_stats": "give each call the opposite, layer(x, training=False) for True",
    "track_running_stats": _STATISTICS,
    "num_features": _CHANNELS,
    "num_channels": _CHANNELS,
    "in_channels": _CHANNELS,
    "input_dim": _CHANNELS,
    "data_format": "write axis=-1 for channels last (NHWC), axis=1 for channels first (NCHW)",
    "feature_axis": "write axis={value}",
    "channel_axis": "write axis={value}",
    "use_bias": "write center={value}",
    "use_scale": "write scale={value}",
    "create_offset": "write center={value}",
    "create_scale": "write scale={value}",
    "fix_gamma": "write scale=False for fix_gamma=True",
    "beta_init": "write beta_initializer={value}",
    "gamma_init": "write gamma_initializer={value}",
    "bias_init": "write beta_initializer={value}",
    "scale_init": "write gamma_initializer={value}",
    "bias_initializer": "write beta_initializer={value}",
    "scale_initializer": "write gamma_initializer={value}",
    "bias_regularizer": "write beta_regularizer={value}",
    "activation_fn": "write activation={value}",
    "param_initializers": "write gamma_initializer=, beta_initializer=, "
    "moving_mean_initializer= and moving_variance_initializer=",
    "param_regularizers": "write gamma_regularizer= and beta_regularizer=",
    "updates_collections": _COLLECTIONS,
    "variables_collections": _COLLECTIONS,
    "outputs_collections": _COLLECTIONS,
    "reuse": "leave it out and call the same layer again, whose variables are its own",
    "scope": "write name={value}",
    "batch_weights": _SAMPLE_WEIGHT,
    "sample_weight": _SAMPLE_WEIGHT,
    "mask": "give it to each call, layer(x, mask=...)",
    "condition": "write affine=PerClass(n), FromEmbedding() or Given(), and give the condition to "
    "each call, layer(x, condition=...)",
    "classes": "write affine=PerClass({value}), or ConditionalBatchNormalization({value})",
    "num_classes": "write affine=PerClass({value}), or ConditionalBatchNormalization({value})",
    "n_classes": "write affine=PerClass({value}), or ConditionalBatchNormalization({value})",
    "rmin": _RENORM,
    "rmax": _RENORM,
    "dmax": _RENORM,
    "r_max": _RENORM,
    "d_max": _RENORM,
    "sync": "write synchronized={value}",
    "process_group": "write synchronized=True, with TensorFlow",
    "axis_name": "leave it out: under jax.jit a batch that is cut over devices is measured whole",
    "device": "leave it out: Keras chooses where variables are",
}

# Arguments of calls.
CALL = {
    "labels": "write condition=",
    "label": "write condition=",
    "y": "write condition=",
    "class_labels": "write condition=",
    "class_id": "write condition=",
    "conditions": "write condition=",
    "is_training": "write training=",
    "train": "write training=",
    "is_train": "write training=",
    "use_running_average": "write training=, its opposite",
    "weights": "write sample_weight=",
    "weight": "write sample_weight=",
    "sample_weights": "write sample_weight=",
    "batch_weights": "write sample_weight=",
    "padding_mask": "write mask=, True where an element counts",
    "lengths": "write mask=ops.arange(L) < lengths[:, None], with L steps",
    "gamma": "make the layer with affine=Given(), and write condition=(scale, shift)",
    "beta": "make the layer with affine=Given(), and write condition=(scale, shift)",
    "scale": "make the layer with affine=Given(), and write condition=(scale, shift)",
    "shift": "make the layer with affine=Given(), and write condition=(scale, shift)",
}


def refuse_unfamiliar(layer: str, arguments: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Raises for the first argument of a constructor that goes by another name here.

    Args:
        layer: the name of its class.
        arguments: by name.
        allowed: the names of the layer's own arguments.

    Raises:
        ValueError: with the name that the argument has here. A name that nothing resembles is left
            to Keras.
    """
    allowed = frozenset(allowed)
    for name in (name for name in arguments if name not in allowed):
        if hint := _hint(name, CONSTRUCTOR, allowed):
            value = _shown(arguments[name])
            hint = hint.replace("{value}", value)
            raise ValueError(f"{layer} takes no argument {name!r}. {_sentence(hint)}")


def refuse_call(names: Iterable[str], allowed: Iterable[str]) -> None:
    """Raises for the first argument of a call that the layer does not take.

    Args:
        names: of the arguments.
        allowed: the names that the layer's `call` has.

    Raises:
        TypeError: with the name that the argument has here. A name that nothing resembles is left
            to Keras.
    """
    allowed = frozenset(allowed)
    for name in (name for name in names if name not in allowed):
        if hint := _hint(name, CALL, allowed):
            raise TypeError(f"A call of the layer takes no argument {name!r}. {_sentence(hint)}")


def refuse_inputs(inputs: Any) -> None:
    """Raises for inputs that come as a list with a condition, such as `[x, labels]`.

    Args:
        inputs: of a call, or their shapes.

    Raises:
        ValueError: they are a list or a tuple.
    """
    if isinstance(inputs, list | tuple):
        raise ValueError(
            f"The layer takes one tensor of inputs, and received a {type(inputs).__name__} of "
            f"{len(inputs)}. Give a condition by its name, layer(x, condition=labels), and make an "
            "array of numbers first, ops.convert_to_tensor(x)."
        )


def refuse_training(training: Any) -> None:
    """Raises for what is in the place of `training` and is no flag, such as labels by position.

    Args:
        training: of a call.

    Raises:
        ValueError: it is neither a bool, `None` nor a scalar.
    """
    if isinstance(training, bool | None) or getattr(training, "shape", None) == ():
        return
    shape = getattr(training, "shape", None)
    kind = type(training).__name__ if shape is None else f"tensor of shape {tuple(shape)}"
    raise ValueError(
        f"training must be True or False; received a {kind}. Labels and other conditions are given "
        "by name, layer(x, condition=labels), and so are masks, layer(x, mask=mask)."
    )


def refuse_affine(affine: Any) -> None:
    """Raises for PyTorch's `affine=True` and `affine=False`.

    Args:
        affine: of a constructor.

    Raises:
        ValueError: it is a bool.
    """
    if isinstance(affine, bool):
        hint = "leave it out" if affine else "write center=False, scale=False"
        raise ValueError(
            f"affine must be an object like PerClass(10), or None; received {affine}. For "
            f"PyTorch's affine={affine} {hint}."
        )


def with_tensors(condition: Any, dtype: str) -> Any:
    """Makes tensors of the numbers in a pair that holds tensors, too.

    Args:
        condition: of a call; Keras 3.15 refuses numbers beside tensors.
        dtype: of the tensors that are made.
    """
    if not isinstance(condition, list | tuple):
        return condition
    numbers = [isinstance(value, int | float) for value in condition]
    if all(numbers) or not any(numbers):
        return condition
    return type(condition)(
        ops.convert_to_tensor(value, dtype) if number else value
        for value, number in zip(condition, numbers, strict=True)
    )


def flag(name: str, value: Any) -> bool:
    """Checks an argument that is True or False.

    Args:
        name: of the argument.
        value: what came; 0 and 1 are taken.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, bool | np.bool_ | int | np.integer) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} must be True or False; received {value!r}.")


def _hint(name: str, familiar: Mapping[str, str], allowed: Iterable[str]) -> str | None:
    if name in familiar:
        return familiar[name]
    nearest = get_close_matches(name, allowed, n=1, cutoff=0.75)
    return f"the argument with the nearest name is {nearest[0]!r}" if nearest else None


def _sentence(hint: str) -> str:
    return f"{hint[0].upper()}{hint[1:]}."


def _shown(value: Any) -> str:
    """The value as code, where it is short."""
    text = repr(value)
    return text if len(text) <= 40 and " at 0x" not in text else "..."
