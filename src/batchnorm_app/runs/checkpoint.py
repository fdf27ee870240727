"""Checkpoints: the state of a training, with its history, in one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from batchnorm_app.errors import UserError, one_line
from batchnorm_app.files import atomic, load_arrays
from batchnorm_app.runs.history import Epoch, NonFiniteError, write_csv
from batchnorm_app.runs.run import Run

_HISTORY = "history"
_HISTORY_LIMIT = 64 << 20  # bytes, more than the longest training writes, and the headers
_HINT = "start again with --overwrite."
Row = TypeVar("Row", bound=Any)  # a NamedTuple of numbers; the first is an integer


class Checkpoint(keras.callbacks.Callback):
    """Writes the checkpoint and the history after each epoch.

    Keras's `BackupAndRestore` leaves out the states of the seed generators and the history, and
    overwrites its only copy.

    Args:
        run: the run to write to.
        epochs: the history, which another callback has already appended this epoch to.
    """

    def __init__(self, run: Run, epochs: list[Epoch]) -> None:
        super().__init__()
        self.run = run
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Called by Keras, with all variables up to date."""
        arrays = values(variables_of(self.model), f"epoch {self.epochs[-1].epoch}")
        save(self.run.checkpoint, arrays, self.epochs)
        write_csv(self.run.history, self.epochs)


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """Returns weights, moving statistics, seed and optimizer states of a compiled model."""
    return [*model.variables, *model.optimizer.variables]


def save(path: Path, arrays: Mapping[str, Any], history: Sequence[Row]) -> None:
    """Writes values and history as one `.npz`.

    Args:
        path: the file, which is replaced in one step.
        arrays: the `values` of the variables that the training depends on.
        history: rows of numbers.

    Raises:
        UserError: the file cannot be written; it is unchanged.
    """
    contents = {**arrays, _HISTORY: np.array(history, np.float64)}
    with atomic(path) as temporary:
        np.savez(temporary, **contents)


def values(variables: Sequence[keras.Variable], place: str) -> dict[str, Any]:
    """Returns the values of variables by their numbers; raises unless all are finite.

    Args:
        variables: any.
        place: the epoch or step, for the error.

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


def restore(
    path: Path, variables: Sequence[keras.Variable], row: type[Row], total: int
) -> list[Row]:
    """Assigns the values of a checkpoint to variables, and returns the history so far.

    Args:
        path: the file.
        variables: the same variables as when it was saved, in the same order.
        row: type of the history's rows; the first number is an epoch or step.
        total: epochs or steps of the whole training.

    Raises:
        UserError: the file is damaged, of another model, or of a longer training.
    """
    state = _named(variables)
    current = {name: keras.ops.convert_to_numpy(variable) for name, variable in state.items()}
    expected = {name: _kind(array) for name, array in current.items()}
    size = sum(array.nbytes for array in current.values())
    arrays = load_arrays(path, _HINT, size + _HISTORY_LIMIT)
    rows = arrays.pop(_HISTORY, np.empty((0, 0)))
    received = {name: _kind(array) for name, array in arrays.items()}
    if received != expected:
        raise UserError(
            f"{path} is not a checkpoint of this model: {_difference(received, expected)}"
        )
    _check_history(path, rows, row, total)
    for name, variable in state.items():
        variable.assign(arrays[name])
    return [row(int(first), *values) for first, *values in rows.tolist()]


def _kind(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _difference(received: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Describes the first variable that differs; there may be hundreds."""
    names = [*expected, *received]
    name = next(name for name in names if received.get(name) != expected.get(name))
    return (
        f"{one_line(name, 60)} is {received.get(name, 'missing')}, expected "
        f"{expected.get(name, 'no such variable')}. {_HINT.capitalize()}"
    )


def _check_history(path: Path, rows: Any, row: type[Row], total: int) -> None:
    columns = len(row._fields)
    if rows.dtype != np.float64 or rows.ndim != 2 or rows.shape[1] != columns or not len(rows):
        raise UserError(
            f"{path} is not a checkpoint of this model: its history is {_kind(rows)}, expected "
            f"float64[n, {columns}] with n from 1. {_HINT.capitalize()}"
        )
    counts = rows[:, 0]
    gaps = row is Epoch and counts[-1] != len(counts)  # every epoch has a row, not every step
    if (counts % 1).any() or counts[0] < 1 or (np.diff(counts) <= 0).any() or gaps:
        raise UserError(
            f"{path} is damaged (its history's {row._fields[0]}s are not in order): {_HINT}"
        )
    if counts[-1] > total:
        name = f"{row._fields[0]}s"
        raise UserError(
            f"{path} holds {counts[-1]:.0f} {name}, but {path.with_name('config.json')} asks for "
            f"{name}={total}: set it back to its original value, or start again with "
            "--overwrite."
        )


def _named(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    # Not by name: Keras numbers repeated names, so a second Adam in a process is adam_1.
    return {f"variable {number}": variable for number, variable in enumerate(variables)}
