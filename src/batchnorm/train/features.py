"""The feature maps of a run that is trained."""

from pathlib import Path

from batchnorm.data import load
from batchnorm.plots.feature_maps import feature_maps
from batchnorm.train.errors import RunError
from batchnorm.train.files import atomic
from batchnorm.train.run import Run
from batchnorm.train.settings import ClassifierSettings
from batchnorm.train.trained import classifier, picture_to


def draw(run: Run, index: int, picture: Path | None = None) -> Path:
    """Draws what the first layers of a run's model make of one of its test images.

    Args:
        run: a run with a `model.keras`.
        index: which test image, from 0.
        picture: the file to write; `None` for `features.png` in the run.

    Returns:
        The file.

    Raises:
        RunError: the folder is not a run of a classifier, its model is missing or damaged, there
            is no such image, or the picture cannot be written.
        DataError: the data cannot be read.
    """
    picture = picture_to(picture or run.features)
    settings = run.settings()
    if not isinstance(settings, ClassifierSettings):
        raise RunError(
            f"{run.folder} is a run of {settings.model}, which looks at no image alone. "
            "`batchnorm sample` draws what it generates."
        )
    data = load(settings.data, settings.data_dir)
    model = classifier(run, settings, data)
    count = len(data.test.images)
    if not 0 <= index < count:
        raise RunError(f"there is no test image {index}: {data.name} has 0 to {count - 1}.")
    with atomic(picture) as temporary:
        title = data.classes[data.test.labels[index]]
        feature_maps(model, data.test.images[index], temporary, title=title)
    return picture
