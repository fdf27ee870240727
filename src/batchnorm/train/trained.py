"""What a finished run leaves to work with: its model, unless the file is damaged."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import keras

from batchnorm.data import Dataset, classes
from batchnorm.models import gan  # noqa: F401, registers the layers that a generator's file names
from batchnorm.train.errors import RunError
from batchnorm.train.keras_file import load_model
from batchnorm.train.run import Run
from batchnorm.train.settings import ClassifierSettings, GanSettings, Settings

_FORMATS = (".png", ".pdf", ".svg", ".jpg")
_ANEW = "delete it and results.json, and write both again with"


def trained(run: Run, settings: Settings) -> keras.Model:
    """The model that a run has trained.

    Args:
        run: a finished run.
        settings: those of the run.

    Returns:
        Its model, not compiled.

    Raises:
        RunError: its model is missing or damaged.
    """
    again = f"`batchnorm train {settings.model} --output {quote(str(run.folder))} --resume`"
    if not run.model.exists():
        raise RunError(
            f"{run.model} does not exist: the training was not finished. Finish it with {again}."
        )
    return load_model(run.model, f"{_ANEW} {again}.")


def classifier(run: Run, settings: ClassifierSettings, data: Dataset) -> keras.Model:
    """The classifier that a run has trained.

    Args:
        run: a finished run of a classifier.
        settings: those of the run.
        data: the run's.

    Returns:
        The model, from images to logits.

    Raises:
        RunError: its model is missing, damaged or of other images or classes.
    """
    model = trained(run, settings)
    images = tuple(data.test.images.shape[1:])
    _check_shapes(run, model, [images], (len(data.classes),))
    return model


def generator(run: Run) -> keras.Model:
    """The generator that a run has trained, with averaged weights.

    Args:
        run: a finished run of a GAN.

    Returns:
        The model, from latents `(N, latent_size)` and labels `(N, classes)` to images.

    Raises:
        RunError: the folder is not a run, or one of another model, or its model is missing,
            damaged or not the generator that the run's settings ask for.
    """
    settings = gan_settings(run)
    model = trained(run, settings)
    inputs = [(settings.latent_size,), (len(classes(settings.data)),)]
    _check_shapes(run, model, inputs, (None, None, None))
    return model


def _check_shapes(
    run: Run,
    model: keras.Model,
    inputs: Sequence[tuple[int, ...]],
    output: tuple[int | None, ...],
) -> None:
    """Checks that a model takes and returns what the run's does; `None` is any size."""
    # Subclasses of keras.Model do not say what they take.
    takes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or []]
    returns = [tuple(tensor.shape[1:]) for tensor in getattr(model, "outputs", None) or []]
    fits = len(returns) == 1 and len(returns[0]) == len(output)
    if (
        takes != inputs
        or not fits
        or any(side not in (None, size) for side, size in zip(output, returns[0], strict=True))
    ):
        raise RunError(
            f"{run.model} is not the model of this run: from inputs of shape {takes} it makes "
            f"{returns}, expected {inputs} and {output}. {_ANEW.capitalize()} `batchnorm train "
            f"... --resume`."
        )


def gan_settings(run: Run) -> GanSettings:
    """The settings of a run that trained a GAN.

    Args:
        run: the run.

    Returns:
        Its settings.

    Raises:
        RunError: the folder is not a run, or one of another model.
    """
    settings = run.settings()
    if not isinstance(settings, GanSettings):
        raise RunError(
            f"{run.folder} is a run of {settings.model}, which generates nothing. "
            "`batchnorm train gan` trains what does."
        )
    return settings


def read(path: Path) -> keras.Model:
    """A model from a file that a user names.

    Args:
        path: a `.keras` file.

    Returns:
        The model, not compiled.

    Raises:
        RunError: the file is missing, damaged or none of Keras's.
    """
    return load_model(path, "name another file, or restore this one from a copy.")


def picture_to(path: Path) -> Path:
    """The file, if it has the name of a picture.

    Args:
        path: a file to be written.

    Returns:
        The same.

    Raises:
        RunError: its suffix is none of a picture's.
    """
    if path.suffix not in _FORMATS:
        raise RunError(f"{path} is no picture's name: it must end in {', '.join(_FORMATS)}.")
    return path
