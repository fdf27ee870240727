"""Checkpoints of TensorFlow 1, written by a Saver in a graph of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from batchnorm.contrib.load_checkpoint import load_checkpoint
from tests.differentiate import Array, to_numpy


def write(folder: Path, values: Mapping[str, Any], name: str = "model.ckpt", **saver: Any) -> str:
    """Writes a checkpoint of these variables and returns its prefix."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {}
        for key, value in values.items():
            value = value if isinstance(value, tf.Tensor) else np.asarray(value)
            variables[key] = v1.Variable(value, name="value", use_resource=False)
        session.run(v1.global_variables_initializer())
        return str(
            v1.train.Saver(variables, **saver).save(session, f"{folder}/{name}")
        )  # pathlib cuts a slash


def numbers(*shape: int, dtype: str = "float32") -> Array:
    """Returns normal numbers, different for each shape."""
    return np.random.default_rng(sum(shape) + 7).normal(size=shape).astype(dtype)


def normalization(scope: str, channels: int, *without: str, **more: Any) -> dict[str, Any]:
    """Returns the variables of batch normalization in a scope."""
    names = ("beta", "gamma", "moving_mean", "moving_variance")
    rng = np.random.default_rng(len(scope) + channels)
    values = {name: rng.uniform(0.5, 2.0, channels).astype("float32") for name in names}
    values = {name: value for name, value in values.items() if name not in without} | more
    return {f"{scope}/{name}": value for name, value in values.items()}


def values_of(model: Any) -> dict[str, Array]:
    """Returns copies of a model's variables, by path."""
    return {variable.path: np.array(to_numpy(variable)) for variable in model.weights}


def stack(*row: Any, shape: tuple[int, ...] = (6, 6, 3)) -> Any:
    """Builds a functional model of layers in a row."""
    inputs = x = keras.Input(shape)
    for layer in row:
        x = layer(x)
    return keras.Model(inputs, x)


def conv(name: str, filters: int = 3, **kwargs: Any) -> Any:
    return layers.Conv2D(filters, 3, padding="same", name=name, **{"use_bias": False} | kwargs)


def weights(*scopes: str, value: float | None = None) -> dict[str, Any]:
    """Returns kernels of 3x3 from 3 channels to 3, filled with a number that identifies them."""
    shape = (3, 3, 3, 3)
    return {
        f"{scope}/weights": np.full(shape, index if value is None else value, "float32")
        for index, scope in enumerate(scopes, 1)
    }


def sources(report: Any) -> dict[str, str]:
    return {entry.variable: entry.checkpoint for entry in report.loaded}


def refused(prefix: Any, model: Any, *words: str, **kwargs: Any) -> str:
    """Returns the error's text; the model must not have changed."""
    before = values_of(model)
    with pytest.raises(ValueError) as caught:
        load_checkpoint(prefix, model, **kwargs)
    for path, value in values_of(model).items():
        np.testing.assert_array_equal(value, before[path])
    for word in words:
        assert word in str(caught.value), caught.value
    return str(caught.value)
