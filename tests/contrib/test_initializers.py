import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from batchnorm.contrib.tensorflow.initializers import (
    variance_scaling_initializer,
    xavier_initializer,
)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="graph code is TensorFlow's"
)

# Of a normal distribution that is cut at two deviations, in deviations squared.
CUT = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))

KERNEL = (3, 5, 40, 500)
FANS = [
    ("FAN_IN", KERNEL, 600),
    ("FAN_OUT", KERNEL, 7500),
    ("FAN_AVG", KERNEL, 4050),
    ("FAN_IN", (300, 1000), 300),
    ("FAN_OUT", (300, 1000), 1000),
    ("FAN_AVG", (300, 1000), 650),
    ("FAN_IN", (2, 3, 5, 10, 1000), 300),
    ("FAN_IN", (7, 50, 1000), 350),
    ("FAN_OUT", (300_000,), 300_000),
    ("FAN_IN", (300_000,), 300_000),
]


def draw(initializer: Any, shape: tuple[int, ...], **options: Any) -> Any:
    """Returns the values of a variable, in float64."""
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("test", shape, initializer=initializer, **options)
        session.run(tf.global_variables_initializer())
        values = session.run(tf.convert_to_tensor(variable))
        assert values.dtype == options.get("dtype", tf.float32).as_numpy_dtype
        return values.astype(np.float64)


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize(("mode", "shape", "n"), FANS)
def test_normal(mode: str, shape: tuple[int, ...], n: float, factor: float) -> None:
    values = draw(variance_scaling_initializer(factor, mode, seed=1), shape)
    deviation = math.sqrt(1.3 * factor / n)
    # Hundreds of thousands of values come close to the cut.
    assert np.abs(values).max() == pytest.approx(2 * deviation, rel=1e-3)
    assert values.var() == pytest.approx(CUT * deviation**2, rel=0.015)
    assert values.mean() == pytest.approx(0, abs=0.01 * deviation)
    # A uniform distribution with this variance has less in the middle.
    assert np.mean(np.abs(values) < deviation) == pytest.approx(0.7152, abs=0.005)


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize(("mode", "shape", "n"), FANS)
def test_uniform(mode: str, shape: tuple[int, ...], n: float, factor: float) -> None:
    values = draw(variance_scaling_initializer(factor, mode, uniform=True, seed=1), shape)
    limit = math.sqrt(3 * factor / n)
    assert np.abs(values).max() == pytest.approx(limit, rel=1e-3)
    assert values.var() == pytest.approx(factor / n, rel=0.015)
    assert values.mean() == pytest.approx(0, abs=0.01 * limit)


def test_defaults() -> None:
    he = draw(variance_scaling_initializer(seed=1), KERNEL)
    assert np.abs(he).max() == pytest.approx(2 * math.sqrt(2.6 / 600), rel=1e-3)
    glorot = draw(xavier_initializer(seed=1), KERNEL)
    assert np.abs(glorot).max() == pytest.approx(math.sqrt(6 / 8100), rel=1e-3)
    normal = draw(xavier_initializer(uniform=False, seed=1), KERNEL)
    assert np.abs(normal).max() == pytest.approx(2 * math.sqrt(2.6 / 8100), rel=1e-3)


def test_scalar_and_empty_shapes() -> None:
    scalar = draw(xavier_initializer(), ())
    assert scalar.shape == () and abs(scalar) <= math.sqrt(3)
    assert draw(variance_scaling_initializer(), (0, 4)).shape == (0, 4)


def test_seeds() -> None:
    first, again, other = (draw(xavier_initializer(seed=seed), (5, 6)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("dtype", [tf.float64, tf.float16])
def test_dtypes(dtype: Any, uniform: bool) -> None:
    values = draw(xavier_initializer(uniform), (20, 30), dtype=dtype)
    assert 0 < np.abs(values).max() < 1
    with tf.Graph().as_default():
        assert xavier_initializer(uniform, dtype=dtype)([2, 3]).dtype == dtype
        assert xavier_initializer(uniform, dtype=dtype.name)([2, 3]).dtype == dtype


def test_parts_are_drawn_as_parts_of_the_whole() -> None:
    parts = tf.fixed_size_partitioner(4, axis=0)
    values = draw(variance_scaling_initializer(uniform=True), (600, 500), partitioner=parts)
    assert values.shape == (600, 500)
    assert np.abs(values).max() == pytest.approx(math.sqrt(6 / 600), rel=1e-3)


@pytest.mark.parametrize("mode", ["fan_in", "FAN", None])
def test_bad_mode(mode: Any) -> None:
    with pytest.raises(TypeError, match=f"one of FAN_IN, FAN_OUT, FAN_AVG; received {mode!r}"):
        variance_scaling_initializer(mode=mode)


@pytest.mark.parametrize("dtype", [tf.int32, tf.complex64, "bool"])
def test_bad_dtype(dtype: Any) -> None:
    text = f"floating point, .* received {tf.as_dtype(dtype).name}"
    for make in (variance_scaling_initializer, xavier_initializer):
        with pytest.raises(TypeError, match=text):
            make(dtype=dtype)
        with pytest.raises(TypeError, match=text):
            make()([2, 3], dtype=dtype)
