"""`load_checkpoint`: TensorFlow 1's own checkpoints, and every kind of variable."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from batchnorm import BatchNormalization, Cumulative, Ghost, Renorm, ZeroDebiased
from batchnorm.contrib.checkpoint.report import Report
from batchnorm.contrib.load_checkpoint import load_checkpoint
from batchnorm.slots.old_renorm import OldRenorm
from tests.calling import called
from tests.contrib.checkpoints import normalization, numbers, stack, write
from tests.differentiate import BACKEND, Array, compiled, precision, tensors, to_numpy
from tests.golden import FOLDER

GOLDEN = FOLDER / "tf1_checkpoints"
golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the golden numbers are not here: {GOLDEN} is absent"
)
VARIANTS = ("plain", "noscale", "zerodebias", "renorm", "adam_ema")
RELATIVE = 1e-6  # to the largest expected number
LIMITS = {"rmin": 0.5, "rmax": 2.0, "dmax": 0.7, "momentum": 0.9}


def options(version: str, variant: str) -> dict[str, Any]:
    """Returns the layer's options for the recorded arguments of tf.contrib's batch_norm."""
    renorm = (OldRenorm if version == "tf113" else Renorm)(**LIMITS)
    told: dict[str, dict[str, Any]] = {
        "noscale": {"scale": False},
        "zerodebias": {"moving": ZeroDebiased(0.9, variance=False)},
        "renorm": {"renorm": renorm},
    }
    return told.get(variant, {})


def network(**kwargs: Any) -> Any:
    """Builds the golden checkpoints' network, from images to conv2's activations and logits."""
    inputs = keras.Input((6, 6, 3))
    first = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")
    second = layers.Conv2D(5, 3, 2, padding="same", use_bias=False, name="conv2")
    x = layers.ReLU()(BatchNormalization(epsilon=1e-3, **kwargs)(first(inputs)))
    x = layers.ReLU()(BatchNormalization(epsilon=1e-3, **kwargs)(second(x)))
    logits = layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, [x, logits])


def error(actual: Any, expected: Array) -> float:
    return float(np.abs(to_numpy(actual) - expected).max() / np.abs(expected).max())


def outputs(model: Any, x: Array, training: bool) -> list[Array]:
    """Returns the model's outputs without changing its state."""

    def forward(weights: list[Any], state: list[Any], x: Any) -> Any:
        return model.stateless_call(weights, state, x, training=training)[0]

    values = (model.trainable_variables, model.non_trainable_variables)
    # JAX compiles what is called bare operation by operation, which takes seconds.
    function = compiled(forward, "jit" if BACKEND == "jax" else "eager")
    actual = function(
        *([variable.value for variable in variables] for variables in values), *tensors([x])
    )
    return list(map(to_numpy, actual))


def errors(model: Any, version: str, variant: str) -> dict[str, float]:
    with np.load(GOLDEN / version / "expected.npz") as arrays:
        expected = {name: arrays[f"{version}/{variant}/{name}"] for name in ("x", *EXPECTED)}
    infer, train = (outputs(model, expected["x"], flag) for flag in (False, True))
    actual = {"infer_conv2": infer[0], "infer_logits": infer[1], "train_logits": train[1]}
    return {name: error(actual[name], expected[name]) for name in EXPECTED}


EXPECTED = ("infer_conv2", "infer_logits", "train_logits")


@golden
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", ["tf113", "tf215"])
def test_the_outputs_are_the_originals(version: str, variant: str) -> None:
    model = network(**options(version, variant))
    report = load_checkpoint(GOLDEN / version / variant, model)
    assert {entry.how.partition(":")[0] for entry in report.loaded} <= {"name", "converted"}
    assert max(errors(model, version, variant).values()) < RELATIVE
    check_all_reported(report, version, variant)


def check_all_reported(report: Report, version: str, variant: str) -> None:
    index = json.loads((GOLDEN / version / "index.json").read_text())["checkpoints"]
    (names,) = (line["variables"] for line in index if line["id"] == f"{version}/{variant}")
    loaded = {name for entry in report.loaded for name in entry.checkpoint.split(", ")}
    left_over = {entry.checkpoint for entry in report.left_over}
    assert loaded | left_over == set(names) and not loaded & left_over


@golden
@pytest.mark.parametrize("name", ["conv1/kernel", "renorm_mean", "renorm_stddev", "step", "beta"])
def test_the_comparison_can_fail(name: str) -> None:
    """Also where the weighted sums of renorm are taken for averages, or the steps are not known."""
    model = network(**options("tf113", "renorm"))
    load_checkpoint(GOLDEN / "tf113" / "renorm", model)
    variable = next(weight for weight in model.weights if weight.path.endswith(name))
    value = to_numpy(variable)
    weight = 1 - 0.9**6
    variable.assign(value * weight if name.startswith("renorm") else value * 0 + 1)
    assert max(errors(model, "tf113", "renorm").values()) > 100 * RELATIVE


@golden
def test_moving_averages_of_variables() -> None:
    model = network()
    report = load_checkpoint(GOLDEN / "tf113/adam_ema", model, shadows=True)
    notes = {entry.checkpoint: entry.note for entry in report.loaded}
    assert notes["conv1/weights/ExponentialMovingAverage"] == "moving average"
    assert notes["conv1/BatchNorm/moving_mean"] == "no moving average in the file"
    left_over = {entry.checkpoint: entry.why for entry in report.left_over}
    assert left_over["conv1/weights"] == "its moving average was loaded instead"
    assert left_over["conv1/weights/Adam"] == "optimizer slot of conv1/weights"
    check_all_reported(report, "tf113", "adam_ema")
    plain = network()
    why = {e.checkpoint: e.why for e in load_checkpoint(GOLDEN / "tf113/adam_ema", plain).left_over}
    assert why["conv1/weights/ExponentialMovingAverage"].startswith("moving average of conv1/weig")
    assert why["beta1_power"] == "optimizer state" and why["global_step"] == "global step"
    assert error(model.weights[0], to_numpy(plain.weights[0])) > 1e-3


def one(checkpoint: dict[str, Any], folder: Path, **kwargs: Any) -> tuple[Any, Report]:
    """Loads a checkpoint into a normalization `bn` of 3 channels; returns it and the report."""
    layer = kwargs.pop("kind", BatchNormalization)(name="bn", **kwargs)
    model = stack(layer)
    return layer, load_checkpoint(write(folder, checkpoint), model)


WEIGHT = np.float32(1 - 0.9**6)
OLD: dict[str, Any] = {
    "renorm_mean": np.array([0.5, -1.0, 2.0], "float32") * WEIGHT,
    "renorm_mean_weight": WEIGHT,
    "renorm_stddev": np.array([1.0, 2.0, 3.0], "float32") * WEIGHT,
    "renorm_stddev_weight": WEIGHT,
}
NEW = {name: numbers(3) for name in ("moving_stddev", "renorm_mean", "renorm_stddev")}


def test_renorm_until_1_13(tmp_path: Path) -> None:
    layer, report = one(normalization("bn", 3, **OLD), tmp_path, renorm=OldRenorm(momentum=0.9))
    np.testing.assert_allclose(to_numpy(layer.renorm_mean), [0.5, -1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(layer.renorm_stddev), [1.0, 2.0, 3.0], rtol=1e-6)
    assert int(layer.counter.step) == 6
    how = {entry.variable: entry.how for entry in report.loaded}
    assert how["bn/renorm_mean"] == "converted: renorm_mean / renorm_mean_weight"
    assert how["bn/counter/step"] == "converted: log(1 - weight) / log(momentum)"
    assert report.left_over == ()


@pytest.mark.parametrize("kind", [BatchNormalization, layers.BatchNormalization])
def test_renorm_until_1_13_in_a_newer_layer(tmp_path: Path, kind: Any) -> None:
    layer, report = one(normalization("bn", 3, **OLD), tmp_path, kind=kind, renorm=True)
    np.testing.assert_allclose(to_numpy(layer.renorm_mean), [0.5, -1.0, 2.0], rtol=1e-6)
    root = np.sqrt(to_numpy(layer.moving_variance) + layer.epsilon)
    np.testing.assert_allclose(to_numpy(layer.moving_stddev), root, rtol=1e-6)
    assert "converted: sqrt(moving_variance + epsilon)" in str(report)


@pytest.mark.parametrize("kind", [BatchNormalization, layers.BatchNormalization])
def test_renorm_since_1_14(tmp_path: Path, kind: Any) -> None:
    layer, report = one(normalization("bn", 3, **NEW), tmp_path, kind=kind, renorm=True)
    for name, value in NEW.items():
        np.testing.assert_array_equal(to_numpy(getattr(layer, name)), value)
    assert {entry.how for entry in report.loaded} == {"name"}


@pytest.mark.parametrize("state", [OLD, NEW])
def test_renorm_that_the_layer_has_not(tmp_path: Path, state: dict[str, Any]) -> None:
    _, report = one(normalization("bn", 3, **state), tmp_path)
    left_over = {entry.checkpoint: entry.why for entry in report.left_over}
    assert left_over.keys() == {f"bn/{name}" for name in state}
    assert set(left_over.values()) == {"renorm: the layer has none, as one with renorm=True has"}


def test_renorm_that_the_checkpoint_has_not(tmp_path: Path) -> None:
    layer, report = one(normalization("bn", 3), tmp_path, renorm=True)
    root = np.sqrt(to_numpy(layer.moving_variance) + layer.epsilon)
    np.testing.assert_array_equal(to_numpy(layer.renorm_mean), to_numpy(layer.moving_mean))
    np.testing.assert_allclose(to_numpy(layer.renorm_stddev), root, rtol=1e-6)
    assert "converted: moving_mean" in str(report)


def test_renorm_that_was_never_trained(tmp_path: Path) -> None:
    nothing = {name: value * 0 for name, value in OLD.items()}
    layer, _ = one(normalization("bn", 3, **nothing), tmp_path, renorm=True)
    np.testing.assert_array_equal(to_numpy(layer.renorm_mean), to_numpy(layer.moving_mean))
    assert to_numpy(layer.renorm_stddev).min() > 0.1


def test_a_renorm_momentum_that_the_checkpoint_was_not_trained_with(tmp_path: Path) -> None:
    for momentum, words in (
        (0.95, "12.3. steps at the layer's renorm momentum of 0.95"),
        (keras.optimizers.schedules.PolynomialDecay(0.5, 9), "is a schedule"),
    ):
        with pytest.raises(ValueError, match=words):
            one(normalization("bn", 3, **OLD), tmp_path, renorm=OldRenorm(momentum=momentum))


def debiased(scope: str) -> dict[str, Any]:
    count = np.float32(6)
    more = {f"{scope}/moving_mean/biased": numbers(3), f"{scope}/moving_mean/local_step": count}
    return normalization("bn", 3, **more)


@pytest.mark.parametrize("scope", ["bn", "net/bn"])
def test_zero_debias(tmp_path: Path, scope: str) -> None:
    prefix = "net/" if scope == "net/bn" else ""
    file = {prefix + name: value for name, value in debiased(scope).items()}
    layer, report = one(file, tmp_path, moving=ZeroDebiased(0.9))
    assert int(layer.counter.step) == 6
    (entry,) = report.left_over
    assert entry.why == "zero-debias: it follows from moving_mean"
    _, report = one(file, tmp_path)
    assert [entry.why.partition(":")[0] for entry in report.left_over] == ["zero-debias"] * 2
    assert "the layer counts no steps" in report.left_over[1].why


def test_steps_that_the_checkpoint_has_not_counted(tmp_path: Path) -> None:
    file = normalization("bn", 3) | {"global_step": np.int64(9), "half": np.float32(1.5)}
    with pytest.raises(
        ValueError, match="(?s)counts no steps for bn.*'bn/counter/step': 'global_step'"
    ):
        one(file, tmp_path, moving=Cumulative())
    model = stack(BatchNormalization(name="bn", moving=Cumulative()))
    report = load_checkpoint(tmp_path, model, {"bn/counter/step": "global_step"})
    assert int(model.layers[-1].counter.step) == 9
    assert report.loaded[-1].how == "names"
    with pytest.raises(ValueError, match="1.5 is not a count of steps"):
        load_checkpoint(tmp_path, model, {"bn/counter/step": "half"})


def test_virtual_batches_kept_ones_in_their_shapes(tmp_path: Path) -> None:
    file = {k: v.reshape(1, 1, 1, 1, 3) for k, v in normalization("bn", 3).items()}
    layer, report = one(file, tmp_path, statistics=Ghost(2, strided=True))
    np.testing.assert_array_equal(to_numpy(layer.gamma), file["bn/gamma"].reshape(3))
    assert report.loaded[0].note == "reshaped from (1, 1, 1, 1, 3)"


def test_types(tmp_path: Path) -> None:
    def dense(dtype: str) -> Any:
        return stack(layers.Dense(2, name="fc", dtype=dtype), shape=(4,))

    kernel = numbers(4, 2, dtype="float64")
    kernel[0] = [np.nan, 1e300]
    prefix = write(tmp_path, {"fc/weights": kernel, "fc/biases": np.ones(2, "float16")})
    model = dense("float32")
    report = load_checkpoint(prefix, model)
    assert report.loaded[0].note == ("cast from float64 to float32; 2 of 8 numbers are not finite")
    assert report.loaded[1].note == "cast from float16 to float32"
    np.testing.assert_array_equal(to_numpy(model.weights[0])[1:], kernel[1:].astype("float32"))
    with precision("float64"):
        load_checkpoint(prefix, model := dense("float64"))
        np.testing.assert_array_equal(to_numpy(model.weights[0]), kernel)
    load_checkpoint(prefix, model := dense("bfloat16"))
    np.testing.assert_allclose(
        to_numpy(keras.ops.cast(model.weights[0], "float32"))[1:], kernel[1:], rtol=0.01
    )
    prefix = write(tmp_path, {"fc/weights": numbers(4, 2), "fc/biases": np.ones(2, "int32")})
    with pytest.raises(ValueError, match="fc/bias is float32, but fc/biases in the checkpoint int"):
        load_checkpoint(prefix, dense("float32"))


def test_bfloat16_in_the_file(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        start = tf.cast(tf.constant(numbers(4, 2)), tf.bfloat16)
        variable = tf.compat.v1.get_variable("fc/kernel", initializer=start)
        session.run(variable.initializer)
        prefix = tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    model = stack(layers.Dense(2, use_bias=False, name="fc"), shape=(4,))
    assert load_checkpoint(prefix, model).loaded[0].note == "cast from bfloat16 to float32"
    np.testing.assert_allclose(to_numpy(model.weights[0]), numbers(4, 2), rtol=0.01)


def test_the_report_in_words(tmp_path: Path) -> None:
    file = normalization("bn", 3) | {"lost/weights": numbers(2, 2), "word": np.array("x")}
    _, report = one(file, tmp_path)
    text = str(report)
    assert "4 variables loaded, 2 left over" in text
    assert "loaded     bn/gamma (3,) <- bn/gamma [name]" in text
    assert "left over  lost/weights (2, 2): no layer takes it, by name or by shape" in text
    assert "left over  word (): string, no numbers" in text


def test_training_goes_on_in_compiled_code(tmp_path: Path) -> None:
    layer, _ = one(normalization("bn", 3), tmp_path)
    y = called(layer, numbers(2, 6, 6, 3), training=False)
    root = np.sqrt(to_numpy(layer.moving_variance) + 1e-3)
    x = (numbers(2, 6, 6, 3) - to_numpy(layer.moving_mean)) / root
    np.testing.assert_allclose(y, x * to_numpy(layer.gamma) + to_numpy(layer.beta), atol=1e-5)
