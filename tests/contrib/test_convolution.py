import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow.compat.v1 as tf

from batchnorm.contrib.tensorflow.arg_scope import arg_scope
from batchnorm.contrib.tensorflow.convolution import (
    conv1d,
    conv2d,
    conv3d,
    convolution,
    convolution1d,
    convolution2d,
    convolution3d,
)
from tests.contrib.graphs import graph, names, run
from tests.process import output_of

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="graph code is TensorFlow's"
)

Array = npt.NDArray[Any]
BIAS = np.array([0.5, -3.0, 2.0, -1.0])
SPACE = {3: (11,), 4: (7, 10), 5: (5, 6, 9)}
FIRST = {3: "NCW", 4: "NCHW", 5: "NCDHW"}
LAST = {3: "NWC", 4: "NHWC", 5: "NDHWC"}


def images(rank: int) -> Array:
    return np.random.default_rng(rank).normal(1.0, 2.0, (2, *SPACE[rank], 3))


def correlate(
    x: Array, weights: Array, stride: Sequence[int], rate: Sequence[int], padding: str
) -> Array:
    """Computes the definition, a sum over the positions of the window; channels last."""
    axes, window = x.ndim - 2, weights.shape[:-2]
    pads, sizes = [(0, 0)], []
    for size, k, s, r in zip(x.shape[1:-1], window, stride, rate, strict=True):
        reach = (k - 1) * r
        if padding == "SAME":
            sizes.append(-(-size // s))
            total = max((sizes[-1] - 1) * s + reach + 1 - size, 0)
            pads.append((total // 2, total - total // 2))
        else:
            sizes.append((size - reach - 1) // s + 1)
            pads.append((0, 0))
    x = np.pad(x, [*pads, (0, 0)])
    y = np.zeros((len(x), *sizes, weights.shape[-1]))
    for place in np.ndindex(*window):
        starts = [place[i] * rate[i] for i in range(axes)]
        seen = [
            slice(at, at + (size - 1) * s + 1, s)
            for at, size, s in zip(starts, sizes, stride, strict=True)
        ]
        y += x[(slice(None), *seen)] @ weights[place]
    return y


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("padding", ["SAME", "valid"])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("rank", [3, 4, 5])
def test_numbers(rank: int, stride: int, rate: int, padding: str, channels_first: bool) -> None:
    x, axes = images(rank), rank - 2
    # Not the same for all axes, so that none is taken for another.
    strides, rates = ([size, *[1, size][: axes - 1]] for size in (stride, rate))
    window = [3, 2, 1][:axes]
    with graph():
        y = convolution(
            np.moveaxis(x, -1, 1) if channels_first else x,
            4,
            window,
            strides,
            padding,
            FIRST[rank] if channels_first else LAST[rank],
            rates,
            biases_initializer=tf.constant_initializer(BIAS),
        )
        values = run(y)
    assert y.shape.as_list() == [*values["y"].shape]
    assert values["weights"].shape == (*window, 3, 4)
    product = correlate(x, values["weights"], strides, rates, padding.upper())
    expected = np.maximum(product + BIAS, 0)
    assert 0 < np.mean(expected > 0) < 1
    actual = np.moveaxis(values["y"], 1, -1) if channels_first else values["y"]
    np.testing.assert_allclose(actual, expected, 1e-11, 1e-11)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
def test_dtypes(dtype: str, tolerance: float, data_format: str) -> None:
    x = images(4).astype(dtype)
    with graph():
        inputs = x if data_format == "NHWC" else np.moveaxis(x, -1, 1)
        y = conv2d(inputs, 4, 3, data_format=data_format, activation_fn=None)
        assert {variable.dtype.base_dtype.name for variable in tf.global_variables()} == {dtype}
        values = run(y)
    assert y.dtype == dtype
    expected = correlate(x.astype(np.float64), values["weights"], [1, 1], [1, 1], "SAME")
    actual = values["y"] if data_format == "NHWC" else np.moveaxis(values["y"], 1, -1)
    np.testing.assert_allclose(actual, expected, tolerance, 5 * tolerance)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (2, 1), (1, 2)])
def test_gradients(stride: int, rate: int, data_format: str) -> None:
    x = images(4) if data_format == "NHWC" else np.moveaxis(images(4), -1, 1)
    with graph(), tf.Session() as session:
        inputs = tf.constant(x)
        y = conv2d(inputs, 4, 3, stride, data_format=data_format, rate=rate, activation_fn=None)
        loss = tf.reduce_sum(y**2) / 2
        weights, biases = tf.trainable_variables()
        gradients = tf.gradients(loss, [inputs, weights, biases])
        session.run(tf.global_variables_initializer())
        y_, w, b, gx, gw, gb = session.run([y, weights, biases, *gradients])
    # Without the biases the loss is homogeneous of degree 2 in the inputs and in the weights.
    assert not b.any()
    for value, gradient in ((x, gx), (w, gw)):
        np.testing.assert_allclose((value * gradient).sum(), (y_**2).sum(), 1e-10)
    axes = (0, 1, 2) if data_format == "NHWC" else (0, 2, 3)
    np.testing.assert_allclose(gb, y_.sum(axes), 1e-10, 1e-10)


@pytest.mark.parametrize("gpu", [False, True])
def test_a_cpu_is_not_asked_for_channels_first(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"] if gpu else [])

    def transposes(device: str | None) -> bool:
        with graph() as built, tf.device(device):
            conv2d(np.moveaxis(images(4), -1, 1), 4, 3, data_format="NCHW")
            formats = {
                operation.get_attr("data_format")
                for operation in built.get_operations()
                if operation.type == "Conv2D"
            }
            (actual,) = formats
            return bool(actual == b"NHWC")

    assert transposes(None) is not gpu
    assert transposes("/cpu:0") and not transposes("/gpu:0")


def test_unknown_sizes() -> None:
    x = images(4)
    with graph():
        any_size = tf.placeholder(tf.float64, [None, None, None, 3])
        y = conv2d(any_size, 4, [3, 2], rate=2, padding="VALID", activation_fn=None)
        assert y.shape.as_list() == [None, None, None, 4]
        values = run(y, {any_size: x})
        wide = tf.placeholder(tf.float64, [None, 3, None, 10])
        y = conv2d(wide, 4, [3, 2], 2, data_format="NCHW")
        assert y.shape.as_list() == [None, 4, None, 5]
    expected = correlate(x, values["weights"], [1, 1], [2, 2], "VALID")
    np.testing.assert_allclose(values["y"], expected, 1e-11, 1e-11)


def test_default_weights_are_glorots() -> None:
    with graph():
        weights = run(conv2d(tf.zeros([1, 5, 5, 60]), 40, [2, 3]))["weights"]
    assert np.abs(weights).max() == pytest.approx(0.1, rel=1e-3)  # sqrt(6 / 6 / 100)


def test_each_rank_has_its_function() -> None:
    functions = {3: conv1d, 4: conv2d, 5: conv3d}
    assert [function.__name__ for function in functions.values()] == [
        "convolution1d",
        "convolution2d",
        "convolution3d",
    ]
    assert (convolution1d, convolution2d, convolution3d) == tuple(functions.values())
    for rank, function in functions.items():
        assert inspect.signature(function) == inspect.signature(convolution)
        assert "rank " + str(rank) in (function.__doc__ or "")
        with graph():
            assert function(images(rank), 4, 3).shape.as_list() == [2, *SPACE[rank], 4]
            for other in {3, 4, 5} - {rank}:
                with pytest.raises(ValueError, match=f"rank {rank}; received rank {other}"):
                    function(images(other), 4, 3)


def test_arg_scope_tells_the_functions_apart() -> None:
    with graph():
        with arg_scope([conv2d], stride=2), arg_scope([convolution], activation_fn=None):
            assert conv2d(images(4), 4, 3).shape.as_list() == [2, 4, 5, 4]
            assert conv3d(images(5), 4, 3).shape.as_list() == [2, *SPACE[5], 4]
            assert names("variables")[0] == "Conv/weights"
            assert conv2d(images(4), 4, 3).op.type == "BiasAdd"
            assert conv2d(images(4), 4, 3, 1, activation_fn=tf.nn.relu).op.type == "Relu"


def scaled(x: Any, by: float = 2.0) -> Any:
    """A normalizer with a variable of its own."""
    return x * by * tf.cast(tf.get_variable("one", initializer=1.0), x.dtype)


@pytest.mark.parametrize(("params", "by"), [(None, 2.0), ({"by": 3.0}, 3.0)])
def test_normalizer(params: Any, by: float) -> None:
    x = images(4)
    with graph():
        y = conv2d(x, 4, 3, normalizer_fn=scaled, normalizer_params=params)
        assert names("variables") == names("model_variables") == ["Conv/weights", "Conv/one"]
        values = run(y)
    expected = by * np.maximum(correlate(x, values["weights"], [1, 1], [1, 1], "SAME"), 0)
    np.testing.assert_allclose(values["y"], expected, 1e-11, 1e-11)


def test_variables_and_collections() -> None:
    x = images(4)
    with graph():
        y = conv2d(x, 4, 3, variables_collections=["mine"], outputs_collections=["a", "b"])
        for collection in ("variables", "model_variables", "trainable_variables", "mine"):
            assert names(collection) == ["Conv/weights", "Conv/biases"], collection
        assert tf.get_collection("a") == tf.get_collection("b") == [y] and y.aliases == ["Conv"]
        assert y.op.name == "Conv/Relu"

        only_biases = {"biases": ["its own"]}
        with tf.variable_scope("block"):
            y = conv2d(
                x,
                4,
                3,
                trainable=False,
                variables_collections=only_biases,
                outputs_collections="c",
                scope="conv",
            )
        assert y.aliases == ["block/conv"] and names("its own") == ["block/conv/biases"]
        assert len(names("trainable_variables")) == 2
        conv2d(x, 4, 3, biases_initializer=None)
        assert names("variables")[4:] == ["Conv_1/weights"]


def test_reuse() -> None:
    x = images(4)
    with graph():
        first = conv2d(x, 4, 3, scope="conv", weights_regularizer=tf.reduce_sum)
        again = conv2d(x, 4, 3, scope="conv", weights_regularizer=tf.reduce_sum, reuse=True)
        assert names("variables") == ["conv/weights", "conv/biases"]
        assert len(names("regularization_losses")) == 1
        np.testing.assert_array_equal(run(first - again)["y"], 0)
        with pytest.raises(ValueError, match="conv/weights already exists"):
            conv2d(x, 4, 3, scope="conv")


def test_a_variable_scope_with_all_it_can_have() -> None:
    requests, x = [], images(4)

    def getter(get: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        requests.append(name)
        return get(name, *args, **kwargs)

    with graph():
        with tf.variable_scope(
            "outer",
            initializer=tf.constant_initializer(2.0),
            regularizer=tf.reduce_sum,
            partitioner=tf.variable_axis_size_partitioner(96, axis=2),
            custom_getter=getter,
        ):
            y = conv2d(x, 4, 2, weights_initializer=None, biases_initializer=None)
        assert requests == ["outer/Conv/weights"]
        assert len(names("model_variables")) == len(names("regularization_losses")) > 1
        np.testing.assert_allclose(run(tf.add_n(tf.losses.get_regularization_losses()))["y"], 96)
        expected = correlate(x, np.full((2, 2, 3, 4), 2.0), [1, 1], [1, 1], "SAME")
        np.testing.assert_allclose(run(y)["y"], np.maximum(expected, 0), 1e-11, 1e-11)


@pytest.mark.parametrize(
    ("shape", "options", "text"),
    [
        ([2, 3], {}, "rank 3, 4 or 5.* received rank 2"),
        ([2, 3, 3, 3, 3, 3], {}, "received rank 6"),
        (None, {}, "received rank None"),
        ([2, 7, 7, None], {}, "static; .*channels on axis 3"),
        ([2, None, 7, 7], {"data_format": "NCHW"}, "static; .*channels on axis 1"),
        ([2, 7, 7, 3], {"data_format": "CHWN"}, "one of NWC, .* received 'CHWN'"),
        ([2, 7, 7, 3], {"data_format": "channels_last"}, "channels_last NHWC"),
        ([2, 7, 7, 3], {"padding": "FULL"}, "SAME or VALID; received 'FULL'"),
        ([2, 7, 7, 3], {"stride": 2, "rate": 2}, "only one can be above 1; received 2 and 2"),
        ([2, 7, 7, 3], {"stride": [1, 2], "rate": [2, 1]}, "only one can be above 1"),
        ([2, 7, 7, 3], {"stride": 0}, "stride must be a positive integer; received 0"),
        ([2, 7, 7, 3], {"rate": [1, 1, 1]}, "rate must be one integer, or 2 .*rank 4"),
        ([2, 7, 7, 3], {"kernel_size": 2.5}, "kernel_size must be .* received 2.5"),
        ([2, 7, 7, 3], {"num_outputs": -1}, "num_outputs must be .* received -1"),
    ],
)
def test_errors(shape: Any, options: dict[str, Any], text: str) -> None:
    options = {"num_outputs": 4, "kernel_size": 3} | options
    with graph(), pytest.raises(ValueError, match=text):
        convolution(tf.placeholder(tf.float32, shape), **options)


def test_whole_floats_are_sizes() -> None:
    """Public code writes `n / 2`."""
    with graph():
        x = tf.zeros([2, 8, 8, 3])
        assert conv2d(x, 16.0, 6 / 2, stride=4 / 2).shape.as_list() == [2, 4, 4, 16]
        assert conv2d(x, np.float64(4), [3.0, 1.0], stride=[2.0, 1]).shape.as_list() == [2, 4, 8, 4]
        assert conv2d(x, 4, 3, rate=2.0, padding="VALID").shape.as_list() == [2, 4, 4, 4]
        shapes = [variable.shape.as_list() for variable in tf.global_variables()]
    assert shapes[::2] == [[3, 3, 3, 16], [3, 1, 3, 4], [3, 3, 3, 4]]


@pytest.mark.parametrize("name", ["num_outputs", "kernel_size", "stride", "rate"])
@pytest.mark.parametrize("value", [16.5, 0.5, np.float32(2.5)])
def test_fractions_are_no_sizes(name: str, value: Any) -> None:
    options = {"num_outputs": 4, "kernel_size": 3} | {name: value}
    text = rf"{name} must be a positive integer; received .*{value}\)?, which is not whole"
    with graph(), pytest.raises(ValueError, match=text):
        convolution(tf.zeros([2, 8, 8, 3]), **options)


def test_eager_code() -> None:
    for function in (convolution, conv2d):
        with pytest.raises(RuntimeError, match=r"runs eagerly.*tf\.Graph\(\)\.as_default\(\)"):
            function(images(4), 4, 3)


PROGRAM = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
from batchnorm.contrib.tensorflow.arg_scope import arg_scope
from batchnorm.contrib.tensorflow.convolution import conv2d, conv3d
from batchnorm.contrib.tensorflow.fully_connected import fully_connected

getattr(tf, sys.argv[1])()
x = tf.placeholder(tf.float32, [None, 6, 6, 3])
with arg_scope([conv2d, fully_connected], biases_initializer=tf.ones_initializer()):
    y = conv2d(x, 4, x.get_shape()[1:3], padding="VALID", data_format="NHWC")
    z = conv2d(tf.transpose(x, [0, 3, 1, 2]), 4, 3, 2, data_format="NCHW")
    z = fully_connected(z, z.get_shape()[-1])
    parted = tf.fixed_size_partitioner(2)
    with tf.variable_scope("parts", partitioner=parted):
        z = fully_connected(tf.reshape(z, [-1, 36]), 5, activation_fn=None)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    shapes = [each.shape for each in session.run([y, z], {x: np.zeros([2, 6, 6, 3])})]
print(*shapes, type(tf.global_variables()[0]).__name__, sep="; ")
"""


@pytest.mark.parametrize(
    ("switch", "kind"),
    [
        ("disable_v2_behavior", "RefVariable"),
        ("disable_eager_execution", "ResourceVariable"),
    ],
)
def test_without_eager_execution(switch: str, kind: str, tmp_path: Path) -> None:
    assert output_of(PROGRAM, switch, folder=tmp_path) == f"(2, 1, 1, 4); (2, 5); {kind}\n"
