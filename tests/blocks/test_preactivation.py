"""Blocks with normalization first: against NumPy, with any normalization, in models and files."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import (
    BasicBlock,
    BatchNormalization,
    BottleneckBlock,
    ConditionalBatchNormalization,
    Ghost,
    Renorm,
    ZeroDebiased,
)
from tests import oracle
from tests.calling import called
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, precision, to_numpy

kinds = pytest.mark.parametrize("kind", [BasicBlock, BottleneckBlock])
LABELS = np.array([2, 0, 2], "int32")
PROJECTION, COUNTER = "convolution_skip/kernel", "counter/step"


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(4)


def short(variable: Any) -> str:
    """Returns the last two parts of a variable's path, layer and variable."""
    return "/".join(variable.path.split("/")[-2:])


def images(height: int = 5, width: int = 6, channels: int = 4) -> Array:
    random = np.random.default_rng(0)
    return random.normal(1.0, 2.0, (3, height, width, channels)).astype("float32")


def randomized(block: Any, *shapes: Any) -> Any:
    """Builds the block, with random weights and moving statistics."""
    block.build(*shapes)
    random = np.random.default_rng(1)
    for variable in block.variables:
        if COUNTER in variable.path:
            continue  # it stays 0, as the expected rates are those of the first step
        drawn = random.normal(0.2, 0.5, variable.shape)
        positive = "variance" in variable.path or "stddev" in variable.path
        variable.assign(np.abs(drawn) + 0.5 if positive else drawn)
    return block


# The same in NumPy, float64.


def convolved(x: Array, kernel: Array, stride: int, same: bool = False) -> Array:
    """Convolves, padded so that ceil(side / stride) positions fit, with more on the far side."""
    size = kernel.shape[0]
    height, width = sides = [-(-side // stride) for side in x.shape[1:3]]
    padding = [(0, 0)]
    for side, positions in zip(x.shape[1:3], sides, strict=True):
        missing = max((positions - 1) * stride + size - side, 0)
        less, more = missing // 2, missing - missing // 2
        padding.append((more, less) if same else (less, more))
    padded, y = np.pad(x, [*padding, (0, 0)]), np.zeros((len(x), height, width, kernel.shape[-1]))
    for row, column in np.ndindex(size, size):
        seen = padded[:, row::stride, column::stride][:, :height, :width]
        y += seen @ kernel[row, column].astype("float64")
    return y


class ByHand:
    """A block in NumPy, with its state before a call; `after` is its state afterwards."""

    def __init__(self, block: Any, **options: Any) -> None:
        self.values = {short(variable): to_numpy(variable) for variable in block.variables}
        self.strides = [block.stride, 1] + [1] * isinstance(block, BottleneckBlock)
        self.before = options.pop("before", block.activate_before_residual)
        self.order, self.near_side = options.pop("order", "nac"), options.pop("near_side", False)
        self.options = options  # of the normalizations, as the oracle takes them
        slope = block.relu_leakiness
        # TensorFlow's own has a slope of float32, whatever the inputs.
        self.slope = float(np.float32(slope)) if BACKEND == "tensorflow" else slope
        self.after: dict[str, Array] = {}

    def __call__(self, x: Array, labels: Array | None = None) -> Array:
        skip = x = x.astype("float64")
        for number, stride in enumerate(self.strides, 1):
            for part in self.order:
                if part == "n":
                    x = self.normalized(f"normalization_{number}/", x, labels)
                if part == "a":
                    x = np.where(x < 0, self.slope * x, x)
                    skip = x if self.before and number == 1 else skip
                if part == "c":
                    kernel = self.values[f"convolution_{number}/kernel"]
                    x = convolved(x, kernel, stride, self.near_side)
        if PROJECTION in self.values:
            skip = convolved(skip, self.values[PROJECTION], self.strides[0])
        y: Array = x + skip
        return y

    def normalized(self, prefix: str, x: Array, labels: Array | None) -> Array:
        own = {n.removeprefix(prefix): v for n, v in self.values.items() if n.startswith(prefix)}
        if not own:
            return x
        rows = slice(None) if labels is None else labels
        gamma, beta = own["gamma"][rows], own["beta"][rows]
        state = {name: value for name, value in own.items() if name.startswith(("mov", "ren"))}
        step = oracle.step(x, state, gamma, beta, **self.options)
        self.after |= {prefix + name: value for name, value in step.state.items()}
        return step.y


def check(block: Any, x: Array, by_hand: ByHand, tolerance: float, **arguments: Any) -> None:
    """Compares output and state, in units of the largest output."""
    expected = by_hand(x, arguments.get("condition"))
    y = called(block, x, by_hand.options.get("training", True), **arguments)
    largest = np.abs(expected).max()
    assert_close(y / largest, expected / largest, tolerance)
    assert block.compute_output_shape(x.shape) == y.shape
    state = {short(variable): to_numpy(variable) for variable in block.non_trainable_variables}
    assert state.keys() - {COUNTER} == by_hand.after.keys()
    for name, value in by_hand.after.items():
        assert_close(state[name], value, tolerance)


# Channels, sides, then filters, stride, whether the way past begins activated, and the slope.
CASES: list[tuple[type[Any], int, tuple[int, int], tuple[Any, ...], str]] = [
    (BasicBlock, 4, (5, 6), (4, 1, False, 0.1), "float64"),
    (BasicBlock, 4, (4, 3), (4, 1, True, 0.1), "float64"),
    (BasicBlock, 3, (5, 4), (4, 1, False, 0), "float64"),
    (BasicBlock, 4, (4, 7), (4, 2, False, 0.1), "float64"),
    (BasicBlock, 3, (5, 6), (5, 2, True, 0.3), "float32"),
    (BottleneckBlock, 8, (5, 4), (8, 1, False, 0.3), "float64"),
    (BottleneckBlock, 4, (4, 5), (4, 1, True, 0), "float64"),
    (BottleneckBlock, 3, (4, 5), (8, 1, False, 0.1), "float64"),
    (BottleneckBlock, 8, (6, 5), (8, 2, False, 0.1), "float32"),
    (BottleneckBlock, 3, (5, 8), (8, 2, True, 0.1), "float64"),
]


# JAX compiles each for two seconds, so not all of them are inferred with.
@pytest.mark.parametrize(
    ("case", "training"), [(n, True) for n in range(len(CASES))] + [(n, False) for n in (1, 4, 7)]
)
def test_by_hand(case: int, training: bool) -> None:
    kind, channels, sides, options, dtype = CASES[case]
    with precision(dtype):
        block = randomized(kind(*options, dtype=dtype), (None, *sides, channels))
        by_hand = ByHand(block, training=training)
        tolerance = {"float64": 1e-10, "float32": 2e-5}[dtype]
        check(block, images(*sides, channels).astype(dtype), by_hand, tolerance)
    assert len(by_hand.after) == 2 * len(by_hand.strides)


def test_the_comparison_can_fail() -> None:
    block, x = randomized(BasicBlock(4, 2), (None, 4, 6, 4)), images(4, 6)
    wrongs: list[dict[str, Any]] = [{"order": order} for order in ("anc", "nca", "cna", "can")]
    wrongs += [{"before": True}, {"near_side": True}, {"training": False}]
    right, *mistakes = (ByHand(block, **wrong)(x) for wrong in ({}, *wrongs))
    y = called(block, x)
    assert_close(y, right, 1e-4)
    for wrong, other in zip(wrongs, mistakes, strict=True):
        assert np.abs(other - y).max() > 0.3, wrong


# What a normalization may be.

NORMALIZATIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ghost": (BatchNormalization(statistics=Ghost(2)), {"ghost": (2, False)}),
    "zero-debiased": (BatchNormalization(moving=ZeroDebiased(0.9)), {"rate": 1.0}),
    "renorm": (BatchNormalization(renorm=Renorm(0.5, 3, 5)), {"renorm": (0.5, 3.0, 5.0, 0.01)}),
    "Keras's": (keras.layers.BatchNormalization, {}),
    "Keras's, an instance": (
        keras.layers.BatchNormalization(momentum=0.5, epsilon=0.1),
        {"rate": 0.5, "epsilon": 0.1},
    ),
    "conditional": (ConditionalBatchNormalization(3), {}),
    "none": (None, {}),
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_any_normalization(name: str) -> None:
    normalization, options = NORMALIZATIONS[name]
    arguments = {"condition": LABELS} if name == "conditional" else {}
    kind = BottleneckBlock if name in ("renorm", "none") else BasicBlock
    block = kind(8, 2, normalization=normalization)
    randomized(block, (None, 5, 6, 4), *(value.shape for value in arguments.values()))
    by_hand = ByHand(block, **options)
    check(block, images(), by_hand, 2e-5, **arguments)
    assert bool(by_hand.after) == (normalization is not None)
    if isinstance(normalization, keras.layers.Layer):
        assert normalization.variables == []  # the block has copies


def test_conditions() -> None:
    for normalization in (BatchNormalization, None):
        block = BasicBlock(4, normalization=normalization, name="pointless")
        with pytest.raises(
            ValueError, match="pointless was called with a cond.* has no conditional norm"
        ):
            block(images(), LABELS)
    with pytest.raises(ValueError, match="needs a condition in each call"):
        BottleneckBlock(4, normalization=ConditionalBatchNormalization(3))(images())


# Its variables.


def test_variables_in_the_order_of_their_use() -> None:
    block = BottleneckBlock(8, name="b")
    block.build((None, 4, 6, 3))
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    expected = []
    for number in (1, 2, 3):
        expected += [f"b/normalization_{number}/{part}" for part in parts]
        expected += [f"b/convolution_{number}/kernel"]
    expected += ["b/convolution_skip/kernel"]
    assert [variable.path for variable in block.variables] == expected
    assert [v.shape[0] for v in block.variables if v.path.endswith("mean")] == [3, 2, 2]


@kinds
@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (8, 2), (4, 1), (4, 2)])
def test_the_kernels_and_the_projection(kind: type[Any], channels: int, stride: int) -> None:
    block = kind(8, stride)
    block.build((None, 4, 6, channels))
    expected: list[tuple[int, ...]] = [(3, 3, channels, 8), (3, 3, 8, 8)]
    if kind is BottleneckBlock:
        expected = [(1, 1, channels, 2), (3, 3, 2, 2), (1, 1, 2, 8)]
    strides = [(stride, stride)] + [(1, 1)] * (len(expected) - 1)
    layers = list(block.convolutions)
    assert (block.convolution_skip is None) == (channels == 8 and stride == 1)
    if block.convolution_skip is not None:
        layers.append(block.convolution_skip)
        expected.append((1, 1, channels, 8))
        strides.append((stride, stride))
    assert [tuple(layer.kernel.shape) for layer in layers] == expected
    assert [layer.strides for layer in layers] == strides
    assert [len(layer.variables) for layer in layers] == [1] * len(layers)  # no bias
    assert len(block.variables) == len(layers) + 4 * len(block.normalizations)


@kinds
def test_first_kernels(kind: type[Any]) -> None:
    block = kind(64, 2)
    block.build((None, 4, 4, 64))
    kernels = [to_numpy(layer.kernel) for layer in (*block.convolutions, block.convolution_skip)]
    for kernel in kernels:
        size, _, _, filters = kernel.shape
        scaled, four = kernel * np.sqrt(size * size * filters / 2), 4 / np.sqrt(kernel.size)
        assert abs(scaled.mean()) < four
        assert abs(scaled.var() - 1) < four * np.sqrt(2)
        # Of normal numbers 4.55 in 100 are beyond two deviations, of truncated ones none.
        assert abs((np.abs(scaled) > 2).mean() - 0.0455) < four * np.sqrt(0.0455)
    if kind is BasicBlock:  # one initializer would begin kernels of one shape alike
        assert (kernels[0] != kernels[1]).mean() > 0.99


@kinds
@pytest.mark.parametrize(
    ("argument", "values", "message"),
    [
        ("filters", [0, -1, 2.5, True], "filters must be a positive integer; received {}"),
        ("stride", [0, 1.0, (2, 2)], "stride must be a positive integer; received {}"),
        ("relu_leakiness", [-0.1, 1.5, np.nan], "relu_leakiness must be from 0.* received {}"),
    ],
)
def test_errors(kind: type[Any], argument: str, values: list[Any], message: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=message.format(re.escape(repr(value)))):
            kind(**{"filters": 4, argument: value})
    with pytest.raises(ValueError, match="must be a multiple of 4.* received 6"):
        BottleneckBlock(6)


# In half precision, in models and in files.


@kinds
def test_half_precision(kind: type[Any]) -> None:
    dtype, tolerance = ("float16", 5e-3) if kind is BasicBlock else ("bfloat16", 4e-2)
    block = randomized(kind(8, 2, dtype=f"mixed_{dtype}"), (None, 5, 6, 4))
    expected = ByHand(block)(images())
    y = block(images(), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    assert {variable.dtype for variable in block.variables} == {"float32"}
    largest = np.abs(expected).max()
    assert_close(to_numpy(y) / largest, expected / largest, tolerance)


@kinds
def test_config(kind: type[Any]) -> None:
    options: dict[str, Any] = {"stride": 2, "activate_before_residual": True, "relu_leakiness": 0.3}
    more = {"name": "named", "dtype": "mixed_bfloat16", "kernel_initializer": "zeros"}
    normalization = ConditionalBatchNormalization(3, epsilon=0.5)
    for block in (kind(4), kind(4, normalization=normalization, **options, **more)):
        file = keras.saving.serialize_keras_object(block)
        copy = keras.saving.deserialize_keras_object(file)
        for other in (kind.from_config(block.get_config()), copy):
            assert type(other) is kind and other.get_config() == block.get_config()
            assert (other.name, other.dtype_policy) == (block.name, block.dtype_policy)
    assert {name: getattr(other, name) for name in options} == options
    assert (other.name, other.dtype_policy.name) == ("named", "mixed_bfloat16")


@kinds
@pytest.mark.parametrize("classes", [None, 0, 3])
def test_models(kind: type[Any], classes: int | None, tmp_path: Path) -> None:
    makers = {None: None, 0: BatchNormalization, 3: ConditionalBatchNormalization(3)}
    block = kind(8, 2, normalization=makers[classes])
    assert block.compute_output_shape((None, None, 7, 4)) == (None, None, 4, 8)
    inputs = [keras.Input((None, None, 4)), keras.Input((), dtype="int32")][: 2 if classes else 1]
    model = keras.Model(inputs, block(*inputs))
    assert model.output_shape == (None, None, None, 8)
    arguments = [images(), LABELS][: len(inputs)]
    before = {variable.path: to_numpy(variable) for variable in model.variables}
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=BACKEND == "jax")
    model.fit(arguments, np.ones((3, 3, 3, 8), "float32"), batch_size=3, verbose=0)
    for variable in model.variables:
        assert np.abs(to_numpy(variable) - before[variable.path]).max() > 1e-6, variable.path
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    expected = called(model, arguments, False)
    assert_close(called(loaded, arguments, False), expected, 0)
    arguments[0] = images(2, 7)  # of another size
    assert called(loaded, arguments, False).shape == (3, 1, 4, 8)
