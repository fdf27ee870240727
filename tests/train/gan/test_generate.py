"""Images from a generator, and its moving statistics measured anew."""

from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm import BatchNormalization, Ghost, Renorm
from batchnorm.models.gan import generator
from batchnorm.moving import Cumulative, Exponential, ZeroDebiased
from batchnorm.train.gan import generate as module
from batchnorm.train.gan.generate import calibrate, generate, latents, recalibrate

MOVING = ("moving_mean", "moving_variance")


def made(conditional: bool = True) -> keras.Model:
    """A small generator whose images depend much on the class and on its moving statistics."""
    model = generator(width=2, latent_size=8, conditional=conditional)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape) / 2)
    return model


def points(count: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return latents(seed, count, 8), np.eye(10, dtype=np.float32)[np.arange(count) % 10]


def values(model: keras.Model) -> dict[str, npt.NDArray[Any]]:
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.variables}


def called(model: keras.Model, batch: Any, training: bool) -> npt.NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(model(list(batch), training=training)))


def test_the_first_of_many_latents_are_those_of_few() -> None:
    few, many = latents(3, 2, 8), latents(3, 2000, 8)
    np.testing.assert_array_equal(few, many[:2])
    assert few.dtype == np.float32
    assert (latents(4, 2, 8) != few).all()
    assert many.mean() == pytest.approx(0, abs=0.05) and many.std() == pytest.approx(1, abs=0.05)


def test_the_batch_size_changes_nothing() -> None:
    model, batch = made(), points(7)
    whole = generate(model, *batch).astype(int)
    assert whole.shape == (7, 28, 28, 1)
    for batch_size in (3, 7):
        # Sums in another order may round to the next of 256 values.
        assert np.abs(generate(model, *batch, batch_size=batch_size) - whole).max() <= 1
    expected = (called(model, batch, training=False) + 1) * 127.5
    assert np.abs(whole - expected).max() <= 1
    assert np.ptp(whole, axis=0).mean() > 10


def test_from_minus_one_to_one_is_from_black_to_white() -> None:
    inputs = [keras.Input((3,)), keras.Input((2,))]
    model = keras.Model(inputs, keras.layers.Reshape((1, 3, 1))(inputs[0]))
    pixels = np.array([[-1, 0.2, 1], [1, -0.2, -1]], np.float32)
    found = generate(model, pixels, np.eye(2, dtype=np.float32))
    assert found.dtype == np.uint8
    assert found[:, 0, :, 0].tolist() == [[0, 153, 255], [255, 102, 0]]


@pytest.mark.parametrize(
    "given, labels, name",
    [
        ((4, 9), (4, 10), "latents"),
        ((4,), (4, 10), "latents"),
        ((4, 8), (4,), "labels"),
        ((4, 8), (4, 9), "labels"),
        ((4, 8), (5, 10), "labels"),
    ],
)
def test_what_the_generator_does_not_take_is_refused(
    given: tuple[int, ...], labels: tuple[int, ...], name: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} of shape .*\(N, 8\) and labels \(N, 10\)"):
        generate(made(), np.zeros(given, np.float32), np.zeros(labels, np.float32))


@pytest.mark.parametrize("conditional", [True, False])
def test_after_one_batch_inference_is_training_on_it(conditional: bool) -> None:
    model, batch = made(conditional), points(20)
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


KEPT: dict[str, dict[str, Any]] = {
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


@pytest.mark.parametrize("name", KEPT)
def test_whatever_moves_the_statistics_they_are_measured_anew(name: str) -> None:
    kind = keras.layers.BatchNormalization if "keras" in name else BatchNormalization
    layer = kind(epsilon=0.01, **KEPT[name])
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
        for one, wanted in (("moving_stddev", deviation), ("renorm_stddev", deviation)):
            np.testing.assert_allclose(value(layer, one), wanted, rtol=1e-4)
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


def test_an_error_leaves_the_momentum_as_it_was() -> None:
    model = made()
    before = {layer.name: layer.momentum for layer in normalizations(model)}
    with pytest.raises(Exception):  # noqa: B017, each backend has its own
        recalibrate(model, [(np.zeros((4, 9), np.float32), np.zeros((4, 10), np.float32))])
    assert {layer.name: layer.momentum for layer in normalizations(model)} == before


def normalizations(model: keras.Model) -> list[BatchNormalization]:
    found = [each for each in model._flatten_layers() if isinstance(each, BatchNormalization)]
    assert len(found) > 2
    return found


def test_calibration_is_on_other_latents_and_on_every_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        module, "recalibrate", lambda model, batches, forward: given.append(batches)
    )
    model = made()
    for seed in (3, 3, 4):
        calibrate(model, seed, (2, 20))
    first, again, other = given
    assert len(first) == 2
    for (found, labels), (same, _), (differing, _) in zip(first, again, other, strict=True):
        assert found.shape == (20, 8) and found.dtype == np.float32
        assert labels.sum(0).tolist() == [2.0] * 10 and labels.max() == 1
        np.testing.assert_array_equal(found, same)
        assert (found != differing).all()
    rows = np.concatenate([first[0][0], first[1][0]])
    assert len(np.unique(rows, axis=0)) == 40
    assert not np.isin(rows, latents(3, 40, 8)).any()
