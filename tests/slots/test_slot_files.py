"""Files and configurations of layers with slots, and of layers that lack a slot's state."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import (
    BatchNormalization,
    BatchRenormalization,
    ConditionalBatchNormalization,
    Cumulative,
    Exponential,
    FromEmbedding,
    Ghost,
    GhostBatchNormalization,
    Given,
    PerClass,
    Ramp,
    Renorm,
    SpectralNormalization,
    ZeroDebiased,
)
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, precision, to_numpy

SHAPE = (4, 5, 3)


def halved(shape: Any) -> tuple[float, float]:
    return 0.5, 1.0


def jitter(shape: Any, seed: Any) -> tuple[Any, float]:
    return keras.random.uniform(shape[-1:], 0.9, 1.1, seed=seed), 0.0


for function in (halved, jitter):
    keras.saving.register_keras_serializable(package="tests")(function)

SLOTS: dict[str, dict[str, Any]] = {
    "ghost": {"statistics": Ghost(2, strided=True)},
    "unbiased": {"moving": Exponential(0.9, unbiased=True)},
    "zero-debiased": {"moving": ZeroDebiased(0.9)},
    "cumulative": {"moving": Cumulative()},
    "scheduled": {"momentum": Ramp(0.5, 0.9, 0, 10)},
    "scheduled average": {"moving": ZeroDebiased(Ramp(0.5, 0.9, 0, 10), unbiased=True)},
    "keras's schedule": {"momentum": keras.optimizers.schedules.CosineDecay(0.9, 100)},
    "renorm": {"renorm": Renorm(rmax=2.0, dmax=1.0, momentum=0.8)},
    "paper": {"renorm": Renorm.paper()},
    "adjustment": {"adjustment": halved},
    "random adjustment": {"adjustment": jitter, "moving": Cumulative()},
    "activation": {"activation": "leaky_relu"},
    "axes": {"axis": (1, 3)},
    "axes and renorm": {"axis": [1, 3], "renorm": True},
    "half": {"dtype": "mixed_float16", "moving": Cumulative()},
    "all": {
        "axis": (1, 3),
        "statistics": Ghost(2),
        "moving": ZeroDebiased(Ramp(0.5, 0.9, 0, 10)),
        "renorm": Renorm(rmax=Ramp(1.0, 3.0, 0, 5), dmax=1.0),
        "adjustment": halved,
        "activation": "relu",
    },
}
slots = pytest.mark.parametrize("options", SLOTS.values(), ids=SLOTS)


def images() -> Array:
    return np.random.default_rng(0).normal(3.0, 2.0, (4, *SHAPE)).astype("float32")


def trained(layer: keras.layers.Layer) -> keras.Model:
    """A model of one layer after three training steps."""
    model = keras.Sequential([keras.Input(SHAPE), layer])
    for step in range(3):
        model(images() + step, training=True)
    return model


def assert_same(actual: keras.Model, expected: keras.Model, *conditions: Array) -> None:
    """The same weights and counts, in inference and in the next training step the same output."""
    for ours, reference in zip(actual.variables, expected.variables, strict=True):
        assert ours.path.split("/")[-1] == reference.path.split("/")[-1]
        if ours.name == "seed_generator_state":
            ours.assign(reference)  # Keras 3.15 keeps the state of no random generator in its files
        assert_close(to_numpy(ours), to_numpy(reference), 0)
    seen = [images(), *conditions] if conditions else images()
    for training in (False, True):
        y, other = (to_numpy(m(seen, training=training)) for m in (actual, expected))
        assert_close(y, other, 0)


@slots
def test_configuration(options: dict[str, Any]) -> None:
    layer = BatchNormalization(**options)
    config = json.loads(json.dumps(layer.get_config()))
    again = BatchNormalization.from_config(config)
    assert again.get_config() == layer.get_config()
    for name in ("statistics", "moving", "renorm", "adjustment", "activation"):
        ours, reference = getattr(again, name), getattr(layer, name)
        assert type(ours) is type(reference)
        if callable(ours) or isinstance(ours, bool):
            assert ours == reference
    axis = options.get("axis", -1)
    assert again.axis == layer.axis == (tuple(axis) if isinstance(axis, list) else axis)


@slots
def test_keras_file(options: dict[str, Any], tmp_path: Path) -> None:
    model = trained(BatchNormalization(**options))
    model.save(tmp_path / "model.keras")
    assert_same(keras.models.load_model(tmp_path / "model.keras"), model)


@slots
def test_weights_file(options: dict[str, Any], tmp_path: Path) -> None:
    model = trained(BatchNormalization(**options))
    model.save_weights(tmp_path / "model.weights.h5")
    other = keras.Sequential([keras.Input(SHAPE), BatchNormalization(**options)])
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(other, model)


@slots
def test_clone(options: dict[str, Any]) -> None:
    model = trained(BatchNormalization(**options))
    clone = keras.models.clone_model(model)
    for variable, value in zip(clone.variables, model.variables, strict=True):
        variable.assign(value)
    assert_same(clone, model)


@slots
@pytest.mark.skipif(BACKEND != "tensorflow", reason="a SavedModel is a file of TensorFlow's")
def test_saved_model(options: dict[str, Any], tmp_path: Path) -> None:
    import tensorflow as tf

    model = trained(BatchNormalization(**options))
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    assert_close(exported.serve(images()).numpy(), to_numpy(model(images())), 1e-6)


def test_given(tmp_path: Path) -> None:
    inputs, scale, shift = keras.Input(SHAPE), keras.Input((3,)), keras.Input((3,))
    layer = BatchNormalization(affine=Given(), moving=Cumulative())
    model = keras.Model([inputs, scale, shift], layer(inputs, condition=(scale, shift)))
    x, rows = images(), np.arange(24, dtype="float32").reshape(2, 4, 3)
    model([x, *rows], training=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert [v.path.split("/")[-1] for v in again.variables] == [
        "moving_mean",
        "moving_variance",
        "step",
    ]
    assert_close(to_numpy(again([x, *rows])), to_numpy(model([x, *rows])), 0)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_close(to_numpy(clone([x, *rows])), to_numpy(model([x, *rows])), 0)


LABELS = np.array([3, 0, 0, 1], "int32")
SHARES = np.random.default_rng(1).dirichlet(np.ones(4), 4).astype("float32")
VECTORS = np.random.default_rng(1).normal(size=(4, 6)).astype("float32")
CONDITIONAL: dict[str, tuple[dict[str, Any], Array]] = {
    "per class": ({"affine": PerClass(4)}, LABELS),
    "mixtures": ({"affine": PerClass(4), "moving": Cumulative()}, SHARES),
    "beta per class": ({"affine": PerClass(4), "scale": False, "dtype": "mixed_float16"}, LABELS),
    "per class and axes": ({"affine": PerClass(4), "axis": (1, 3), "renorm": True}, LABELS),
    "embedding": ({"affine": FromEmbedding(), "statistics": Ghost(2)}, VECTORS),
    "embedding of a size": ({"affine": FromEmbedding(6, offset=0.5)}, VECTORS),
    "biases": ({"affine": FromEmbedding(6, bias=True), "renorm": True, "axis": 1}, VECTORS),
    "spectral": (
        {
            "affine": FromEmbedding(6, bias=True, spectral_normalization=True),
            "axis": (1, 3),
            "renorm": True,
        },
        VECTORS,
    ),
    "initializer": (
        {"affine": FromEmbedding(6, initializer=keras.initializers.Orthogonal(gain=0.5))},
        VECTORS,
    ),
    "recipe": ({"classes": 4, "renorm": Renorm.paper(), "gamma_initializer": "normal"}, LABELS),
}
conditional = pytest.mark.parametrize(
    ("options", "condition"), CONDITIONAL.values(), ids=CONDITIONAL
)


def conditioned(options: dict[str, Any], condition: Array) -> keras.Model:
    """A model of one layer with weights of its own after three training steps."""
    kind: Any = ConditionalBatchNormalization if "classes" in options else BatchNormalization
    inputs, arguments = keras.Input(SHAPE), keras.Input(condition.shape[1:], dtype=condition.dtype)
    layer = kind(**options)
    model = keras.Model([inputs, arguments], layer(inputs, condition=arguments))
    draw = np.random.default_rng(2)
    for variable in layer.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    for step in range(3):
        model([images() + step, condition], training=True)
    return model


@conditional
def test_conditional_configuration(options: dict[str, Any], condition: Array) -> None:
    layer = conditioned(options, condition).layers[-1]
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert again.get_config() == layer.get_config()
    assert type(again.affine) is type(layer.affine)
    if "classes" in options:
        assert config["classes"] == 4 and "affine" not in config
        assert again.affine == PerClass(4)
    elif not isinstance(getattr(layer.affine, "initializer", None), keras.Initializer):
        assert again.affine == layer.affine == options["affine"]
    else:
        assert isinstance(again.affine.initializer, keras.initializers.Orthogonal)
        assert again.affine.initializer.gain == 0.5
    held = {"gamma_initializer", "beta_initializer"} <= config.keys()
    assert held == isinstance(layer.affine, PerClass)


@conditional
def test_conditional_keras_file(options: dict[str, Any], condition: Array, tmp_path: Path) -> None:
    model = conditioned(options, condition)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.layers[-1]) is type(model.layers[-1])
    assert_same(again, model, condition)


@conditional
def test_conditional_weights_file(
    options: dict[str, Any], condition: Array, tmp_path: Path
) -> None:
    model = conditioned(options, condition)
    model.save_weights(tmp_path / "model.weights.h5")
    other = keras.models.clone_model(model)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(other, model, condition)


@conditional
def test_conditional_clone(options: dict[str, Any], condition: Array) -> None:
    model = conditioned(options, condition)
    clone = keras.models.clone_model(model)
    assert np.abs(clone.get_weights()[0] - model.get_weights()[0]).max() > 0.1
    clone.layers[-1].set_weights(model.layers[-1].get_weights())
    if "step" in [variable.name for variable in model.variables]:
        clone.layers[-1].counter.step.assign(model.layers[-1].counter.step)
    assert_same(clone, model, condition)


@conditional
@pytest.mark.skipif(BACKEND != "tensorflow", reason="a SavedModel is a file of TensorFlow's")
def test_conditional_saved_model(options: dict[str, Any], condition: Array, tmp_path: Path) -> None:
    import tensorflow as tf

    model = conditioned(options, condition)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    y = exported.serve([images(), condition])
    assert_close(y.numpy(), to_numpy(model([images(), condition])), 1e-6)
    if condition.dtype == "int32":
        # Nothing can be an error there.
        y = exported.serve([images(), np.array([3, 4, -1, 1], "int32")]).numpy()
        assert np.isnan(y).any((1, 2, 3)).tolist() == [False, True, True, False]


@pytest.mark.parametrize(("axis", "channels"), [(-1, (3,)), (1, (4,)), ((1, 3), (4, 1, 3))])
@pytest.mark.parametrize(("affine", "rows"), [(PerClass(7), 7), (FromEmbedding(), 6)], ids=str)
def test_the_variables_of_conditional_layers(
    affine: Any, rows: int, axis: Any, channels: tuple[int, ...]
) -> None:
    own = channels if len(channels) == 1 else (1, *channels)
    sizes = {"gamma": (rows, *channels), "beta": (rows, *channels)}
    sizes |= {"moving_mean": own, "moving_variance": own}
    batch_of: list[dict[str, Any]] = [{}, {"center": False}, {"scale": False}]
    for lacking in (*batch_of, {"center": False, "scale": False}):
        layer = BatchNormalization(affine=affine, axis=axis, name="layer", **lacking)
        layer.build((None, *SHAPE), (None, 6))
        names = {"center": "beta", "scale": "gamma"}
        remaining = [name for name in sizes if name not in [names[item] for item in lacking]]
        assert [(v.name, v.shape) for v in layer.variables] == [(n, sizes[n]) for n in remaining]
        assert [v.path for v in layer.variables] == [f"layer/{name}" for name in remaining]
        assert [v.name for v in layer.trainable_variables] == remaining[:-2]
        assert layer.gamma is None if "scale" in lacking else layer.gamma.shape[0] == rows
        y = layer(images()[:0], condition=np.zeros((0, rows), "float32"))
        assert y.shape == (0, *SHAPE)


def test_the_variables_of_biases_and_spectral_normalization() -> None:
    slot = FromEmbedding(6, bias=True, spectral_normalization=True)
    batch_of: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({}, ("gamma", "beta")),
        ({"scale": False}, ("beta",)),
        ({"axis": (1, 3)}, ("gamma", "beta")),
    ]
    for options, own in batch_of:
        layer = BatchNormalization(affine=slot, renorm=True, **options)
        layer.build((None, *SHAPE))
        trainable = [*own, *(f"{name}_bias" for name in own)]
        state = ["moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"]
        assert [v.name for v in layer.trainable_variables] == trainable
        frozen = [v.name for v in layer.non_trainable_variables]
        assert frozen == [*state, *(f"{name}_u" for name in own)]
        vector = layer.moving_mean.shape
        assert {getattr(layer, f"{name}_bias").shape for name in own} == {vector}
        for name in own:
            assert not to_numpy(getattr(layer, f"{name}_bias")).any()
            direction = to_numpy(getattr(layer, f"{name}_u"))
            assert direction.shape == (int(np.prod(vector)),)
            assert_close(np.linalg.norm(direction), 1.0, 1e-6)


def test_biases_train_and_obey_the_formula() -> None:
    layer = BatchNormalization(affine=FromEmbedding(6, offset=0.5, bias=True), epsilon=0.0)
    inputs, vectors = keras.Input(SHAPE), keras.Input((6,))
    model = keras.Model([inputs, vectors], layer(inputs, condition=vectors))
    model.compile("sgd", "mse")
    model.fit([images(), VECTORS], 1.0 + images(), verbose=0)
    gamma, beta, gamma_bias, beta_bias = map(to_numpy, layer.trainable_variables)
    assert np.abs(gamma_bias).min() > 1e-3 and np.abs(beta_bias).min() > 1e-3
    mean, variance = to_numpy(layer.moving_mean), to_numpy(layer.moving_variance)
    scale, shift = 0.5 + VECTORS @ gamma + gamma_bias, VECTORS @ beta + beta_bias
    expected = (images() - mean) / np.sqrt(variance) * scale[:, None, None] + shift[:, None, None]
    assert_close(to_numpy(model([images(), VECTORS])), expected, 1e-5)


def test_matrices_are_normalized_as_a_dense_layers_kernel() -> None:
    """Three calls in training, one in inference, then frozen: u, outputs and gradients."""
    layer = BatchNormalization(affine=FromEmbedding(6, spectral_normalization=True), epsilon=0.0)
    layer.build((None, 3))
    dense = {name: keras.layers.Dense(3, use_bias=False) for name in ("gamma", "beta")}
    wrapped = {name: SpectralNormalization(kind) for name, kind in dense.items()}
    plain = BatchNormalization(affine=Given(), epsilon=0.0)
    for name, wrapper in wrapped.items():
        wrapper.build((None, 6))
        dense[name].kernel.assign(getattr(layer, name))
        wrapper.u.assign(getattr(layer, f"{name}_u"))
    x = images()[:, 0, 0]
    for training, trainable in ((True, True), (True, True), (False, True), (True, False)):
        layer.trainable = plain.trainable = trainable
        for wrapper in wrapped.values():
            wrapper.trainable = trainable
        before = to_numpy(layer.gamma_u)
        scale, shift = (wrapper(VECTORS, training=training) for wrapper in wrapped.values())
        y = layer(x, condition=VECTORS, training=training)
        assert_close(
            to_numpy(y), to_numpy(plain(x, condition=(1 + scale, shift), training=training)), 1e-5
        )
        for name, wrapper in wrapped.items():
            assert_close(to_numpy(getattr(layer, f"{name}_u")), to_numpy(wrapper.u), 1e-6)
        moved = np.abs(to_numpy(layer.gamma_u) - before).max() > 1e-4
        assert moved == (training and trainable)


def test_a_spectrally_normalized_matrix_has_norm_1() -> None:
    slot = FromEmbedding(6, offset=0.0, spectral_normalization=True)
    layer = BatchNormalization(affine=slot, epsilon=0.0, dtype="float64")
    with precision("float64"):
        layer.build((None, 3))
        layer.gamma.assign(np.random.default_rng(3).normal(size=(6, 3)))
        for _ in range(60):
            layer(images()[:, 0, 0], condition=VECTORS, training=True)
        layer.moving_mean.assign(np.zeros(3))
        layer.moving_variance.assign(np.ones(3))
        # An input of ones makes the scale visible: each row is a row of the matrix.
        matrix = to_numpy(
            layer(np.ones((6, 3)), condition=np.eye(6))
            - layer(np.zeros((6, 3)), condition=np.eye(6))
        )
    assert_close(
        matrix / to_numpy(layer.gamma),
        np.full((6, 3), 1 / np.linalg.norm(to_numpy(layer.gamma), 2)),
        1e-6,
    )


def test_the_tables_obey_the_bases_arguments() -> None:
    layer = ConditionalBatchNormalization(
        4,
        gamma_initializer=keras.initializers.Constant(3.0),
        beta_initializer="ones",
        gamma_regularizer=keras.regularizers.L1(0.5),
        beta_regularizer=keras.regularizers.L2(0.25),
        gamma_constraint=keras.constraints.NonNeg(),
        beta_constraint="max_norm",
    )
    layer.build((None, 3))
    assert_close(to_numpy(layer.gamma), np.full((4, 3), 3.0), 0)
    assert_close(to_numpy(layer.beta), np.ones((4, 3)), 0)
    assert_close([to_numpy(loss) for loss in layer.losses], [12 * 1.5, 12 * 0.25], 1e-6)
    assert isinstance(layer.gamma.constraint, keras.constraints.NonNeg)
    assert isinstance(layer.beta.constraint, keras.constraints.MaxNorm)
    plain = ConditionalBatchNormalization(4)
    plain.build((None, 3))
    assert_close(to_numpy(plain.gamma), np.ones((4, 3)), 0)
    assert_close(to_numpy(plain.beta), np.zeros((4, 3)), 0)


def test_matrices_obey_regularizers_and_constraints() -> None:
    layer = BatchNormalization(
        affine=FromEmbedding(2, initializer=keras.initializers.Constant(2.0)),
        gamma_regularizer=keras.regularizers.L1(0.5),
        beta_constraint="non_neg",
    )
    layer.build((None, 3))
    assert_close([to_numpy(loss) for loss in layer.losses], [6 * 1.0], 1e-6)
    assert isinstance(layer.beta.constraint, keras.constraints.NonNeg)
    x = np.zeros((1, 3), "float32")
    y = layer(x, condition=np.array([[1.0, -3.0]], "float32"))
    assert_close(to_numpy(y), np.full((1, 3), -4.0), 1e-6)


@pytest.mark.parametrize(
    "initializer",
    ["glorot_uniform", keras.initializers.RandomNormal(), keras.initializers.HeUniform],
    ids=["name", "object", "class"],
)
def test_no_two_matrices_begin_alike(initializer: Any) -> None:
    """Though two layers share the slot, and a third its initializer."""
    slot = FromEmbedding(4, initializer=initializer)
    matrices = []
    for affine in (slot, slot, FromEmbedding(4, initializer=initializer)):
        layer = BatchNormalization(affine=affine)
        layer.build((None, 3))
        matrices += [to_numpy(variable) for variable in layer.trainable_variables]
    assert len(matrices) == 6
    assert len({matrix.tobytes() for matrix in matrices}) == 6


def test_glorot_begins_where_a_dense_layers_kernel_does() -> None:
    layer = BatchNormalization(affine=FromEmbedding(100))
    layer.build((None, 50))
    bound = np.sqrt(6.0 / (100 + 50))
    for variable in layer.trainable_variables:
        largest = np.abs(to_numpy(variable)).max()
        assert 0.95 * bound < largest <= bound


@contextlib.contextmanager
def says(*messages: str) -> Iterator[None]:
    """Just these warnings are given."""
    with pytest.warns(UserWarning) as arguments:
        yield
    assert len(arguments) == len(messages)
    for warning, message in zip(arguments, messages, strict=True):
        assert message in str(warning.message)


COUNTER, RENORM = "has no step for", "has no renorm state for"


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras"])
@pytest.mark.parametrize("reference", [keras.layers.BatchNormalization, BatchNormalization])
@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"moving": ZeroDebiased(0.9)}, [COUNTER]),
        ({"moving": Cumulative()}, [COUNTER]),
        ({"renorm": Renorm(rmax=3.0)}, [RENORM]),
        ({"renorm": True}, [RENORM]),
        ({"renorm": Renorm.paper()}, [RENORM, COUNTER]),
        ({"renorm": True, "moving": Cumulative(), "center": False}, [RENORM, COUNTER]),
        ({"renorm": True, "adjustment": jitter}, [RENORM]),
    ],
)
def test_a_file_that_lacks_a_slots_state(
    options: dict[str, Any], messages: list[str], reference: Any, name: str, tmp_path: Path
) -> None:
    plain = {key: value for key, value in options.items() if key == "center"}
    model = trained(reference(**plain))
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    layer = BatchNormalization(**options)
    other = keras.Sequential([keras.Input(SHAPE), layer])
    other(images(), training=True)
    with says(*messages):
        other.load_weights(tmp_path / name)
    assert_close(to_numpy(other(images())), to_numpy(model(images())), 1e-6)
    if "renorm" in options:
        stddev = np.sqrt(to_numpy(layer.moving_variance) + layer.epsilon)
        for variable in (layer.moving_stddev, layer.renorm_stddev):
            assert_close(to_numpy(variable), stddev, 1e-6)
        assert_close(to_numpy(layer.renorm_mean), to_numpy(layer.moving_mean), 0)
    if COUNTER in messages:
        assert int(layer.counter.step) == 0


@pytest.mark.parametrize("reference", [keras.layers.BatchNormalization, BatchNormalization])
@pytest.mark.parametrize("slot", ["ghost", "zero-debiased", "scheduled", "adjustment"])
def test_a_layer_without_the_slot_reads_the_file(reference: Any, slot: str, tmp_path: Path) -> None:
    model = trained(BatchNormalization(**SLOTS[slot]))
    model.save_weights(tmp_path / "model.weights.h5")
    other = keras.Sequential([keras.Input(SHAPE), reference()])
    other.load_weights(tmp_path / "model.weights.h5")
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        ours, plain = getattr(model.layers[0], name), getattr(other.layers[0], name)
        assert_close(to_numpy(plain), to_numpy(ours), 0)


def test_renorm_files_are_kerass(tmp_path: Path) -> None:
    model = trained(keras.layers.BatchNormalization(renorm=True))
    model.save_weights(tmp_path / "model.weights.h5")
    other = keras.Sequential([keras.Input(SHAPE), BatchNormalization(renorm=Renorm(rmax=3.0))])
    other.load_weights(tmp_path / "model.weights.h5")
    for value, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        assert_close(value, expected, 0)


def test_a_file_that_fits_nothing_is_still_refused(tmp_path: Path) -> None:
    trained(keras.layers.BatchNormalization(center=False)).save_weights(tmp_path / "a.weights.h5")
    for layer in (BatchNormalization(), BatchNormalization(renorm=True)):
        other = keras.Sequential([keras.Input(SHAPE), layer])
        with pytest.raises(ValueError, match="expected . variables"):
            other.load_weights(tmp_path / "a.weights.h5")


def test_recipes_are_the_layer_with_a_slot() -> None:
    assert (
        BatchRenormalization(epsilon=1e-5, name="a").get_config()
        == BatchNormalization(renorm=Renorm.paper(), epsilon=1e-5, name="a").get_config()
    )
    assert (
        GhostBatchNormalization(8, strided=True, axis=1, name="a").get_config()
        == BatchNormalization(statistics=Ghost(8, strided=True), axis=1, name="a").get_config()
    )
    ours = ConditionalBatchNormalization(8, axis=1, name="a")
    config = BatchNormalization(affine=PerClass(8), axis=1, name="a").get_config()
    del config["affine"]
    assert ours.get_config() == {"classes": 8, **config}
