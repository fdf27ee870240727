"""Nets of tf_slim, of which only `batch_norm` fails on today's TensorFlow."""

import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm import contrib
from tests.contrib.graphs import session

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("tf_slim") is None, reason="tf_slim is not installed"
    ),
    pytest.mark.filterwarnings("ignore"),  # of Keras 2's layers, which tf_slim's layers call
]


@pytest.fixture
def slim() -> Iterator[Any]:
    """tf_slim with all its nets, imported before it is patched."""
    import tf_slim
    import tf_slim.nets

    yield tf_slim


def layers_of_a_net(slim: Any) -> Any:
    """Two references as in packages of nets: a default, and a table by functions."""

    def net(x: Any, normalizer_fn: Any = slim.batch_norm) -> Any:
        return normalizer_fn(x, scope="a", decay=0.5)

    return net, {(slim.batch_norm,): {"decay": 0.5}}


@pytest.mark.parametrize("name", ["resnet_v1", "resnet_v2", "inception_v1"])
def test_a_net_is_built_and_trained_for_a_step(slim: Any, name: str) -> None:
    images = np.random.default_rng(0).normal(1.0, 2.0, (4, 32, 32, 3)).astype("float32")
    net = getattr(slim.nets, name if "resnet" in name else "inception")
    with contrib.patch_tf_slim(), session() as opened:
        x = tf.constant(images)
        if name == "inception_v1":
            with slim.arg_scope(net.inception_v1_arg_scope()):
                y, points = net.inception_v1_base(x, "MaxPool_3a_3x3")
        else:
            blocks = [getattr(net, f"{name}_block")("block1", 4, 2, 2)]
            with slim.arg_scope(slim.nets.resnet_utils.resnet_arg_scope(batch_norm_decay=0.9)):
                y, points = getattr(net, name)(x, blocks, 5, is_training=True)
        loss = tf.reduce_mean(tf.square(y)) + tf.losses.get_regularization_loss()
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        moving = [variable for variable in tf.global_variables() if "moving_" in variable.op.name]
        assert len(updates) == len(moving) > 4
        with tf.control_dependencies(updates):
            step = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        opened.run(tf.global_variables_initializer())
        before = opened.run(loss)
        opened.run(step)
        after = opened.run(loss)
        assert np.isfinite([before, after]).all() and after < before
        for variable, value in zip(moving, opened.run(moving), strict=True):
            start = 1.0 if variable.op.name.endswith("variance") else 0.0
            assert np.abs(value - start).max() > 1e-6, variable.op.name


def test_the_numbers_are_contrib_s(slim: Any) -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (8, 5))
    with contrib.patch_tf_slim(), session() as opened:
        options = {"decay": 0.75, "scale": True, "fused": False, "epsilon": 0.25}
        with slim.arg_scope([slim.batch_norm], **options):
            y = slim.batch_norm(tf.constant(x))
        opened.run(tf.global_variables_initializer())
        value = opened.run([y, *tf.get_collection(tf.GraphKeys.UPDATE_OPS)])[0]
        (mean,) = (
            variable
            for variable in tf.global_variables()
            if variable.op.name.endswith("moving_mean")
        )
        np.testing.assert_allclose(opened.run(mean), 0.25 * x.mean(0), rtol=1e-12)
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 0.25)
    np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-12)


def test_whoever_holds_it_is_reached(slim: Any) -> None:
    from tf_slim import batch_norm as imported

    net, table = layers_of_a_net(slim)
    with slim.arg_scope([slim.batch_norm], scale=True) as scope:
        pass
    patch = contrib.patch_tf_slim()
    try:
        (functions,) = table
        for function in (net, imported, *functions, slim.layers.batch_norm):
            with session(), slim.arg_scope(scope):
                function(tf.zeros([2, 3]))
                last = [
                    variable.op.name.rpartition("/")[2] for variable in tf.trainable_variables()
                ]
            assert last == ["beta", "gamma"]
    finally:
        patch.undo()


def test_it_can_be_undone_and_repeated(slim: Any) -> None:
    def works() -> bool:
        with session():
            try:
                slim.batch_norm(tf.zeros([2, 4, 4, 3]))
            except ModuleNotFoundError as error:  # of Keras 2
                assert error.name == "tf_keras"
                return False
        return True

    if importlib.util.find_spec("tf_keras") is not None:
        pytest.skip("with tf_keras tf_slim's own works, too")
    assert not works()
    first = contrib.patch_tf_slim()
    with contrib.patch_tf_slim():
        assert works()
    assert works()
    first.undo()
    assert not works()
    first.undo()
    assert not works()


def test_what_tf_slim_has_is_said(slim: Any) -> None:
    for name in contrib._TF_SLIM_NAMES:
        assert callable(getattr(slim, name)), name
    with pytest.raises(AttributeError, match=r"no attribute 'max_pool2d': .*tf_slim\.max_pool2d"):
        contrib.max_pool2d  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nonsense'$"):
        contrib.nonsense  # noqa: B018


def test_without_tf_slim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf_slim.layers.layers", None)
    with pytest.raises(ImportError, match="tf_slim is not installed: pip install tf_slim"):
        contrib.patch_tf_slim()


def test_a_tf_slim_that_is_built_otherwise(slim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (contrib.batch_norm, lambda x: x):
        monkeypatch.setattr(sys.modules["tf_slim.layers.layers"], "batch_norm", other)
        with pytest.raises(RuntimeError, match="`slim.batch_norm = contrib.batch_norm`"):
            contrib.patch_tf_slim()
