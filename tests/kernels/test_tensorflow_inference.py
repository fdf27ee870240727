"""Inference on TensorFlow: its paths, the operations of a graph, and all derivatives."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from batchnorm import BatchNormalization, batch_norm, kernels
from batchnorm.stages import placement
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, MODES, Array, compiled, gradients, tensors, to_numpy

if BACKEND != "tensorflow":
    pytest.skip("the kernel is TensorFlow's", allow_module_level=True)

import tensorflow as tf

from batchnorm.kernels import reference
from batchnorm.kernels.tensorflow.cpu import inference

SHAPES: dict[str, tuple[tuple[int, ...], int | tuple[int, ...]]] = {
    "images": ((6, 4, 5, 64), -1),
    "narrow images": ((6, 4, 8, 3), -1),
    "volumes": ((2, 3, 2, 2, 17), -1),
    "matrix": ((12, 5), -1),
    "sequence": ((6, 9, 4), -1),
    "one channel": ((6, 8, 8, 1), -1),
    "channels first": ((6, 3, 4, 5), 1),
    "two axes": ((6, 3, 4, 5), (1, 3)),
    "empty": ((0, 4, 5, 3), -1),
}
DERIVATIVES = ["images", "volumes", "sequence", "channels first"]


def arguments(name: str, mean: float, dtype: str = "float32") -> list[Array]:
    """Returns x, the moving mean and variance, gamma and beta."""
    shape, axis = SHAPES[name]
    axes = [a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))]
    vector = [size if i in axes else 1 for i, size in enumerate(shape)]
    if len(axes) == 1:
        vector = [shape[axes[0]]]
    random = np.random.default_rng(0)
    center, beta = random.normal(mean, 1, vector), random.normal(size=vector)
    square, gamma = random.uniform(0.5, 2, (2, *vector))
    x = random.normal(mean, 1, shape)
    return [array.astype(dtype) for array in (x, center, square, gamma, beta)]


def expected(name: str, values: list[Array]) -> Array:
    x, center, square, gamma, beta = values
    numbers = {"moving_mean": center, "moving_variance": square}
    y: Array = oracle.step(x, numbers, gamma, beta, axis=SHAPES[name][1], training=False).y
    return y


def infer(name: str, *values: Any) -> Any:
    x, center, square, gamma, beta = values
    numbers = {"moving_mean": center, "moving_variance": square}
    return batch_norm(x, numbers, gamma, beta, axis=SHAPES[name][1])[0]


# With XLA all of it is composed.
@pytest.mark.parametrize(
    "mode, name, mean",
    [*itertools.product(["eager", "eager, big", "graph"], SHAPES, [0.5, 20.0, 1e6])]
    + [*itertools.product(["xla"], ["images", "channels first"], [0.5, 1e6])],
)
def test_output(mode: str, name: str, mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if "big" in mode:
        monkeypatch.setattr(inference, "_BIG", 0)
    values = arguments(name, mean)
    x, *parameters = tensors(values, "float32")
    # The statistics are constants of the graph.
    y = compiled(lambda x: infer(name, x, *parameters), mode.split(",")[0])(x)
    assert_close(to_numpy(y), expected(name, values), 1e-5)


@pytest.mark.parametrize("mean", [0.5, 1e6])
@pytest.mark.parametrize("name", SHAPES)
def test_unknown_sizes(name: str, mean: float) -> None:
    shape, axis = SHAPES[name]
    axes = [a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))]
    sizes = [size if i in axes else None for i, size in enumerate(shape)]
    values = arguments(name, mean)
    x, *parameters = tensors(values, "float32")
    variables = [tf.Variable(value) for value in parameters]
    signature = [tf.TensorSpec(sizes)]
    function = tf.function(lambda x: infer(name, x, *variables), input_signature=signature)
    assert_close(to_numpy(function(x)), expected(name, values), 1e-5)


@pytest.mark.parametrize("sizes", [(56, 56), (None, None)])
@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_graph_of_images_has_the_arithmetic_alone(
    sizes: tuple[int | None, ...], mean: float, dtype: str
) -> None:
    layer = BatchNormalization(dtype=dtype)
    layer.build((None, *sizes, 32))
    layer.moving_mean.assign(tf.fill((32,), mean))
    function = tf.function(lambda x: layer(x, training=False))
    graph = function.get_concrete_function(tf.TensorSpec((None, *sizes, 32))).graph
    large = [o.type for o in graph.get_operations() if o.outputs and o.outputs[0].shape.rank == 4]
    kinds = [kind for kind in large if kind not in ("Placeholder", "Identity", "Cast")]
    assert kinds == (["AddV2", "Mul", "AddV2"] if mean else ["FusedBatchNormV3"])
    kinds = [operation.type for operation in graph.get_operations()]
    assert not {"If", "StatelessIf", "Tile", "Reshape", "Shape", "IdentityN"} & set(kinds)


def test_statistics_that_change_after_the_graph_is_written() -> None:
    values = arguments("images", 0.5)
    layer = BatchNormalization()
    layer.build(values[0].shape)
    function = tf.function(lambda x: layer(x, training=False))
    function(values[0])
    values = arguments("images", 1e6)
    layer.set_weights([values[3], values[4], values[1], values[2]])
    assert_close(to_numpy(function(values[0])), expected("images", values), 1e-5)


def test_variables_that_a_function_makes() -> None:
    variables: list[Any] = []

    def normalized(x: Any) -> Any:
        if not variables:
            variables.extend(tf.Variable(start((64,))) for start in (tf.zeros, tf.ones))
        return infer("images", x, *variables, None, None)

    x = arguments("images", 0.5)[0]
    assert_close(to_numpy(tf.function(normalized)(x)), oracle.batch_norm(x, training=False).y, 1e-5)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_samples_of_their_own_affine_step(mode: str) -> None:
    values = arguments("images", 1e4)
    gamma, beta = np.random.default_rng(1).uniform(0.5, 2, (2, 6, 64)).astype("float32")
    values[3:] = gamma, beta
    y = compiled(lambda *a: infer("images", *a), mode)(*tensors(values, "float32"))
    assert_close(to_numpy(y), expected("images", values), 1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gamma, beta", [(None, None), (2.0, None), (None, -1.0)])
def test_numbers_and_defaults(mode: str, gamma: float | None, beta: float | None) -> None:
    x, center, square, *_ = values = arguments("images", 0.5)
    inputs = tensors(values[:3], "float32")
    y = compiled(lambda *a: infer("images", *a, gamma, beta), mode)(*inputs)
    exact = oracle.batch_norm(x, gamma, beta, center, square, training=False).y
    assert_close(to_numpy(y), exact, 1e-5)


def test_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_devices", lambda: "gpu")
    values = arguments("images", 0.5)
    x, *parameters = tensors(values)
    function = tf.function(lambda x: infer("images", x, *parameters)).get_concrete_function(x)
    kinds = {operation.type for operation in function.graph.get_operations()}
    assert "FusedBatchNormV3" not in kinds and "Sub" not in kinds
    assert_close(to_numpy(function(x)), expected("images", values), 1e-5)


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", ["images", "channels first"])
def test_float64(name: str, mode: str) -> None:
    values = arguments(name, 1e6, "float64")
    y = compiled(lambda *a: infer(name, *a), mode)(*tensors(values))
    assert y.dtype == tf.float64
    assert_close(to_numpy(y), expected(name, values), 1e-12)


def slopes(values: list[Array], dy: Array) -> list[Array]:
    """Returns the gradients of sum(y * dy), in float64."""
    x, center, square, gamma, _ = (array.astype("float64") for array in values)
    inverse = 1 / np.sqrt(square + 1e-3)
    axes = tuple(range(x.ndim - 1))
    dx, product = dy * inverse * gamma, dy * (x - center)
    dsquare = -0.5 * inverse**3 * gamma * product.sum(axes)
    return [dx, -dx.sum(axes), dsquare, inverse * product.sum(axes), dy.sum(axes)]


def relative(actual: Any, exact: Array) -> None:
    assert_close(to_numpy(actual), exact, 1e-5 * max(1.0, float(np.abs(exact).max(initial=0))))


@pytest.mark.parametrize("mean", [0.5, 1e4])
@pytest.mark.parametrize("name", ["images", "volumes", "sequence"])
@pytest.mark.parametrize("mode", ["eager", "eager, big", "graph"])
def test_gradients(name: str, mode: str, mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if "big" in mode:
        monkeypatch.setattr(inference, "_BIG", 0)
    values = arguments(name, mean)
    dy = np.random.default_rng(2).normal(0.5, 1, values[0].shape)

    def loss(*inputs: Any) -> Any:
        return tf.reduce_sum(infer(name, *inputs) * tf.constant(dy, "float32"))

    actual_gradients = gradients(compiled(loss, mode.split(",")[0]), *tensors(values, "float32"))
    for actual, exact in zip(actual_gradients, slopes(values, dy), strict=True):
        relative(actual, exact)


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("mode", ["eager, big", "graph"])
def test_second_derivatives(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_BIG", 0)
    values = arguments(name, 0.5)

    def penalty(*inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(infer(name, *inputs) ** 3)
        return sum(tf.reduce_sum(slope**2) for slope in tape.gradient(loss, inputs))

    actual_gradients = gradients(compiled(penalty, mode.split(",")[0]), *tensors(values, "float32"))
    monkeypatch.setattr(kernels, "KERNELS", (reference,))
    exact = gradients(compiled(penalty, "graph"), *tensors(values, "float64"))
    for actual, value in zip(actual_gradients, exact, strict=True):
        relative(actual, to_numpy(value))


@pytest.mark.parametrize("name", ["images", "volumes", "sequence"])
@pytest.mark.parametrize("mode", ["eager", "eager, big", "graph"])
def test_forward_mode(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "big" in mode:
        monkeypatch.setattr(inference, "_BIG", 0)
    values = arguments(name, 0.5)
    random = np.random.default_rng(3)
    directions = [random.normal(size=array.shape).astype("float32") for array in values]

    def tangent(*inputs: Any) -> Any:
        with tf.autodiff.ForwardAccumulator(list(inputs), tensors(directions)) as accumulator:
            y = infer(name, *inputs)
        return accumulator.jvp(y)

    actual_gradients = compiled(tangent, mode.split(",")[0])(*tensors(values))
    # <dy, J v> is <J' dy, v>, for any dy.
    dy = random.normal(size=values[0].shape)
    back = zip(slopes(values, dy), directions, strict=True)
    assert_close(np.sum(dy * to_numpy(actual_gradients)), sum(np.sum(a * b) for a, b in back), 1e-5)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_vectorized_map(mode: str) -> None:
    values = arguments("images", 0.5)
    x, *parameters = tensors(values)

    def slope(sample: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(sample)
            y = infer("images", sample[None], *parameters)
        return y[0], tape.gradient(y, sample)

    mapped: Callable[..., Any] = compiled(lambda x: tf.vectorized_map(slope, x), mode)
    y, dx = mapped(x)
    assert_close(to_numpy(y), expected("images", values), 1e-5)
    assert_close(to_numpy(dx), slopes(values, np.ones(x.shape))[0], 1e-5)
    scales = tf.stack([parameters[2], 2 * parameters[2]])
    both = tf.vectorized_map(
        lambda gamma: infer("images", x, *parameters[:2], gamma, parameters[3]), scales
    )
    values[3] = 2 * values[3]
    assert_close(to_numpy(both[1]), expected("images", values), 1e-5)


def test_jacobian() -> None:
    values = arguments("sequence", 0.5)
    x, *parameters = tensors(values)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.function(lambda x: infer("sequence", x, *parameters))(x)
    jacobian = to_numpy(tape.batch_jacobian(y, x)).reshape(6, 36, 36)
    exact = slopes(values, np.ones(x.shape))[0].reshape(6, 36)
    assert_close(jacobian, np.eye(36) * exact[:, None], 1e-5)
