"""Whole training steps with this layer, with Keras's, and without any."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.models.lenet import lenet
from batchnorm.models.resnet import resnet
from batchnorm_app.benchmark.timing import Work, results, seconds
from batchnorm_app.train.normalization import normalization

ImageShape = tuple[int, int, int]


class Step(NamedTuple):
    """A training step to measure; `depth` is that of a ResNet of bottlenecks."""

    batch: int
    image_shape: ImageShape
    depth: int | None = None


MODELS = {"LeNet": Step(128, (28, 28, 1)), "bottleneck ResNet": Step(64, (32, 32, 3), depth=11)}
NORMALIZATIONS = {"batchnorm": "ours", "Keras": "keras", "none": "none"}


def compiled_model(
    image_shape: ImageShape, expression: str, depth: int | None = None, block: str | None = None
) -> keras.Model:
    """Returns a compiled model with a normalization.

    Args:
        image_shape: `(H, W, C)`.
        expression: of the normalization, as on the command line.
        depth: of a ResNet; `None` for LeNet.
        block: of a ResNet.

    Returns:
        A model for `train_on_batch`, with SGD and momentum.
    """
    layer = normalization(expression)
    model = (
        lenet(image_shape, normalization=layer)
        if depth is None
        else resnet(image_shape, depth=depth, block=block, normalization=layer)
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def noise_images(batch: int, image_shape: ImageShape) -> npt.NDArray[np.uint8]:
    """Returns a batch of images of uniform noise, the same in every call."""
    return np.random.default_rng(0).integers(0, 256, (batch, *image_shape)).astype(np.uint8)


def steps(models: Sequence[keras.Model], batch: int) -> list[Work]:
    """Returns a function for each model that takes one training step, all on the same noise."""
    images = noise_images(batch, models[0].input_shape[1:])
    labels = np.random.default_rng(1).integers(0, models[0].output_shape[-1], batch)
    return [partial(model.train_on_batch, images, labels) for model in models]


def measure_steps(name: str, rounds: int) -> dict[str, Any]:
    """Times the training steps of a model with each of `NORMALIZATIONS`.

    Args:
        name: of `MODELS`.
        rounds: turns of each normalization.

    Returns:
        The model, the batch size and the image shape, with the `results`.
    """
    step = MODELS[name]
    block = None if step.depth is None else "bottleneck"
    models = [
        compiled_model(step.image_shape, expression, step.depth, block)
        for expression in NORMALIZATIONS.values()
    ]
    times = seconds(steps(models, step.batch), rounds)
    model = {"model": name, "batch": step.batch, "image_shape": list(step.image_shape)}
    return model | {"depth": step.depth} | results([*NORMALIZATIONS], times)
