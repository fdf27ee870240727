from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow.compat.v1 as tf

from batchnorm.contrib.tensorflow.arg_scope import arg_scope
from batchnorm.contrib.tensorflow.fully_connected import fully_connected
from tests.contrib.graphs import graph, names, run

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="graph code is TensorFlow's"
)

Array = npt.NDArray[Any]
X = np.random.default_rng(0).normal(2.0, 3.0, (4, 3, 5))
BIAS = np.array([0.5, -3.0])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5), ("float16", 2e-2)]
)
@pytest.mark.parametrize("rank", [2, 3])
def test_numbers(rank: int, dtype: str, tolerance: float) -> None:
    x = (X[:, 0] if rank == 2 else X).astype(dtype)
    with graph():
        y = fully_connected(x, 2, biases_initializer=tf.constant_initializer(BIAS))
        assert y.dtype == dtype and y.shape.as_list() == [*x.shape[:-1], 2]
        assert {variable.dtype.base_dtype.name for variable in tf.global_variables()} == {dtype}
        values = run(y)
    assert values["weights"].shape == (5, 2) and values["biases"].shape == (2,)
    expected = np.maximum(x.astype(np.float64) @ values["weights"] + BIAS, 0)
    assert 0 < np.mean(expected > 0) < 1
    np.testing.assert_allclose(values["y"], expected, tolerance, 10 * tolerance)


def test_no_activation_and_no_biases() -> None:
    with graph():
        y = fully_connected(X, 2, activation_fn=None, biases_initializer=None)
        values = run(y)
    assert values.keys() == {"y", "weights"}
    expected = X @ values["weights"]
    assert expected.min() < 0
    np.testing.assert_allclose(values["y"], expected, 1e-12)


def test_whole_floats_are_sizes() -> None:
    """Public code writes `n / 2`."""
    with graph():
        sizes: list[Any] = [16.0, np.float32(16), np.int64(16), tf.Dimension(16)]
        for units in sizes:
            assert fully_connected(tf.zeros([2, 5]), units).shape.as_list() == [2, 16]


def test_default_weights_are_glorots() -> None:
    with graph():
        weights = run(fully_connected(tf.zeros([1, 500]), 100))["weights"]
    assert np.abs(weights).max() == pytest.approx(0.1, rel=1e-3)  # sqrt(6 / 600)


def test_unknown_sizes() -> None:
    with graph():
        x = tf.placeholder(tf.float64, [None, None, 5])
        y = fully_connected(x, 2, activation_fn=tf.nn.tanh)
        assert y.shape.as_list() == [None, None, 2]
        values = run(y, {x: X})
        assert fully_connected(tf.placeholder(tf.float32, [None, 5]), 2).shape[1] == 2
    np.testing.assert_allclose(values["y"], np.tanh(X @ values["weights"]), 1e-12)


def centred(x: Any, offset: float = 0.0) -> Any:
    """A normalizer with a variable of its own."""
    shift = tf.get_variable("shift", x.shape[-1:], initializer=tf.ones_initializer())
    return x - tf.reduce_mean(x, 0) + tf.cast(shift, x.dtype) + offset


@pytest.mark.parametrize(("params", "offset"), [(None, 0.0), ({"offset": 3.0}, 3.0)])
def test_normalizer(params: Any, offset: float) -> None:
    with graph():
        with arg_scope([fully_connected], normalizer_fn=centred, normalizer_params=params):
            y = fully_connected(X[:, 0], 2, activation_fn=tf.nn.elu)
        assert names("variables") == ["fully_connected/weights", "fully_connected/shift"]
        assert names("model_variables") == names("variables")
        values = run(y)
    product = X[:, 0] @ values["weights"]
    z = product - product.mean(0) + 1 + offset
    np.testing.assert_allclose(values["y"], np.where(z > 0, z, np.expm1(z)), 1e-6)


def test_variables_and_collections() -> None:
    with graph():
        y = fully_connected(X, 2, variables_collections=["mine"], outputs_collections="outputs")
        both = ["fully_connected/weights", "fully_connected/biases"]
        for collection in ("variables", "model_variables", "trainable_variables", "mine"):
            assert names(collection) == both, collection
        assert tf.get_collection("outputs") == [y] and y.aliases == ["fully_connected"]
        assert y.op.name == "fully_connected/Relu"

        by_name = {"biases": ["mine too"]}
        fully_connected(X, 2, trainable=False, variables_collections=by_name, scope="fc")
        assert names("mine too") == ["fc/biases"] and names("trainable_variables") == both
        fully_connected(X, 2)
        assert names("variables")[-2:] == ["fully_connected_1/weights", "fully_connected_1/biases"]


def test_reuse() -> None:
    with graph():
        first = fully_connected(X, 2, scope="fc", weights_regularizer=tf.reduce_sum)
        again = fully_connected(
            X,
            2,
            scope="fc",
            reuse=True,
            weights_regularizer=tf.reduce_sum,
            variables_collections="again",
        )
        assert names("again") == names("variables") == ["fc/weights", "fc/biases"]
        assert len(names("regularization_losses")) == 1
        np.testing.assert_array_equal(run(first - again)["y"], 0)
        with pytest.raises(ValueError, match="fc/weights already exists"):
            fully_connected(X, 2, scope="fc")
        with pytest.raises(ValueError, match="other/weights does not exist"):
            fully_connected(X, 2, scope="other", reuse=True)


def test_regularizers() -> None:
    with graph():
        y = fully_connected(
            X,
            2,
            biases_initializer=tf.constant_initializer(BIAS),
            weights_regularizer=lambda w: tf.reduce_sum(w**2),
            biases_regularizer=tf.reduce_sum,
        )
        weights_loss, bias_loss = tf.get_collection("regularization_losses")
        values = run(tf.stack([weights_loss, bias_loss]) + 0 * tf.reduce_sum(y))
    np.testing.assert_allclose(values["y"], [(values["weights"] ** 2).sum(), BIAS.sum()], 1e-12)


def test_a_variable_scope_with_all_it_can_have() -> None:
    requests = []

    def getter(get: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        requests.append(name)
        return get(name, *args, **kwargs)

    with graph():
        with tf.variable_scope(
            "outer",
            initializer=tf.constant_initializer(2.0),
            regularizer=tf.reduce_sum,
            partitioner=tf.fixed_size_partitioner(2, axis=0),
            custom_getter=getter,
        ):
            y = fully_connected(X, 2, weights_initializer=None, variables_collections="mine")
        assert requests == ["outer/fully_connected/weights", "outer/fully_connected/biases"]
        parts = [f"{name}/part_{i}" for name in requests for i in (0, 1)]
        assert names("mine") == names("model_variables") == parts
        losses = tf.add_n(tf.get_collection("regularization_losses"))
        np.testing.assert_allclose(run(losses)["y"], 20)
        expected = np.maximum(X.sum(-1, keepdims=True) * [2.0, 2.0], 0)
        np.testing.assert_allclose(run(y)["y"], expected, 1e-12)


@pytest.mark.parametrize(
    ("shape", "units", "text"),
    [
        ([4], 2, "rank 2 or more"),
        ([], 2, "rank 2 or more"),
        (None, 2, "static C; received the shape <unknown>"),
        ([4, None], 2, r"static C; received the shape \(4, None\)"),
        ([4, 5], 0, "num_outputs must be a positive integer; received 0"),
        ([4, 5], 2.5, "num_outputs must be a positive integer; received 2.5, which is not whole"),
        ([4, 5], -2.0, r"num_outputs must be a positive integer; received -2.0\."),
        ([4, 5], float("nan"), r"num_outputs must be a positive integer; received nan\."),
        ([4, 5], "2", "num_outputs must be a positive integer; received '2'"),
    ],
)
def test_errors(shape: Any, units: Any, text: str) -> None:
    with graph(), pytest.raises(ValueError, match=text):
        fully_connected(tf.placeholder(tf.float32, shape), units)


def test_whole_numbers_have_no_weights() -> None:
    with graph(), pytest.raises(TypeError, match="received int32"):
        fully_connected(np.ones((4, 5), np.int32), 2)


def test_eager_code() -> None:
    with pytest.raises(RuntimeError, match=r"runs eagerly.*tf\.Graph\(\)\.as_default\(\)"):
        fully_connected(X, 2)
