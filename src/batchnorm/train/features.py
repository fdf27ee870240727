"""The feature maps of a run that is trained."""

import zipfile
from pathlib import Path

import keras

from batchnorm.data import load
from batchnorm.plots.feature_maps import feature_maps
from batchnorm.train.run import Run, RunError, atomic

_FORMATS = (".png", ".pdf", ".svg", ".jpg")


def draw(run: Run, index: int, picture: Path | None = None) -> Path:
    """Draws what the first layers of a run's model make of one of its test images.

    Args:
        run: a run with a `model.keras`.
        index: which test image, from 0.
        picture: the file to write; `None` for the run's own.

    Returns:
        The file.

    Raises:
        RunError: the folder is not a run, its model is missing or damaged, there is no such
            image, or the picture cannot be written.
        DataError: the data cannot be read.
    """
    picture = picture or run.feature_maps
    if picture.suffix not in _FORMATS:
        raise RunError(f"{picture} is no picture's name: it must end in {', '.join(_FORMATS)}.")
    settings = run.settings()
    model = _load(run)
    data = load(settings.data, settings.data_dir)
    count = len(data.test.images)
    if not 0 <= index < count:
        raise RunError(f"there is no test image {index}: {data.name} has 0 to {count - 1}.")
    with atomic(picture) as temporary:
        title = data.classes[data.test.labels[index]]
        feature_maps(model, data.test.images[index], temporary, title=title)
    return picture


def _load(run: Run) -> keras.Model:
    if not run.model.exists():
        raise RunError(
            f"{run.model} does not exist: the training was not finished. Finish it with "
            f"`batchnorm train {run.settings().model} --output {run.folder} --resume`."
        )
    try:
        return keras.models.load_model(run.model, compile=False)
    # Keras documents no list of what a damaged file raises.
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(f"{run.model} is damaged ({error}).") from error
