"""Generates images, and measures the moving statistics that this needs."""

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from batchnorm.surgery.calibrate import Calibration
from batchnorm_app.train import steps
from batchnorm_app.train.batches import pad_to_whole_batches

Latents = npt.NDArray[np.float32]  # (N, latent_size)
Mixtures = npt.NDArray[np.float32]  # (N, classes)


def latents(seed: int, count: int, size: int) -> Latents:
    """Returns latents that depend only on the seed; a larger count begins with the same ones.

    Args:
        seed: a number of at least 0.
        count: N.
        size: of a latent.

    Returns:
        `(N, size)`, standard normal.
    """
    return np.random.default_rng((seed, 2)).standard_normal((count, size), dtype=np.float32)


def generate(
    model: keras.Model, latents: Latents, labels: Mixtures, batch_size: int = 100
) -> npt.NDArray[np.uint8]:
    """Generates the images of latents and classes, in inference mode.

    Args:
        model: a generator, see `batchnorm.models.gan.generator`.
        latents: `(N, latent_size)`.
        labels: `(N, classes)`, one-hot or mixtures.
        batch_size: images in a batch; the result does not depend on it.

    Returns:
        `(N, H, W, C)`, 0 to 255.

    Raises:
        ValueError: the shape of the latents or the labels does not fit the model.
    """
    _check(model, latents, labels)
    count = len(latents)
    rows = pad_to_whole_batches(np.arange(count), batch_size)
    batches = [
        ops.convert_to_numpy(model.predict_on_batch([latents[part], labels[part]]))
        for part in np.split(rows, len(rows) // batch_size)
    ]
    return np.rint((np.concatenate(batches)[:count] + 1.0) * 127.5).astype(np.uint8)


def calibration(model: keras.Model) -> Calibration:
    """Returns the calibration of a generator, compiled when it first runs.

    Args:
        model: a generator.
    """
    return Calibration(model, lambda forward, variables: steps.choose(variables).compile(forward))


def calibrate(calibration: Calibration, seed: int, batches: tuple[int, int]) -> None:
    """Measures a generator's moving statistics on generated images, as many of each class.

    Args:
        calibration: of the generator.
        seed: of the latents, which differ from those of `latents`.
        batches: their number, and the images in each.
    """
    size, classes = (value.shape[1] for value in calibration.model.inputs)
    count, images = batches
    random = np.random.default_rng((seed, 3))
    labels = np.eye(classes, dtype=np.float32)[np.arange(images) % classes]
    calibration.run(
        (random.standard_normal((images, size), np.float32), labels) for _ in range(count)
    )


def _check(model: keras.Model, latents: Latents, labels: Mixtures) -> None:
    expected = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    for name, values, shape in zip(("latents", "labels"), (latents, labels), expected, strict=True):
        if values.ndim != 2 or values.shape[1:] != shape or len(values) != len(latents):
            raise ValueError(
                f"{name} of shape {values.shape}: this generator takes latents (N, "
                f"{expected[0][0]}) and labels (N, {expected[1][0]}), one-hot or mixtures."
            )
