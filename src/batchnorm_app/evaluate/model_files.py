"""Reads the models of an evaluation from files that a user names."""

from pathlib import Path

import keras

from batchnorm.data import Dataset
from batchnorm.models.classifier import FEATURES
from batchnorm_app.errors import UserError
from batchnorm_app.runs.load import load_file


def read_judge(path: Path, real: Dataset) -> keras.Model:
    """Reads a classifier that can judge images like those of a data set.

    Args:
        path: a `.keras` file.
        real: the data set.

    Raises:
        UserError: the file is missing or damaged, or its model does not fit the data set.
    """
    model = _read(path, real)
    shape, expected = model.outputs[0].shape[1:], (len(real.classes),)
    if len(model.outputs) != 1 or tuple(shape) != expected:
        raise UserError(
            f"{path} cannot judge {real.name}: it returns {tuple(shape)} for an image, and a judge "
            f"returns {expected}, a logit for each class."
        )
    if FEATURES not in [layer.name for layer in model.layers]:
        raise UserError(
            f"{path} cannot judge: it has no layer {FEATURES!r}, whose outputs describe an image. "
            "Leave --judge out to train one; it is written to the run."
        )
    return model


def read_extractor(path: Path, real: Dataset) -> keras.Model:
    """Reads a model from images of a data set to features `(N, D)`.

    Args:
        path: a `.keras` file.
        real: the data set.

    Raises:
        UserError: the file is missing or damaged, or its model does not fit the data set.
    """
    model = _read(path, real)
    shape = model.outputs[0].shape[1:]
    if len(model.outputs) != 1 or len(shape) != 1:
        raise UserError(
            f"{path} gives no features: it returns {tuple(shape)} for an image, and features are "
            "(D,). End it with a pooling or a flattening layer."
        )
    return model


def _read(path: Path, real: Dataset) -> keras.Model:
    model = load_file(path)
    images = tuple(real.test.images.shape[1:])
    # Subclasses of keras.Model have no inputs.
    shapes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    fits = len(shapes) == 1 and len(shapes[0]) == len(images)
    if not fits or any(a not in (None, b) for a, b in zip(shapes[0], images, strict=True)):
        inputs = " and ".join(map(str, shapes)) or "inputs of unknown shapes"
        raise UserError(
            f"{path} does not fit {real.name}, whose images are {images}: it takes {inputs}."
        )
    return model
