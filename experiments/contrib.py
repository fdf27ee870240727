"""Times of contrib's batch_norm in a graph, beside the operations that tf.contrib ran there.

    KERAS_BACKEND=tensorflow python experiments/contrib.py

Runs outputs, gradients and update operations of a training step, in turn, in one session: of
`batchnorm.contrib.batch_norm`, of TensorFlow's fused kernel, which contrib ran where it could, and
of `tf.nn.moments` with `tf.nn.batch_normalization`, which it ran elsewhere. Prints the median time
of ours, and its ratio to each of the others.
"""

import argparse
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from batchnorm.contrib import batch_norm
from batchnorm_app.benchmark.timing import seconds

SHAPES = ((64, 56, 56, 64), (128, 28, 28, 6), (128, 10, 10, 16), (128, 84))
Tensor = Any


def ours(x: Tensor) -> Tensor:
    """Returns y of this package's function."""
    return batch_norm(x, scale=True, updates_collections=None)


def fused(x: Tensor) -> Tensor:
    """Returns y of TensorFlow's fused kernel."""
    channels = x.shape[-1]
    shape = x.shape if x.shape.rank == 4 else [-1, 1, 1, channels]
    y, *moments = tf.nn.fused_batch_norm(
        tf.reshape(x, shape), _variable("gamma", channels), _variable("beta", channels)
    )
    return _with_updates(tf.reshape(y, x.shape), moments)


def composed(x: Tensor) -> Tensor:
    """Returns y of TensorFlow's separate functions."""
    channels = x.shape[-1]
    moments = tf.nn.moments(x, list(range(x.shape.rank - 1)))
    gamma, beta = _variable("gamma", channels), _variable("beta", channels)
    return _with_updates(tf.nn.batch_normalization(x, *moments, beta, gamma, 1e-3), moments)


def _variable(name: str, channels: int) -> Any:
    return tf.get_variable(name, [channels], initializer=tf.ones_initializer())


def _with_updates(y: Tensor, moments: Any) -> Tensor:
    updates = []
    for index, moment in enumerate(moments):
        moving = _variable(f"moving_{index}", y.shape[-1])
        updates.append(moving.assign_sub(0.001 * (moving - moment)))
    with tf.control_dependencies(updates):
        return tf.identity(y)


def step(session: tf.Session, shape: tuple[int, ...], layer: Callable[..., Tensor]) -> Any:
    """Returns a function that computes a layer's outputs and gradients, with its updates."""
    random = np.random.default_rng(0)
    with tf.variable_scope(None, layer.__name__):
        x, dy = (
            tf.get_variable(name, initializer=random.normal(size=shape).astype("float32"))
            for name in ("x", "dy")
        )
        y = layer(x)
        gradients = tf.gradients(y, tf.trainable_variables(tf.get_variable_scope().name), dy)
    session.run(tf.global_variables_initializer())
    operations = [y.op, *(gradient.op for gradient in gradients if gradient is not None)]
    return lambda: session.run(operations)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=25, help="steps of each function")
    rounds = parser.parse_args().times
    print(f"{platform.processor() or platform.machine()}, TensorFlow {tf.__version__}")
    print(f"{'shape':>18} {'ours, ms':>9} {'/ fused':>8} {'/ composed':>10}")
    for shape in SHAPES:
        with tf.Graph().as_default(), tf.Session() as session:
            work = [step(session, shape, layer) for layer in (ours, fused, composed)]
            times = seconds(work, rounds)
        ratios = np.median(times[:, :1] / times[:, 1:], axis=0)
        ms = 1e3 * np.median(times[:, 0])
        print(f"{str(list(shape)):>18} {ms:9.2f} {ratios[0]:8.2f} {ratios[1]:10.2f}")


if __name__ == "__main__":
    main()
