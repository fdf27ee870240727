"""The ResNet: sizes against formulas, blocks, images, normalizations and files."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import BasicBlock, BatchNormalization, BottleneckBlock, ZeroDebiased
from batchnorm.models.resnet import resnet
from batchnorm.surgery.layers import layers
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, to_numpy

SMALL = (4, 4, 3)  # a network has as many parameters for them as for large images


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(4)


@pytest.fixture
def half() -> Iterator[None]:
    """Sets half precision for a test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@functools.cache
def built(depth: int, block: str | None) -> keras.Model:
    """Builds a model once for all tests, which must not change it: deep ones take a second."""
    return resnet(SMALL, depth=depth, block=block)


def blocks(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if layer.name.startswith("stage_")]


def normalizations(model: keras.Model) -> list[Any]:
    return [layer for layer in layers(model) if isinstance(layer, keras.layers.BatchNormalization)]


def pictures(count: int = 4, side: int = 32) -> Array:
    return np.random.default_rng(1).integers(0, 121, (count, side, side, 3)).astype("uint8")


def randomized(model: keras.Model) -> keras.Model:
    """Sets weights and moving statistics to random values instead of the initial ones."""
    random = np.random.default_rng(2)
    for variable in model.variables:
        if "kernel" not in variable.path:
            drawn = random.normal(0.2, 0.5, variable.shape)
            variable.assign(np.abs(drawn) + 0.5 if "variance" in variable.path else drawn)
    return model


def logits(model: keras.Model, images: Array) -> Array:
    logits: Array = model.predict(images, verbose=0)
    return logits


# Its sizes.


def parameters(depth: int, kind: str) -> int:
    """Counts the trainable parameters for a depth: kernels, gammas, betas, the last layer."""
    first, convolutions = {"basic": (16, 2), "bottleneck": (64, 3)}[kind]
    total, c = 27 * 16, 16
    for f in (first, 2 * first, 4 * first):
        q = f // 4
        total += c * f if c != f else 0
        for _ in range((depth - 2) // (3 * convolutions)):
            if kind == "basic":
                total += (2 * c + 9 * c * f) + (2 * f + 9 * f * f)
            else:
                total += (2 * c + c * q) + (2 * q + 9 * q * q) + (2 * q + q * f)
            c = f
    return total + 2 * c + 10 * c + 10


SIZES = {
    (20, "basic"): 272282,
    (32, "basic"): 466714,
    (44, "basic"): 661146,
    (56, "basic"): 855578,
    (110, "basic"): 1730522,
    (29, "bottleneck"): 312218,
    (47, "bottleneck"): 497690,
    (110, "bottleneck"): 1146842,
    (164, "bottleneck"): 1703258,
}


@pytest.mark.parametrize(("network", "size"), SIZES.items(), ids=str)
def test_parameters(network: tuple[int, str], size: int) -> None:
    depth, kind = network
    # Of the depths that fit both, 110 is of basic blocks where nothing is said, 164 of bottlenecks.
    model = built(depth, kind if network == (110, "bottleneck") else None)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable == size == parameters(depth, kind)
    # Each layer with weights but the last has a normalization, and each has two statistics.
    assert len(normalizations(model)) == depth - 1
    assert len(model.non_trainable_variables) == 2 * (depth - 1)
    expected = {"basic": BasicBlock, "bottleneck": BottleneckBlock}[kind]
    assert {type(block) for block in blocks(model)} == {expected}
    assert sum(len(block.convolutions) for block in blocks(model)) == depth - 2


def test_published_sizes() -> None:
    # In millions, arXiv:1512.03385, table 6, where the ways past have no parameters; ours are
    # projections from 16 to 32 filters and from 32 to 64.
    for depth, millions in ((20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)):
        assert round((SIZES[depth, "basic"] - 16 * 32 - 32 * 64) / 1e6, 2) == millions
    # ... and for 164 layers arXiv:1603.05027.
    for network in ((110, "basic"), (164, "bottleneck")):
        assert round(SIZES[network] / 1e6, 1) == 1.7


@pytest.mark.parametrize(
    ("depth", "block", "kind"),
    [
        (8, None, BasicBlock),
        (11, None, BottleneckBlock),
        (20, None, BasicBlock),
        (20, "basic", BasicBlock),
        (20, "bottleneck", BottleneckBlock),
        (56, None, BasicBlock),
    ],
)
def test_which_block(depth: int, block: str | None, kind: type[Any]) -> None:
    model = built(depth, block)
    assert {type(block) for block in blocks(model)} == {kind}
    assert len(blocks(model)) == (depth - 2) // (2 if kind is BasicBlock else 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 21}, r"Nearest: 20 and 26\.$"),
        ({"depth": 21, "block": "bottleneck"}, r"bottleneck .* 21 layers. Nearest: 20 and 29\.$"),
        ({"depth": 11, "block": "basic"}, r"basic .* 11 layers. Nearest: 8 and 14\.$"),
        ({"depth": 2}, r"has 2 layers. Nearest: 8\.$"),
        ({"depth": 0}, r"Nearest: 8\.$"),
        ({"depth": -3}, r"Nearest: 8\.$"),
        ({"depth": 1000}, r"Nearest: 998 and 1001\.$"),
        ({"depth": 20.0}, "depth must be an integer, such as 20; received 20.0"),
        ({"depth": True}, "depth must be an integer, such as 20; received True"),
        ({"block": "foo"}, "block must be one of basic, bottleneck, or None; received 'foo'"),
        ({"image_shape": (3, 32, 3)}, "at least 4x4 pixels; received 3x32"),
        ({"relu_leakiness": 2}, "relu_leakiness must be from 0.* received 2"),
    ],
    ids=str,
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resnet(**options)


# Its layers.


@pytest.mark.parametrize(("depth", "filters"), [(14, (16, 32, 64)), (20, (64, 128, 256))])
def test_layers(depth: int, filters: tuple[int, ...]) -> None:
    block = "basic" if depth == 14 else "bottleneck"
    model = resnet(depth=depth, block=block, classes=7, relu_leakiness=0.3)
    assert model.output_shape == (None, 7) and model.name == f"resnet_{depth}"
    actual = blocks(model)
    sides = [32, 32, 16, 16, 8, 8]
    assert [block.output.shape for block in actual] == [
        (None, side, side, filters[stage])
        for side, stage in zip(sides, (0, 0, 1, 1, 2, 2), strict=True)
    ]
    assert [block.name for block in actual] == [f"stage_{s}_block_{b}" for s in "123" for b in "12"]
    assert [block.stride for block in actual] == [1, 1, 2, 1, 2, 1]
    assert [block.activate_before_residual for block in actual] == [True] + [False] * 5
    assert {block.relu_leakiness for block in actual} == {0.3}
    assert model.get_layer("leaky_relu").negative_slope == 0.3
    assert model.get_layer("logits").activation is keras.activations.linear
    other_names = [layer.name for layer in model.layers if layer not in actual]
    before = ["image", "rescaling", "standardization", "convolution"]
    assert other_names == [*before, "normalization", "leaky_relu", "pooling", "logits"]


def test_one_convolution_after_the_other_begins_with_other_numbers() -> None:
    kernels = [v for v in resnet(SMALL, depth=14).variables if tuple(v.shape) == (3, 3, 16, 16)]
    values = [to_numpy(variable) for variable in kernels]
    assert len(values) == 4
    for number, one in enumerate(values):
        assert all((one != other).mean() > 0.99 for other in values[:number])


# Its images.


def test_standardization() -> None:
    model = resnet(depth=8)
    seen = keras.Model(model.input, model.get_layer("standardization").output)
    images = pictures()
    scaled = images / 255
    mean, variance = (f(scaled, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
    assert_close(logits(seen, images), (scaled - mean) / np.sqrt(variance + 1e-6), 1e-5)


def test_brightness_and_contrast_hardly_matter() -> None:
    model, images = randomized(resnet(depth=8)), pictures()
    y = logits(model, images)
    spread = np.abs(y - y.mean(axis=0)).max()
    assert_close(logits(model, images + 100) / spread, y / spread, 1e-3)
    assert_close(logits(model, 2 * images) / spread, y / spread, 1e-3)
    assert np.abs(logits(model, 255 - images) - y).max() > spread


def constant_images() -> Array:
    return np.stack([np.full((8, 8, 3), value, "uint8") for value in (0, 1, 255)])


def test_constant_images() -> None:
    y = logits(randomized(resnet((8, 8, 3), depth=8)), constant_images())
    assert y.shape == (3, 10) and np.isfinite(y).all() and np.ptp(y) > 0.1
    assert_close(y, np.repeat(y[:1], 3, axis=0), 1e-3)


@pytest.mark.usefixtures("half")
def test_half_precision() -> None:
    model = randomized(resnet((8, 8, 3), depth=8))
    assert {block.compute_dtype for block in blocks(model)} == {"float16"}
    assert {layer.compute_dtype for layer in normalizations(model)} == {"float16"}
    assert {variable.dtype for variable in model.variables} == {"float32"}
    assert model.output.dtype == "float32"
    y = logits(model, np.concatenate([constant_images(), pictures(2, 8)]))
    assert y.dtype == "float32" and np.isfinite(y).all()
    # Logits in half precision would have no more than 11 bits.
    assert (y != y.astype("float16")).any()


# What a normalization may be.


@pytest.mark.parametrize(
    ("normalization", "kind", "variables"),
    [
        (keras.layers.BatchNormalization, keras.layers.BatchNormalization, 2),
        (BatchNormalization(moving=ZeroDebiased(0.9), name="mine"), BatchNormalization, 3),
        (lambda: BatchNormalization(momentum=0.9), BatchNormalization, 2),
    ],
    ids=["Keras's", "an instance with slots", "a function"],
)
@pytest.mark.parametrize("depth", [8, 11])
def test_normalization(depth: int, normalization: Any, kind: type[Any], variables: int) -> None:
    model = resnet(SMALL, depth=depth, normalization=normalization)
    actual = normalizations(model)
    assert [type(layer) for layer in actual] == [kind] * (depth - 1)
    assert len({id(layer) for layer in (*actual, normalization)}) == depth
    assert len(model.non_trainable_variables) == variables * (depth - 1)
    assert len({variable.path for variable in model.variables}) == len(model.variables)
    if variables == 3:
        assert {layer.moving for layer in actual} == {ZeroDebiased(0.9)}
        assert normalization.variables == []


def test_no_normalization() -> None:
    model = resnet(SMALL, depth=8, normalization=None)
    assert normalizations(model) == [] and model.non_trainable_variables == []
    kinds = [variable.name for variable in model.trainable_variables]
    assert kinds == ["kernel"] * (1 + 6 + 2 + 1) + ["bias"]
    assert np.isfinite(logits(model, pictures(2, 4))).all()


# In files and in training.


@pytest.mark.parametrize("depth", [8, 11])
def test_files(depth: int, tmp_path: Path) -> None:
    model = randomized(resnet((8, 8, 3), depth=depth))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = pictures(3, 8)
    expected = logits(model, images)
    assert np.ptp(expected, axis=0).min() > 1e-3
    assert_close(logits(loaded, images), expected, 0)
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]


def test_training() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 64)
    images = random.uniform(0, 100, (64, 8, 8, 3))
    # The stripes of one class lie, those of the other stand.
    stripes = 100.0 * (np.arange(8) % 2)
    images += np.where(labels[:, None, None] == 0, stripes[:, None], stripes)[..., None]
    model = resnet((8, 8, 3), classes=2, depth=8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, 0.9), loss, jit_compile=BACKEND == "jax")
    before = {variable.path: to_numpy(variable) for variable in model.variables}
    losses = model.fit(images, labels, batch_size=32, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    for variable in model.variables:
        assert (to_numpy(variable) != before[variable.path]).any(), variable.path
