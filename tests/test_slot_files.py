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
    Cumulative,
    Exponential,
    Ghost,
    GhostBatchNormalization,
    Given,
    Ramp,
    Renorm,
    ZeroDebiased,
)
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, to_numpy

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


def assert_same(actual: keras.Model, expected: keras.Model) -> None:
    """The same weights and counts, in inference and in the next training step the same output."""
    for ours, theirs in zip(actual.variables, expected.variables, strict=True):
        assert ours.path.split("/")[-1] == theirs.path.split("/")[-1]
        if ours.name == "seed_generator_state":
            ours.assign(theirs)  # Keras 3.15 keeps the state of no random generator in its files
        assert_close(to_numpy(ours), to_numpy(theirs), 0)
    for training in (False, True):
        y, other = (to_numpy(m(images(), training=training)) for m in (actual, expected))
        assert_close(y, other, 0)


@slots
def test_configuration(options: dict[str, Any]) -> None:
    layer = BatchNormalization(**options)
    config = json.loads(json.dumps(layer.get_config()))
    again = BatchNormalization.from_config(config)
    assert again.get_config() == layer.get_config()
    for name in ("statistics", "moving", "renorm", "adjustment", "activation"):
        ours, theirs = getattr(again, name), getattr(layer, name)
        assert type(ours) is type(theirs)
        if callable(ours) or isinstance(ours, bool):
            assert ours == theirs
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


@contextlib.contextmanager
def says(*messages: str) -> Iterator[None]:
    """Just these warnings are given."""
    with pytest.warns(UserWarning) as given:
        yield
    assert len(given) == len(messages)
    for warning, message in zip(given, messages, strict=True):
        assert message in str(warning.message)


COUNTER, RENORM = "has no step for", "has no renorm state for"


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras"])
@pytest.mark.parametrize("theirs", [keras.layers.BatchNormalization, BatchNormalization])
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
    options: dict[str, Any], messages: list[str], theirs: Any, name: str, tmp_path: Path
) -> None:
    plain = {key: value for key, value in options.items() if key == "center"}
    model = trained(theirs(**plain))
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


@pytest.mark.parametrize("theirs", [keras.layers.BatchNormalization, BatchNormalization])
@pytest.mark.parametrize("slot", ["ghost", "zero-debiased", "scheduled", "adjustment"])
def test_a_layer_without_the_slot_reads_the_file(theirs: Any, slot: str, tmp_path: Path) -> None:
    model = trained(BatchNormalization(**SLOTS[slot]))
    model.save_weights(tmp_path / "model.weights.h5")
    other = keras.Sequential([keras.Input(SHAPE), theirs()])
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
