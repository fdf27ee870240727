"""Everything that the rest of a training depends on, in one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from batchnorm.train.history import Epoch, NonFiniteError, write_csv
from batchnorm.train.run import Run, RunError, atomic, read_arrays

_HISTORY = "history"
Row = TypeVar("Row", bound=Any)  # a NamedTuple of numbers, the first of them whole


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
        known = values(variables_of(self.model), f"epoch {self.epochs[-1].epoch}")
        save(self.run.checkpoint, known, self.epochs)
        write_csv(self.run.history, self.epochs)


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """Weights, moving statistics, seed states and optimizer of a model that is compiled."""
    return [*model.variables, *model.optimizer.variables]


def save(path: Path, arrays: Mapping[str, Any], history: Sequence[Row]) -> None:
    """Writes values and history as one `.npz`.

    Args:
        path: the file, which is replaced in one step.
        arrays: the `values` of all that the rest of the training depends on.
        history: its rows, numbers alone.

    Raises:
        RunError: the file cannot be written; it is as it was.
    """
    contents = {**arrays, _HISTORY: np.array(history, np.float64)}
    with atomic(path) as temporary:
        np.savez(temporary, **contents)


def values(variables: Sequence[keras.Variable], place: str) -> dict[str, Any]:
    """The values of variables by number, if all of them are finite.

    Args:
        variables: any.
        place: when it is, for the error.

    Raises:
        NonFiniteError: a variable is not finite.
    """
    arrays = {}
    for name, variable in _named(variables).items():
        arrays[name] = keras.ops.convert_to_numpy(variable)
        if not np.isfinite(arrays[name]).all():
            raise NonFiniteError(
                f"{variable.path} is not finite after {place}. Try a lower --learning-rate."
            )
    return arrays


def restore(path: Path, variables: Sequence[keras.Variable], row: type[Row]) -> list[Row]:
    """Puts variables in the state that `values` found them in.

    Args:
        path: the file.
        variables: the same ones, in the same order.
        row: of the history; its first number is whole.

    Returns:
        The history so far.

    Raises:
        RunError: the file is damaged, or of another model.
    """
    arrays = read_arrays(path, "start again with --overwrite.")
    state = _named(variables)
    shapes = {name: tuple(variable.shape) for name, variable in state.items()}
    rows = arrays.pop(_HISTORY, np.empty((0, 0)))
    found = {name: array.shape for name, array in arrays.items()}
    if found != shapes or rows.shape[1:] != (len(row._fields),):
        raise RunError(
            f"{path} is not a checkpoint of this model: it holds {found}, expected {shapes}. "
            "Start again with --overwrite."
        )
    for name, variable in state.items():
        variable.assign(arrays[name])
    return [row(int(first), *values) for first, *values in rows.tolist()]


def _named(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    # Not by name: Keras numbers names through, so a second Adam of a process is adam_1.
    return {f"variable {number}": variable for number, variable in enumerate(variables)}
