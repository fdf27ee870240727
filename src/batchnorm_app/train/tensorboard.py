"""TensorBoard's event files, written without TensorFlow, the same on every backend."""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy.typing as npt
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from batchnorm_app.errors import UserError
from batchnorm_app.runs.history import Epoch
from batchnorm_app.runs.run import Run
from batchnorm_app.train.recorder import read_statistics

_PNG = b"\x89PNG\r\n\x1a\n"
# TensorBoard draws curves of one tag in different folders into one chart.
_CURVES = {
    "train": {"loss": "loss", "accuracy": "accuracy", "learning_rate": "learning_rate"},
    "test": {"loss": "val_loss", "accuracy": "val_accuracy"},
}


class TensorBoard(keras.callbacks.Callback):
    """Writes scalars and statistics of each epoch for `tensorboard --logdir`.

    Keras's callback of this name needs TensorFlow on every backend.

    Args:
        run: receives the folders `train`, `test` and `statistics`.
        epochs: the history; `on_epoch_end` expects the epoch in it.
    """

    def __init__(self, run: Run, epochs: list[Epoch]) -> None:
        super().__init__()
        self.run = run
        self.epochs = epochs

    def on_train_begin(self, logs: object = None) -> None:
        """Starts new files, which replace those of a resumed run, because these may be torn."""
        self._events = Events(self.run.tensorboard)
        for epoch in self.epochs:
            self._write(epoch)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Writes the last epoch of the history."""
        self._write(self.epochs[-1])

    def _write(self, epoch: Epoch) -> None:
        for name, tags in _CURVES.items():
            values = {tag: getattr(epoch, field) for tag, field in tags.items()}
            self._events.scalars(name, epoch.epoch, values)
        if (path := self.run.epoch_statistics(epoch.epoch)).exists():
            self._events.histograms("statistics", epoch.epoch, read_statistics(path))


class Events:
    """Event files, one in each subfolder that receives events.

    Args:
        folder: of the subfolders; event files in these are replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}

    def scalars(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each curve.

        Args:
            name: of the subfolder.
            step: of the points.
            values: by the tags of the curves.
        """
        self._write(
            name,
            step,
            [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()],
        )

    def histograms(self, name: str, step: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Adds the histogram of each array.

        Args:
            name: of the subfolder.
            step: of the arrays.
            values: the arrays by tag.
        """
        summaries = [histogram_pb(tag, array) for tag, array in values.items()]
        self._write(name, step, [value for summary in summaries for value in summary.value])

    def picture(self, name: str, step: int, tag: str, path: Path) -> None:
        """Adds a picture.

        Args:
            name: of the subfolder.
            step: of the picture.
            tag: of the picture.
            path: a PNG file.

        Raises:
            UserError: the file is not a PNG file.
        """
        content = path.read_bytes() if path.is_file() else b""
        if len(content) < 24 or not content.startswith(_PNG):
            raise UserError(f"{path} is damaged (it is not a PNG file): delete it and --resume.")
        width, height = struct.unpack(">II", content[16:24])  # of the PNG header
        image = Summary.Image(
            height=height, width=width, colorspace=4, encoded_image_string=content
        )
        self._write(name, step, [Summary.Value(tag=tag, image=image)])

    def _write(self, name: str, step: int, values: list[Summary.Value]) -> None:
        if name not in self._files:
            self._files[name] = _open(self.folder / name)
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        _append(self._files[name], event)


def _open(folder: Path) -> Path:
    now = time.time()
    path = folder / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for previous in folder.glob("events.out.tfevents.*"):
            previous.unlink()
        _append(path, Event(wall_time=now, file_version="brain.Event:2"))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}): delete or rename the file that is in the way, "
            "and --resume."
        ) from error
    return path


def _append(path: Path, event: Event) -> None:
    # Opened for each event, so that an interrupted training leaves no open file.
    with path.open("ab") as file:
        RecordWriter(file).write(event.SerializeToString())
