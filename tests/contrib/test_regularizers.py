"""`l1_regularizer`, `l2_regularizer`: the formulas of tf.contrib.layers, which tf_slim keeps."""

import importlib.util
from typing import Any

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm import contrib
from tests.contrib.graphs import graph, run

W = np.random.default_rng(0).normal(0.5, 2.0, (3, 4))
L1, L2 = np.abs(W).sum(), (W**2).sum() / 2
CASES: list[tuple[str, tuple[Any, ...], float]] = [
    ("l1_regularizer", (0.1,), 0.1 * L1),
    ("l2_regularizer", (0.1,), 0.1 * L2),
    ("l2_regularizer", (1,), L2),
    ("l1_l2_regularizer", (), L1 + L2),
    ("l1_l2_regularizer", (0.25, 0.5), 0.25 * L1 + 0.5 * L2),
    ("l1_l2_regularizer", (0.0, 0.5), 0.5 * L2),
    ("l1_l2_regularizer", (0.25, 0.0), 0.25 * L1),
]


def loss(function: Any) -> Any:
    with graph():
        return float(run(function(tf.constant(W)))["y"])


@pytest.mark.parametrize(("name", "scales", "expected"), CASES)
def test_formulas(name: str, scales: tuple[Any, ...], expected: float) -> None:
    regularizer = getattr(contrib, name)(*scales)
    assert loss(regularizer) == pytest.approx(expected, rel=1e-13)
    with graph():
        fed = getattr(contrib, name)(*(tf.constant(scale, tf.float64) for scale in scales))
        assert float(run(fed(tf.constant(W)))["y"]) == pytest.approx(expected, rel=1e-13)
    keras_s = regularizer.to_keras()
    assert float(keras_s(W.astype("float32"))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("tf_slim") is None, reason="tf_slim is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "scales", "expected"), CASES)
def test_tf_slim_s_are_the_same(name: str, scales: tuple[Any, ...], expected: float) -> None:
    regularizers = importlib.import_module("tf_slim.layers.regularizers")
    scales = tuple(map(float, scales))
    assert loss(getattr(regularizers, name)(*scales)) == pytest.approx(expected, rel=1e-13)
    names = set()
    for source in (regularizers, contrib):
        with graph():
            make = getattr(source, name)(*scales)
            tf.get_variable("w", (3,), regularizer=make, initializer=tf.ones_initializer())
            (added,) = tf.losses.get_regularization_losses()
            names.add(added.op.name)
    if all(scales):
        assert len(names) == 1, names


def test_a_scale_of_0_is_no_loss() -> None:
    with graph() as built:
        for function in (contrib.l1_regularizer, contrib.l2_regularizer):
            assert function(0.0)(tf.constant(W)) is None
        assert contrib.l1_l2_regularizer(0.0, 0.0)(tf.constant(W)) is None
        options: dict[str, Any] = {"weights_regularizer": contrib.l2_regularizer(0.0)}
        contrib.conv2d(tf.zeros([1, 4, 4, 2]), 3, 3, **options)
        assert tf.losses.get_regularization_losses() == []
        assert not [
            operation for operation in built.get_operations() if "regularizer" in operation.name
        ]


def test_in_layers_and_with_half_precision() -> None:
    with graph():
        options: dict[str, Any] = {"weights_regularizer": contrib.l2_regularizer(0.1)}
        ones = {"weights_initializer": tf.ones_initializer()}
        contrib.conv2d(tf.zeros([1, 4, 4, 2], tf.float16), 3, 3, **options, **ones)
        contrib.fully_connected(tf.zeros([1, 4]), 3, **options, **ones)
        contrib.batch_norm(
            tf.zeros([1, 4]), scale=True, param_regularizers={"gamma": contrib.l1_regularizer(0.5)}
        )
        added = tf.losses.get_regularization_losses()
        assert [loss.dtype.name for loss in added] == ["float16", "float32", "float32"]
        total = run(tf.add_n([tf.cast(loss, tf.float32) for loss in added]))["y"]
    assert total == pytest.approx(0.1 * 54 / 2 + 0.1 * 12 / 2 + 0.5 * 4, rel=1e-3)


@pytest.mark.parametrize("scale", [-0.1, "0.1", None, float("nan"), float("inf"), True])
def test_scales_that_are_none(scale: Any) -> None:
    for function in (contrib.l1_regularizer, contrib.l2_regularizer):
        with pytest.raises(ValueError, match="a number of at least 0.*received"):
            function(scale)


def test_keras_s_regularizer_of_the_same_number_is_twice_contrib_s() -> None:
    twice = float(keras.regularizers.L2(0.1)(W.astype("float32")))
    assert twice == pytest.approx(2 * loss(contrib.l2_regularizer(0.1)), rel=1e-5)
    with graph(), pytest.raises(ValueError, match="a Keras layer takes a number"):
        contrib.l2_regularizer(tf.constant(0.1)).to_keras()
