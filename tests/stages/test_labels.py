"""Class numbers and mixtures: their types, compiled code, and the effect of a wrong one."""

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization, ConditionalBatchNormalization, PerClass
from batchnorm.stages.labels import mixtures, rows
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

TABLE = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SYMBOLIC = [*MODES[1:], *(["compile"] if BACKEND == "torch" else [])]

integers = pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                BACKEND == "torch" and name == "uint64", reason="Keras has none on PyTorch"
            ),
        )
        for name in INTEGERS
    ],
)


def looked_up(labels: Any, mode: str = "eager", table: Array = TABLE) -> Array:
    """Returns the rows, with 64-bit labels where the backend supports them."""
    with precision("float64"):
        (table_tensor,) = tensors([table])
        result = compiled(lambda labels: rows(table_tensor, labels), mode)(*tensors([labels]))
        return to_numpy(result)


@integers
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_any_integers(dtype: str, shape: tuple[int, ...]) -> None:
    labels = np.array([2, 0, 3], dtype).reshape(shape)
    assert_close(looked_up(labels), TABLE[[2, 0, 3]], 0)
    # JAX warns where it truncates 64 bits to 32, which would be an error here.
    assert_close(to_numpy(rows(TABLE, labels)), TABLE[[2, 0, 3]], 0)
    layer = conditional_layer(gamma=TABLE)
    x = np.random.default_rng(1).normal(size=(3, 2, 3)).astype("float32")
    y = layer(x, *tensors([labels]))
    assert_close(to_numpy(y), x * TABLE[[2, 0, 3], None], 1e-6)


@pytest.mark.parametrize("mode", SYMBOLIC)
@integers
def test_any_integers_in_compiled_code(dtype: str, mode: str) -> None:
    if mode == "compile" and dtype != "uint8":
        pytest.skip("a second each")
    assert_close(looked_up(np.array([[2], [0], [3]], dtype), mode), TABLE[[2, 0, 3]], 0)


def test_lists() -> None:
    assert_close(to_numpy(rows(TABLE, [2, 0])), TABLE[[2, 0]], 0)
    assert_close(to_numpy(rows(TABLE, [[2], [0]])), TABLE[[2, 0]], 0)
    mixed = to_numpy(rows(TABLE, [[0.25, 0.0, 0.0, 0.75]]))
    assert_close(mixed, 0.25 * TABLE[:1] + 0.75 * TABLE[3:], 1e-6)
    x, layer = np.ones((2, 1, 3), "float32"), conditional_layer(gamma=TABLE)
    assert_close(to_numpy(layer(x, condition=[2, 0])), TABLE[[2, 0], None], 1e-6)


@pytest.mark.parametrize("labels", [[1, 0], [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]], ids=str)
def test_a_table_of_any_rank(labels: Any) -> None:
    table = np.random.default_rng(0).normal(size=(3, 1, 2, 5)).astype("float32")
    parts = np.eye(3)[labels] if np.ndim(labels) == 1 else np.array(labels)
    assert_close(to_numpy(rows(table, labels)), np.tensordot(parts, table, 1), 1e-6)


def test_mixtures() -> None:
    assert_close(to_numpy(mixtures([2, 0], 3)), [[0, 0, 1], [1, 0, 0]], 0)
    assert_close(to_numpy(mixtures([[0.5, 0.25, 0.25]], 3)), [[0.5, 0.25, 0.25]], 0)
    half = mixtures(np.array([1], "uint8"), 2, "float16")
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    with pytest.raises(ValueError, match="labels must be from 0 to 2, and place 1 holds 3"):
        mixtures([0, 3], 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mixtures_are_as_precise_as_the_table(dtype: str) -> None:
    shares = np.random.default_rng(1).dirichlet(np.ones(4), 5).astype(dtype)
    expected = shares.astype("float64") @ TABLE.astype(dtype).astype("float64")
    tolerance = {"float32": 1e-6, "float64": 1e-14}[dtype]
    for mode in MODES:
        assert_close(looked_up(shares, mode, TABLE.astype(dtype)), expected, tolerance)


def test_one_hot_rows_are_class_numbers_bit_for_bit() -> None:
    labels = np.array([3, 1, 1, 0])
    one_hot = np.eye(4, dtype="float32")[labels]
    assert to_numpy(rows(TABLE, one_hot)).tobytes() == TABLE[labels].tobytes()
    x = np.random.default_rng(1).normal(3.0, 2.0, (4, 5, 3)).astype("float32")
    numbers, hot = (conditional_layer(gamma=TABLE, beta=TABLE[::-1]) for _ in range(2))
    for training in (True, False):
        y, other = (
            layer(x, *tensors([condition]), training=training)
            for layer, condition in ((numbers, labels.astype("int32")), (hot, one_hot))
        )
        assert to_numpy(y).tobytes() == to_numpy(other).tobytes()


def conditional_layer(
    gamma: Array | None = None, beta: Array | None = None, rank: int = 3, **options: Any
) -> ConditionalBatchNormalization:
    """A layer with these tables, which in inference computes x * gamma + beta."""
    classes, channels = TABLE.shape
    layer = ConditionalBatchNormalization(classes, epsilon=0.0, **options)
    layer.build((*[None] * (rank - 1), channels))
    for variable, value in ((layer.gamma, gamma), (layer.beta, beta)):
        if value is not None:
            variable.assign(value)
    return layer


@pytest.mark.parametrize(
    ("labels", "dtype", "message"),
    [
        ([0, -1, 2], "int8", "place 1 holds -1"),
        ([0, -1, 2], "int64", "place 1 holds -1"),
        ([[0], [1], [4]], "uint8", "place 2 holds 4"),
        ([4, 1, 9], "int32", "place 0 holds 4"),
        ([1, 2**31 + 1, 0], "uint32", f"place 1 holds {2**31 + 1}"),
        ([1, 2**32 + 1, 0], "int64", f"place 1 holds {2**32 + 1}"),
    ],
)
def test_a_label_that_names_no_class(labels: Any, dtype: str, message: str) -> None:
    message = f"labels must be from 0 to 3, and {message}. .* or make the layer for more"
    with precision("float64"):
        (tensor,) = tensors([np.array(labels, dtype)])
        for value in (tensor, np.array(labels, dtype)):
            with pytest.raises(ValueError, match=message):
                rows(TABLE, value)
        with pytest.raises(ValueError, match=message):
            conditional_layer(rank=2)(*tensors([np.ones((3, 3), "float32")]), tensor)
    with pytest.raises(ValueError, match=message):
        rows(TABLE, labels)


@pytest.mark.parametrize("mode", [mode for mode in SYMBOLIC if mode != "compile"])
def test_a_label_that_compiled_code_encloses(mode: str) -> None:
    with pytest.raises(ValueError, match="place 1 holds 4"):
        compiled(lambda x: x + rows(TABLE, [0, 4])[:, :1], mode)(*tensors([np.zeros((2, 3))]))


@pytest.mark.parametrize("mode", SYMBOLIC)
@pytest.mark.parametrize("bad", [-1] if BACKEND == "torch" else [-1, 4])
def test_a_label_that_names_no_class_in_compiled_code(bad: int, mode: str) -> None:
    """It cannot be an error there: its sample is NaN, and nothing else is wrong."""
    draw = np.random.default_rng(0)
    x, labels = draw.normal(3.0, 2.0, (5, 2, 3)), np.array([2, 0, bad, 1, 2])
    layer = conditional_layer(gamma=TABLE, beta=TABLE[::-1], momentum=0.5)
    weights = [variable.value for variable in layer.trainable_variables]
    state = [variable.value for variable in layer.non_trainable_variables]
    expected = oracle.step(
        x.astype("float32"),
        {"moving_mean": np.zeros(3), "moving_variance": np.ones(3)},
        TABLE[labels.clip(0, 3)],
        TABLE[::-1][labels.clip(0, 3)],
        rate=0.5,
        epsilon=0.0,
    )
    expected.y[2] = np.nan

    def step(x: Any, labels: Any) -> Any:
        return layer.stateless_call(weights, state, x, labels, training=True)

    inputs = tensors([x.astype("float32"), labels.astype("int32")])
    y, (mean, variance) = compiled(step, mode)(*inputs)
    assert_close(to_numpy(y), expected.y, 1e-5)
    assert_close(to_numpy(mean), expected.state["moving_mean"], 1e-5)
    assert_close(to_numpy(variance), expected.state["moving_variance"], 1e-5)


@pytest.mark.parametrize("mode", SYMBOLIC)
@pytest.mark.parametrize(
    ("bad", "dtype"),
    [(2**32 + 1, "int64"), (-(2**32) + 1, "int64"), (2**31 + 1, "uint32"), (2**63 + 1, "uint64")],
)
def test_a_number_of_many_bits_is_no_class(bad: int, dtype: str, mode: str) -> None:
    if BACKEND == "torch" and bad != 2**32 + 1:
        pytest.skip("seconds each, and PyTorch has int64 in place of uint32 and no uint64")
    result = looked_up(np.array([1, bad], dtype), mode)
    assert_close(result, [TABLE[1], np.full(3, np.nan)], 0)
    mixed = compiled(lambda labels: mixtures(labels, 2), mode)
    with precision("float64"):
        one, none = to_numpy(mixed(*tensors([np.array([1, bad], dtype)])))
    assert one.tolist() == [0.0, 1.0] and np.isnan(none).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2), "int32"), r"are int32 of shape \(2, 2\): of an integer type .*\(2, 1\)"),
        (np.eye(4, dtype="int32"), r"one-hot rows, \(N, 4\), cast them to float32"),
        (np.int32(1), r"are int32 of shape \(\): of an integer type they are \(N,\)"),
        (np.zeros((2, 1, 1), "int32"), r"of shape \(2, 1, 1\): of an integer type"),
        (np.zeros(2, "float32"), r"float32 of shape \(2,\): .* mixtures, \(2, 4\).*dtype='int32'"),
        (np.zeros((2, 1), "float32"), r"mixtures, \(2, 4\). For the numbers of classes use int"),
        (np.zeros((2, 3), "float32"), r"float32 of shape \(2, 3\): .* mixtures, \(2, 4\)"),
        (np.zeros((2, 4, 1), "float32"), r"shape \(2, 4, 1\): .* mixtures, \(2, 4\)"),
        (np.float32(1), r"float32 of shape \(\): .* mixtures, \(N, 4\)"),
        (np.zeros(2, bool), r"are bool of shape \(2,\): .*integers, or mixtures.* Cast them"),
        (np.zeros((2, 4), bool), "are bool .* Cast them"),
        (np.zeros(2, "complex64"), "are complex64 .* Cast them"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value.dtype}{value.shape}",
)
def test_labels_of_another_kind(labels: Any, message: str) -> None:
    for mode in MODES:
        with pytest.raises(ValueError, match=f"labels .*{message}"):
            compiled(lambda labels: rows(TABLE, labels), mode)(*tensors([labels]))
    with pytest.raises(ValueError, match=f"labels .*{message}"):
        rows(TABLE, labels)
    with pytest.raises(ValueError, match=f"kinds .*{message}"):
        rows(TABLE, labels, "kinds")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "labels", [np.zeros(3, "int32"), np.zeros((1, 1), "int32"), np.eye(4, dtype="float32")], ids=str
)
def test_another_number_of_labels_than_of_samples(labels: Array, training: bool) -> None:
    with pytest.raises(ValueError, match=r"condition of shape \(.*\) was given for 2 samples"):
        conditional_layer(rank=2)(*tensors([np.ones((2, 3), "float32"), labels]), training=training)


def test_no_sample_at_all() -> None:
    layer = conditional_layer()
    y = layer(*tensors([np.ones((0, 2, 3), "float32"), np.zeros(0, "int32")]), training=True)
    assert y.shape == (0, 2, 3)
    assert_close(to_numpy(layer.moving_mean), np.zeros(3), 0)


def slopes(labels: Array, x: Array, g: Array, mode: str, training: bool) -> list[Array]:
    """The gradients of sum(y * g) in the layer's own gamma and beta, as an optimizer gets them."""
    layer = conditional_layer(gamma=TABLE)
    fixed = [variable.value for variable in layer.non_trainable_variables]
    x, labels, g = tensors([x, labels, g])

    def step(labels: Any, *weights: Any) -> Any:
        def loss(*weights: Any) -> Any:
            call = layer.stateless_call(weights, fixed, x, labels, training=training)
            return ops.sum(call[0] * g)

        return gradients(loss, *weights)

    weights = (variable.value for variable in layer.trainable_variables)
    result = compiled(step, mode)(labels, *weights)
    for gradient in result:
        # On TensorFlow a lookup's own gradient is tf.IndexedSlices.
        assert ops.is_tensor(gradient) and gradient.shape == layer.gamma.shape
    return [to_numpy(gradient) for gradient in result]


def drawn() -> tuple[Array, Array]:
    draw = np.random.default_rng(0)
    x, g = draw.normal(3.0, 2.0, (5, 2, 3)), draw.normal(size=(5, 2, 3))
    return x.astype("float32"), g.astype("float32")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("training", [True, False])
def test_classes_that_do_not_occur_have_no_gradient(training: bool, mode: str) -> None:
    x, g = drawn()
    labels = np.array([3, 1, 1, 3, 3])
    gamma, beta = slopes(labels.astype("int32"), x, g, mode, training)
    for slope in (gamma, beta):
        assert (slope[[0, 2]] == 0).all() and (slope[[1, 3]] != 0).all()
    sums = [g[labels == label].sum((0, 1)) for label in range(4)]
    assert_close(beta, sums, 1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="others have no sparse gradients here")
def test_the_gradient_of_a_layers_own_table_is_dense() -> None:
    import tensorflow as tf

    x, _ = drawn()
    layer = conditional_layer()
    with tf.GradientTape() as tape:
        y = layer(x, np.array([3, 1, 1, 3, 3], "int32"), training=True)
        loss = tf.reduce_sum(y * y)
    for gradient in tape.gradient(loss, layer.trainable_weights):
        assert isinstance(gradient, tf.Tensor)
    # The gradient of a plain lookup is sparse.
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(ops.take(layer.gamma, np.array([1]), axis=0))
    assert isinstance(tape.gradient(loss, layer.gamma.value), tf.IndexedSlices)


@pytest.mark.parametrize("mode", MODES)
def test_a_nan_stays_in_its_class(mode: str) -> None:
    x, g = drawn()
    labels = np.array([3, 1, 1, 2, 3], "int32")
    right = slopes(labels, x, g, mode, training=False)
    x[3, 1] = np.nan
    gamma, beta = slopes(labels, x, g, mode, training=False)
    assert np.isnan(gamma[2]).all()
    right[0][2] = np.nan
    assert_close(gamma, right[0], 0)
    assert_close(beta, right[1], 0)


@pytest.mark.parametrize("mode", SYMBOLIC if BACKEND != "torch" else [])
def test_a_wrong_label_has_no_gradient(mode: str) -> None:
    """Not even where its gradient is NaN: it refers to no row."""
    x, g = drawn()
    wrong = slopes(np.array([3, 1, 1, -1, 3], "int32"), x, g, mode, training=False)
    right = slopes(np.array([3, 1, 1, 2, 3], "int32"), x, g, mode, training=False)
    for actual, expected in zip(wrong, right, strict=True):
        expected[2] = 0.0
        assert_close(actual, expected, 0)


@pytest.mark.parametrize("sums", [0.5, 1.5, float("nan")])
def test_a_mixture_that_does_not_add_up_to_one(sums: float) -> None:
    shares = np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0, 0, 0]], "float32")
    shares[1] *= sums
    with pytest.warns(UserWarning, match=f"labels at place 1 adds up to {sums}, not 1"):
        result = rows(TABLE, shares)
    assert_close(to_numpy(result), [TABLE.mean(0), sums * TABLE[0]], 1e-6)
    x = np.random.default_rng(1).normal(size=(2, 5, 3)).astype("float32")
    layer = conditional_layer(gamma=TABLE, beta=TABLE[::-1])
    with pytest.warns(UserWarning, match="multiples of a mixture's"):
        y = layer(*tensors([x, shares]))
    scale, shift = (np.dot(shares, table)[:, None] for table in (TABLE, TABLE[::-1]))
    assert_close(to_numpy(y), x * scale + shift, 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_rounding_is_no_reason_to_warn(dtype: str) -> None:
    shares = ops.cast(np.random.default_rng(0).dirichlet(np.ones(4), 100), dtype)
    assert abs(to_numpy(ops.cast(shares, "float32")).sum(-1) - 1).max() > 0
    rows(TABLE, shares)  # warnings are errors here


@pytest.mark.parametrize("mode", SYMBOLIC)
def test_compiled_code_does_not_warn(mode: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="labels")
        assert_close(looked_up(np.full((1, 4), 0.5, "float32"), mode), [TABLE.sum(0) / 2], 1e-6)


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["layer", "model", "policy of the process"])
def test_half_precision_leaves_conditions_alone(kind: str, policy: str) -> None:
    """In float16, 2049 has no exact value, and 2 ** -30 is 0."""
    shares = np.zeros((2, 4096), "float32")
    shares[:, 7], shares[:, 9] = 2.0**-30, 1.0
    beta = np.zeros((4096, 3), "float32")
    beta[2049], beta[7] = 5.0, 2.0**30
    conditions = {"int32": np.array([2049, 2048]), "float32": shares}
    keras.config.set_dtype_policy(policy if kind == "policy of the process" else "float32")
    try:
        layer = ConditionalBatchNormalization(4096, dtype=None if "process" in kind else policy)
        layer.build((None, 3))
        layer.beta.assign(beta)
        x = np.zeros((2, 3), "float32")
        for dtype, condition in conditions.items():
            called: Any = layer
            if kind != "layer":
                inputs = keras.Input((3,)), keras.Input(condition.shape[1:], dtype=dtype)
                model = keras.Model(inputs, layer(*inputs))
                called = lambda *arguments: model(arguments)  # noqa: B023, E731
            y = called(*tensors([x, condition.astype(dtype)]))
            assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
            expected = [[5.0] * 3, [0.0] * 3] if dtype == "int32" else np.ones((2, 3))
            assert_close(to_numpy(ops.cast(y, "float32")), expected, 0)
    finally:
        keras.config.set_dtype_policy("float32")


def test_labels_of_a_layer_that_has_nothing_to_look_up() -> None:
    layer = BatchNormalization(affine=PerClass(4), scale=False)
    layer.build((None, 3))
    layer.beta.assign(TABLE)
    x = np.zeros((2, 3), "float32")
    y = layer(*tensors([x]), condition=tensors([np.array([3, 1], "int32")])[0])
    assert_close(to_numpy(y), TABLE[[3, 1]], 0)
