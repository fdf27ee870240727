"""How long contrib's batch_norm takes in a graph, beside what tf.contrib's own ran there.

    KERAS_BACKEND=tensorflow python benchmarks/contrib.py

Outputs, gradients and update operations of a training step, for `batchnorm.contrib.batch_norm`, for
TensorFlow's fused kernel, which contrib ran where it could, and for `tf.nn.moments` with
`tf.nn.batch_normalization`, which it ran elsewhere; in turn, in one session. Prints the median of
the times of ours, and how many times as long ours takes as each of the others.
"""

import argparse
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from batchnorm.benchmark.rounds import seconds
from batchnorm.contrib import batch_norm

SHAPES = ((64, 56, 56, 64), (128, 28, 28, 6), (128, 10, 10, 16), (128, 84))
Tensor = Any


def ours(x: Tensor) -> Tensor:
    """The one of this package."""
    return batch_norm(x, scale=True, updates_collections=None)


def fused(x: Tensor) -> Tensor:
    """TensorFlow's kernel."""
    channels = x.shape[-1]
    shape = x.shape if x.shape.rank == 4 else [-1, 1, 1, channels]
    y, *moments = tf.nn.fused_batch_norm(
        tf.reshape(x, shape), _variable("gamma", channels), _variable("beta", channels)
    )
    return _recorded(tf.reshape(y, x.shape), moments)


def composed(x: Tensor) -> Tensor:
    """TensorFlow's functions."""
    channels = x.shape[-1]
    moments = tf.nn.moments(x, list(range(x.shape.rank - 1)))
    gamma, beta = _variable("gamma", channels), _variable("beta", channels)
    return _recorded(tf.nn.batch_normalization(x, *moments, beta, gamma, 1e-3), moments)


def _variable(name: str, channels: int) -> Any:
    return tf.get_variable(name, [channels], initializer=tf.ones_initializer())


def _recorded(y: Tensor, moments: Any) -> Tensor:
    updates = []
    for number, moment in enumerate(moments):
        moving = _variable(f"moving_{number}", y.shape[-1])
        updates.append(moving.assign_sub(0.001 * (moving - moment)))
    with tf.control_dependencies(updates):
        return tf.identity(y)


def step(session: tf.Session, shape: tuple[int, ...], layer: Callable[..., Tensor]) -> Any:
    """A function that computes a layer's outputs and gradients, and records the step."""
    random = np.random.default_rng(0)
    with tf.variable_scope(None, layer.__name__):
        x, dy = (
            tf.get_variable(name, initializer=random.normal(size=shape).astype("float32"))
            for name in ("x", "dy")
        )
        y = layer(x)
        gradients = tf.gradients(y, tf.trainable_variables(tf.get_variable_scope().name), dy)
    session.run(tf.global_variables_initializer())
    operations = [y.op, *(each.op for each in gradients if each is not None)]
    return lambda: session.run(operations)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=25, help="steps of each")
    times = parser.parse_args().times
    print(f"{platform.processor() or platform.machine()}, TensorFlow {tf.__version__}")
    print(f"{'shape':>18} {'ours, ms':>9} {'/ fused':>8} {'/ composed':>10}")
    for shape in SHAPES:
        with tf.Graph().as_default(), tf.Session() as session:
            took = seconds([step(session, shape, each) for each in (ours, fused, composed)], times)
        ratios = np.median(took[:, :1] / took[:, 1:], axis=0)
        ms = 1e3 * np.median(took[:, 0])
        print(f"{str(list(shape)):>18} {ms:9.2f} {ratios[0]:8.2f} {ratios[1]:10.2f}")


if __name__ == "__main__":
    main()
