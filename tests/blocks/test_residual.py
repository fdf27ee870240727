"""Residual blocks against the published formula, against NumPy, and in models and files."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import (
    BatchNormalization,
    ConditionalBatchNormalization,
    Exponential,
    FromEmbedding,
    PerClass,
    ZeroDebiased,
)
from batchnorm.blocks import ConditionalResidualBlock, ResidualBlock
from batchnorm.surgery.layers import layers
from tests.calling import called
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, compiled, gradients, precision, tensors, to_numpy
from tests.golden import FOLDER, Case, conditional

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
CLASSES, EPSILON = 3, 1e-3
golden = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the golden numbers are not here: {FOLDER} is absent"
)
REPLAYED = [id for id in conditional() if id.startswith("block/")]


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(4)


def short(variable: Any) -> str:
    """Returns the last two parts of a variable's path, layer and variable."""
    return "/".join(variable.path.split("/")[-2:])


def old_name(name: str) -> str:
    """Returns the file's name of a variable of the block."""
    name = name.replace("convolution_", "conv").replace("normalization_", "cbn")
    return name.replace("convskip", "conv_skip").replace("cbnskip", "cbn_skip")


def leaky(x: Any) -> Any:
    return ops.maximum(x, 0.2 * x)


def block_of(case: Case, unbiased: bool, dtype: str) -> ResidualBlock:
    """Makes the block of a case, with its weights and moving statistics."""
    options, arrays = case.record, case.arrays
    moving = Exponential(options["decay"], unbiased=unbiased)
    block = ResidualBlock(
        options["cout"],
        lambda: ConditionalBatchNormalization(
            options["num_classes"], epsilon=options["epsilon"], moving=moving
        ),
        # TensorFlow's own has a slope of float32, which is 3e-9 above 0.2, whatever the inputs.
        activation=leaky if (BACKEND, dtype) == ("tensorflow", "float64") else None,
        use_bias=options["use_bias"],
        dtype=dtype,
    )
    block.build(arrays["x"][0].shape, arrays["labels"].shape)
    fill(block, arrays)
    return block


def fill(block: ResidualBlock, arrays: dict[str, Array]) -> None:
    for kind, variables in (
        ("param", block.trainable_variables),
        ("state", block.non_trainable_variables),
    ):
        expected = {name for name in arrays if name.startswith(f"{kind}/")}
        assert {f"{kind}/{old_name(short(variable))}" for variable in variables} == expected
        for variable in variables:
            assert variable.dtype == block.variable_dtype
            variable.assign(arrays[f"{kind}/{old_name(short(variable))}"])


def replay(case: Case, unbiased: bool, dtype: str, training: bool) -> None:
    """Compares the block with the case."""
    block, arrays, tolerance = block_of(case, unbiased, dtype), case.arrays, TOLERANCE[dtype]
    x, g = tensors([arrays["x"][0], arrays["g"]], dtype)
    (labels,) = tensors([arrays["labels"]], "int32")
    weights, state = block.trainable_variables, block.non_trainable_variables

    def step(x: Any, weights: list[Any], state: list[Any]) -> Any:
        def forward(x: Any, *weights: Any) -> Any:
            arguments = {"condition": labels, "training": training}
            return block.stateless_call(list(weights), state, x, **arguments)

        y, new = forward(x, *weights)
        return y, new, gradients(lambda *sought: ops.sum(forward(*sought)[0] * g), x, *weights)

    values = ([variable.value for variable in variables] for variables in (weights, state))
    y, new, actual = compiled(step, "jit" if BACKEND == "jax" else "eager")(x, *values)
    assert_close(to_numpy(y), arrays["y"], tolerance)
    for variable, value in zip(state, new, strict=True):
        name = f"new/{old_name(short(variable))}"
        name += "_unbiased" if unbiased and name.endswith("variance") else ""
        assert_close(to_numpy(value), arrays[name], tolerance)
    names = ["x", *(f"param/{old_name(short(variable))}" for variable in weights)]
    assert {f"grad/{name}" for name in names} == {n for n in arrays if n.startswith("grad/")}
    for name, gradient in zip(names, actual, strict=True):
        assert_close(to_numpy(gradient), arrays[f"grad/{name}"], tolerance)


KINDS = [("float64", False), ("float32", True), ("float32", False), ("float64", True)]


@golden
# JAX compiles each for a second.
@pytest.mark.parametrize(("dtype", "unbiased"), KINDS[:2] if BACKEND == "jax" else KINDS)
@pytest.mark.parametrize("id", REPLAYED)
def test_replay(id: str, dtype: str, unbiased: bool) -> None:
    case = conditional()[id]
    with precision(dtype):
        replay(case, unbiased, dtype, case.record["training"])


@golden
def test_every_case_is_replayed() -> None:
    records = [conditional()[id].record for id in REPLAYED]
    assert len(records) == sum(c.record["kind"] == "residual_block" for c in conditional().values())
    assert {(r["training"], r["use_bias"], r["cin"] == r["cout"]) for r in records} == {
        (True, True, True),
        (False, True, True),
        (False, True, False),
        (True, False, False),
    }


@golden
@pytest.mark.parametrize(
    "wrong", ["labels", "param/conv2/kernel", "training", "unbiased", "grad/param/cbn1/gamma"]
)
def test_a_replay_can_fail(wrong: str) -> None:
    case = conditional()["block/same_train"]
    arrays = dict(case.arrays)
    if wrong in arrays:
        arrays[wrong] = arrays[wrong][::-1].copy()
    if wrong == "unbiased":
        for name in [name for name in arrays if name.endswith("variance")]:
            arrays[name] = arrays.get(f"{name}_unbiased", arrays[name])
    with pytest.raises(AssertionError, match="above the tolerance"):
        replay(Case(case.record, arrays, {}), False, "float32", training=wrong != "training")


@golden
def test_the_conditional_block_is_that_one_with_the_usual_momentum() -> None:
    case = conditional()["block/change_nobias_train"]
    arrays, options = case.arrays, case.record
    block = ConditionalResidualBlock(options["cout"], options["num_classes"], use_bias=False)
    x, labels = arrays["x"][0].astype("float32"), arrays["labels"].astype("int32")
    block.build(x.shape, labels.shape)
    fill(block, arrays)
    assert_close(called(block, x, condition=labels), arrays["y"], 2e-5)
    for variable in block.non_trainable_variables:
        old, new = (arrays[f"{kind}/{old_name(short(variable))}"] for kind in ("state", "new"))
        batch = (new - options["decay"] * old) / (1 - options["decay"])
        assert_close(to_numpy(variable), 0.99 * old + 0.01 * batch, 2e-5)


# The same in NumPy, float64, with what the file has no case of.


def images(channels: int = 3) -> Array:
    return np.random.default_rng(0).normal(1.0, 2.0, (5, 4, 6, channels)).astype("float32")


def randomized(block: ResidualBlock, *shapes: Any) -> ResidualBlock:
    """Builds the block, with random weights and moving statistics."""
    block.build(*shapes)
    random = np.random.default_rng(1)
    for variable in block.variables:
        drawn = random.normal(0.3, 0.4, variable.shape)
        variable.assign(np.abs(drawn) + 0.5 if "variance" in variable.path else drawn)
    return block


class ByHand:
    """A block of plain normalizations, in NumPy.

    Attributes:
        batch: mean and variance of what a normalization gets, by its name.
    """

    def __init__(self, block: ResidualBlock, training: bool, factors: Any = None) -> None:
        self.block, self.training, self.factors = block, training, factors
        self.values = {short(variable): to_numpy(variable) for variable in block.variables}
        self.batch: dict[str, tuple[Array, Array]] = {}

    def __call__(self, x: Array) -> Array:
        block, x = self.block, x.astype("float64")
        up = enlarged if block.upsample else lambda x: x
        if block.preactivation:
            y = self.convolved("2", self.normal("2", self.convolved("1", up(self.normal("1", x)))))
            skip = up(x)
            if x.shape[-1] != block.filters or block.upsample:
                skip = self.convolved("skip", skip)
        else:
            y = self.normal("2", self.convolved("2", self.normal("1", self.convolved("1", up(x)))))
            skip = up(x)
            if x.shape[-1] != block.filters:
                skip = self.normal("skip", self.convolved("skip", skip))
        return y + skip

    def convolved(self, name: str, x: Array) -> Array:
        kernel = self.values[f"convolution_{name}/kernel"].astype("float64")
        around, (height, width) = kernel.shape[0] // 2, x.shape[1:3]
        padded = np.pad(x, [(0, 0), (around, around), (around, around), (0, 0)])
        y = np.zeros((*x.shape[:3], kernel.shape[-1]))
        for row, column in np.ndindex(kernel.shape[:2]):
            y += padded[:, row : row + height, column : column + width] @ kernel[row, column]
        return y + self.values.get(f"convolution_{name}/bias", 0.0)

    def normal(self, name: str, x: Array) -> Array:
        if self.block.normalization is not None:
            prefix = f"normalization_{name}"
            self.batch[prefix] = (x.mean((0, 1, 2)), x.var((0, 1, 2)))
            moving = [self.values[f"{prefix}/moving_{kind}"] for kind in ("mean", "variance")]
            mean, variance = self.batch[prefix] if self.training else moving
            gamma, beta = (self.values[f"{prefix}/{kind}"] for kind in ("gamma", "beta"))
            if self.factors is not None:
                gamma, beta = 1 + self.factors @ gamma, self.factors @ beta
                gamma, beta = gamma[:, None, None], beta[:, None, None]
            x = (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta
        return np.maximum(x, 0.0 if self.block.preactivation else 0.2 * x)


def enlarged(x: Array) -> Array:
    return x.repeat(2, axis=1).repeat(2, axis=2)


PLAIN: dict[str, dict[str, Any]] = {
    "bare": {},
    "as many filters": {"filters": 3},
    "upsampling": {"upsample": True},
    "upsampling, as many filters": {"upsample": True, "filters": 3},
    "pre-activation": {"preactivation": True},
    "pre-activation, as many filters": {"preactivation": True, "filters": 3},
    "pre-activation, upsampling": {"preactivation": True, "upsample": True, "use_bias": False},
    "pre-activation, upsampling, as many filters": {
        "preactivation": True,
        "upsample": True,
        "filters": 3,
    },
    "no bias": {"use_bias": False},
    "Keras's": {"normalization": keras.layers.BatchNormalization},
    "Keras's, pre-activation": {
        "normalization": keras.layers.BatchNormalization,
        "preactivation": True,
    },
    "none": {"normalization": None},
    "none, pre-activation, upsampling": {
        "normalization": None,
        "preactivation": True,
        "upsample": True,
    },
    "an instance": {"normalization": BatchNormalization(momentum=0.9)},
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN)
def test_by_hand(options: dict[str, Any], training: bool) -> None:
    block = randomized(ResidualBlock(**{"filters": 4, **options}), (None, None, None, 3))
    x, by_hand = images(), ByHand(block, training)
    expected = by_hand(x)
    y = called(block, x, training=training)
    # In units of the largest, as some elements are differences of large numbers.
    assert_close(y / np.abs(expected).max(), expected / np.abs(expected).max(), 2e-6)
    assert (block.compute_output_shape((5, 4, 6, 3)), y.shape) == (expected.shape,) * 2
    changed = 0
    for variable in block.non_trainable_variables:
        layer, _, kind = short(variable).partition("/")
        momentum = getattr(block, layer).momentum
        batch = by_hand.batch[layer][kind == "moving_variance"]
        old = by_hand.values[short(variable)]
        new = momentum * old + (1 - momentum) * batch if training else old
        assert_close(to_numpy(variable), new, 2e-5)
        changed += 1
    assert changed == 2 * len(by_hand.batch)


@pytest.mark.parametrize("preactivation", [False, True])
def test_upsampling_is_the_block_of_enlarged_images(preactivation: bool) -> None:
    blocks = [
        randomized(ResidualBlock(4, upsample=up, preactivation=preactivation), (None, 4, 6, 3))
        for up in (True, False)
    ]
    x = images()
    y = [called(block, inputs) for block, inputs in zip(blocks, (x, enlarged(x)), strict=True)]
    assert y[0].shape == (5, 8, 12, 4)
    assert_close(y[0], y[1], 1e-4)
    # Each image repeated has the statistics of the image.
    for one, other in zip(*(block.non_trainable_variables for block in blocks), strict=True):
        assert_close(to_numpy(one), to_numpy(other), 1e-5)


@pytest.mark.parametrize("preactivation", [False, True])
def test_vectors(preactivation: bool) -> None:
    normalization = BatchNormalization(affine=FromEmbedding())
    block = ResidualBlock(4, normalization, preactivation=preactivation)
    randomized(block, (None, 4, 6, 3), (None, 2))
    vectors = np.random.default_rng(2).normal(size=(5, 2)).astype("float32")
    expected = ByHand(block, True, vectors)(images())
    y = called(block, images(), condition=vectors)
    assert_close(y / np.abs(expected).max(), expected / np.abs(expected).max(), 2e-6)
    assert normalization.variables == []  # the block has copies


def test_a_composition_of_keras_layers() -> None:
    layers = keras.layers
    inputs = x = keras.Input((4, 6, 3))
    for number, up in (("1", layers.UpSampling2D()), ("2", layers.Identity())):
        x = layers.BatchNormalization(name=f"normalization_{number}")(x)
        x = up(layers.ReLU()(x))
        x = layers.Conv2D(4, 3, padding="same", name=f"convolution_{number}")(x)
    skip = layers.Conv2D(4, 1, name="convolution_skip")(layers.UpSampling2D()(inputs))
    model = keras.Model(inputs, layers.Add()([x, skip]))
    block = ResidualBlock(4, preactivation=True, upsample=True)
    randomized(block, (None, 4, 6, 3))
    values = {short(variable): variable for variable in block.variables}
    assert len(model.variables) == len(values)
    for variable in model.variables:
        variable.assign(values[short(variable)].value)
    for training in (True, False):
        y, expected = (called(layer, images(), training=training) for layer in (block, model))
        assert_close(y, expected, 2e-5)
    for variable in model.variables:
        assert_close(to_numpy(values[short(variable)]), to_numpy(variable), 2e-5)


# What a normalization may be.


@pytest.mark.parametrize(
    ("normalization", "kind"),
    [
        (BatchNormalization, BatchNormalization),
        (keras.layers.BatchNormalization, keras.layers.BatchNormalization),
        (keras.layers.LayerNormalization(epsilon=0.5), keras.layers.LayerNormalization),
        (BatchNormalization(moving=ZeroDebiased(0.9), epsilon=0.5, name="x"), BatchNormalization),
        (lambda: BatchNormalization(moving=ZeroDebiased(0.9), epsilon=0.5), BatchNormalization),
        (ConditionalBatchNormalization(CLASSES, epsilon=0.5), ConditionalBatchNormalization),
    ],
)
def test_copies(normalization: Any, kind: type[Any]) -> None:
    block = ResidualBlock(4, normalization)
    block.build((None, 4, 6, 3), (None,))
    copies = [getattr(block, f"normalization_{name}") for name in ("1", "2", "skip")]
    assert [type(layer) for layer in copies] == [kind] * 3
    assert [layer.name for layer in copies] == [
        "normalization_1",
        "normalization_2",
        "normalization_skip",
    ]
    assert len({id(variable) for layer in copies for variable in layer.variables}) == sum(
        len(layer.variables) for layer in copies
    )
    epsilon = EPSILON if isinstance(normalization, type) else 0.5
    assert [layer.epsilon for layer in copies] == [epsilon] * 3
    slots = [getattr(layer, "moving", None) for layer in copies]
    assert len(set(slots)) == 1 and len({id(layer) for layer in copies} | {id(normalization)}) == 4
    if kind is BatchNormalization and epsilon == 0.5:
        assert slots[0] == ZeroDebiased(0.9)
        assert [len(layer.non_trainable_variables) for layer in copies] == [3, 3, 3]


def test_no_normalization_has_no_variables() -> None:
    block = ResidualBlock(4, None)
    block.build((None, 4, 6, 3))
    assert {short(variable) for variable in block.variables} == {
        f"convolution_{name}/{kind}" for name in ("1", "2", "skip") for kind in ("kernel", "bias")
    }
    assert block.normalization_1 is block.normalization_2 is block.normalization_skip is None


def test_convolutions_begin_with_different_numbers() -> None:
    block = ResidualBlock(3)
    block.build((None, 4, 6, 3))
    kernels = [to_numpy(getattr(block, f"convolution_{name}").kernel) for name in "12"]
    assert (kernels[0] != kernels[1]).all()
    assert block.convolution_skip is None


def test_the_activation_and_the_initializer() -> None:
    block = ResidualBlock(4, None, activation="tanh", kernel_initializer="zeros", use_bias=False)
    x = images(4)
    assert_close(to_numpy(block(x)), x, 0)  # tanh(0) on the way through, the images past it
    block.convolution_2.kernel.assign(np.zeros((3, 3, 4, 4)))
    block.convolution_1.kernel.assign(
        np.pad(5.0 * np.eye(4)[None, None], [(1, 1), (1, 1)] + [(0, 0)] * 2)
    )
    block.convolution_2.kernel.assign(
        np.pad(np.eye(4)[None, None], [(1, 1), (1, 1)] + [(0, 0)] * 2)
    )
    assert_close(to_numpy(block(x)), x + np.tanh(np.tanh(5.0 * x)), 2e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "float64"])
def test_dtypes(dtype: str) -> None:
    policy = keras.DTypePolicy(dtype)
    with precision(dtype):
        for normalization in (BatchNormalization, keras.layers.BatchNormalization):
            block = ResidualBlock(4, normalization, upsample=True, dtype=dtype)
            block.build((None, 4, 6, 3))
            y = called(block, images().astype(policy.compute_dtype))
            assert y.dtype == policy.compute_dtype
            assert np.isfinite(y).all()
            assert {variable.dtype for variable in block.variables} == {policy.variable_dtype}
            parts = layers(block)[1:]
            assert [part.dtype_policy.name for part in parts] == [dtype] * 7


def test_an_instance_keeps_its_dtype() -> None:
    with precision("float64"):
        block = ResidualBlock(4, BatchNormalization(dtype="float32"), dtype="float64")
        block.build((None, 4, 6, 3))
        assert block.normalization_1.dtype_policy.name == "float32"
        assert block.convolution_1.dtype_policy.name == "float64"


# Conditions.


def test_a_condition_that_is_missing() -> None:
    with pytest.raises(ValueError, match="needs a condition in each call"):
        ConditionalResidualBlock(4, CLASSES)(images())


@pytest.mark.parametrize(
    "normalization", [BatchNormalization, None, keras.layers.GroupNormalization]
)
def test_a_condition_without_a_conditional_normalization(normalization: Any) -> None:
    if normalization is keras.layers.GroupNormalization:
        normalization = keras.layers.GroupNormalization(1)
    with pytest.raises(
        ValueError, match="pointless was called with a cond.* has no conditional norm"
    ):
        ResidualBlock(4, normalization, name="pointless")(images(), np.zeros(5, "int32"))


@pytest.mark.parametrize("filters", [0, -1, True, "8", 8.0, None])
def test_filters_that_are_not_positive_integers(filters: Any) -> None:
    with pytest.raises(ValueError, match=f"positive integer; received {filters!r}"):
        ResidualBlock(filters)
    with pytest.raises(ValueError, match=f"positive integer; received {filters!r}"):
        ConditionalResidualBlock(filters, CLASSES)


def test_classes_that_are_none() -> None:
    with pytest.raises(ValueError, match="How many classes are there"):
        ConditionalResidualBlock(4, 0)


# In models and files.


def conditional_model(block: ResidualBlock, size: tuple[int | None, ...] = (4, 6, 3)) -> Any:
    inputs, labels = keras.Input(size), keras.Input((), dtype="int32")
    return keras.Model([inputs, labels], block(inputs, labels))


LABELS = np.array([0, 2, 2, 1, 0], "int32")


@pytest.mark.parametrize("upsample", [False, True])
def test_images_of_unknown_size(upsample: bool) -> None:
    block = ConditionalResidualBlock(4, CLASSES, upsample=upsample)
    model = conditional_model(block, (None, None, 3))
    assert model.output_shape == (None, None, None, 4)
    assert block.compute_output_shape((None, None, None, 3)) == (None, None, None, 4)
    factor = 2 if upsample else 1
    for size in ((4, 6), (5, 3)):
        x = np.ones((5, *size, 3), "float32")
        y = called(model, [x, LABELS], False)
        assert y.shape == (5, factor * size[0], factor * size[1], 4)


def test_fit() -> None:
    model = conditional_model(ConditionalResidualBlock(4, CLASSES, upsample=True, use_bias=False))
    before = {variable.path: to_numpy(variable) for variable in model.variables}
    assert len(before) == 3 + 3 * 4
    target = np.random.default_rng(3).normal(size=(5, 8, 12, 4)).astype("float32")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit([images(), LABELS], target, batch_size=5, verbose=0)
    for variable in model.variables:
        assert np.abs(to_numpy(variable) - before[variable.path]).max() > 1e-5, variable.path


FILES: dict[str, tuple[type[ResidualBlock], dict[str, Any]]] = {
    "conditional": (ConditionalResidualBlock, {"classes": CLASSES, "upsample": True}),
    "all": (
        ConditionalResidualBlock,
        {
            "classes": CLASSES,
            "preactivation": True,
            "upsample": True,
            "activation": "tanh",
            "use_bias": False,
            "kernel_initializer": keras.initializers.HeNormal(seed=3),
            "dtype": "mixed_float16",
            "name": "named",
        },
    ),
    "slots": (
        ResidualBlock,
        {"normalization": BatchNormalization(moving=ZeroDebiased(0.9), affine=PerClass(CLASSES))},
    ),
}
files = pytest.mark.parametrize(("kind", "options"), FILES.values(), ids=FILES)


@files
def test_config(kind: type[ResidualBlock], options: dict[str, Any]) -> None:
    block = kind(filters=4, **options)
    again = kind.from_config(block.get_config())
    assert type(again) is kind
    assert again.get_config() == block.get_config()
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert type(copy) is kind and copy.get_config() == block.get_config()
    for name in ("filters", "upsample", "preactivation", "activation", "use_bias", "name"):
        assert getattr(copy, name) == getattr(block, name)
    scalars = {name: value for name, value in options.items() if isinstance(value, str | int)}
    assert scalars.items() <= {**block.get_config(), "dtype": block.dtype_policy.name}.items()


@files
def test_files(kind: type[ResidualBlock], options: dict[str, Any], tmp_path: Path) -> None:
    model = conditional_model(kind(filters=4, **options))
    called(model, [images(), LABELS])
    random = np.random.default_rng(4)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape))
    expected = called(model, [images(), LABELS], False)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    assert np.abs(called(clone, [images(), LABELS], False) - expected).max() > 0.1
    clone.load_weights(tmp_path / "model.weights.h5")
    for other in (loaded, clone):
        assert not {id(v) for v in other.variables} & {id(v) for v in model.variables}
        assert [short(v) for v in other.variables] == [short(v) for v in model.variables]
        assert_close(called(other, [images(), LABELS], False), expected, 0)


@pytest.mark.parametrize(
    "normalization", [None, BatchNormalization, keras.layers.BatchNormalization]
)
def test_files_of_plain_blocks(normalization: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 6, 3)), ResidualBlock(4, normalization)])
    called(model, images())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].normalization == model.layers[0].normalization
    actual, expected = (called(network, images(), False) for network in (loaded, model))
    assert_close(actual, expected, 0)
