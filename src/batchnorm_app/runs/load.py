"""Loads the model of a finished run."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import keras

from batchnorm.data import Dataset, classes
from batchnorm.models import gan  # noqa: F401, registers the layers that a generator's file names
from batchnorm_app.choices import PICTURE_FORMATS
from batchnorm_app.errors import UserError
from batchnorm_app.runs.keras_file import load_model
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import ClassifierSettings, GanSettings, Settings

_HINT = "delete it and results.json, and write both again with"


def load_trained(run: Run, settings: Settings) -> keras.Model:
    """Loads the model of a run, not compiled.

    Args:
        run: a finished run.
        settings: of the run.

    Raises:
        UserError: the model is missing or damaged.
    """
    command = f"`batchnorm train {settings.model} --output {quote(str(run.folder))} --resume`"
    if not run.model.exists():
        raise UserError(
            f"{run.model} does not exist: the training was not finished. Finish it with {command}."
        )
    return load_model(run.model, f"{_HINT} {command}.")


def load_classifier(run: Run, settings: ClassifierSettings, data: Dataset) -> keras.Model:
    """Loads the classifier of a run, a model from images to logits.

    Args:
        run: a finished run of a classifier.
        settings: of the run.
        data: of the run.

    Raises:
        UserError: the model is missing, damaged or of other images or classes.
    """
    model = load_trained(run, settings)
    images = tuple(data.test.images.shape[1:])
    _check_shapes(run, model, [images], (len(data.classes),))
    return model


def load_generator(run: Run) -> keras.Model:
    """Loads the generator of a run, with averaged weights.

    Args:
        run: a finished run of a GAN.

    Returns:
        The model, from latents `(N, latent_size)` and labels `(N, classes)` to images.

    Raises:
        UserError: the folder is not a run of a GAN, or its model is missing, damaged or does not
            fit the settings.
    """
    settings = gan_settings(run)
    model = load_trained(run, settings)
    inputs = [(settings.latent_size,), (len(classes(settings.data)),)]
    _check_shapes(run, model, inputs, (None, None, None))
    return model


def _check_shapes(
    run: Run,
    model: keras.Model,
    inputs: Sequence[tuple[int, ...]],
    output: tuple[int | None, ...],
) -> None:
    """Checks the shapes of a model's inputs and output; `None` is any size."""
    # Subclasses of keras.Model have neither `inputs` nor `outputs`.
    takes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    returns = [tuple(tensor.shape[1:]) for tensor in getattr(model, "outputs", None) or []]
    fits = len(returns) == 1 and len(returns[0]) == len(output)
    if (
        takes != inputs
        or not fits
        or any(side not in (None, size) for side, size in zip(output, returns[0], strict=True))
    ):
        raise UserError(
            f"{run.model} is not the model of this run: from inputs of shape {takes} it makes "
            f"{returns}, expected {inputs} and {output}. {_HINT.capitalize()} `batchnorm train "
            f"... --resume`."
        )


def gan_settings(run: Run) -> GanSettings:
    """Returns the settings of a run of a GAN.

    Args:
        run: the run.

    Raises:
        UserError: the folder is not a run, or is a run of another model.
    """
    settings = run.settings()
    if not isinstance(settings, GanSettings):
        raise UserError(
            f"{run.folder} is a run of {settings.model}, which generates nothing. "
            "`batchnorm train gan` trains a generator."
        )
    return settings


def load_file(path: Path) -> keras.Model:
    """Loads a model, not compiled, from a file that a user names.

    Args:
        path: a `.keras` file.

    Raises:
        UserError: the file is missing, damaged or not a Keras model.
    """
    return load_model(path, "name another file, or restore this one from a copy.")


def check_image_suffix(path: Path) -> Path:
    """Returns the path; raises unless its suffix is an image format.

    Args:
        path: a file to be written.

    Raises:
        UserError: the suffix is another.
    """
    if path.suffix not in PICTURE_FORMATS:
        suffixes = ", ".join(PICTURE_FORMATS)
        raise UserError(f"{path} is not a picture's name: it must end in {suffixes}.")
    return path
