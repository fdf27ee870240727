"""Calibration: moving statistics measured anew on batches."""

from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm import (
    BatchNormalization,
    Cumulative,
    Exponential,
    Ghost,
    Pooled,
    Renorm,
    ZeroDebiased,
)
from batchnorm.models.gan import generator
from batchnorm.surgery.calibrate import Calibration, recalibrate

MOVING = ("moving_mean", "moving_variance")


def small_generator(conditional: bool = True) -> keras.Model:
    """A generator whose images depend much on the class and on its moving statistics."""
    model = generator(width=2, latent_size=8, conditional=conditional)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape) / 2)
    return model


def points(count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    latents = np.random.default_rng(0).standard_normal((count, 8), np.float32)
    return latents, np.eye(10, dtype=np.float32)[np.arange(count) % 10]


def values(model: keras.Model) -> dict[str, npt.NDArray[Any]]:
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.variables}


def called(model: keras.Model, batch: Any, training: bool) -> npt.NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(model(list(batch), training=training)))


@pytest.mark.parametrize("conditional", [True, False])
def test_after_one_batch_inference_is_training_on_it(conditional: bool) -> None:
    model, batch = small_generator(conditional), points(20)
    before = values(model)
    expected = called(model, batch, training=True)
    assert np.abs(called(model, batch, training=False) - expected).mean() > 0.05
    for variable in model.variables:
        variable.assign(before[variable.path])
    recalibrate(model, [batch])
    np.testing.assert_allclose(called(model, batch, training=False), expected, atol=2e-4)
    after = values(model)
    changed = {path for path in after if (after[path] != before[path]).any()}
    assert {path.split("/")[-1] for path in changed} == set(MOVING)
    assert len(changed) == sum(path.endswith(MOVING) for path in after) > 4


def test_of_several_batches_mean_and_variance_are_pooled() -> None:
    """As of all their rows together, the means of which differ much."""
    inputs = [keras.Input((3,)), keras.Input((2,))]
    layer = BatchNormalization(momentum=0.7)
    model = keras.Model(inputs, layer(keras.layers.Concatenate()(inputs)))
    random = np.random.default_rng(0)
    batches = [
        (random.normal(mean, 2, (6, 3)).astype("f"), random.normal(size=(6, 2)).astype("f"))
        for mean in (0, 4, -2)
    ]
    recalibrate(model, batches)
    rows = np.concatenate([np.concatenate(batch, axis=1) for batch in batches])
    mean, variance = (keras.ops.convert_to_numpy(getattr(layer, name)) for name in MOVING)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, rows.var(0), rtol=1e-4)
    assert layer.momentum == 0.7


RULES: dict[str, dict[str, Any]] = {
    "zero-debiased": {"moving": ZeroDebiased(0.9)},
    "cumulative": {"moving": Cumulative()},
    "momentum": {"moving": Exponential(0.7)},
    "unbiased": {"moving": Exponential(0.7, unbiased=True)},
    "renorm": {"renorm": Renorm(rmax=3.0, dmax=5.0)},
    "renorm and zero-debiased": {"renorm": Renorm(), "moving": ZeroDebiased(0.9)},
    "keras": {"momentum": 0.7},
    "keras's renorm": {"momentum": 0.7, "renorm": True},
}
SLOTS = ("momentum", "moving", "renorm", "statistics")


def one_layer(layer: keras.layers.Layer) -> keras.Model:
    inputs = [keras.Input((3,)), keras.Input((2,))]
    return keras.Model(inputs, layer(keras.layers.Concatenate()(inputs)))


def different_batches() -> list[Any]:
    """Three batches of 8 rows, whose means differ much."""
    random = np.random.default_rng(0)
    return [
        (random.normal(mean, 2, (8, 3)).astype("f"), random.normal(mean, 3, (8, 2)).astype("f"))
        for mean in (0, 4, -2)
    ]


def value(layer: keras.layers.Layer, name: str) -> npt.NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(getattr(layer, name)))


@pytest.mark.parametrize("name", RULES)
def test_whatever_moves_the_statistics_they_are_measured_anew(name: str) -> None:
    kind = keras.layers.BatchNormalization if "keras" in name else BatchNormalization
    layer = kind(epsilon=0.01, **RULES[name])
    model, batches = one_layer(layer), different_batches()
    for batch in batches[:2]:
        called(model, batch, training=True)
    slots = {slot: getattr(layer, slot, None) for slot in SLOTS}
    before = values(model)
    recalibrate(model, batches)
    assert {slot: getattr(layer, slot, None) for slot in SLOTS} == slots
    rows = np.concatenate([np.concatenate(batch, axis=1) for batch in batches])
    mean, variance = rows.mean(0), rows.var(0)
    np.testing.assert_allclose(value(layer, "moving_mean"), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value(layer, "moving_variance"), variance, rtol=1e-4)
    inferred = np.concatenate([called(model, batch, training=False) for batch in batches])
    expected = (rows - mean) / np.sqrt(variance + 0.01)
    np.testing.assert_allclose(inferred, expected, atol=1e-4)
    # Renorm's state follows, and nothing else has changed: no step was counted.
    followed = {path for path in before if path.split("/")[-1] in ("gamma", "beta", "step")}
    for path in followed:
        np.testing.assert_array_equal(values(model)[path], before[path])
    if "renorm" in name:
        deviation = np.sqrt(variance + 0.01)
        for name_, expected_ in (("moving_stddev", deviation), ("renorm_stddev", deviation)):
            np.testing.assert_allclose(value(layer, name_), expected_, rtol=1e-4)
        np.testing.assert_allclose(value(layer, "renorm_mean"), mean, rtol=1e-4, atol=1e-5)


def test_the_next_step_goes_on_from_what_was_measured() -> None:
    """With the rate of the step that the training was at."""
    layer = BatchNormalization(moving=ZeroDebiased(0.5))
    model, batches = one_layer(layer), different_batches()
    for batch in batches[:2]:
        called(model, batch, training=True)
    recalibrate(model, batches)
    start, rows = value(layer, "moving_mean"), np.concatenate(batches[0], axis=1)
    called(model, batches[0], training=True)
    rate = 0.5 / (1 - 0.5**3)
    expected = start + rate * (rows.mean(0) - start)
    np.testing.assert_allclose(value(layer, "moving_mean"), expected, rtol=1e-4, atol=1e-5)


def test_ghost_batches_are_measured_as_they_are_normalized() -> None:
    """Within a batch by the mean of its groups' variances, as the layer follows them."""
    layer = BatchNormalization(statistics=Ghost(4))
    model, batches = one_layer(layer), different_batches()
    recalibrate(model, batches)
    assert layer.statistics == Ghost(4)
    rows = np.array([np.concatenate(batch, axis=1) for batch in batches])
    groups = rows.reshape(3, 2, 4, 5)
    mean = rows.mean((0, 1))
    np.testing.assert_allclose(value(layer, "moving_mean"), mean, rtol=1e-4, atol=1e-5)
    within, between = groups.var(2).mean((0, 1)), rows.mean(1).var(0)
    np.testing.assert_allclose(value(layer, "moving_variance"), within + between, rtol=1e-4)


@pytest.mark.parametrize(
    "maker",
    [
        partial(BatchNormalization, statistics=Ghost(10)),
        partial(BatchNormalization, moving=ZeroDebiased()),
        partial(BatchNormalization, renorm=Renorm(rmax=1.0, dmax=0.0)),
        keras.layers.BatchNormalization,
    ],
    ids=["ghost", "zero-debiased", "renorm", "keras"],
)
def test_every_layer_of_a_generator_is_found(maker: Any) -> None:
    """Those within its blocks, too; a group of 10 is a batch here."""
    model = generator(width=2, latent_size=8, conditional=False, normalization=maker)
    batch = points(10)
    before = values(model)
    expected = called(model, batch, training=True)
    for variable in model.variables:
        variable.assign(before[variable.path])
    recalibrate(model, [batch])
    np.testing.assert_allclose(called(model, batch, training=False), expected, atol=2e-4)
    moved = [path for path in before if path.endswith(MOVING)]
    assert len(moved) == 2 * 5
    for path in moved:
        assert (values(model)[path] != before[path]).any()


def test_a_generator_without_normalizations_has_nothing_to_measure() -> None:
    model = generator(width=2, latent_size=8, conditional=False, normalization=None)
    before = values(model)
    recalibrate(model, [points(4)])
    for path, after in values(model).items():
        np.testing.assert_array_equal(after, before[path])


def test_an_error_leaves_the_model_as_it_was() -> None:
    model = small_generator()
    before = values(model)
    with pytest.raises(Exception):  # noqa: B017, each backend has its own
        recalibrate(model, [(np.zeros((4, 9), np.float32), np.zeros((4, 10), np.float32))])
    for path, after in values(model).items():
        np.testing.assert_array_equal(after, before[path])


def test_no_batches_change_nothing() -> None:
    model, batches = one_layer(BatchNormalization()), different_batches()
    called(model, batches[0], training=True)
    before = values(model)
    recalibrate(model, [])
    for path, after in values(model).items():
        np.testing.assert_array_equal(after, before[path])


def test_a_calibration_follows_the_weights() -> None:
    """Run again after a weight has changed, it forgets the first run."""
    inputs = keras.Input((3,))
    dense, layer = keras.layers.Dense(2, use_bias=False), BatchNormalization()
    model = keras.Model(inputs, layer(dense(inputs)))
    x = np.random.default_rng(0).normal(1, 2, (8, 3)).astype("f")
    calibration = Calibration(model)
    for factor in (1.0, -3.0):
        dense.kernel.assign(np.full((3, 2), factor))
        calibration.run([(x,)])
        expected = factor * x.sum(1, keepdims=True)
        np.testing.assert_allclose(value(layer, "moving_mean"), [expected.mean()] * 2, rtol=1e-5)
        np.testing.assert_allclose(value(layer, "moving_variance"), [expected.var()] * 2, rtol=1e-4)


def test_pooled_batches_count_by_their_weight() -> None:
    """Batches of different sizes, as of all their rows together."""
    layer = BatchNormalization(moving=Pooled())
    random = np.random.default_rng(0)
    batches = [random.normal(mean, 2, (size, 3)).astype("f") for mean, size in ((0, 9), (5, 3))]
    for batch in batches:
        layer(batch, training=True)
    rows = np.concatenate(batches)
    np.testing.assert_allclose(value(layer, "moving_mean"), rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(value(layer, "moving_variance"), rows.var(0), rtol=1e-4)
    np.testing.assert_array_equal(value(layer.counter, "moving_count"), [12.0] * 3)


def test_pooled_batches_beyond_the_unit_of_weights_count_likewise() -> None:
    layer = BatchNormalization(moving=Pooled())
    x = np.array([[1.0], [3.0], [8.0]], "float32")
    layer(x, sample_weight=np.array([1e6, 1e6, 0.0], "float32"), training=True)
    layer(x, sample_weight=np.array([0.0, 0.0, 2e6], "float32"), training=True)
    np.testing.assert_allclose(value(layer, "moving_mean"), [5.0], rtol=1e-5)
    np.testing.assert_allclose(value(layer.counter, "moving_count"), [4e6], rtol=1e-6)


def test_renorm_beside_pooled_is_refused() -> None:
    with pytest.raises(ValueError, match="renorm.* and .*Pooled"):
        BatchNormalization(moving=Pooled(), renorm=True)


@pytest.mark.parametrize("use", ["predict", "fit"])
def test_a_calibration_survives_other_uses_of_the_model(use: str) -> None:
    """On JAX both donate a model's arrays to the compiler, so the copy must not share them."""
    layer = BatchNormalization()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), layer])
    x = np.random.default_rng(0).normal(1, 2, (8, 3)).astype("f")
    calibration = Calibration(model)
    calibration.run([(x,)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.predict(x, verbose=0) if use == "predict" else model.fit(x, x, verbose=0)
    calibration.run([(x,)])
    y = np.array(keras.ops.convert_to_numpy(model.layers[0](x)))
    np.testing.assert_allclose(value(layer, "moving_mean"), y.mean(0), rtol=1e-5)
