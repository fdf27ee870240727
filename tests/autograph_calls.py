"""Calls of the public functions as AutoGraph sees them; in a file, because it reads the source."""

import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import batchnorm
from batchnorm import contrib

v1 = tf.compat.v1
Call = Callable[..., Any]


def main() -> None:
    """Prints what was logged during all calls."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel("WARNING")  # whatever TF_CPP_MIN_LOG_LEVEL says
    tf.function(walrus)(tf.ones([2]))
    heard = len(messages)
    messages.clear()
    eager = eager_calls()
    for call in eager.values():
        tf.function(call)()
    trace_slots()
    trace_conditions()
    trace_functions()
    with tf.Graph().as_default():
        image, vector = tf.ones([2, 4, 4, 3]), tf.ones([4, 3])
        for call in graph_calls(image, vector):
            tf.function(call)()
        for function, x in ((within_scopes, image), (normalization, image), (dense, vector)):
            tf.map_fn(function, tf.stack([x, x]), fn_output_signature=tf.float32)
    public = [name for name in batchnorm.__all__ if inspect.isfunction(getattr(batchnorm, name))]
    print(json.dumps({"heard": heard, "messages": messages, "public": public, "called": [*eager]}))


def walrus(x: Any) -> Any:
    return (y := x) + y


def eager_calls() -> dict[str, Call]:
    """By the name of what is called."""
    vector = tf.ones([4, 3])
    state = {"moving_mean": tf.zeros(3), "moving_variance": tf.ones(3)}
    layer = batchnorm.BatchNormalization(
        affine=batchnorm.PerClass(3), renorm=batchnorm.Renorm(), moving=batchnorm.ZeroDebiased()
    )
    part = batchnorm.moments(vector, [0])
    ramp = batchnorm.Ramp(1.0, 3.0, begin=0, end=10)
    labels = tf.zeros(4, tf.int32)
    return {
        "batch_norm": lambda: batchnorm.batch_norm(vector, state, training=True),
        "inference": lambda: batchnorm.batch_norm(vector, state, statistics=batchnorm.Ghost(2)),
        "moments": lambda: batchnorm.moments(vector, [0], tf.ones([4, 1])),
        "merge": lambda: batchnorm.merge(part, part),
        "Ramp": lambda: ramp(tf.constant(3)),
        "BatchNormalization": lambda: layer(vector, condition=labels, training=True),
    }


def adjustment(shape: Any) -> tuple[float, float]:
    return 1.0, 0.5


SLOTS: list[dict[str, Any]] = [
    {},
    {
        "statistics": batchnorm.Ghost(3),
        "renorm": batchnorm.Renorm.paper(),
        "adjustment": adjustment,
    },
    {
        "statistics": batchnorm.Ghost(2, strided=True),
        "moving": batchnorm.ZeroDebiased(batchnorm.Ramp(0, 0.9, 0, 9)),
    },
    {"moving": batchnorm.Cumulative(unbiased=True), "renorm": batchnorm.Renorm(rmax=3.0)},
]


def trace(function: Call, *arguments: Any) -> None:
    tf.function(function).get_concrete_function(*arguments)


def images() -> Any:
    return tf.constant(np.random.default_rng(0).normal(size=(8, 4, 4, 3)), "float32")


def trace_slots() -> None:
    """Traces the layer and the function with each set of options."""
    for options in SLOTS:
        layer = batchnorm.BatchNormalization(**options)
        layer.build((8, 4, 4, 3))

        def train(x: Any, mask: Any, layer: Any = layer) -> Any:
            return layer(x, training=True, mask=mask, sample_weight=mask)

        def infer(x: Any, mask: Any, layer: Any = layer) -> Any:
            return layer(x, mask=mask)

        names = batchnorm.state_names(
            layer.moving or batchnorm.Exponential(), options.get("renorm")
        )
        step = {"step": layer.counter.step} if "step" in names else {}
        state = {name: getattr(layer, name) for name in names if name != "step"} | step

        def function(x: Any, mask: Any, options: Any = options, state: Any = state) -> Any:
            y, new = batchnorm.batch_norm(x, state, training=True, mask=mask, **options)
            return y, batchnorm.batch_norm(x, state, mask=mask)[0], new

        for traced in (train, infer, function):
            trace(traced, images(), tf.ones(8))


def trace_conditions() -> None:
    """Traces the layer with each kind of conditional scale and shift, and a block."""
    x, labels = images(), tf.constant([0, 1] * 4)
    embedding = batchnorm.FromEmbedding(5, bias=True, spectral_normalization=True)
    for affine, condition in (
        (batchnorm.PerClass(2), labels),
        (embedding, tf.ones((8, 5))),
        (batchnorm.Given(), (x, x)),
    ):
        layer = batchnorm.BatchNormalization(affine=affine)
        layer.build(x.shape)

        def conditional(x: Any, condition: Any, layer: Any = layer) -> Any:
            return layer(x, condition=condition, training=True), layer(x, condition=condition)

        trace(conditional, x, condition)
    residual = batchnorm.ConditionalResidualBlock(3, 2)

    def block(x: Any, labels: Any) -> Any:
        return residual(x, labels, training=True)

    trace(block, x, labels)


def trace_functions() -> None:
    """Traces `moments` and `merge`, with weights and within `tf.map_fn`."""
    x = images()

    def measure(x: Any, mask: Any) -> Any:
        plain = batchnorm.moments(x, [0, 1, 2])
        weighted = batchnorm.moments(x, [0, 1, 2], tf.reshape(mask, (8, 1, 1, 1)))
        return batchnorm.merge(plain, weighted)

    trace(measure, x, tf.ones(8))
    tf.function(lambda x: tf.map_fn(lambda t: batchnorm.moments(t, [0]).mean, x))(x)


def graph_calls(image: Any, vector: Any) -> list[Call]:
    return [
        lambda: within_scopes(image),
        lambda: normalization(image),
        lambda: penalties(vector),
        lambda: values(),
        lambda: dense(vector),
        lambda: convolution("conv1d", tf.ones([1, 5, 3])),
        lambda: convolution("conv3d", tf.ones([1, 5, 5, 5, 3])),
    ]


def within_scopes(x: Any) -> Any:
    options = {"scale": True, "scope": "bn", "zero_debias_moving_mean": True}
    with v1.variable_scope("net", reuse=v1.AUTO_REUSE):
        with contrib.arg_scope([contrib.conv2d], normalizer_params=options):
            return contrib.conv2d(x, 4.0, 3, normalizer_fn=contrib.batch_norm, scope="conv")


def normalization(x: Any) -> Any:
    options: dict[str, Any] = {"renorm": True, "renorm_clipping": {"rmax": tf.constant(2.0)}}
    with v1.variable_scope("other", reuse=v1.AUTO_REUSE):
        return contrib.batch_norm(x, scope="bn", batch_weights=tf.ones([2]), **options)


def penalties(x: Any) -> Any:
    make = contrib.l1_regularizer, contrib.l2_regularizer, contrib.l1_l2_regularizer
    return tf.add_n([function(0.1)(x) for function in make])


def values() -> Any:
    make = contrib.xavier_initializer(), contrib.variance_scaling_initializer()
    return tf.add_n([function([3, 3]) for function in make])


def dense(x: Any) -> Any:
    with v1.variable_scope("dense", reuse=v1.AUTO_REUSE):
        return contrib.fully_connected(x, 3, scope="fc")


def convolution(name: str, x: Any) -> Any:
    with v1.variable_scope(name, reuse=v1.AUTO_REUSE):
        return getattr(contrib, name)(x, 2, 3, scope="c")
