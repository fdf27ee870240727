"""What a finished run leaves to work with: its model, unless the file is damaged."""

import zipfile
from pathlib import Path

import keras

from batchnorm.data import classes
from batchnorm.models import gan  # noqa: F401, registers the layers that a generator's file names
from batchnorm.train.run import Run, RunError
from batchnorm.train.settings import GanSettings

_FORMATS = (".png", ".pdf", ".svg", ".jpg")


def trained(run: Run) -> keras.Model:
    """The model that a run has trained.

    Args:
        run: a finished run.

    Returns:
        Its model, not compiled.

    Raises:
        RunError: the folder is not a run, or its model is missing or damaged.
    """
    if not run.model.exists():
        raise RunError(
            f"{run.model} does not exist: the training was not finished. Finish it with "
            f"`batchnorm train {run.settings().model} --output {run.folder} --resume`."
        )
    return read(run.model)


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
    model = trained(run)
    wanted = [(settings.latent_size,), (len(classes(settings.data)),)]
    found = [tuple(each.shape[1:]) for each in model.inputs]
    if found != wanted:
        raise RunError(
            f"{run.model} is not the generator of this run: it takes inputs of shape {found}, "
            f"expected {wanted}."
        )
    return model


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
    """A model from a file.

    Args:
        path: a `.keras` file.

    Returns:
        The model, not compiled.

    Raises:
        RunError: the file is missing, damaged or none of Keras's.
    """
    if not path.exists():
        raise RunError(f"{path} does not exist.")
    try:
        return keras.models.load_model(path, compile=False)
    # Keras documents no list of what a damaged file raises.
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged ({error}).") from error


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
