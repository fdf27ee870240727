"""`tf.function` around the layer and the functions: AutoGraph has nothing to say."""

from pathlib import Path

import pytest

from tests.differentiate import BACKEND
from tests.process import output_of

# AutoGraph complains of a function once in a process, so that this one is its own.
PROGRAM = """
import logging

import keras
import numpy as np
import tensorflow as tf

import batchnorm as bn

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
for name in ("tensorflow", "absl"):
    logging.getLogger(name).addHandler(handler)
    logging.getLogger(name).setLevel("WARNING")  # whatever TF_CPP_MIN_LOG_LEVEL says


def adjustment(shape):
    return 1.0, 0.5


SLOTS = [
    {},
    {"statistics": bn.Ghost(3), "renorm": bn.Renorm.paper(), "adjustment": adjustment},
    {"statistics": bn.Ghost(2, strided=True), "moving": bn.ZeroDebiased(bn.Ramp(0, 0.9, 0, 9))},
    {"moving": bn.Cumulative(unbiased=True), "renorm": bn.Renorm(rmax=3.0)},
]
x = tf.constant(np.random.default_rng(0).normal(size=(8, 4, 4, 3)), "float32")
mask, labels = tf.ones(8), tf.constant([0, 1] * 4)
vectors = tf.ones((8, 5))
CONDITIONS = [
    (bn.PerClass(2), labels),
    (bn.FromEmbedding(5, bias=True, spectral_normalization=True), vectors),
    (bn.Given(), (x, x)),
]


def trace(function, *arguments):
    tf.function(function).get_concrete_function(*arguments)


for options in SLOTS:
    layer = bn.BatchNormalization(**options)
    layer.build(x.shape)

    def train(x, mask, layer=layer):
        return layer(x, training=True, mask=mask, sample_weight=mask)

    def infer(x, mask, layer=layer):
        return layer(x, mask=mask)

    names = bn.state_names(layer.moving or bn.Exponential(), options.get("renorm"))
    step = {"step": layer.counter.step} if "step" in names else {}
    state = {name: getattr(layer, name) for name in names if name != "step"} | step

    def function(x, mask, options=options, state=state):
        y, new = bn.batch_norm(x, state, training=True, mask=mask, **options)
        return y, bn.batch_norm(x, state, mask=mask)[0], new

    for traced in (train, infer, function):
        trace(traced, x, mask)
for affine, condition in CONDITIONS:
    layer = bn.BatchNormalization(affine=affine)
    layer.build(x.shape)

    def conditional(x, condition, layer=layer):
        return layer(x, condition=condition, training=True), layer(x, condition=condition)

    trace(conditional, x, condition)


def measure(x, mask):
    plain = bn.moments(x, [0, 1, 2])
    return bn.merge(plain, bn.moments(x, [0, 1, 2], tf.reshape(mask, (8, 1, 1, 1))))


def block(x, labels, layer=bn.ConditionalResidualBlock(3, 2)):
    return layer(x, labels, training=True)


trace(measure, x, mask)
trace(block, x, labels)
tf.function(lambda x: tf.map_fn(lambda t: bn.moments(t, [0]).mean, x))(x)
print("\\n".join(said))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="AutoGraph is TensorFlow's")
def test_nothing_is_logged(tmp_path: Path) -> None:
    # In a file, because AutoGraph reads the source.
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    assert output_of("import program", folder=tmp_path).strip() == ""
