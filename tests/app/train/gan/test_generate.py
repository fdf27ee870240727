"""Images from a generator, and the recalibration of its moving statistics."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm.models.gan import generator
from batchnorm.surgery.calibrate import Calibration
from batchnorm_app.train.gan.generate import calibrate, calibration, generate, latents


def small_generator(conditional: bool = True) -> keras.Model:
    """Returns a small generator whose images depend much on class and moving statistics."""
    model = generator(width=2, latent_size=8, conditional=conditional)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape) / 2)
    return model


def points(count: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return latents(seed, count, 8), np.eye(10, dtype=np.float32)[np.arange(count) % 10]


def values(model: keras.Model) -> dict[str, npt.NDArray[Any]]:
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.variables}


def call_model(model: keras.Model, batch: Any, training: bool) -> npt.NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(model(list(batch), training=training)))


def test_a_larger_count_begins_with_the_same_latents() -> None:
    few, many = latents(3, 2, 8), latents(3, 2000, 8)
    np.testing.assert_array_equal(few, many[:2])
    assert few.dtype == np.float32
    assert (latents(4, 2, 8) != few).all()
    assert many.mean() == pytest.approx(0, abs=0.05) and many.std() == pytest.approx(1, abs=0.05)


def test_the_batch_size_changes_nothing() -> None:
    model, batch = small_generator(), points(7)
    images = generate(model, *batch).astype(int)
    assert images.shape == (7, 28, 28, 1)
    for batch_size in (3, 7):
        # Sums in another order may round to the next of 256 values.
        assert np.abs(generate(model, *batch, batch_size=batch_size) - images).max() <= 1
    expected = (call_model(model, batch, training=False) + 1) * 127.5
    assert np.abs(images - expected).max() <= 1
    assert np.ptp(images, axis=0).mean() > 10


def test_from_minus_one_to_one_is_from_black_to_white() -> None:
    inputs = [keras.Input((3,)), keras.Input((2,))]
    model = keras.Model(inputs, keras.layers.Reshape((1, 3, 1))(inputs[0]))
    pixels = np.array([[-1, 0.2, 1], [1, -0.2, -1]], np.float32)
    images = generate(model, pixels, np.eye(2, dtype=np.float32))
    assert images.dtype == np.uint8
    assert images[:, 0, :, 0].tolist() == [[0, 153, 255], [255, 102, 0]]


@pytest.mark.parametrize(
    "shape, labels, name",
    [
        ((4, 9), (4, 10), "latents"),
        ((4,), (4, 10), "latents"),
        ((4, 8), (4,), "labels"),
        ((4, 8), (4, 9), "labels"),
        ((4, 8), (5, 10), "labels"),
    ],
)
def test_shapes_that_do_not_fit_the_generator_are_refused(
    shape: tuple[int, ...], labels: tuple[int, ...], name: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} of shape .*\(N, 8\) and labels \(N, 10\)"):
        generate(small_generator(), np.zeros(shape, np.float32), np.zeros(labels, np.float32))


def test_calibration_is_on_other_latents_and_on_every_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: list[Any] = []
    monkeypatch.setattr(Calibration, "run", lambda self, batches: runs.append(list(batches)))
    model = small_generator()
    for seed in (3, 3, 4):
        calibrate(calibration(model), seed, (2, 20))
    first, same_seed, other_seed = runs
    assert len(first) == 2
    for (x, labels), (same, _), (differing, _) in zip(first, same_seed, other_seed, strict=True):
        assert x.shape == (20, 8) and x.dtype == np.float32
        assert labels.sum(0).tolist() == [2.0] * 10 and labels.max() == 1
        np.testing.assert_array_equal(x, same)
        assert (x != differing).all()
    rows = np.concatenate([first[0][0], first[1][0]])
    assert len(np.unique(rows, axis=0)) == 40
    assert not np.isin(rows, latents(3, 40, 8)).any()


def test_a_compiled_calibration_measures_what_training_normalizes_by() -> None:
    model, batch = small_generator(), points(20)
    before = values(model)
    expected = call_model(model, batch, training=True)
    for variable in model.variables:
        variable.assign(before[variable.path])
    calibration(model).run([batch])
    np.testing.assert_allclose(call_model(model, batch, training=False), expected, atol=2e-4)
