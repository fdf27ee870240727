"""Spectral normalization against float64 NumPy, and as a Keras layer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from batchnorm.spectral import SpectralNormalization
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

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
ROWS, IN, OUT = 6, 5, 3


def unit(vector: Any) -> Array:
    result: Array = vector / np.linalg.norm(vector)
    return result


def measured(matrix: Array, u: Array, iterations: int) -> tuple[Any, Array, Array]:
    """Returns sigma, v and u after the given number of iterations, 0 in inference."""
    v = unit(matrix @ u)
    for _ in range(iterations):
        v = unit(matrix @ u)
        u = unit(matrix.T @ v)
    return v @ matrix @ u, v, u


def through_sigma(gradient: Array, matrix: Array, sigma: Any, v: Array, u: Array) -> Array:
    """The gradient in the kernel, from that in kernel / sigma: d sigma = v u^T, d(1 / sigma)."""
    along = np.sum(gradient * matrix) / sigma**2
    result: Array = gradient / sigma - along * np.outer(v, u)
    return result


def data(seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        "kernel": random.normal(size=(IN, OUT)),
        "bias": random.normal(size=OUT),
        "u": unit(random.normal(size=OUT)),
        "x": random.normal(1, 2, (ROWS, IN)),
        "dy": random.normal(size=(ROWS, OUT)),
    }


def dense(dtype: str = "float32", iterations: int = 1, **options: Any) -> SpectralNormalization:
    """A built layer with the numbers of `data`."""
    if dtype == "float64":  # where Keras 3.15's Dense is not exact on PyTorch
        wrapped = layers.EinsumDense("ab,bc->ac", OUT, bias_axes="c", dtype=dtype)
    else:
        wrapped = layers.Dense(OUT, dtype=dtype, **options)
    layer = SpectralNormalization(wrapped, iterations, dtype=dtype)
    layer.build((None, IN))
    arrays = data()
    layer.layer.kernel.assign(arrays["kernel"])
    if layer.layer.bias is not None:
        layer.layer.bias.assign(arrays["bias"])
    layer.u.assign(arrays["u"])
    return layer


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_the_formula_is_the_derivative_with_u_and_v_fixed(iterations: int) -> None:
    arrays = data()
    kernel, gradient = arrays["kernel"], arrays["x"].T @ arrays["dy"]
    sigma, v, u = measured(kernel, arrays["u"], iterations)
    direction = np.random.default_rng(1).normal(size=kernel.shape)

    def loss(step: float) -> Any:
        moved = kernel + step * direction
        return np.sum(gradient * moved / (v @ moved @ u))

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert_close(np.sum(through_sigma(gradient, kernel, sigma, v, u) * direction), slope, 1e-7)


CASES = [(mode, 1, "float32") for mode in MODES]
CASES += [(MODES[-1], 0, "float32"), (MODES[-1], 3, "float32")]
CASES += [(MODES[-1], 0, "float64"), (MODES[-1], 2, "float64")]


@pytest.mark.parametrize(("mode", "iterations", "dtype"), CASES)
def test_output_gradients_and_state(mode: str, iterations: int, dtype: str) -> None:
    arrays = data()
    sigma, v, u = measured(arrays["kernel"], arrays["u"], iterations)
    with precision(dtype):
        layer = dense(dtype, max(iterations, 1))
        kernel, bias, old, x, dy = tensors(list(arrays.values()), dtype)

        def run(kernel: Any, bias: Any, u: Any, x: Any) -> Any:
            return layer.stateless_call([kernel, bias], [u], x, training=iterations > 0)

        def loss(*arguments: Any) -> Any:
            return ops.sum(run(*arguments)[0] * dy)

        both = compiled(lambda *a: (run(*a), gradients(loss, *a)), mode)
        (y, (new,)), slopes = both(kernel, bias, old, x)
        assert keras.backend.standardize_dtype(y.dtype) == dtype
        actual = [to_numpy(value) for value in (y, new, *slopes)]
    hat = arrays["kernel"] / sigma
    slope = through_sigma(arrays["x"].T @ arrays["dy"], arrays["kernel"], sigma, v, u)
    expected = [
        *(arrays["x"] @ hat + arrays["bias"], u),
        *(slope, arrays["dy"].sum(0), np.zeros(OUT), arrays["dy"] @ hat.T),
    ]
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, TOLERANCE[dtype])


KINDS: dict[str, tuple[layers.Layer, tuple[int, ...]]] = {
    "einsum": (layers.EinsumDense("abc,cde->abde", (None, 2, 5), bias_axes="e"), (7, 3)),
    "conv 1": (layers.Conv1D(4, 3, activation="tanh"), (9, 3)),
    "conv 2": (layers.Conv2D(4, (3, 2), groups=2, padding="same"), (5, 5, 2)),
    "transposed 1": (layers.Conv1DTranspose(4, 3, activation="tanh"), (5, 3)),
    "transposed 2": (layers.Conv2DTranspose(4, (3, 2), strides=2), (5, 5, 2)),
    "depthwise 2": (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 3)),
    "embedding": (layers.Embedding(10, 4), (6,)),
}


def as_matrix(kernel: Array, kind: str) -> Array:
    moved = np.swapaxes(kernel, -1, -2) if "transposed" in kind else kernel
    return moved.reshape(-1, moved.shape[-1])


def from_matrix(matrix: Array, kernel: Array, kind: str) -> Array:
    if "transposed" not in kind:
        return matrix.reshape(kernel.shape)
    return np.swapaxes(matrix.reshape(*kernel.shape[:-2], *kernel.shape[:-3:-1]), -1, -2)


PRECISIONS = [(kind, "float32") for kind in KINDS]
PRECISIONS += [(kind, "float64") for kind in ("conv 2", "transposed 2")]


@pytest.mark.parametrize(("kind", "dtype"), PRECISIONS)
def test_every_layer_is_itself_with_another_kernel(kind: str, dtype: str) -> None:
    model, shape = KINDS[kind]
    random = np.random.default_rng(0)
    x = random.integers(0, 10, (2, *shape)).astype("int32" if kind == "embedding" else dtype)
    config = {**model.get_config(), "dtype": dtype}
    # JAX would compile a random generator for each shape.
    config |= {name: "zeros" for name in config if name.endswith("_initializer")}
    with precision(dtype):
        plain, wrapped = (type(model).from_config(config) for _ in range(2))
        plain.build(x.shape)
        layer = SpectralNormalization(wrapped, 2, dtype=dtype)
        symbolic = layer(keras.Input(shape, dtype=str(x.dtype)))
        kernel = random.normal(size=plain.weights[0].shape)
        matrix = as_matrix(kernel, kind)
        start = unit(random.normal(size=matrix.shape[-1]))
        sigma, v, u = measured(matrix, start, 2)
        rest = [random.normal(size=weight.shape) for weight in plain.weights[1:]]

        def differentiated(one: Any, kernel: Any, rest: Any, state: Any) -> Any:
            """Returns the output, the state after it, and the gradient of a loss in the kernel."""

            def run(kernel: Any) -> Any:
                options = {"training": True} if state else {}
                return one.stateless_call([kernel, *rest], state, x, **options)

            slope = gradients(lambda kernel: ops.sum(ops.cos(run(kernel)[0])), kernel)
            return *run(kernel), *slope

        mode = "jit" if BACKEND == "jax" else "eager"
        call, other = (
            compiled(lambda *a, one=one: differentiated(one, *a), mode) for one in (layer, plain)
        )
        hat, old = tensors([from_matrix(matrix / sigma, kernel, kind), start], dtype)
        (kernel_,), weights = tensors([kernel], dtype), tensors(rest, dtype)
        expected, _, slope = other(hat, weights, [])
        y, (new,), kernel_slope = call(kernel_, weights, [old])
        right = through_sigma(as_matrix(to_numpy(slope), kind), matrix, sigma, v, u)
        assert symbolic.shape[1:] == tuple(y.shape[1:])
        assert layer.compute_output_shape(x.shape) == plain.compute_output_shape(x.shape)
        assert_close(to_numpy(y), to_numpy(expected), TOLERANCE[dtype])
        assert_close(to_numpy(new), u, TOLERANCE[dtype])
        assert_close(to_numpy(kernel_slope), from_matrix(right, kernel, kind), TOLERANCE[dtype])


@pytest.mark.parametrize("mode", MODES)
def test_a_gradient_penalty_goes_through_sigma(mode: str) -> None:
    arrays = data()
    layer = dense()
    kernel, bias, old, x, dy = tensors(list(arrays.values()), "float32")

    def penalty(kernel: Any) -> Any:
        def loss(x: Any) -> Any:
            return ops.sum(layer.stateless_call([kernel, bias], [old], x, training=True)[0] * dy)

        return ops.sum(gradients(loss, x)[0] ** 2)

    (result,) = compiled(lambda k: gradients(penalty, k), mode)(kernel)
    sigma, v, u = measured(arrays["kernel"], arrays["u"], 1)
    # The penalty is |dy hat^T|^2.
    outer = 2 * arrays["kernel"] / sigma @ arrays["dy"].T @ arrays["dy"]
    assert_close(to_numpy(result), through_sigma(outer, arrays["kernel"], sigma, v, u), 1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_the_second_derivative_in_the_kernel(mode: str) -> None:
    arrays = data()
    layer = dense()
    kernel, bias, old, x, dy = tensors(list(arrays.values()), "float32")
    direction = np.random.default_rng(1).normal(size=(IN, OUT))

    def slope(kernel: Any) -> Any:
        def loss(kernel: Any) -> Any:
            return ops.sum(layer.stateless_call([kernel, bias], [old], x, training=True)[0] * dy)

        (result,) = gradients(loss, kernel)
        return ops.sum(result * ops.cast(direction, "float32"))

    (result,) = compiled(lambda k: gradients(slope, k), mode)(kernel)
    sigma, v, u = measured(arrays["kernel"], arrays["u"], 1)
    gradient, step = arrays["x"].T @ arrays["dy"], 1e-5 * direction
    first, second = (
        through_sigma(gradient, moved, v @ moved @ u, v, u)
        for moved in (arrays["kernel"] - step, arrays["kernel"] + step)
    )
    assert_close(to_numpy(result), (second - first) / 2e-5, 1e-5)


def test_the_kernel_is_not_overwritten_and_inference_changes_nothing() -> None:
    arrays = {name: array.astype("float32") for name, array in data().items()}
    layer = dense()
    for training in (False, None):
        layer(arrays["x"], training=training)
    assert_close(to_numpy(layer.u), arrays["u"], 0)
    layer(arrays["x"], training=True)
    assert np.abs(to_numpy(layer.u) - arrays["u"]).max() > 0.01
    assert_close(to_numpy(layer.layer.kernel), arrays["kernel"], 0)
    assert_close(to_numpy(layer.layer.bias), arrays["bias"], 0)


@pytest.mark.parametrize("outer", [True, False])
def test_frozen_layers_run_in_inference_mode(outer: bool) -> None:
    arrays, layer = data(), dense()
    (layer if outer else layer.layer).trainable = False
    x = arrays["x"].astype("float32")
    assert_close(to_numpy(layer(x, training=True)), to_numpy(layer(x)), 0)
    assert_close(to_numpy(layer.u), arrays["u"].astype("float32"), 0)


def test_the_norm_converges_to_one() -> None:
    layer = dense(use_bias=False)
    identity = np.eye(IN, dtype="float32")
    for _ in range(100):
        layer(identity, training=True)
    normalized = to_numpy(layer(identity))
    assert_close(np.linalg.svd(normalized, compute_uv=False)[0], 1.0, 1e-5)
    assert_close(normalized * np.linalg.svd(data()["kernel"])[1][0], data()["kernel"], 1e-4)


@pytest.mark.parametrize("modes", [(True, True), (False, True), (True, False)], ids=str)
def test_two_calls_before_one_gradient(modes: tuple[bool, bool]) -> None:
    """As a GAN's discriminator: PyTorch keeps u for the gradient, and must not find it changed."""
    arrays, layer = data(), dense(use_bias=False)
    kernel, dy = layer.layer.kernel, ops.convert_to_tensor(arrays["dy"], "float32")
    batches = [arrays["x"].astype("float32"), (arrays["x"] ** 2).astype("float32")]

    def loss() -> Any:
        calls = [layer(x, training=mode) for x, mode in zip(batches, modes, strict=True)]
        return ops.sum((calls[0] + calls[1]) * dy)

    def stateless(kernel: Any) -> Any:
        total, state = 0.0, [ops.convert_to_tensor(arrays["u"], "float32")]
        for x, mode in zip(batches, modes, strict=True):
            y, state = layer.stateless_call([kernel], state, x, training=mode)
            total += ops.sum(y * dy)
        return total

    if BACKEND == "torch":
        loss().backward()
        actual = to_numpy(kernel.value.grad)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        actual = to_numpy(tape.gradient(value, kernel.value))
    else:
        loss()
        actual = to_numpy(gradients(stateless, *tensors([arrays["kernel"]], "float32"))[0])
    expected, u = np.zeros((IN, OUT)), arrays["u"]
    for x, mode in zip(batches, modes, strict=True):
        sigma, v, u = measured(arrays["kernel"], u, int(mode))
        slope = x.astype("float64").T @ arrays["dy"]
        expected += through_sigma(slope, arrays["kernel"], sigma, v, u)
    assert_close(actual, expected, 1e-5)
    assert_close(to_numpy(layer.u), u, 1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_a_kernel_of_zeros(training: bool) -> None:
    arrays, layer = data(), dense()
    _, bias, old, x, dy = tensors(list(arrays.values()), "float32")

    def run(kernel: Any) -> Any:
        return layer.stateless_call([kernel, bias], [old], x, training=training)

    def both(kernel: Any) -> Any:
        return *run(kernel), *gradients(lambda k: ops.sum(run(k)[0] * dy), kernel)

    y, (u,), slope = compiled(both, MODES[-1])(ops.zeros((IN, OUT)))
    assert_close(to_numpy(y), np.tile(arrays["bias"], (ROWS, 1)), 1e-6)
    assert_close(to_numpy(u), arrays["u"], 1e-6)
    assert_close(to_numpy(slope), arrays["x"].T @ arrays["dy"], 1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_the_kernel_does_not_matter(scale: float) -> None:
    arrays, layer = data(), dense(iterations=2)
    x = arrays["x"].astype("float32")
    layer.layer.kernel.assign(arrays["kernel"] * scale)
    sigma, _, u = measured(arrays["kernel"], arrays["u"], 2)
    y = layer(x, training=True)
    assert_close(to_numpy(y), arrays["x"] @ arrays["kernel"] / sigma + arrays["bias"], 1e-5)
    assert_close(to_numpy(layer.u), u, 1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_u_outlives_a_kernel_that_does_not(value: float) -> None:
    arrays, layer = data(), dense()
    layer.layer.kernel.assign(np.full((IN, OUT), value))
    assert not np.isfinite(to_numpy(layer(arrays["x"].astype("float32"), training=True))).any()
    assert_close(to_numpy(layer.u), arrays["u"], 1e-6)


def test_the_kernel_is_regularized_and_once() -> None:
    layer = dense(kernel_regularizer=keras.regularizers.L2(0.5), activity_regularizer="l1")
    arrays = data()
    for _ in range(2):
        y = layer(arrays["x"].astype("float32"), training=True)
    expected = [0.01 * np.abs(to_numpy(y)).sum() / ROWS, 0.5 * (arrays["kernel"] ** 2).sum()]
    assert_close([to_numpy(loss) for loss in layer.losses], expected, 1e-5)
    trainable = [ops.convert_to_tensor(to_numpy(v)) for v in layer.trainable_variables]
    state = [ops.convert_to_tensor(to_numpy(layer.u))]
    x = ops.convert_to_tensor(arrays["x"], "float32")
    y, _, losses = layer.stateless_call(trainable, state, x, return_losses=True)
    expected[0] = 0.01 * np.abs(to_numpy(y)).sum() / ROWS
    assert_close([to_numpy(loss) for loss in losses], expected, 1e-5)


class Counting(layers.Dense):
    """Counts its calls in a variable: 10 for each in training, 1 for each in inference."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        self.calls.assign_add(10.0 if training else 1.0)
        return super().call(inputs)


def test_what_the_layer_changes_is_kept() -> None:
    layer = SpectralNormalization(Counting(OUT))
    x = data()["x"].astype("float32")
    layer(x)
    layer(x, training=True)
    assert_close(to_numpy(layer.layer.calls), 11.0, 0)
    old = [[v.value for v in vs] for vs in (layer.trainable_variables, layer.variables)]
    state = [v.value for v in layer.non_trainable_variables]
    assert len(old[1]) == len(old[0]) + len(state)
    _, new = layer.stateless_call(old[0], state, x, training=True)
    assert sorted(float(to_numpy(v)) for v in new if not len(v.shape)) == [21.0]
    assert_close(to_numpy(layer.layer.calls), 11.0, 0)


# TensorFlow's XLA, and JAX's jit; PyTorch's trainer runs eagerly.
@pytest.mark.parametrize("jit", [False] if BACKEND == "torch" else [True, False])
def test_fitting_takes_the_steps_that_it_should(jit: bool) -> None:
    arrays, layer = data(), dense(kernel_regularizer=keras.regularizers.L2(0.5))
    inputs = keras.Input((IN,))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
    model.fit(arrays["x"], arrays["dy"], batch_size=ROWS, epochs=2, verbose=0)
    kernel, bias, u = arrays["kernel"], arrays["bias"], arrays["u"]
    for _ in range(2):
        sigma, v, u = measured(kernel, u, 1)
        slope = 2 * (arrays["x"] @ kernel / sigma + bias - arrays["dy"]) / arrays["dy"].size
        bias = bias - 0.1 * slope.sum(0)
        gradient = through_sigma(arrays["x"].T @ slope, kernel, sigma, v, u) + kernel
        kernel = kernel - 0.1 * gradient
    assert_close(to_numpy(layer.layer.kernel), kernel, 1e-5)
    assert_close(to_numpy(layer.layer.bias), bias, 1e-5)
    assert_close(to_numpy(layer.u), u, 1e-5)
    y = model.predict(arrays["x"], verbose=0)
    assert_close(y, arrays["x"] @ kernel / measured(kernel, u, 0)[0] + bias, 1e-5)
    assert_close(to_numpy(layer.u), u, 1e-5)


def test_files_and_configurations(tmp_path: Path) -> None:
    arrays = data()
    x = arrays["x"].astype("float32")
    model = keras.Sequential(
        [keras.Input((IN,)), SpectralNormalization(layers.Dense(OUT), 2, name="first")]
    )
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    cloned = keras.models.clone_model(model)
    assert np.abs(to_numpy(cloned(x)) - to_numpy(model(x))).max() > 0.01
    cloned.load_weights(tmp_path / "model.weights.h5")
    config = model.layers[0].get_config()
    assert config.keys() == {"name", "trainable", "dtype", "layer", "power_iterations"}
    for other in (keras.saving.load_model(tmp_path / "model.keras"), cloned):
        assert isinstance(other.layers[0], SpectralNormalization)
        other_config = other.layers[0].get_config()
        assert other_config.pop("layer")["config"] == config["layer"]["config"]
        assert other_config == {name: config[name] for name in other_config}
        for actual, expected in zip(other.weights, model.weights, strict=True):
            assert_close(to_numpy(actual), to_numpy(expected), 0)
        assert_close(to_numpy(other(x)), to_numpy(model(x)), 0)


@pytest.fixture
def mixed() -> Iterator[None]:
    old = keras.dtype_policies.get(keras.config.dtype_policy())
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(old)


@pytest.mark.parametrize("training", [True, False])
def test_mixed_precision_measures_the_whole_kernel(mixed: None, training: bool) -> None:
    arrays = data()
    layer = SpectralNormalization(layers.Dense(OUT))
    inputs = keras.Input((IN,))
    model = keras.Model(inputs, layer(inputs))
    assert model.outputs[0].dtype == "float16"
    # In half precision the squares would be infinite, and the differences lost.
    kernel = (arrays["kernel"] * 1e-3 + 1).astype("float32") * 300
    for call in (layer, model):
        layer.layer.kernel.assign(kernel)
        layer.u.assign(arrays["u"])
        sigma, _, u = measured(kernel.astype("float64"), arrays["u"], int(training))
        y = call(arrays["x"].astype("float32"), training=training)
        assert keras.backend.standardize_dtype(y.dtype) == "float16"
        assert_close(to_numpy(y), arrays["x"] @ kernel / sigma, 5e-3)
        assert_close(to_numpy(layer.u), u, 1e-6)
        assert_close(to_numpy(layer.layer.kernel), kernel, 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
def test_half_precision(dtype: str) -> None:
    layer = dense(dtype)
    y = layer(data()["x"], training=True)
    assert keras.backend.standardize_dtype(y.dtype) == dtype.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(layer.u.value.dtype) == "float32"
    kernel = to_numpy(ops.cast(layer.layer.kernel, "float32")).astype("float64")
    sigma, _, u = measured(kernel, data()["u"], 1)
    assert_close(to_numpy(layer.u), u, 1e-5)
    expected = data()["x"] @ kernel / sigma + data()["bias"]
    assert_close(to_numpy(ops.cast(y, "float32")), expected, 5e-2)


def test_masks_and_embeddings_of_any_length() -> None:
    layer = SpectralNormalization(layers.Embedding(10, 4, mask_zero=True))
    for length in (3, 5):
        tokens = np.arange(length)[None]
        y = layer(tokens)
        assert tuple(y.shape) == (1, length, 4)
        assert_close(to_numpy(y._keras_mask), tokens != 0, 0)
    inputs = keras.Input((None,), dtype="int32")
    symbolic = layer(inputs)
    assert (symbolic.shape, symbolic.dtype) == ((None, None, 4), "float32")
    assert symbolic._keras_mask is not None


def test_convolutions_of_any_size() -> None:
    inputs = keras.Input((None, None, 2))
    layer = SpectralNormalization(layers.Conv2D(4, 3))
    model = keras.Model(inputs, SpectralNormalization(layers.Conv2DTranspose(2, 3))(layer(inputs)))
    assert model.output_shape == (None, None, None, 2)
    assert tuple(model(np.ones((1, 7, 8, 2))).shape) == (1, 7, 8, 2)
    with pytest.raises(ValueError, match="incompatible"):
        layer(keras.Input((5, 5, 3)))


def test_the_seed_decides_where_u_starts() -> None:
    starts = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        layer = SpectralNormalization(layers.Dense(50))
        layer.build((None, IN))
        starts.append(to_numpy(layer.u))
    assert_close(starts[0], starts[1], 0)
    assert np.abs(starts[0] - starts[2]).max() > 0.01
    assert_close(np.linalg.norm(starts[0]), 1.0, 1e-6)
    assert (starts[0] < 0).any()


@pytest.mark.parametrize("value", [0, -1, 1.0, True, None, "2"])
def test_power_iterations_are_counted(value: Any) -> None:
    message = f"power_iterations must be an integer of at least 1, received {value!r}"
    with pytest.raises(ValueError, match=message):
        SpectralNormalization(layers.Dense(OUT), value)


@pytest.mark.parametrize("value", [None, 3, "dense", layers.Dense])
def test_what_is_no_layer_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="layer must be a Keras layer .* received"):
        SpectralNormalization(value)


@pytest.mark.parametrize(
    "layer", [layers.ReLU(), layers.BatchNormalization(), layers.SeparableConv1D(3, 2)]
)
def test_a_layer_without_a_kernel_is_refused(layer: Any) -> None:
    message = f"of type {type(layer).__name__}, which has no kernel .*such as that of Dense"
    with pytest.raises(ValueError, match=message):
        SpectralNormalization(layer).build((None, 7, 3))


def test_a_kernel_that_is_no_variable_is_refused() -> None:
    layer = dense()
    layer.layer.enable_lora(2)
    with pytest.raises(
        ValueError, match="whose kernel is a .* of float32: .*without LoRA or quantization"
    ):
        layer(data()["x"].astype("float32"))
