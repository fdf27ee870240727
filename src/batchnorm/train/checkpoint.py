"""Everything that the rest of a training depends on, in one file, after each epoch."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.train.history import Epoch, NonFiniteError, write_csv
from batchnorm.train.run import Run, RunError, atomic

_HISTORY = "history"


class Checkpoint(keras.callbacks.Callback):
    """Writes the checkpoint and the history after each epoch.

    Keras's `BackupAndRestore` leaves out the states of the seed generators and the history, and
    writes over the only copy that it has.

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
        save(self.run.checkpoint, self.model, self.epochs)
        write_csv(self.run.history, self.epochs)


def save(path: Path, model: keras.Model, epochs: list[Epoch]) -> None:
    """Writes weights, moving statistics, seed states, optimizer and history as one `.npz`.

    Args:
        path: the file, which is replaced in one step.
        model: compiled, its optimizer built.
        epochs: the history.

    Raises:
        NonFiniteError: a variable is not finite; the file is as it was.
        RunError: the file cannot be written; it is as it was.
    """
    arrays = {}
    for name, variable in _state(model).items():
        arrays[name] = keras.ops.convert_to_numpy(variable)
        if not np.isfinite(arrays[name]).all():
            raise NonFiniteError(
                f"{variable.path} is not finite after epoch {epochs[-1].epoch}. "
                "Try a lower --learning-rate."
            )
    arrays[_HISTORY] = np.array(epochs, np.float64)
    with atomic(path) as temporary:
        np.savez(temporary, **arrays)


def restore(path: Path, model: keras.Model) -> list[Epoch]:
    """Puts model and optimizer in the state that `save` found them in.

    Args:
        path: the file.
        model: the same model, compiled in the same way, its optimizer built.

    Returns:
        The history so far.

    Raises:
        RunError: the file is damaged, or of another model.
    """
    arrays = _read(path)
    state = _state(model)
    shapes = {name: tuple(variable.shape) for name, variable in state.items()}
    rows = arrays.pop(_HISTORY, np.empty((0, 0)))
    found = {name: array.shape for name, array in arrays.items()}
    if found != shapes or rows.shape[1:] != (len(Epoch._fields),):
        raise RunError(
            f"{path} is not a checkpoint of this model: it holds {found}, expected {shapes}. "
            "Start again with --overwrite."
        )
    for name, variable in state.items():
        variable.assign(arrays[name])
    return [Epoch(int(epoch), *values) for epoch, *values in rows.tolist()]


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged ({error}): start again with --overwrite.") from error


def _state(model: keras.Model) -> dict[str, keras.Variable]:
    variables = [*model.variables, *model.optimizer.variables]
    # Not by name: Keras numbers names through, so a second Adam of a process is adam_1.
    return {f"variable {number}": variable for number, variable in enumerate(variables)}
