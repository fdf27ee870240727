"""Models exported from TensorFlow: the operations of Keras's own layer, and more digits.

Operations are counted after the optimizations of ONNX Runtime and LiteRT.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from batchnorm import BatchNormalization
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, to_numpy

if BACKEND != "tensorflow":
    pytest.skip("the exporters are TensorFlow's", allow_module_level=True)

import tensorflow as tf

onnx = pytest.importorskip("onnx")
tf2onnx = pytest.importorskip("tf2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# TensorFlow 2.21 has LiteRT, and says that it will be a package of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")

STATIC, DYNAMIC = (56, 56), (None, None)  # so large that other code serves training
CHANNELS = 4


class Exported(NamedTuple):
    """The operations that a runtime executes, and the model."""

    operations: list[str]
    run: Callable[[Array], Array]


def model_of(layer: Any, block: str, sizes: tuple[int | None, ...]) -> Any:
    """A convolution, normalization and ReLU, or "before" the convolution; or without it."""
    convolution = keras.layers.Conv2D(CHANNELS, 3, name="convolution")
    inputs = keras.Input((*sizes, CHANNELS))
    y = convolution(inputs) if block == "after" else inputs
    y = keras.layers.ReLU()(layer(name="normalization")(y))
    return keras.Model(inputs, convolution(y) if block == "before" else y)


def set_weights(model: Any, block: str, mean: float) -> None:
    random = np.random.default_rng(0)
    beta, center = random.normal(size=CHANNELS), random.normal(mean, 1, CHANNELS)
    gamma, square = random.uniform(0.5, 2, (2, CHANNELS))
    model.get_layer("normalization").set_weights([gamma, beta, center, square])
    if block != "alone":
        bias = center if block == "after" else beta
        model.get_layer("convolution").set_weights([random.normal(size=(3, 3, 4, 4)), bias])


def inputs_and_outputs(model: Any, block: str, mean: float) -> tuple[Array, Array]:
    """Returns x, and y in float64."""
    x = np.random.default_rng(1).normal(0 if block == "after" else mean, 1, (2, 56, 56, CHANNELS))
    x = x.astype("float32")
    gamma, beta, center, square = map(to_numpy, model.get_layer("normalization").weights)

    def convolved(x: Array) -> Array:
        kernel, bias = (
            to_numpy(w).astype("float64") for w in model.get_layer("convolution").weights
        )
        y: Array = to_numpy(tf.nn.conv2d(x.astype("float64"), kernel, 1, "VALID")) + bias
        return y

    y = convolved(x) if block == "after" else x
    y = np.maximum(oracle.batch_norm(y, gamma, beta, center, square, training=False).y, 0)
    return x, convolved(y) if block == "before" else y


def to_onnx_runtime(model: Any, folder: Path) -> Exported:
    function = tf.function(lambda x: model(x, training=False))
    specification = tf.TensorSpec(model.input_shape)
    exported, _ = tf2onnx.convert.from_function(function, [specification], opset=17)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    session = onnxruntime.InferenceSession(exported.SerializeToString(), options)
    optimized = onnx.load(options.optimized_model_filepath)
    name = session.get_inputs()[0].name
    operations = [node.op_type for node in optimized.graph.node]
    return Exported(operations, lambda x: session.run(None, {name: x})[0])


def to_lite(model: Any, samples: Array | None = None) -> bytes:
    """Returns the file, quantized to 8-bit integers if there are samples."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[None]] for x in samples)
    file: bytes = converter.convert()
    return file


def in_lite(file: bytes) -> Exported:
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(model_content=file, experimental_op_resolver_type=plain)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(x: Array) -> Array:
        interpreter.resize_tensor_input(source["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        y: Array = interpreter.get_tensor(target["index"])
        return y

    return Exported([operation["op_name"] for operation in interpreter._get_ops_details()], run)


@pytest.fixture(scope="module")
def counts_of_keras(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[list[str]]]:
    """The operations of Keras's layer in both runtimes."""

    @cache
    def counts(block: str, sizes: Any) -> list[list[str]]:
        model = model_of(keras.layers.BatchNormalization, block, sizes)
        set_weights(model, block, 0.5)
        runtimes = to_onnx_runtime(model, tmp_path_factory.mktemp("keras")), in_lite(to_lite(model))
        return [runtime.operations for runtime in runtimes]

    return counts


def arithmetic(operations: list[str]) -> list[str]:
    """All but changes of layout: PyTorch's and ONNX's is channels first."""
    return [
        kind for kind in operations if kind not in ("Transpose", "ReorderInput", "ReorderOutput")
    ]


@pytest.mark.parametrize("mean", [0.5, 1e4])
@pytest.mark.parametrize("sizes", [STATIC, DYNAMIC])
def test_nothing_is_left_after_a_convolution(
    sizes: Any, mean: float, counts_of_keras: Any, tmp_path: Path
) -> None:
    model = model_of(BatchNormalization, "after", sizes)
    set_weights(model, "after", mean)
    x, y = inputs_and_outputs(model, "after", mean)
    runtimes = to_onnx_runtime(model, tmp_path), in_lite(to_lite(model))
    assert [arithmetic(one.operations) for one in runtimes] == [["Conv"], ["CONV_2D"]]
    assert [one.operations for one in runtimes] == counts_of_keras("after", sizes)
    for runtime in runtimes:
        assert_close(runtime.run(x), y, 1e-5)


@pytest.mark.parametrize("sizes, mean", [(STATIC, 0.5), (DYNAMIC, 0.5), (DYNAMIC, 1e4)])
def test_before_a_convolution(
    sizes: Any, mean: float, counts_of_keras: Any, tmp_path: Path
) -> None:
    model = model_of(BatchNormalization, "before", sizes)
    set_weights(model, "before", mean)
    x, y = inputs_and_outputs(model, "before", mean)
    runtimes = to_onnx_runtime(model, tmp_path), in_lite(to_lite(model))
    # Where the mean is far from zero it is subtracted first, which Keras's layer does not.
    more = mean > 1e3
    for runtime, operations in zip(runtimes, counts_of_keras("before", sizes), strict=True):
        assert len(runtime.operations) <= len(operations) + more
        assert_close(runtime.run(x), y, 1e-5)


def test_dense_layers_fold_in_lite() -> None:
    files = []
    for layer in (BatchNormalization, keras.layers.BatchNormalization):
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), layer()])
        files.append(in_lite(to_lite(model)).operations)
    assert files == [["FULLY_CONNECTED"]] * 2


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs were expected")  # of no use
def test_the_size_of_a_file_of_integers() -> None:
    samples, sizes = np.random.default_rng(2).normal(size=(2, 56, 56, 4)).astype("float32"), []
    for layer in (BatchNormalization, keras.layers.BatchNormalization):
        model = keras.Sequential([keras.Input((56, 56, 4))])
        for _ in range(3):
            model.add(keras.layers.Conv2D(16, 3, padding="same", use_bias=False))
            model.add(layer())
            model.add(keras.layers.ReLU())
        file = to_lite(model, samples)
        assert {"CONV_2D"} <= set(in_lite(file).operations) <= {"QUANTIZE", "CONV_2D", "DEQUANTIZE"}
        sizes.append(len(file))
    assert sizes[0] <= 1.02 * sizes[1]


@pytest.mark.parametrize("mean", [0.5, 1e6])
def test_a_saved_model(mean: float, tmp_path: Path) -> None:
    model = model_of(BatchNormalization, "alone", DYNAMIC)
    set_weights(model, "alone", mean)
    x, y = inputs_and_outputs(model, "alone", mean)
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    assert_close(to_numpy(loaded.serve(x)), y, 1e-5)
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(x))
        loss = tf.reduce_sum(loaded.serve(x))
    gamma, _, _, square = map(to_numpy, model.get_layer("normalization").weights)
    dx = np.where(y > 0, gamma / np.sqrt(square.astype("float64") + 1e-3), 0)
    assert_close(to_numpy(tape.gradient(loss, x)), dx, 1e-5)
