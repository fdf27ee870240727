"""Files and configurations of Keras's layer serve ours, and ours serve Keras's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt
import pytest

import batchnorm
from batchnorm import Exponential
from tests.compare import assert_close
from tests.process import output_of

Array = npt.NDArray[Any]
Normalization = Any  # the class of a layer; Keras has no types
Make = Callable[[Normalization], Any]

OURS: Normalization = batchnorm.BatchNormalization
KERAS: Normalization = keras.layers.BatchNormalization
SHAPE = (5, 4, 3)
ROUNDING = 1e-5  # the two layers round differently, and up to four stand in a row


def sequential(layer: Normalization, **options: Any) -> Any:
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layer(**options),
            keras.layers.Conv2D(4, 3, padding="same"),
            layer(**options),
            keras.layers.Activation("relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
            layer(**options),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )


def functional(layer: Normalization, **options: Any) -> Any:
    inputs = keras.Input(SHAPE)
    first = layer(**options)(keras.layers.Conv2D(4, 3, padding="same")(inputs))
    second = layer(axis=1, **options)(inputs)
    both = keras.layers.Concatenate()([first, second])
    return keras.Model(inputs, layer(**options)(keras.layers.GlobalAveragePooling2D()(both)))


def nested(layer: Normalization, **options: Any) -> Any:
    inputs = keras.Input(SHAPE)
    inside = keras.Sequential(
        [keras.layers.Conv2D(4, 3, padding="same"), layer(**options), keras.layers.ReLU()],
        name="inside",
    )
    outputs = layer(**options)(inside(layer(**options)(inputs)))
    return keras.Model(inputs, keras.layers.Dense(2)(outputs))


def mixed_up(layer: Normalization, dtype: str = "float32") -> Any:
    """Layers that hold 7, 4, 3, 3 and 2 weights: none may be taken for another."""
    return keras.Sequential(
        [
            keras.Input(SHAPE, dtype=dtype),
            layer(renorm=True, renorm_clipping={"rmax": 3.0, "dmax": 5.0}, dtype=dtype),
            layer(axis=2, dtype=dtype),
            layer(center=False, dtype=dtype),
            layer(scale=False, epsilon=1e-5, momentum=0.9, dtype=dtype),
            layer(center=False, scale=False, dtype=dtype),
        ]
    )


MODELS: dict[str, Make] = {
    "sequential": sequential,
    "functional": functional,
    "nested": nested,
    "mixed-up": mixed_up,
    "renorm": lambda layer: sequential(layer, renorm=True),
    "no-center": lambda layer: functional(layer, center=False),
    "neither": lambda layer: nested(layer, center=False, scale=False),
}


def save_keras(model: Any, folder: Path) -> Path:
    model.save(folder / "model.keras")
    return folder / "model.keras"


def save_weights(model: Any, folder: Path) -> Path:
    model.save_weights(folder / "model.weights.h5")
    return folder / "model.weights.h5"


def save_h5(model: Any, folder: Path) -> Path:
    model.save(folder / "model.h5")
    return folder / "model.h5"


def save_old_weights(model: Any, folder: Path) -> Path:
    """The file that tf.keras's `save_weights("x.h5")` wrote; Keras 3 only reads it."""
    path = folder / "weights.h5"
    with h5py.File(save_h5(model, folder)) as model_file, h5py.File(path, "w") as weights:
        group = model_file["model_weights"]
        for name, value in group.attrs.items():
            weights.attrs[name] = value
        for name in group:
            group.copy(name, weights)
    return path


FORMATS: dict[str, Callable[[Any, Path], Path]] = {
    ".keras": save_keras,
    ".weights.h5": save_weights,
    "whole .h5": save_h5,
    "old weights .h5": save_old_weights,
}

both_ways = pytest.mark.parametrize(
    "saved, loaded", [(KERAS, OURS), (OURS, KERAS)], ids=["keras-to-ours", "ours-to-keras"]
)


def test_the_comparison_can_fail() -> None:
    """Models that hold other numbers are not the same, else no test here would say a thing."""
    with pytest.raises(AssertionError):
        assert_same_weights(filled(sequential(OURS), 1), filled(sequential(OURS), 2))
    with pytest.raises(AssertionError):
        assert_same_outputs(filled(sequential(OURS), 1), filled(sequential(OURS), 2))


@both_ways
@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_load_weights(
    make: Make,
    save: Callable[[Any, Path], Path],
    saved: Normalization,
    loaded: Normalization,
    tmp_path: Path,
) -> None:
    source, target = filled(make(saved), 1), filled(make(loaded), 2)
    target.load_weights(save(source, tmp_path))
    assert_same_weights(target, source)
    assert_same_outputs(target, source)


@both_ways
@pytest.mark.parametrize(
    "dtype, save",
    [
        ("float16", save_keras),
        ("float16", save_weights),
        ("float16", save_h5),
        # Keras cannot read its own .h5 in bfloat16.
        ("bfloat16", save_keras),
        ("bfloat16", save_weights),
    ],
)
def test_load_weights_in_half_precision(
    dtype: str,
    save: Callable[[Any, Path], Path],
    saved: Normalization,
    loaded: Normalization,
    tmp_path: Path,
) -> None:
    """Keras's layer has half-precision weights then, and ours float32 ones of the same values."""
    source, target = filled(mixed_up(saved, dtype), 1), filled(mixed_up(loaded, dtype), 2)
    target.load_weights(save(source, tmp_path))
    for weight, original in zip(target.weights, source.weights, strict=True):
        expected = keras.ops.cast(original, weight.dtype)
        assert array(keras.ops.equal(weight, expected)).all()


@both_ways
def test_load_weights_by_name(saved: Normalization, loaded: Normalization, tmp_path: Path) -> None:
    def make(layer: Normalization, order: list[str]) -> Any:
        return keras.Sequential([keras.Input(SHAPE), *(layer(name=name) for name in order)])

    source = filled(make(saved, ["first", "second"]), 1)
    target = filled(make(loaded, ["second", "first"]), 2)
    target.load_weights(save_h5(source, tmp_path), by_name=True)
    for name in ("first", "second"):
        assert_same_weights(target.get_layer(name), source.get_layer(name))


@both_ways
def test_a_trained_model_loads_with_its_moving_statistics(
    saved: Normalization, loaded: Normalization, tmp_path: Path
) -> None:
    def make(layer: Normalization) -> Any:
        return keras.Sequential([keras.Input(SHAPE), layer(momentum=0.5), keras.layers.Dense(2)])

    source, target = make(saved), make(loaded)
    source.compile("sgd", "mse")
    source.fit(images(), np.ones((2, *SHAPE[:2], 2), "float32"), epochs=2, verbose=0)
    assert array(source.layers[0].moving_mean).min() > 0.5
    target.load_weights(save_weights(source, tmp_path))
    assert_same_weights(target, source)
    assert_same_outputs(target, source)


@pytest.mark.parametrize("save", [save_keras, save_h5], ids=[".keras", ".h5"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_load_model_revives_ours(
    make: Make, save: Callable[[Any, Path], Path], tmp_path: Path
) -> None:
    source = filled(make(OURS), 1)
    revived = keras.saving.load_model(save(source, tmp_path))
    actual, expected = normalizations(revived), normalizations(source)
    assert [type(layer) for layer in actual] == [OURS] * len(expected)
    assert [layer.get_config() for layer in actual] == [layer.get_config() for layer in expected]
    assert_same_weights(revived, source)
    assert_same_outputs(revived, source, exactly=True)


@pytest.mark.parametrize("save", [save_keras, save_h5], ids=[".keras", ".h5"])
def test_load_model_revives_the_slots(save: Callable[[Any, Path], Path], tmp_path: Path) -> None:
    source = filled(sequential(OURS, moving=Exponential(0.9)), 1)
    revived = keras.saving.load_model(save(source, tmp_path))
    assert [layer.moving for layer in normalizations(revived)] == [Exponential(0.9)] * 3
    for model in (source, revived):
        model(keras.ops.convert_to_tensor(images()), training=True)
    revived_mean, mean = (normalizations(model)[0].moving_mean for model in (revived, source))
    assert_close(array(revived_mean), array(mean), 0)


@pytest.mark.parametrize("save", [save_keras, save_h5], ids=[".keras", ".h5"])
def test_load_model_of_keras_stays_keras(save: Callable[[Any, Path], Path], tmp_path: Path) -> None:
    revived = keras.saving.load_model(save(filled(sequential(KERAS), 1), tmp_path))
    assert [type(layer) for layer in normalizations(revived)] == [KERAS] * 3


def test_load_model_in_another_process(tmp_path: Path) -> None:
    model = filled(sequential(OURS, moving=Exponential(0.9)), 1)
    save_keras(model, tmp_path)
    np.save(tmp_path / "outputs.npy", outputs(model))
    np.save(tmp_path / "images.npy", images())
    program = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # without the other backends it starts faster
import keras, numpy as np
import batchnorm
model = keras.saving.load_model("model.keras")
y = keras.ops.convert_to_numpy(model(np.load("images.npy")))
np.testing.assert_allclose(y, np.load("outputs.npy"), rtol=1e-6, atol=1e-6)
layer = model.layers[0]
assert type(layer) is batchnorm.BatchNormalization, type(layer)
assert layer.moving == batchnorm.Exponential(0.9), layer.moving
print("revived")
"""
    other_backends = {"tensorflow", "jax", "torch"} - {keras.backend.backend()}
    assert output_of(program, *other_backends, folder=tmp_path).split()[-1] == "revived"


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_clone_model(make: Make) -> None:
    source = filled(make(OURS), 1)
    clone = keras.models.clone_model(source)
    clone.set_weights(source.get_weights())
    assert [type(layer) for layer in normalizations(clone)] == [OURS] * len(normalizations(source))
    assert_same_outputs(clone, source, exactly=True)


def test_clone_model_keeps_the_slots() -> None:
    clone = keras.models.clone_model(sequential(OURS, moving=Exponential(0.9)))
    assert [layer.moving for layer in normalizations(clone)] == [Exponential(0.9)] * 3


def test_clone_model_turns_kerass_into_ours() -> None:
    def ours(layer: Any) -> Any:
        return (OURS if type(layer) is KERAS else type(layer)).from_config(layer.get_config())

    source = filled(functional(KERAS), 1)
    clone = keras.models.clone_model(source, clone_function=ours)
    clone.set_weights(source.get_weights())
    assert [type(layer) for layer in normalizations(clone)] == [OURS] * 3
    assert_same_outputs(clone, source)


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "numbers": {"axis": 1, "momentum": 0.9, "epsilon": 1e-5},
    "no affine": {"center": False, "scale": False},
    "renorm": {"renorm": True, "renorm_clipping": {"rmax": 3.0}, "renorm_momentum": 0.9},
    "objects": {
        "gamma_initializer": keras.initializers.Constant(2.0),
        "moving_mean_initializer": "ones",
        "beta_regularizer": keras.regularizers.L2(0.5),
        "gamma_constraint": keras.constraints.NonNeg(),
    },
    "of the base": {"name": "named", "dtype": "mixed_float16", "trainable": False},
}


@pytest.mark.parametrize("layer_class", [KERAS, OURS], ids=["by-keras", "by-ours"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_configurations_are_shared(options: dict[str, Any], layer_class: Any) -> None:
    config = layer_class(**options).get_config()
    for kind in (KERAS, OURS):
        assert kind.from_config(config).get_config() == config
    as_text = json.loads(json.dumps(config))
    assert OURS.from_config(as_text).get_config() == config


def test_the_configuration_of_a_used_slot() -> None:
    layer = OURS(moving=Exponential(0.9), epsilon=1e-5)
    config = json.loads(json.dumps(layer.get_config()))
    again = OURS.from_config(config)
    assert again.moving == Exponential(0.9)
    assert again.get_config() == layer.get_config()
    # Only what Keras cannot know keeps Keras from reading it.
    assert set(config) - set(KERAS().get_config()) == {"moving"}


@pytest.mark.parametrize("axis", [[3], (3,), [-1]])
def test_the_axis_of_tf_keras(axis: Any) -> None:
    layer = OURS.from_config({**KERAS().get_config(), "axis": axis})
    assert layer.axis == axis[0]
    assert layer.get_config()["axis"] == axis[0]
    layer.build((None, 5, 4, 3))
    assert layer.gamma.shape == (3,)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a SavedModel is a file of TensorFlow's"
)
@pytest.mark.parametrize("make", [sequential, mixed_up], ids=["sequential", "mixed-up"])
def test_saved_model(make: Make, tmp_path: Path) -> None:
    import tensorflow as tf

    model = filled(make(OURS), 1)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    assert_close(array(exported.serve(images())), outputs(model), 1e-6)


def images() -> Array:
    return np.random.default_rng(0).normal(3.0, 2.0, (2, *SHAPE)).astype("float32")


def array(tensor: Any) -> Array:
    values: Array = keras.ops.convert_to_numpy(tensor)
    return values


def outputs(model: Any) -> Array:
    return array(model(keras.ops.convert_to_tensor(images())))


def filled(model: Any, seed: int) -> Any:
    """Returns the model with a different number in every place, positive as a variance must be."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def normalizations(model: Any) -> list[Any]:
    """Returns the normalization layers of a model and of the models within it."""
    within = [normalizations(layer) for layer in model.layers if hasattr(layer, "layers")]
    return sum(within, [layer for layer in model.layers if isinstance(layer, KERAS)])


def assert_same_weights(actual: Any, expected: Any) -> None:
    """Bit for bit, in the same order and under the same names."""
    assert [weight.name for weight in actual.weights] == [w.name for w in expected.weights]
    for weight, original in zip(actual.get_weights(), expected.get_weights(), strict=True):
        assert (weight.dtype, weight.shape) == (original.dtype, original.shape)
        assert weight.tobytes() == original.tobytes()


def assert_same_outputs(actual: Any, expected: Any, exactly: bool = False) -> None:
    assert_close(outputs(actual), outputs(expected), 0 if exactly else ROUNDING)


def test_a_momentum_set_beside_a_slot_does_not_spoil_the_configuration() -> None:
    layer = batchnorm.BatchNormalization(moving=Exponential(0.9))
    layer.momentum = 0.5
    assert batchnorm.BatchNormalization.from_config(layer.get_config()).moving == Exponential(0.9)
