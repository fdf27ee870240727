"""The history of a training: a row per epoch, and checks that losses are finite."""

import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras

from batchnorm_app.errors import UserError
from batchnorm_app.files import atomic


class Epoch(NamedTuple):
    """One row of the history; the names are the columns of `history.csv`.

    Attributes:
        epoch: counted from 1.
        learning_rate: at the epoch's first step.
        loss: mean over the training images, in training mode.
        accuracy: likewise.
        val_loss: over the test images, after the epoch, in inference mode.
        val_accuracy: likewise.
        seconds: of training and testing.
    """

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


class NonFiniteError(UserError):
    """The error of a training whose loss or variables are not finite."""


class History(keras.callbacks.Callback):
    """Appends each epoch to `epochs`, and stops when a loss is not finite.

    Args:
        epochs: the rows so far, of a run that is resumed.
    """

    def __init__(self, epochs: list[Epoch]) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Notes the time and the learning rate."""
        self._start = time.perf_counter()
        self._epoch = epoch + 1
        self._learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Checks the running mean of the loss: one bad step is enough to spoil it."""
        check_finite("the loss", logs["loss"], f"epoch {self._epoch}, step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Appends the epoch."""
        check_finite("the test loss", logs["val_loss"], f"the end of epoch {self._epoch}")
        self.epochs.append(
            Epoch(
                epoch=self._epoch,
                learning_rate=self._learning_rate,
                loss=logs["loss"],
                accuracy=logs["accuracy"],
                val_loss=logs["val_loss"],
                val_accuracy=logs["val_accuracy"],
                seconds=time.perf_counter() - self._start,
            )
        )


def check_finite(name: str, value: float, place: str) -> None:
    """Raises unless a loss is finite.

    Raises:
        NonFiniteError: the loss is infinite or NaN.
    """
    if not math.isfinite(value):
        raise NonFiniteError(f"{name} is {value} at {place}. Try a lower --learning-rate.")


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """Writes a history as a CSV file, in one step.

    Args:
        path: the file.
        rows: one or more NamedTuples of one type.
    """
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0]._fields)
        writer.writerows(rows)
