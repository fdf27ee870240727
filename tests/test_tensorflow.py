"""TensorFlow's transformations of the layer: a test for each row of docs/layer.md."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from batchnorm import BatchNormalization, batch_norm
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, to_numpy

if BACKEND != "tensorflow":
    pytest.skip("transformations of TensorFlow", allow_module_level=True)

import tensorflow as tf

# Small ones, and such as are measured and normalized by compiled passes.
SHAPES = [(6, 4, 3), (40, 64, 64)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def sample(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(1, 2, shape).astype("float32")


def normalized(x: Any) -> Any:
    state = {"moving_mean": tf.zeros(x.shape[-1]), "moving_variance": tf.ones(x.shape[-1])}
    return batch_norm(x, state, training=True)[0]


def loss_gradient(function: Callable[[Any], Any], x: Array) -> Array:
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(function(inputs) * sample(*x.shape, seed=1))
    return to_numpy(tape.gradient(loss, inputs))


def graph(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    traced: Callable[[Any], Any] = tf.function(function, autograph=False)
    return traced


@shapes
@pytest.mark.parametrize("mapping", [tf.vectorized_map, tf.map_fn])
def test_each_example_is_a_batch(mapping: Any, shape: tuple[int, ...]) -> None:
    x = sample(3, *shape)
    expected = [oracle.batch_norm(example).y for example in x]
    assert_close(to_numpy(mapping(normalized, tf.constant(x))), expected, 1e-5)


@shapes
def test_recomputed_gradients(shape: tuple[int, ...]) -> None:
    x = sample(*shape)
    expected = oracle.gradients(x, sample(*shape, seed=1)).dx
    assert_close(loss_gradient(tf.recompute_grad(normalized), x), expected, 1e-5)


def test_a_jacobian() -> None:
    x = sample(5, 2)
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = normalized(inputs)
    jacobian = to_numpy(tape.jacobian(y, inputs))
    for place in np.ndindex(*x.shape):
        dy = np.zeros_like(x)
        dy[place] = 1
        assert_close(jacobian[place], oracle.gradients(x, dy).dx, 1e-5)


def test_a_loop_carries_the_state() -> None:
    batches, mean, variance = sample(3, 8, 4), np.zeros(4), np.ones(4)

    def last(batches: Any) -> Any:
        def step(index: Any, state: Any) -> Any:
            return index + 1, batch_norm(batches[index], state, training=True)[1]

        state = {"moving_mean": tf.zeros(4), "moving_variance": tf.ones(4)}
        return tf.while_loop(lambda index, _: index < 3, step, (0, state))[1]

    for batch in batches:
        exact = oracle.batch_norm(batch, None, None, mean, variance)
        mean, variance = exact.moving_mean, exact.moving_variance
    assert_close(to_numpy(graph(last)(tf.constant(batches))["moving_variance"]), variance, 1e-6)


def test_a_layer_that_a_graph_calls_twice() -> None:
    layer, x = BatchNormalization(momentum=0.5), sample(8, 4)
    layer.build(x.shape)

    def both(x: Any) -> Any:
        return layer(x, training=True) + layer(x, training=False)

    exact = oracle.batch_norm(x, momentum=0.5)
    inference = oracle.batch_norm(
        x, None, None, exact.moving_mean, exact.moving_variance, training=False
    )
    assert_close(to_numpy(graph(both)(tf.constant(x))), exact.y + inference.y, 1e-5)
