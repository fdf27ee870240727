"""TensorFlow's kernel: every path, by size, against the float64 oracle."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from batchnorm import Ghost, Renorm, batch_norm, kernels
from batchnorm.stages.plan import plan_of
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, MODES, Array, compiled, gradients, tensors, to_numpy

if BACKEND != "tensorflow":
    pytest.skip("the kernel is TensorFlow's", allow_module_level=True)

import tensorflow as tf

from batchnorm.kernels import reference
from batchnorm.kernels.tensorflow.cpu import layout, sums, totals

# Shape and axis: wide, lanes, narrow ones that make none, channels first, rows without inside.
SHAPES = {
    "wide": ((6, 4, 5, 64), -1),
    "lanes": ((6, 4, 8, 3), -1),
    "lanes of 16": ((6, 4, 5, 16), -1),
    "narrow": ((6, 5, 7, 3), -1),
    "first": ((6, 3, 4, 5), 1),
    "matrix": ((12, 5), -1),
    "sequence": ((6, 9, 4), -1),
    "many rows": ((61, 9, 8), -1),
    "rank 5": ((2, 3, 2, 2, 17), -1),
    "one channel": ((6, 8, 1), -1),
}

TRAIN = reference.train


@pytest.fixture(params=["small", "big"], autouse=True)
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Runs each test on small and large paths: conditions, XLA, a few rows at a time."""
    layout.layout_of.cache_clear()  # a layout computes such facts once
    if request.param == "big":
        monkeypatch.setattr(layout, "_BIG", 0)
        for module in (layout, sums, totals):
            monkeypatch.setattr(module, "PIECE", 200)
    yield request.param
    layout.layout_of.cache_clear()


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which the reference serves in the kernel's place."""

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("the reference was asked")

    monkeypatch.setattr(reference, "train", refuse)


def inputs_of(name: str, mean: float) -> tuple[Array, Array, Array, Array]:
    """Returns x, dy, gamma and beta."""
    shape, axis = SHAPES[name]
    random, channels = np.random.default_rng(0), shape[axis]
    x = random.normal(size=shape) + mean
    x, dy = x.astype("float32"), random.normal(0.5, 1, shape).astype("float32")
    return x, dy, *random.uniform(0.5, 2, (2, channels)).astype("float32")


def state(channels: int) -> dict[str, Any]:
    return {"moving_mean": tf.zeros(channels), "moving_variance": tf.ones(channels)}


def check(
    name: str, mode: str, mean: float, options: dict[str, Any], exact: dict[str, Any]
) -> None:
    """Compares y, the state and the gradients with the oracle's."""
    x, dy, gamma, beta = inputs_of(name, mean)
    axis, before = SHAPES[name][1], state(len(gamma))
    if "renorm" in options:
        before |= {"moving_stddev": tf.ones(len(gamma))}
        before |= {
            "renorm_mean": tf.fill((len(gamma),), mean),
            "renorm_stddev": tf.ones(len(gamma)),
        }
    if "rows" in exact:
        gamma, beta = np.random.default_rng(3).uniform(0.5, 2, (2, len(x), len(gamma))).astype("f4")
    settings = {key: value for key, value in exact.items() if key != "rows"}

    def step(x: Any, gamma: Any, beta: Any) -> Any:
        return batch_norm(x, before, gamma, beta, training=True, axis=axis, **options)

    inputs = tensors([x, gamma, beta], "float32")
    y, new = compiled(step, mode)(*inputs)
    numbers = {key: to_numpy(value) for key, value in before.items()}
    expected = oracle.step(x, numbers, gamma, beta, axis=axis, **settings)
    assert_close(to_numpy(y), expected.y, 1e-5)
    for key, value in expected.state.items():
        assert_close(to_numpy(new[key]), value, 1e-5)
    loss = compiled(lambda *a: tf.reduce_sum(step(*a)[0] * dy), mode)
    actual_gradients = gradients(loss, *inputs)
    exact_gradients: Any = oracle.step_gradients(x, dy, numbers, gamma, beta, axis=axis, **settings)
    for actual, value in zip(actual_gradients, exact_gradients, strict=True):
        # Of dgamma the error is that of the terms, of which there are as many as positions.
        assert_close(to_numpy(actual), value, 2e-5 * max(1.0, float(np.abs(value).max())))


@pytest.mark.parametrize("mean", [0.5, 1e4])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_plain(name: str, mode: str, mean: float) -> None:
    check(name, mode, mean, {}, {})


@pytest.mark.parametrize("name", ["wide", "lanes", "first", "sequence", "one channel"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("slot", ["rows", "samples", "positions", "renorm", "ghost"])
def test_slots(name: str, mode: str, slot: str) -> None:
    if slot == "ghost" and name == "first":
        pytest.skip("ghost batches with the channels first are the reference's")
    shape, axis = SHAPES[name]
    inner = shape if slot == "positions" else shape[:1]
    inner = tuple(s for i, s in enumerate(inner) if i != axis % len(shape))
    weights = np.random.default_rng(2).integers(0, 3, inner).astype("float32")
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "rows": ({}, {"rows": True}),
        "samples": ({"sample_weight": weights}, {"weights": weights}),
        "positions": ({"sample_weight": weights}, {"weights": weights}),
        "renorm": ({"renorm": Renorm(rmax=3.0, dmax=5.0)}, {"renorm": (1 / 3, 3.0, 5.0, 0.01)}),
        "ghost": ({"statistics": Ghost(3)}, {"ghost": (3, False)}),
    }
    check(name, mode, 0.5, *cases[slot])


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", ["wide", "lanes", "first", "many rows"])
def test_second_derivatives(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "train", TRAIN)  # whose they are
    x, dy, gamma, beta = inputs_of(name, 0.5)
    axis, before = SHAPES[name][1], state(len(gamma))
    native = kernels.KERNELS

    def penalty(x: Any, gamma: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, _ = batch_norm(x, before, gamma, beta, training=True, axis=axis)
            loss = tf.reduce_sum(y * dy)
        return tf.reduce_sum(tape.gradient(loss, x) ** 2)

    results = []
    for choice in (native, (reference,)):
        monkeypatch.setattr(kernels, "KERNELS", choice)
        results.append(gradients(compiled(penalty, mode), *tensors([x, gamma], "float32")))
    for actual, expected in zip(*results, strict=True):
        size = float(np.abs(to_numpy(expected)).max())
        assert_close(to_numpy(actual), to_numpy(expected), 2e-5 * max(1.0, size))


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", ["lanes", "first"])
def test_forward_mode(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "train", TRAIN)  # whose second derivatives they are
    x, dy, gamma, beta = inputs_of(name, 0.5)
    axis, before = SHAPES[name][1], state(len(gamma))
    tangent = np.random.default_rng(4).normal(size=x.shape).astype("float32")
    primal = tf.constant(x)

    def loss(x: Any) -> Any:
        y, _ = batch_norm(x, before, gamma, beta, training=True, axis=axis)
        return tf.reduce_sum(y**2 * dy)

    def exact_gradient(x: Array) -> Array:
        y = oracle.batch_norm(x, gamma, beta, axis=axis).y
        return oracle.gradients(x, 2 * y * dy, gamma, axis=axis).dx

    function = compiled(loss, mode)
    with tf.autodiff.ForwardAccumulator(primal, tf.constant(tangent)) as slope:
        value = function(primal)
    slope = slope.jvp(value)
    with tf.autodiff.ForwardAccumulator(primal, tf.constant(tangent)) as slopes:
        (gradient,) = gradients(function, primal)
    with tf.GradientTape() as tape:
        tape.watch(primal)
        with tf.autodiff.ForwardAccumulator(primal, tf.constant(tangent)) as inner:
            value = function(primal)
        along = inner.jvp(value)
    step = 1e-5 * tangent.astype("float64")
    exact = (exact_gradient(x + step) - exact_gradient(x - step)) / 2e-5
    size = float(np.abs(exact).max())
    assert_close(to_numpy(slope), (exact_gradient(x) * tangent).sum(), 1e-4)
    assert_close(to_numpy(slopes.jvp(gradient)), exact, 2e-5 * max(1.0, size))
    if mode == "eager":  # a tape in TensorFlow 2.21 sees no slope of a tf.function
        assert_close(to_numpy(tape.gradient(along, primal)), exact, 2e-5 * max(1.0, size))


@pytest.mark.parametrize("hidden", [np.nan, np.inf, 1e30])
def test_hidden_values_do_not_leak(hidden: float) -> None:
    x, dy, gamma, beta = inputs_of("wide", 0.5)
    weights = np.ones(x.shape[:3], "float32")
    weights[2, 1] = 0
    clean, x[2, 1] = x.copy(), hidden
    inputs = tensors([x, gamma, beta], "float32")
    y, new = batch_norm(inputs[0], state(64), *inputs[1:], training=True, mask=weights)
    expected = oracle.batch_norm(clean, gamma, beta, weights=weights)
    assert_close(to_numpy(y)[weights > 0], expected.y[weights > 0], 1e-5)
    assert_close(to_numpy(new["moving_variance"]), expected.moving_variance, 1e-5)


@pytest.mark.parametrize("name", ["wide", "lanes", "first"])
def test_a_batch_of_unknown_size_may_be_empty(name: str) -> None:
    x, (_, axis) = inputs_of(name, 0.5)[0], SHAPES[name]
    channels = x.shape[axis]
    function = tf.function(
        lambda x: batch_norm(x, state(channels), training=True, axis=axis),
        input_signature=[tf.TensorSpec((None, *x.shape[1:]))],
    )
    assert_close(to_numpy(function(x)[0]), oracle.batch_norm(x, axis=axis).y, 1e-5)
    y, new = function(x[:0])
    assert y.shape == (0, *x.shape[1:])
    assert to_numpy(new["moving_variance"]).tolist() == [1.0] * channels


@pytest.mark.parametrize("shape, axis", [((4,), 0), ((2, 3, 4, 5), 2), ((2, 3, 4), (1, 2))])
def test_plans_without_a_layout(shape: tuple[int, ...], axis: int) -> None:
    assert layout.layout_of(plan_of(shape, axis, "float32")) is None
