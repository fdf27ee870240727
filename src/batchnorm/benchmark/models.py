"""Whole training steps, with this layer, with Keras's, and with none."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.benchmark.rounds import Work, results, seconds
from batchnorm.models.lenet import lenet
from batchnorm.models.resnet import resnet
from batchnorm.train.normalization import normalization

ImageShape = tuple[int, int, int]


class Step(NamedTuple):
    """A training step that is measured; `depth` is a ResNet's, of bottlenecks."""

    batch: int
    image_shape: ImageShape
    depth: int | None = None


MODELS = {"LeNet": Step(128, (28, 28, 1)), "bottleneck ResNet": Step(64, (32, 32, 3), depth=11)}
NORMALIZATIONS = {"batchnorm": "ours", "Keras": "keras", "none": "none"}


def compiled(
    image_shape: ImageShape, expression: str, depth: int | None = None, block: str | None = None
) -> keras.Model:
    """A compiled model with a normalization.

    Args:
        image_shape: of the images.
        expression: of the normalization, as the command line has it.
        depth: of a ResNet; `None` for LeNet.
        block: of a ResNet.

    Returns:
        A model that `train_on_batch` trains by SGD with momentum.
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


def noise(batch: int, image_shape: ImageShape) -> npt.NDArray[np.uint8]:
    """A batch of images of nothing."""
    return np.random.default_rng(0).integers(0, 256, (batch, *image_shape)).astype(np.uint8)


def steps(models: Sequence[keras.Model], batch: int) -> list[Work]:
    """For each model a function that takes one training step on noise, the same for all."""
    images = noise(batch, models[0].input_shape[1:])
    labels = np.random.default_rng(1).integers(0, models[0].output_shape[-1], batch)
    return [partial(model.train_on_batch, images, labels) for model in models]


def measured(name: str, rounds: int) -> dict[str, Any]:
    """How long the steps of a model of `MODELS` take with each of `NORMALIZATIONS`.

    Args:
        name: the model's.
        rounds: how often each has its turn.

    Returns:
        What is measured, and the `results`.
    """
    step = MODELS[name]
    block = None if step.depth is None else "bottleneck"
    models = [
        compiled(step.image_shape, expression, step.depth, block)
        for expression in NORMALIZATIONS.values()
    ]
    took = seconds(steps(models, step.batch), rounds)
    about = {"model": name, "batch": step.batch, "image_shape": list(step.image_shape)}
    return about | {"depth": step.depth} | results([*NORMALIZATIONS], took)
