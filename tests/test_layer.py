"""The layer and the function against the oracle, and against Keras where Keras is right."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization, Exponential, batch_norm
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import (
    BACKEND,
    MODES,
    Array,
    compiled,
    gradients,
    precision,
    tensors,
    to_numpy,
)

SHAPES = {
    "2": (7, 3),
    "3": (4, 5, 3),
    "4": (4, 3, 5, 6),
    "5": (2, 3, 4, 3, 5),
    "first 3": (4, 3, 5),
    "first 4": (4, 3, 5, 2),
    "first 5": (2, 3, 4, 3, 2),
    "one channel": (6, 4, 4, 1),
    "one sample": (1, 4, 4, 3),
    "one value": (1, 3),
}
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-5, "float64": 1e-12}


def channel_axis(name: str) -> int:
    return 1 if name.startswith("first") else -1


def draw_arrays(
    name: str, dtype: str = "float32", mean: float = 1.5, deviation: float = 2.0
) -> Any:
    """x, dy, gamma, beta, moving mean and variance; x as exactly as the dtype holds it."""
    shape = SHAPES[name]
    channels = shape[channel_axis(name)]
    random = np.random.default_rng(len(name) + len(shape))
    x = ops.convert_to_numpy(ops.cast(random.normal(mean, deviation, shape), dtype))
    dy, gamma = random.normal(size=shape), random.normal(1.0, 0.3, channels)
    beta, moving_mean = random.normal(size=(2, channels))
    return x, dy, gamma, beta, moving_mean, random.uniform(0.5, 2.0, channels)


def run(function_mode: str, x: Array, dy: Array, *rest: Array, dtype: str, **options: Any) -> Any:
    """y, moving mean and variance, and the gradients in x, gamma and beta."""
    weights = "float64" if dtype == "float64" else "float32"
    (x_, dy_), (gamma, beta, mean, variance) = tensors([x, dy], dtype), tensors(rest, weights)

    def forward(x: Any, gamma: Any, beta: Any) -> Any:
        state = {"moving_mean": mean, "moving_variance": variance}
        y, new = batch_norm(x, state, gamma, beta, **options)
        return y, new["moving_mean"], new["moving_variance"]

    def loss(x: Any, gamma: Any, beta: Any) -> Any:
        return ops.sum(ops.cast(forward(x, gamma, beta)[0], weights) * ops.cast(dy_, weights))

    outputs = compiled(forward, function_mode)(x_, gamma, beta)
    slopes = gradients(compiled(loss, function_mode), x_, gamma, beta)
    assert keras.backend.standardize_dtype(outputs[0].dtype) == dtype
    return [to_numpy(value) for value in (*outputs, *slopes)]


# Compiled code is the eager code: modes but this one test all shapes in float32, and all dtypes in
# one shape. JAX compiles an eager call operation by operation, which takes longer.
FIRST = "jit" if BACKEND == "jax" else "eager"
TABLE = [
    (name, dtype, mode)
    for name in SHAPES
    for dtype in TOLERANCE
    for mode in MODES
    if mode == FIRST or dtype == "float32" or name == "4"
]


@pytest.mark.parametrize(("name", "dtype", "mode"), TABLE)
@pytest.mark.parametrize("training", [True, False])
def test_oracle(name: str, dtype: str, mode: str, training: bool) -> None:
    with precision(dtype):
        x, dy, *rest = draw_arrays(name, dtype)
        axis, gamma = channel_axis(name), rest[0]
        actual = run(
            mode, x, dy, *rest, dtype=dtype, axis=axis, training=training, moving=Exponential(0.9)
        )
        dy = to_numpy(ops.cast(dy, dtype)).astype("float64")
    expected = oracle.batch_norm(x, *rest, axis=axis, momentum=0.9, training=training)
    if training:
        expected_gradients = oracle.gradients(x, dy, gamma, axis=axis)
    else:
        expected_gradients = oracle.inference_gradients(x, dy, gamma, *rest[2:], axis=axis)
    tolerance = TOLERANCE[dtype]
    # Parameters and moving statistics are float32 at least, whatever x is.
    exact = min(tolerance, 1e-5)
    assert_close(actual[0], expected.y, tolerance)
    assert_close(actual[1], expected.moving_mean, exact)
    assert_close(actual[2], expected.moving_variance, exact)
    assert_close(actual[3], expected_gradients.dx, tolerance)
    # A sum of n products of y, each with the error of one.
    assert_close(actual[4], expected_gradients.dgamma, 4 * exact)
    assert_close(actual[5], expected_gradients.dbeta, exact)


@pytest.mark.parametrize("mean", [1e4, 1e6, -123456.7])
def test_hard_numbers_with_renorm(mean: float) -> None:
    x, _, gamma, beta, *_ = draw_arrays("4", mean=mean, deviation=1.0)
    layer = BatchNormalization(renorm=True)
    layer.build(x.shape)
    exact = [np.full(6, value, "float32") for value in (1.1, mean + 0.3, 0.9)]
    layer.set_weights([gamma, beta, np.zeros(6), np.ones(6), *exact])
    expected = oracle.renorm(x, gamma, beta, np.zeros(6), *exact)
    assert_close(to_numpy(layer(x, training=True)), expected.y, 1e-5)


HARD = {
    "mean 1e4": ("4", 1e4, 1.0),
    "mean 1e6": ("4", 1e6, 1.0),
    "mean -123456.7": ("first 4", -123456.7, 1.0),
    "mean 1, deviation 1e-3": ("4", 1.0, 1e-3),
    "constant": ("4", 4096.1, 0.0),
    "one channel, mean 1e6": ("one channel", 1e6, 1.0),
    "one sample, mean 1e6": ("one sample", 1e6, 1.0),
    "rows, mean 1e6": ("2", 1e6, 1.0),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", HARD)
def test_hard_numbers(case: str, mode: str) -> None:
    name, mean, deviation = HARD[case]
    x, dy, *rest = draw_arrays(name, mean=mean, deviation=deviation)
    axis = channel_axis(name)
    actual = run(mode, x, dy, *rest, dtype="float32", axis=axis, training=True)
    expected = oracle.batch_norm(x, *rest, axis=axis)
    expected_gradients = oracle.gradients(x, dy.astype("float32"), rest[0], axis=axis)
    assert_close(actual[0], expected.y, 1e-5)
    assert_close(actual[2], expected.moving_variance, 1e-5)
    assert_close(actual[1], expected.moving_mean, 1e-5)
    assert_close(actual[3], expected_gradients.dx, 1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mean", [0.0, 1e4, 1e6, -123456.7])
@pytest.mark.parametrize("shape", [(65_521, 2), (8, 4001, 2), (16, 2, 64, 65), (100, 31, 29, 2)])
def test_many_values(shape: tuple[int, ...], mean: float, mode: str) -> None:
    # Where sums are taken in sequence the error grows with the number of terms.
    axis = 1 if shape[1] == 2 and len(shape) == 4 else -1
    x = np.random.default_rng(3).normal(mean, 1.0, shape).astype("float32")
    state = dict(
        zip(("moving_mean", "moving_variance"), tensors([[0, 0], [1, 1]], "float32"), strict=True)
    )
    function = compiled(lambda x: batch_norm(x, state, training=True, axis=axis)[0], mode)
    assert_close(to_numpy(function(*tensors([x]))), oracle.batch_norm(x, axis=axis).y, 1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow's graphs have unknown sizes")
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_an_unknown_length(mean: float, jit_compile: bool) -> None:
    import tensorflow as tf

    state = {"moving_mean": tf.zeros(2), "moving_variance": tf.ones(2)}
    function = tf.function(
        lambda x, mask: batch_norm(x, state, training=True, mask=mask)[0],
        input_signature=[tf.TensorSpec([None, None, 2]), tf.TensorSpec([None, None], tf.bool)],
        jit_compile=jit_compile,
    )
    for shape in ((3, 0, 2), (2, 5, 2), (2, 60_000, 2)):
        x = np.random.default_rng(3).normal(mean, 1.0, shape).astype("float32")
        mask = np.arange(shape[1]) < np.array([[shape[1] // 2]] + [[shape[1]]] * (shape[0] - 1))
        expected = oracle.batch_norm(x, weights=mask.astype("float64"))
        assert_close(function(x, mask), expected.y, 1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow's graphs have unknown sizes")
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 97, 30_000])
@pytest.mark.parametrize("shape", [(2,), (5, 2)])
def test_an_unknown_batch_size(rows: int, shape: tuple[int, ...]) -> None:
    import tensorflow as tf

    x = np.random.default_rng(3).normal(-123456.7, 1.0, (rows, *shape)).astype("float32")
    layer = BatchNormalization()
    layer.build((None, *shape))
    signature = [tf.TensorSpec([None, *shape], tf.float32)]
    y = tf.function(lambda x: layer(x, training=True), input_signature=signature)(x)
    expected = oracle.batch_norm(x)
    assert_close(y, expected.y, 1e-5)
    assert_close(to_numpy(layer.moving_variance), expected.moving_variance, 1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_keras(name: str, policy: str, training: bool) -> None:
    """Outputs, gradients and moving statistics are Keras's."""
    with precision(policy):
        x, dy, *weights = draw_arrays(name, mean=0.1, deviation=1.0)
        results = []
        for kind in (BatchNormalization, keras.layers.BatchNormalization):
            layer = kind(axis=channel_axis(name), momentum=0.9, dtype=policy)
            layer.build(x.shape)
            layer.set_weights(weights)
            results.append(_step(layer, x, dy, training))
    half = policy.startswith("mixed")
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == expected.dtype
        # Half precision: the same float32 arithmetic, whose last bit can tip the rounding.
        assert_close(actual, expected, TOLERANCE[policy.removeprefix("mixed_")] if half else 1e-6)


def _step(layer: keras.layers.Layer, x: Array, dy: Array, training: bool) -> list[Array]:
    """y, the state after it, and the gradients in x and, an element, in the parameters."""
    exact = layer.variable_dtype
    (x_,), (dy_,) = tensors([x], layer.compute_dtype), tensors([dy], exact)
    trainable = [variable.value for variable in layer.trainable_variables]
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def forward(x: Any, *trainable: Any) -> Any:
        return layer.stateless_call(trainable, fixed, x, training=training)

    def loss(x: Any, *trainable: Any) -> Any:
        return ops.sum(ops.cast(forward(x, *trainable)[0], exact) * dy_)

    y, state = compiled(forward, FIRST)(x_, *trainable)
    dx, *slopes = map(to_numpy, gradients(compiled(loss, FIRST), x_, *trainable))
    rows = x.size / x.shape[layer.axis]
    return [to_numpy(y), *map(to_numpy, state), dx, *(value / rows for value in slopes)]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_without_scale_or_center(scale: bool, center: bool, training: bool) -> None:
    x, _, gamma, beta, mean, variance = draw_arrays("4")
    layer = BatchNormalization(scale=scale, center=center)
    layer.build(x.shape)
    used = [w for w, use in ((gamma, scale), (beta, center)) if use]
    layer.set_weights([*used, mean, variance])
    expected = oracle.batch_norm(
        x, gamma if scale else None, beta if center else None, mean, variance, training=training
    )
    assert_close(to_numpy(layer(x, training=training)), expected.y, 1e-5)


def test_an_empty_batch_leaves_the_moving_statistics() -> None:
    layer = BatchNormalization(momentum=0.5)
    layer.build((None, 4, 3))
    layer.moving_mean.assign([1.0, 2.0, 3.0])
    y = layer(np.zeros((0, 4, 3), "float32"), training=True)
    assert y.shape == (0, 4, 3)
    assert_close(to_numpy(layer.moving_mean), [1, 2, 3], 0)
    assert_close(to_numpy(layer.moving_variance), [1, 1, 1], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("renorm", [False, True])
def test_a_batch_that_is_not_finite_leaves_the_moving_statistics(bad: float, renorm: bool) -> None:
    x = draw_arrays("4")[0]
    layer = BatchNormalization(renorm=renorm)
    layer(x, training=True)
    before = layer.get_weights()
    x[0, 0, 0, 0] = bad
    y = to_numpy(layer(x, training=True))
    assert not np.isfinite(y[..., 0]).all() and np.isfinite(y[..., 1:]).all()
    for old, new in zip(before, layer.get_weights(), strict=True):
        assert_close(new, old, 0)
    x[0, 0, 0, 0] = 1.0
    layer(x, training=True)
    assert not np.array_equal(layer.get_weights()[2], before[2])


MASKS = {
    "samples": ("4", (4,)),
    "rows": ("4", (4, 3)),
    "pixels": ("4", (4, 3, 5)),
    "a one": ("4", (1, 3, 1)),
    "scalar": ("4", ()),
    "steps": ("3", (4, 5)),
    "steps of channels first": ("first 3", (4, 5)),
    "samples of channels first": ("first 4", (4,)),
    "one channel": ("one channel", (6, 4)),
    "rows of a matrix": ("2", (7,)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", MASKS)
def test_masks(case: str, mode: str) -> None:
    name, shape = MASKS[case]
    x, dy, *rest = draw_arrays(name)
    axis, mask = channel_axis(name), draw_mask(shape)
    actual = run(mode, x, dy, *rest, dtype="float32", axis=axis, training=True, mask=mask)
    weights = mask.astype("float64")
    expected = oracle.batch_norm(x, *rest, axis=axis, weights=weights)
    expected_gradients = oracle.gradients(
        x, dy.astype("float32"), rest[0], axis=axis, weights=weights
    )
    assert_close(actual[0], expected.y, 1e-5)
    assert_close(actual[1], expected.moving_mean, 1e-5)
    assert_close(actual[2], expected.moving_variance, 1e-5)
    assert_close(actual[3], expected_gradients.dx, 1e-5)


@pytest.mark.parametrize("case", MASKS)
def test_masks_with_renorm(case: str) -> None:
    name, shape = MASKS[case]
    x, _, gamma, beta, mean, _ = draw_arrays(name)
    axis, mask = channel_axis(name), draw_mask(shape)
    layer = BatchNormalization(axis=axis, momentum=0.8, renorm=True)
    layer.build(x.shape)
    state = list(np.random.default_rng(5).uniform(0.5, 2, (3, len(gamma))))
    layer.set_weights([gamma, beta, mean, np.ones_like(mean), *state])
    y = layer(x, training=True, mask=mask)
    expected = oracle.renorm(
        x, gamma, beta, mean, *state, axis=axis, momentum=0.8, weights=mask.astype("float64")
    )
    assert_close(to_numpy(y), expected.y, 1e-5)
    for variable in layer.non_trainable_variables:
        assert_close(to_numpy(variable), getattr(expected, variable.name), 1e-5)


def draw_mask(shape: tuple[int, ...]) -> Array:
    mask = np.random.default_rng(1).random(shape) < 0.6
    return mask if np.any(mask) else np.logical_not(mask)


@pytest.mark.parametrize("renorm", [False, True])
def test_a_mask_of_zeros_is_inference(renorm: bool) -> None:
    x, _, *weights = draw_arrays("4")
    layer = BatchNormalization(renorm=renorm)
    layer.build(x.shape)
    layer.set_weights(weights + layer.get_weights()[4:])
    before = layer.get_weights()
    y = layer(x, training=True, mask=np.zeros(4, bool))
    assert_close(to_numpy(y), to_numpy(layer(x, training=False)), 1e-6)
    for old, new in zip(before, layer.get_weights(), strict=True):
        assert_close(new, old, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_a_mask_hides_does_not_matter(value: float) -> None:
    x, dy, *rest = draw_arrays("3")
    mask = np.arange(5) < np.array([[5], [3], [1], [2]])
    hidden = np.where(mask[..., None], x, np.float32(value))
    seen = np.where(mask[..., None], dy, 0)
    options: dict[str, Any] = {"dtype": "float32", "training": True, "mask": mask}
    exact, actual = (run("eager", inputs, seen, *rest, **options) for inputs in (x, hidden))
    assert_close(actual[3][mask], exact[3][mask], 1e-6)
    assert_close(actual[4], exact[4], 1e-6)
    layer, other = BatchNormalization(), BatchNormalization()
    y, z = layer(x, training=True, mask=mask), other(hidden, training=True, mask=mask)
    assert_close(to_numpy(y)[mask], to_numpy(z)[mask], 0)
    assert_close(to_numpy(layer.moving_mean), to_numpy(other.moving_mean), 0)


def test_a_mask_that_covers_the_channels_is_read_as_keras_reads_it() -> None:
    x = draw_arrays("first 3")[0]
    mask = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], bool)
    layer = BatchNormalization(axis=1, momentum=0.0)
    layer(x, training=True, mask=mask)
    for channel in (0, 2):
        rows = x[mask[:, channel], channel]
        assert_close(to_numpy(layer.moving_mean)[channel], rows.mean(), 1e-6)
        assert_close(to_numpy(layer.moving_variance)[channel], rows.var(), 1e-5)
    assert to_numpy(layer.moving_mean)[1] == 0 and to_numpy(layer.moving_variance)[1] == 1


@pytest.mark.parametrize("clipping", [None, {"rmin": 0.8, "rmax": 1.2, "dmax": 0.3}])
@pytest.mark.parametrize("name", ["2", "4", "first 4"])
def test_renorm(name: str, clipping: dict[str, float] | None) -> None:
    x, dy, gamma, beta, mean, _ = draw_arrays(name)
    axis, channels = channel_axis(name), len(gamma)
    state = list(np.random.default_rng(5).uniform(0.5, 2, (3, channels)))
    layer = BatchNormalization(
        axis=axis, momentum=0.8, renorm=True, renorm_clipping=clipping, renorm_momentum=0.7
    )
    layer.build(x.shape)
    layer.set_weights([gamma, beta, mean, np.ones(channels), *state])
    options = {"momentum": 0.8, "renorm_momentum": 0.7, **(clipping or {})}
    expected = oracle.renorm(x, gamma, beta, mean, *state, axis=axis, **options)
    expected_gradients = oracle.gradients(x, dy.astype("float32"), gamma * expected.r, axis=axis)
    actual = _step(layer, x, dy, True)
    assert_close(actual[0], expected.y, 1e-5)
    for value, attribute in zip(actual[1:6], layer.non_trainable_variables, strict=True):
        assert_close(value, getattr(expected, attribute.name), 1e-5)
    assert_close(actual[6], expected_gradients.dx, 1e-5)
