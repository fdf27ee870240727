"""Sums of TensorFlow's kernel around their thresholds, on terms that drift where they are many."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from batchnorm import batch_norm
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, to_numpy

if BACKEND != "tensorflow":
    pytest.skip("the kernel is TensorFlow's", allow_module_level=True)

import tensorflow as tf

from batchnorm.kernels.tensorflow.cpu import sums

ROWS = (1, 63, 255, 256, 257, 1009, 3136, 4095, 4096, 4097, 50_000)
DRIFT = 2.5e-6  # of equal terms; that of a product of 257 is 4e-6, that of 4,096 2e-5
STATE = {"moving_mean": 0.0, "moving_variance": 1.0}


def constant(rows: int, width: int) -> Array:
    """Columns of one value each, whose float32 partial sums are all rounded."""
    values = np.random.default_rng(0).uniform(1, 2, width).astype("float32")
    return np.broadcast_to(values, (rows, width))


def drift_of(actual: Any, terms: Array, axis: int, weights: Array | None = None) -> float:
    exact = (terms * (1.0 if weights is None else weights.astype("float64"))).sum(
        axis, dtype="float64"
    )
    return float(np.abs(to_numpy(actual).reshape(exact.shape) / exact - 1).max())


@pytest.mark.parametrize("width", [1, 3, 64, 200])
@pytest.mark.parametrize("rows", ROWS)
def test_columns(rows: int, width: int) -> None:
    terms = constant(rows, width)
    weights = np.random.default_rng(1).uniform(1, 2, (rows, 1)).astype("float32")
    matrix = tf.constant(terms)
    assert drift_of(sums.column_sums(matrix), terms, 0) <= DRIFT
    assert drift_of(sums.column_sums(matrix, tf.constant(weights)), terms, 0, weights) <= DRIFT


@pytest.mark.parametrize("width", [1, 64])
def test_columns_of_unknown_length(width: int) -> None:
    function = tf.function(
        sums.column_sums, input_signature=[tf.TensorSpec((None, width))], autograph=False
    )
    for rows in ROWS:
        terms = constant(rows, width)
        assert drift_of(function(tf.constant(terms)), terms, 0) <= DRIFT
    assert to_numpy(function(tf.zeros((0, width)))).tolist() == [0.0] * width


@pytest.mark.parametrize("rows", [255, 256, 257, 511, 512, 513, 1024, 1300])
@pytest.mark.parametrize("static", [True, False])
def test_columns_in_pieces(rows: int, static: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "PIECE", 1)  # then a piece has 256 rows
    random = np.random.default_rng(0)
    terms, origin = random.normal(size=(rows, 5)), random.normal(size=(1, 5))
    weights = random.uniform(size=(rows, 1))

    def total(terms: Any, origin: Any, weights: Any) -> Any:
        return sums.column_sums_of(tf.math.squared_difference, [terms, origin], weights)

    size = rows if static else None
    signature = [tf.TensorSpec(shape, tf.float64) for shape in ((size, 5), (1, 5), (size, 1))]
    function: Any = tf.function(total, input_signature=signature, autograph=False)
    expected = ((terms - origin) ** 2 * weights).sum(0)
    assert_close(to_numpy(function(terms, origin, weights)), expected, 1e-13)


@pytest.mark.parametrize("length", [1, 49, 64, 65, 97, 131, 361, 3136, 50_000])
def test_parts(length: int) -> None:
    terms = np.stack([constant(length, 5), constant(length, 5)[:, ::-1]])
    weights = np.random.default_rng(1).uniform(1, 2, (2, length, 1)).astype("float32")
    values = tf.constant(terms)
    assert drift_of(sums.part_sums(values), terms, 1) <= 2 * DRIFT
    weighted = sums.part_sums(values, tf.constant(weights))
    assert drift_of(weighted, terms, 1, weights) <= 2 * DRIFT


SHAPES = [(257, 3), (3000, 64), (4097, 40), (64, 7, 7, 64), (2, 45, 46, 33)]
KINDS: dict[str, Callable[[Array], Array]] = {
    "far": lambda x: x - 123456.7,
    "near": lambda x: x + 2.9,
    "after relu": lambda x: np.maximum(x, 0),
    "mostly equal": lambda x: np.where(x > 2, 1.2, 0.1),
}


@pytest.mark.parametrize(
    "shape, static", [(shape, True) for shape in SHAPES] + [(SHAPES[3], False)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch(shape: tuple[int, ...], kind: str, static: bool) -> None:
    channels = shape[-1]
    if kind == "mostly equal":
        shape = (4 * shape[0], *shape[1:])
    random = np.random.default_rng(0)
    x = KINDS[kind](random.normal(size=shape)).astype("float32")
    dy = random.normal(size=shape).astype("float32")
    state = {name: tf.fill((channels,), value) for name, value in STATE.items()}
    gamma, beta = tf.fill((channels,), 1.3), tf.fill((channels,), 0.2)

    def step(x: Any, dy: Any) -> Any:
        inputs = [x, gamma, beta]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y, _ = batch_norm(x, state, gamma, beta, training=True)
        return y, *tape.gradient(y, inputs, dy)

    if not static:
        spec = tf.TensorSpec((*[None] * (len(shape) - 1), channels))
        step = tf.function(step, input_signature=[spec, spec], autograph=False)
    y, dx, dgamma, dbeta = map(to_numpy, step(tf.constant(x), tf.constant(dy)))
    numbers = [np.full(channels, value) for value in (1.3, 0.2)]
    exact_dx, exact_dgamma, exact_dbeta = oracle.gradients(x, dy, numbers[0])
    exact = oracle.batch_norm(x, *numbers).y
    assert_close(y, exact, 1e-5)
    axes = tuple(range(len(shape) - 1))
    assert (np.abs(dx - exact_dx).max(axes) <= 1e-5 * np.abs(exact_dx).max(axes)).all()
    terms = (dy * (exact - 0.2) / 1.3, dy)
    errors = (dgamma - exact_dgamma, dbeta - exact_dbeta)
    for error, term in zip(errors, terms, strict=True):
        scale = np.sqrt(np.square(term, dtype="float64").sum(axes))
        assert (np.abs(error) <= 1e-5 * scale).all()


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("weighing", ["none", "samples", "positions"])
def test_unknown_sizes_with_weights(axis: int, weighing: str) -> None:
    random = np.random.default_rng(0)
    x = random.normal(3.0, 1.0, (6, 7, 5, 5)).astype("float32")
    channels = x.shape[axis]
    rest = [size for place, size in enumerate(x.shape) if place != axis % 4]
    sizes = {"none": None, "samples": rest[:1], "positions": rest}[weighing]
    weights = None if sizes is None else random.integers(0, 3, sizes).astype("float32")
    shape = [size if place == axis % 4 else None for place, size in enumerate(x.shape)]
    state = {name: tf.fill((channels,), value) for name, value in STATE.items()}
    function = tf.function(
        lambda x: batch_norm(x, state, training=True, axis=axis, sample_weight=weights),
        input_signature=[tf.TensorSpec(shape)],
        autograph=False,
    )
    y, new = function(x)
    expected = oracle.batch_norm(x, axis=axis, weights=weights)
    assert_close(to_numpy(y), expected.y, 1e-5)
    assert_close(to_numpy(new["moving_variance"]), expected.moving_variance, 1e-6)
    if weights is None:
        y, new = function(x[:0])
        assert y.shape[0] == 0 and to_numpy(new["moving_mean"]).tolist() == [0.0] * channels


@pytest.mark.parametrize("static", [True, False])
def test_constants_whose_squares_overflow(static: bool) -> None:
    for rows in (3, 7, 300, 5000):
        x = tf.constant(np.tile(np.array([1e27, -1e30, 1.2e34], "float32"), (rows, 1))[:, None])
        spec = tf.TensorSpec(x.shape if static else (None, None, 3))
        state = {name: tf.fill((3,), value) for name, value in STATE.items()}
        beta = tf.constant([0.5, 0.25, 2.0])
        function = tf.function(
            lambda x: batch_norm(x, state, beta=beta, training=True)[0],  # noqa: B023
            input_signature=[spec],
            autograph=False,
        )
        assert (to_numpy(function(x)) == [0.5, 0.25, 2.0]).all()
