"""Images from a generator, and the moving statistics that it needs for them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from batchnorm.statistics import Moments, merge
from batchnorm.train import steps
from batchnorm.train.batches import filled
from batchnorm.variables import start_renorm

Latents = npt.NDArray[np.float32]  # (N, latent_size)
Mixtures = npt.NDArray[np.float32]  # (N, classes)
Forward = Callable[..., Any]


def latents(seed: int, count: int, size: int) -> Latents:
    """Random latents that depend on nothing but the seed; the first of many are those of few.

    Args:
        seed: not negative.
        count: N.
        size: of each.

    Returns:
        `(N, size)`, standard normal.
    """
    return np.random.default_rng((seed, 2)).standard_normal((count, size), dtype=np.float32)


def generate(
    model: keras.Model, latents: Latents, labels: Mixtures, batch_size: int = 100
) -> npt.NDArray[np.uint8]:
    """The images of latents and classes, in inference mode.

    Args:
        model: a generator, see `batchnorm.models.gan.generator`.
        latents: `(N, latent_size)`.
        labels: `(N, classes)`, one-hot or mixtures.
        batch_size: how many are made at a time; it changes nothing else.

    Returns:
        `(N, H, W, C)`, 0 to 255.

    Raises:
        ValueError: the latents or the labels are not what the model takes.
    """
    _check(model, latents, labels)
    count = len(latents)
    rows = filled(np.arange(count), batch_size)
    made = [
        ops.convert_to_numpy(model.predict_on_batch([latents[part], labels[part]]))
        for part in np.split(rows, len(rows) // batch_size)
    ]
    return np.rint((np.concatenate(made)[:count] + 1.0) * 127.5).astype(np.uint8)


def in_training(model: keras.Model) -> Forward:
    """A generator in training mode, as a function that is compiled when it is first called.

    Args:
        model: a generator.

    Returns:
        From latents and classes to images, with the moving statistics advanced.
    """
    return steps.choose(model.variables).compiled(
        lambda latents, labels: model([latents, labels], training=True)
    )


def calibrate(
    model: keras.Model, seed: int, batches: tuple[int, int], forward: Forward | None = None
) -> None:
    """Measures the moving statistics anew on generated images, of each class as many.

    Args:
        model: a generator.
        seed: of the latents, which are others than those of `latents`.
        batches: how many, and how many images each has.
        forward: as for `recalibrate`.
    """
    size, classes = (each.shape[1] for each in model.inputs)
    count, images = batches
    random = np.random.default_rng((seed, 3))
    labels = np.eye(classes, dtype=np.float32)[np.arange(images) % classes]
    recalibrate(
        model,
        [(random.standard_normal((images, size), np.float32), labels) for _ in range(count)],
        forward,
    )


def recalibrate(
    model: keras.Model,
    batches: Sequence[tuple[Latents, Mixtures]],
    forward: Forward | None = None,
) -> None:
    """Measures moving statistics anew: those of averaged weights mean nothing.

    Each layer's become the pooled mean and variance of what it sees of the batches, in training
    mode; nothing else of the model changes.

    Args:
        model: a generator.
        batches: latents and classes, all of the same size.
        forward: `in_training` of the model, for one that is calibrated often, used for nothing
            else; `None` to compile it.
    """
    every = model._flatten_layers()
    layers = [each for each in every if isinstance(each, keras.layers.BatchNormalization)]
    forward = forward or in_training(model)
    pooled: list[Moments | None] = [None] * len(layers)
    with _remembering_nothing(layers):
        for batch in batches:
            forward(*batch)
            for place, layer in enumerate(layers):
                mean, variance = (
                    # Copies, because the next batch writes to the variables.
                    ops.convert_to_tensor(np.array(ops.convert_to_numpy(variable)))
                    for variable in (layer.moving_mean, layer.moving_variance)
                )
                measured = Moments(ops.ones_like(mean), mean, variance)
                known = pooled[place]
                pooled[place] = measured if known is None else merge(known, measured)
    for layer, moments in zip(layers, pooled, strict=True):
        if moments is not None:
            layer.moving_mean.assign(moments.mean)
            layer.moving_variance.assign(moments.variance)
            start_renorm(layer)


@contextmanager
def _remembering_nothing(layers: Sequence[keras.layers.BatchNormalization]) -> Iterator[None]:
    """Lets the moving statistics be those of the last batch."""
    plain = {"momentum": 0.0, "moving": None, "renorm": False}
    before = [{name: getattr(layer, name, None) for name in plain} for layer in layers]
    try:
        for layer in layers:
            _set(layer, plain)
        yield
    finally:
        for layer, values in zip(layers, before, strict=True):
            _set(layer, values)


def _set(layer: keras.layers.BatchNormalization, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(layer, name, value)


def _check(model: keras.Model, latents: Latents, labels: Mixtures) -> None:
    expected = [tuple(each.shape[1:]) for each in model.inputs]
    for name, given, wanted in zip(("latents", "labels"), (latents, labels), expected, strict=True):
        if given.ndim != 2 or given.shape[1:] != wanted or len(given) != len(latents):
            raise ValueError(
                f"{name} of shape {given.shape}: this generator takes latents (N, "
                f"{expected[0][0]}) and labels (N, {expected[1][0]}), one-hot or mixtures."
            )
