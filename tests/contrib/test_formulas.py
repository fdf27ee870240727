"""The formulas in the docstrings of graph code, evaluated and compared with its results."""

from typing import Any

import keras
import numpy as np
import pytest

from tests.compare import assert_close
from tests.test_docs import solve

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm import contrib
from batchnorm.contrib import batch_norm, variance_scaling_initializer, xavier_initializer
from tests.contrib.graphs import run


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training: bool) -> None:
    parameters: dict[str, Any]
    values: dict[str, Any]
    x = np.random.default_rng(0).normal(3.0, 2.0, (8, 4))
    state = [x.mean(0), x.var(0)] if training else [np.arange(4.0), np.arange(1.0, 5.0)]
    parameters = {"gamma": np.arange(2.0, 6.0), "beta": np.arange(4.0)}
    values = dict(zip(("mean", "variance"), state, strict=True))
    formula = solve(batch_norm.__doc__, x=x, epsilon=0.5, **values, **parameters)
    moving = {f"moving_{name}": value for name, value in values.items()}
    with tf.Graph().as_default():
        initializers = {
            name: tf.constant_initializer(value) for name, value in (parameters | moving).items()
        }
        y = batch_norm(
            tf.constant(x),
            epsilon=0.5,
            scale=True,
            is_training=training,
            param_initializers=initializers,
        )
        assert_close(run(y)["y"], formula["y"], 1e-12)


@pytest.mark.parametrize("mode, n", [("FAN_IN", 2 * 300), ("FAN_AVG", 2 * (300 + 40) / 2)])
def test_variance_scaling(mode: str, n: float) -> None:
    formula = solve(variance_scaling_initializer.__doc__, factor=0.7, n=n)
    with tf.Graph().as_default():
        uniform = run(variance_scaling_initializer(0.7, mode, uniform=True, seed=1)([2, 300, 40]))[
            "y"
        ]
        normal = run(variance_scaling_initializer(0.7, mode, seed=1)([2, 300, 40]))["y"]
    assert_close(abs(uniform).max(), formula["limit"], 1e-3)
    # Beyond two deviations it was drawn anew.
    assert_close(abs(normal).max(), 2 * np.sqrt(1.3 * 0.7 / n), 1e-3)


def test_xavier() -> None:
    formula = solve(xavier_initializer.__doc__, fan_in=300, fan_out=40)
    with tf.Graph().as_default():
        values = run(xavier_initializer(seed=1)([300, 40]))["y"]
    assert_close(abs(values).max(), formula["limit"], 1e-3)


@pytest.mark.parametrize("name", ["l1_regularizer", "l2_regularizer", "l1_l2_regularizer"])
def test_regularizers(name: str) -> None:
    w = np.random.default_rng(0).normal(0.5, 2.0, 12)
    scales: dict[str, Any] = (
        {"scale": 0.3} if name != "l1_l2_regularizer" else {"scale_l1": 0.3, "scale_l2": 0.7}
    )
    regularizer = getattr(contrib, name)
    formula = solve(regularizer.__doc__, w=w, **scales)
    with tf.Graph().as_default():
        assert_close(run(regularizer(**scales)(tf.constant(w)))["y"], formula["loss"], 1e-12)
