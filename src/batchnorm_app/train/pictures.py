"""Pictures of a run: feature maps of its model, statistics of its normalization layers."""

from pathlib import Path

from batchnorm.data import load
from batchnorm_app.errors import UserError
from batchnorm_app.files import atomic
from batchnorm_app.plots.feature_maps import feature_maps
from batchnorm_app.plots.statistics import statistics
from batchnorm_app.runs.load import check_image_suffix, load_classifier
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import ClassifierSettings, Settings
from batchnorm_app.train.recorder import read_history


def draw_feature_maps(run: Run, index: int, picture: Path | None = None) -> Path:
    """Draws the feature maps of the first layers of a run's model for a test image.

    Args:
        run: a run with a `model.keras`.
        index: of the test image, from 0.
        picture: the file to write; `None` for `features.png` in the run.

    Returns:
        The file.

    Raises:
        UserError: the folder is not a run of a classifier, its model is missing or damaged, the
            image does not exist, or the picture cannot be written.
        DataError: the data cannot be read.
    """
    picture = check_image_suffix(picture or run.features)
    settings = run.settings()
    if not isinstance(settings, ClassifierSettings):
        raise UserError(
            f"{run.folder} is a run of {settings.model}, which has no classifier "
            "whose feature maps could be drawn. `batchnorm sample` draws its generated images."
        )
    data = load(settings.data, settings.data_dir)
    model = load_classifier(run, settings, data)
    count = len(data.test.images)
    if not 0 <= index < count:
        raise UserError(f"there is no test image {index}: {data.name} has 0 to {count - 1}.")
    with atomic(picture) as temporary:
        title = data.classes[data.test.labels[index]]
        feature_maps(model, data.test.images[index], temporary, title=title)
    return picture


def draw_statistics(run: Run, picture: Path | None = None) -> Path:
    """Draws the statistics of a run's normalization layers over the epochs so far.

    Args:
        run: a run of a classifier, finished or not.
        picture: the file to write; `None` for `statistics.png` in the run.

    Returns:
        The file.

    Raises:
        UserError: the folder is not a run, it has no statistics, one of its files is damaged, or
            the picture cannot be written.
    """
    picture = check_image_suffix(picture or run.statistics_picture)
    settings = run.settings()
    history = read_history(run)
    if not history:
        raise UserError(_missing_statistics(run, settings))
    with atomic(picture) as temporary:
        statistics(history, temporary)
    return picture


def _missing_statistics(run: Run, settings: Settings) -> str:
    if not isinstance(settings, ClassifierSettings):
        return (
            f"{run.folder} is a run of {settings.model}, which keeps no statistics of each epoch. "
            "`batchnorm train resnet` does."
        )
    if settings.normalization == "none":
        return f"{run.folder} was trained with --normalization none, which has no statistics."
    return f"{run.folder} has no statistics yet: they are written after each epoch."
