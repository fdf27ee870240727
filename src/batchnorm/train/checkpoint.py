"""Everything that the rest of a training depends on, in one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from batchnorm.train.errors import RunError, one_line
from batchnorm.train.files import atomic, load_arrays
from batchnorm.train.history import Epoch, NonFiniteError, write_csv
from batchnorm.train.run import Run

_HISTORY = "history"
_HISTORY_LIMIT = 64 << 20  # bytes, more than the longest training writes, and the headers
_HINT = "start again with --overwrite."
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


def restore(
    path: Path, variables: Sequence[keras.Variable], row: type[Row], total: int
) -> list[Row]:
    """Puts variables in the state that `values` found them in.

    Args:
        path: the file.
        variables: the same ones, in the same order.
        row: of the history; its first number counts what was done, in epochs or steps.
        total: how many of these the training has.

    Returns:
        The history so far.

    Raises:
        RunError: the file is damaged, of another model, or of a longer training.
    """
    state = _named(variables)
    current = {name: keras.ops.convert_to_numpy(variable) for name, variable in state.items()}
    expected = {name: _kind(array) for name, array in current.items()}
    size = sum(array.nbytes for array in current.values())
    arrays = load_arrays(path, _HINT, size + _HISTORY_LIMIT)
    rows = arrays.pop(_HISTORY, np.empty((0, 0)))
    received = {name: _kind(array) for name, array in arrays.items()}
    if received != expected:
        raise RunError(
            f"{path} is not a checkpoint of this model: {_difference(received, expected)}"
        )
    _check_history(path, rows, row, total)
    for name, variable in state.items():
        variable.assign(arrays[name])
    return [row(int(first), *values) for first, *values in rows.tolist()]


def _kind(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _difference(received: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """The first of the variables that differ, of which there may be hundreds."""
    names = [*expected, *received]
    name = next(name for name in names if received.get(name) != expected.get(name))
    return (
        f"{one_line(name, 60)} is {received.get(name, 'missing')}, expected "
        f"{expected.get(name, 'no such variable')}. {_HINT.capitalize()}"
    )


def _check_history(path: Path, rows: Any, row: type[Row], total: int) -> None:
    columns = len(row._fields)
    if rows.dtype != np.float64 or rows.ndim != 2 or rows.shape[1] != columns or not len(rows):
        raise RunError(
            f"{path} is not a checkpoint of this model: its history is {_kind(rows)}, expected "
            f"float64[n, {columns}] with n from 1. {_HINT.capitalize()}"
        )
    done = rows[:, 0]
    gaps = row is Epoch and done[-1] != len(done)  # every epoch has a row, not every step
    if (done % 1).any() or done[0] < 1 or (np.diff(done) <= 0).any() or gaps:
        raise RunError(
            f"{path} is damaged (its history's {row._fields[0]}s are not in order): {_HINT}"
        )
    if done[-1] > total:
        name = f"{row._fields[0]}s"
        raise RunError(
            f"{path} holds {done[-1]:.0f} {name}, but {path.with_name('config.json')} asks for "
            f"{name}={total}: set it back to what the run was started with, or start again with "
            "--overwrite."
        )


def _named(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    # Not by name: Keras numbers names through, so a second Adam of a process is adam_1.
    return {f"variable {number}": variable for number, variable in enumerate(variables)}
