"""`contrib.batch_norm` against closed forms."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tests import oracle
from tests.compare import assert_close
from tests.differentiate import Array

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm.contrib import batch_norm
from tests.contrib.graphs import Layer, initialize, session

NAN, INFINITY = float("nan"), float("inf")
EPSILON = 1e-3


def drawn(shape: tuple[int, ...] = (6, 3), mean: float = 1.5, deviation: float = 2.0) -> Array:
    return np.random.default_rng(0).normal(mean, deviation, shape).astype("float32")


def moments(x: Any) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    return x.mean(axes, dtype="float64"), x.astype("float64").var(axes)


def same(before: dict[str, Array], after: dict[str, Array]) -> bool:
    """Returns whether two states are equal bit by bit."""
    return all(before[name].tobytes() == value.tobytes() for name, value in after.items())


@pytest.mark.parametrize("mean", [1e4, 1e6])
@pytest.mark.parametrize("renorm", [False, True])
def test_large_means(mean: float, renorm: bool) -> None:
    x = drawn((64, 3), mean, 1.0)
    start = {"moving_mean": np.full(3, mean), "moving_variance": np.ones(3)}
    with session():
        flag = tf.placeholder(tf.bool, [])
        constants = {name: tf.constant_initializer(value) for name, value in start.items()}
        layer = Layer((None, 3), is_training=flag, param_initializers=constants, renorm=renorm)
        for training in (True, False):
            more = {"moving_stddev": np.ones(3), "renorm_stddev": np.ones(3)} if renorm else {}
            state: Any = start | more | ({"renorm_mean": np.full(3, mean)} if renorm else {})
            limits = (None, None, None, 0.01) if renorm else None
            expected = oracle.step(x, state, training=training, renorm=limits)
            layer.load(**start)
            assert_close(layer.run(x, {flag: training}), expected.y, 1e-5)


def variable(value: bool) -> Any:
    return tf.get_variable("flag", initializer=tf.constant(value), trainable=False)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        bool,
        int,
        np.bool_,
        np.asarray,
        tf.constant,
        variable,
        lambda value: tf.placeholder_with_default(value, []),
        lambda value: tf.placeholder_with_default(value, None),
        lambda value: tf.equal(variable(True), value),
    ],
    ids=[
        "bool",
        "int",
        "np.bool_",
        "np.ndarray",
        "constant",
        "variable",
        "default",
        "no rank",
        "computed",
    ],
)
def test_what_says_whether_to_train(kind: Callable[[bool], Any], training: bool) -> None:
    x, state = drawn(), {"moving_mean": np.zeros(3), "moving_variance": np.ones(3)}
    with session():
        layer = Layer((6, 3), is_training=kind(training), fused=False, decay=0.75)
        expected = oracle.step(x, state, training=training, rate=0.25)
        before = layer.state()
        assert_close(layer.run(x), expected.y, 1e-5)
        after = layer.state()
        for name, value in expected.state.items():
            assert_close(after[name], value, 1e-5)
        assert same(before, after) != training


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_a_graph_that_only_infers(data_format: str) -> None:
    x, dy = drawn((5, 4, 2, 4)), drawn((5, 4, 2, 4), 0.0, 1.0)
    axis = 1 if data_format == "NCHW" else -1
    values = {"gamma": drawn((4,)), "beta": drawn((4,), 0.0), "moving_mean": drawn((4,), 2.0)}
    values["moving_variance"] = np.array([0.5, 1.0, 2.0, 0.0])
    with session():
        layer = Layer(
            (None, 4, 2, 4),
            gradients=True,
            is_training=False,
            scale=True,
            data_format=data_format,
        )
        layer.load(**values)
        y, gradients = layer.differentiate(x, dy)
        assert layer.updates == []
        held = layer.state()
    gamma, beta, mean, variance = (held[name] for name in values)
    parameters = (gamma, beta, mean, variance)
    expected = oracle.batch_norm(x, *parameters, axis=axis, training=False)
    assert_close(y, expected.y, 1e-5)
    moving = (mean, variance)
    exact = oracle.inference_gradients(x, dy, gamma, *moving, axis=axis)
    for name, gradient in zip(("x", "gamma", "beta"), exact, strict=True):
        assert_close(gradients[name], gradient, 4e-5)


def test_decay_is_what_a_step_keeps() -> None:
    x, decays = drawn(), (0.0, 0.5, 0.9, 0.999)
    mean, variance = moments(x)
    with session():
        decay = tf.placeholder(tf.float32, [])
        layer = Layer((6, 3), decay=decay, fused=False)
        layer.load(moving_mean=[5.0, 6.0, 7.0])
        for rate in decays[1:]:
            before = layer.state()
            layer.run(x, {decay: rate})
            after = layer.state()
            for name, value in (("moving_mean", mean), ("moving_variance", variance)):
                assert_close(after[name], rate * before[name] + (1 - rate) * value, 1e-5)
        layer.run(x, {decay: 0.0})
        assert_close(layer.state()["moving_mean"], mean, 1e-6)
        assert_close(layer.state()["moving_variance"], variance, 1e-6)


WEIGHTS = np.ones(4, "float32")


@pytest.mark.parametrize(
    ("shape", "dtype", "arguments", "unbiased"),
    [
        ((4, 3), "float32", {}, True),
        ((4, 3), "float64", {}, True),
        ((4, 3), "float16", {}, True),
        ((4, 3), "float32", {"fused": True}, True),
        ((4, 3), "float32", {"fused": False}, False),
        ((4, 3), "float32", {"zero_debias_moving_mean": True}, True),
        ((4, 3), "float32", {"updates_collections": None}, True),
        ((4, 2, 3), "float32", {}, False),
        ((4, 2, 3), "float32", {"fused": True}, False),
        ((4, 2, 2, 3), "float32", {}, True),
        ((4, 2, 2, 3), "float32", {"fused": False}, False),
        ((4, 2, 2, 3), "float64", {}, False),
        ((4, 2, 2, 3), "float64", {"zero_debias_moving_mean": True}, True),
        ((4, 2, 2, 3), "float32", {"updates_collections": "mine"}, True),
        ((4, 2, 2, 3), "float32", {"batch_weights": WEIGHTS}, False),
        ((4, 3), "float32", {"renorm": True}, False),
        ((4, 2, 2, 3), "float32", {"adjustment": lambda shape: (1.0, 0.0)}, False),
        ((4, 2, 2, 2, 3), "float32", {}, True),
        ((4, 2, 2, 2, 3), "float64", {}, False),
        ((4, 2, 2, 2, 3), "float32", {"updates_collections": "mine"}, False),
        ((1, 3), "float32", {}, True),  # n / (n - 1) is guarded
    ],
)
def test_where_bessel_corrects(
    shape: tuple[int, ...], dtype: str, arguments: dict[str, Any], unbiased: bool
) -> None:
    x = drawn(shape).astype(dtype)
    n = x.size // 3
    with session():
        layer = Layer(shape, dtype, decay=0.5, **arguments)
        layer.run(x)
        moving_variance = layer.state()["moving_variance"]
    variance = moments(x)[1] * (n / max(n - 1, 1) if unbiased else 1)
    if "renorm" in arguments:
        variance = (0.5 + 0.5 * np.sqrt(variance + EPSILON)) ** 2 - EPSILON
    else:
        variance = 0.5 + 0.5 * variance
    assert_close(moving_variance, variance, 1e-5)


@pytest.mark.parametrize("more", [{}, {"renorm": True}, {"zero_debias_moving_mean": True}], ids=str)
def test_a_weight_of_2_is_the_example_twice(more: dict[str, Any]) -> None:
    x, weights = drawn((4, 2, 3)), np.array([1, 2, 0, 3])
    repeated = np.repeat(np.arange(4), weights)
    with session():
        counts = tf.placeholder(tf.int64, [None])
        weighted = Layer((None, 2, 3), batch_weights=counts, scope="a", decay=0.5, **more)
        twice = Layer((None, 2, 3), scope="b", decay=0.5, **more)
        ys = [weighted.run(x * k, {counts: weights}) for k in (1, 3)]
        for y, k in zip(ys, (1, 3), strict=True):
            assert_close(y[repeated], twice.run(x[repeated] * k), 1e-5)
        expected = twice.state()
        for name, value in weighted.state().items():
            assert_close(value, expected[name], 1e-5)


@pytest.mark.parametrize("more", [{}, {"renorm": True}, {"zero_debias_moving_mean": True}], ids=str)
def test_a_batch_without_weight(more: dict[str, Any]) -> None:
    x = drawn((4, 2, 3))
    mean, variance = np.array([3.0, -1.0, 0.5]), np.array([0.5, 2.0, 4.0])
    with session():
        weights = tf.placeholder(tf.float32, [4])
        layer = Layer((4, 2, 3), batch_weights=weights, **more)
        layer.load(moving_mean=mean, moving_variance=variance)
        before = layer.state()
        y = layer.run(x, {weights: np.zeros(4)})
        assert same(before, layer.state())
        layer.run(x, {weights: [0, 1, 0, 0]})
        assert not same(before, layer.state())
    assert_close(y, (x - mean) / np.sqrt(variance + EPSILON), 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decay", [0.0, 0.75, "tensor"])
def test_zero_debias(decay: Any, dtype: str) -> None:
    factor = 0.75 if decay == "tensor" else decay
    with session():
        layer = Layer(
            (5, 3),
            dtype,
            decay=tf.constant(factor) if decay == "tensor" else decay,
            zero_debias_moving_mean=True,
            fused=False,
            param_initializers={"moving_mean": tf.constant_initializer(100.0)},
        )
        biased, spread = np.zeros(3), np.ones(3)
        for t in range(1, 5):
            x = (drawn((5, 3)) * t).astype(dtype)
            layer.run(x)
            mean, variance = moments(x)
            biased = factor * biased + (1 - factor) * mean
            spread = factor * spread + (1 - factor) * variance
            state, tolerance = layer.state(), 1e-5 if dtype == "float32" else 1e-12
            assert state["local_step"] == t and state["local_step"].dtype == "float32"
            assert_close(state["biased"], biased, tolerance)
            assert_close(state["moving_mean"], biased / (1 - factor**t), tolerance)
            assert_close(state["moving_variance"], spread, tolerance)


def test_renorm_by_limits_that_are_fed() -> None:
    x = drawn((8, 3), 3.0)
    mean, variance = moments(x)
    stddev = np.sqrt(variance + EPSILON)
    with session():
        rmax, dmax = (tf.placeholder(tf.float32, []) for _ in range(2))
        clipping = {"rmax": rmax, "dmax": dmax}
        layer = Layer((8, 3), gradients=True, renorm=True, renorm_clipping=clipping)
        plain = (x - mean) / stddev
        # Until it trains, the running deviation is 1 and the mean 0: r is stddev and d the mean.
        y, gradients = layer.differentiate(x, x, {rmax: 1.0, dmax: 0.0})
        assert_close(y, plain, 1e-5)
        assert_close(gradients["x"], oracle.gradients(x, x).dx, 1e-5)
        for high, shift_limit in ((1.5, 0.25), (1e9, 1e9)):
            layer.load(renorm_mean=np.zeros(3), renorm_stddev=np.ones(3))
            r, d = np.minimum(stddev, high), np.clip(mean, -shift_limit, shift_limit)
            y, gradients = layer.differentiate(x, x, {rmax: high, dmax: shift_limit})
            assert_close(y, plain * r + d, 1e-5)
            assert_close(gradients["x"], oracle.gradients(x, x, gamma=r).dx, 1e-5)


def test_how_the_variables_of_renorm_begin() -> None:
    initializers = {
        "moving_mean": tf.constant_initializer([1.0, 2.0, 3.0]),
        "moving_variance": tf.constant_initializer([4.0, 9.0, 0.25]),
    }
    with session():
        state = Layer((8, 3), renorm=True, param_initializers=initializers).state()
    assert state["renorm_mean"].tolist() == state["moving_mean"].tolist() == [1, 2, 3]
    assert state["moving_variance"].tolist() == [4, 9, 0.25]
    assert state["renorm_stddev"].tolist() == state["moving_stddev"].tolist() == [2, 3, 0.5]


def test_an_adjustment_sees_the_dynamic_shape() -> None:
    x = drawn((5, 2, 3))
    seen: list[Any] = []

    def adjustment(shape: Any) -> tuple[Any, Any]:
        seen.append(shape)
        samples = tf.cast(tf.range(shape[0]), tf.float32)
        return 1.0 + tf.tile(samples[:, None], [1, shape[-1]]), tf.fill(shape[-1:], 0.5)

    with session() as opened:
        flag = tf.placeholder(tf.bool, [])
        layer = Layer((None, None, 3), adjustment=adjustment, is_training=flag)
        y = layer.run(x, {flag: True})
        assert opened.run(seen[0], {layer.x: x}).tolist() == [5, 2, 3] and len(seen) == 1
        layer.load(moving_mean=np.zeros(3), moving_variance=np.ones(3))
        assert_close(layer.run(x, {flag: False}), x / np.sqrt(1 + EPSILON), 1e-5)
    mean, variance = moments(x)
    steps = np.arange(1.0, 6.0)[:, None, None]
    assert_close(y, (x - mean) / np.sqrt(variance + EPSILON) * steps + 0.5, 1e-5)


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("more", [{}, {"batch_weights": np.array([1.0, 0.0, 2.0, 3.0])}], ids=str)
def test_second_derivatives(fed: bool, more: dict[str, Any]) -> None:
    x, dy, v = (drawn((4, 2, 3), mean).astype("float64") for mean in (1.5, 0.0, 0.5))
    dy, v = np.sin(3 * dy), np.cos(v)
    with session() as opened:
        flag = tf.placeholder_with_default(True, []) if fed else True
        inputs = tf.constant(x)
        (first,) = tf.gradients(batch_norm(inputs, is_training=flag, **more), inputs, dy)
        (again,) = tf.gradients(first, inputs, v)
        initialize()
        actual = opened.run(again)
    weights = more.get("batch_weights")

    def exact(at: Array) -> float:
        return float((oracle.gradients(at, dy, weights=weights).dx * v).sum())

    for direction in (dy, v, x):
        along = oracle.finite_difference(exact, x, direction, 1e-5)
        assert_close((actual * direction).sum(), along, 1e-7)


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("collection", ["update_ops", None])
def test_a_batch_that_is_not_finite(fed: bool, collection: str | None) -> None:
    with session():
        layer = Layer(
            (6, 3),
            is_training=tf.placeholder_with_default(True, []) if fed else True,
            updates_collections=collection,
            renorm=True,
            zero_debias_moving_mean=True,
        )
        layer.run(drawn())
        before = layer.state()
        for bad in (NAN, INFINITY, 3e38):
            x = drawn()
            x[3, 1] = bad
            layer.run(x)
            assert same(before, layer.state())
        layer.run(drawn())
        assert not same(before, layer.state())


def test_activation_and_trainable_do_not_touch_the_rest() -> None:
    x = drawn((5, 2, 3))
    with session() as opened:
        y = batch_norm(tf.constant(x), activation_fn=tf.nn.relu, trainable=False)
        initialize()
        actual = opened.run(y)
    expected = oracle.batch_norm(x).y
    assert (expected < -0.1).any()
    assert_close(actual, np.maximum(expected, 0.0), 1e-5)
