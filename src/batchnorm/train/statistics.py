"""What each normalization layer keeps, epoch by epoch."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from batchnorm.plots.statistics import statistics
from batchnorm.train.errors import RunError, one_line
from batchnorm.train.files import atomic, load_arrays
from batchnorm.train.history import Epoch
from batchnorm.train.run import Run
from batchnorm.train.settings import ClassifierSettings, Settings
from batchnorm.train.trained import picture_to

Statistics = dict[str, Any]  # arrays, by the tags that TensorBoard shows

NAMES = ("moving_mean", "moving_variance", "gamma", "beta")
_TAG = re.compile(rf"({'|'.join(NAMES)})/[0-9]+_.+")
_LIMIT = 256 << 20  # bytes of a file; those of a ResNet of 1,202 layers are 2 MB
_HINT = "delete it. The run's pictures of that epoch alone are lost."


class Recorder(keras.callbacks.Callback):
    """Writes the statistics of each epoch to a file of its own.

    Args:
        run: the run whose files they are.
        epochs: the history, with this epoch in it already.
    """

    def __init__(self, run: Run, epochs: list[Epoch]) -> None:
        super().__init__()
        self.run = run
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Called by Keras, with all variables up to date."""
        values = of(self.model)
        # What is not finite ends the training, and this epoch is none.
        if values and all(np.isfinite(each).all() for each in values.values()):
            self.run.statistics.mkdir(exist_ok=True)
            with atomic(self.run.epoch_statistics(self.epochs[-1].epoch)) as temporary:
                np.savez(temporary, **values)


def of(model: keras.Model) -> Statistics:
    """Moving mean and variance, gamma and beta of each normalization layer of a model.

    Args:
        model: any; layers within layers are found.

    Returns:
        `moving_mean/01_name` and so on: the layers are numbered in the order of the network, in
        which these names sort, too. What a layer lacks is left out.
    """
    layers: dict[str, dict[str, Any]] = {}
    for variable in model.variables:
        layer, _, name = variable.path.rpartition("/")
        layers.setdefault(layer, {})[name] = variable
    kept = {layer: found for layer, found in layers.items() if NAMES[0] in found}
    digits = max(2, len(str(len(kept))))
    return {
        f"{name}/{number:0{digits}}_{layer.replace('/', '_')}": np.ravel(
            keras.ops.convert_to_numpy(found[name])
        )
        for name in NAMES
        for number, (layer, found) in enumerate(kept.items(), 1)
        if name in found
    }


def read(path: Path) -> Statistics:
    """The statistics of an epoch, from the file that `Recorder` wrote.

    Args:
        path: the file.

    Raises:
        RunError: it is damaged, or holds something else.
    """
    values = load_arrays(path, _HINT, _LIMIT)
    for name, array in values.items():
        if not _TAG.fullmatch(name) or array.ndim != 1 or not array.size or array.dtype.kind != "f":
            raise RunError(
                f"{path} is not a file of statistics: it holds {one_line(name, 60)}, "
                f"{array.dtype} of shape {array.shape}, expected vectors of floats such as "
                f"{NAMES[0]}/01_name: {_HINT}"
            )
    if not any(name.startswith(NAMES[0]) for name in values):
        raise RunError(f"{path} is not a file of statistics: it has no {NAMES[0]}: {_HINT}")
    return values


def _read_all(run: Run) -> dict[int, Statistics]:
    """The statistics of each epoch that has them, all of the same layers."""
    files = run.statistics_files()
    history = {epoch: read(files[epoch]) for epoch in sorted(files)}
    kinds = {
        epoch: {name: (array.shape, array.dtype) for name, array in values.items()}
        for epoch, values in history.items()
    }
    for epoch, path in sorted(files.items()):
        if kinds[epoch] != kinds[min(files)]:
            raise RunError(
                f"{path} and {files[min(files)]} are not of one run, their layers differ: "
                "delete the one that does not belong here."
            )
    return history


def draw(run: Run, picture: Path | None = None) -> Path:
    """Draws the statistics of a run's normalization layers over the epochs so far.

    Args:
        run: a run of a classifier, finished or not.
        picture: the file to write; `None` for the run's own.

    Returns:
        The file.

    Raises:
        RunError: the folder is not a run, it has no statistics, one of its files is damaged, or
            the picture cannot be written.
    """
    picture = picture_to(picture or run.statistics_picture)
    settings = run.settings()
    history = _read_all(run)
    if not history:
        raise RunError(_nothing(run, settings))
    with atomic(picture) as temporary:
        statistics(history, temporary)
    return picture


def _nothing(run: Run, settings: Settings) -> str:
    if not isinstance(settings, ClassifierSettings):
        return (
            f"{run.folder} is a run of {settings.model}, which keeps no statistics of each epoch. "
            "`batchnorm train resnet` trains what does."
        )
    if settings.normalization == "none":
        return f"{run.folder} was trained with --normalization none, which has no statistics."
    return f"{run.folder} has no statistics yet: they are written after each epoch."
