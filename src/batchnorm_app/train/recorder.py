"""Records the statistics of each normalization layer, epoch by epoch."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from batchnorm_app.errors import UserError, one_line
from batchnorm_app.files import atomic, load_arrays
from batchnorm_app.runs.history import Epoch
from batchnorm_app.runs.run import Run

Statistics = dict[str, Any]  # arrays by TensorBoard's tags

NAMES = ("moving_mean", "moving_variance", "gamma", "beta")
_TAG = re.compile(rf"({'|'.join(NAMES)})/[0-9]+_.+")
_MAX_BYTES = 256 << 20  # of a file; those of a ResNet of 1,202 layers have 2 MB
_HINT = "delete it. Only that epoch is lost from the run's pictures."


class Recorder(keras.callbacks.Callback):
    """Writes the statistics of each epoch to a file of its own.

    Args:
        run: receives the files.
        epochs: the history; `on_epoch_end` expects the epoch in it.
    """

    def __init__(self, run: Run, epochs: list[Epoch]) -> None:
        super().__init__()
        self.run = run
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Writes the statistics, unless one of them is not finite."""
        values = values_by_layer(self.model)
        # A value that is not finite ends the training, which then has no such epoch.
        if values and all(np.isfinite(value).all() for value in values.values()):
            self.run.statistics.mkdir(exist_ok=True)
            with atomic(self.run.epoch_statistics(self.epochs[-1].epoch)) as temporary:
                np.savez(temporary, **values)


def values_by_layer(model: keras.Model) -> Statistics:
    """Returns moving mean and variance, gamma and beta of each normalization layer of a model.

    Args:
        model: any model; layers within layers are included.

    Returns:
        `moving_mean/01_name` and so on, without the variables that a layer lacks. The numbers sort
        the names in the order of the network.
    """
    layers: dict[str, dict[str, Any]] = {}
    for variable in model.variables:
        layer, _, name = variable.path.rpartition("/")
        layers.setdefault(layer, {})[name] = variable
    normalizations = {
        layer: variables for layer, variables in layers.items() if NAMES[0] in variables
    }
    digits = max(2, len(str(len(normalizations))))
    return {
        f"{name}/{number:0{digits}}_{layer.replace('/', '_')}": np.ravel(
            keras.ops.convert_to_numpy(variables[name])
        )
        for name in NAMES
        for number, (layer, variables) in enumerate(normalizations.items(), 1)
        if name in variables
    }


def read_statistics(path: Path) -> Statistics:
    """Reads the statistics of an epoch from a file that `Recorder` wrote.

    Args:
        path: the file.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    values = load_arrays(path, _HINT, _MAX_BYTES)
    for name, array in values.items():
        if not _TAG.fullmatch(name) or array.ndim != 1 or not array.size or array.dtype.kind != "f":
            raise UserError(
                f"{path} is not a file of statistics: it holds {one_line(name, 60)}, "
                f"{array.dtype} of shape {array.shape}, expected vectors of floats such as "
                f"{NAMES[0]}/01_name: {_HINT}"
            )
    if not any(name.startswith(NAMES[0]) for name in values):
        raise UserError(f"{path} is not a file of statistics: it has no {NAMES[0]}: {_HINT}")
    return values


def read_history(run: Run) -> dict[int, Statistics]:
    """Reads the statistics of each recorded epoch of a run.

    Raises:
        UserError: a file is damaged, or belongs to a run of other layers.
    """
    files = run.statistics_files()
    history = {epoch: read_statistics(files[epoch]) for epoch in sorted(files)}
    specs = {
        epoch: {name: (array.shape, array.dtype) for name, array in values.items()}
        for epoch, values in history.items()
    }
    for epoch, path in sorted(files.items()):
        if specs[epoch] != specs[min(files)]:
            raise UserError(
                f"{path} and {files[min(files)]} are not of one run, their layers differ: "
                "delete the one that does not belong to this run."
            )
    return history
