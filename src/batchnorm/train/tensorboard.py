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

from batchnorm.train import statistics
from batchnorm.train.errors import RunError
from batchnorm.train.history import Epoch
from batchnorm.train.run import Run

_PNG = b"\x89PNG\r\n\x1a\n"
# One folder for each curve of a chart, so that train and test share theirs.
_CURVES = {
    "train": {"loss": "loss", "accuracy": "accuracy", "learning_rate": "learning_rate"},
    "test": {"loss": "val_loss", "accuracy": "val_accuracy"},
}


class TensorBoard(keras.callbacks.Callback):
    """Writes scalars and statistics of each epoch, where `tensorboard --logdir` finds them.

    Keras's callback of this name needs TensorFlow whatever the backend is.

    Args:
        run: the run, whose folder receives `train`, `test` and `statistics`.
        epochs: the history, with this epoch in it already.
    """

    def __init__(self, run: Run, epochs: list[Epoch]) -> None:
        super().__init__()
        self.run = run
        self.epochs = epochs

    def on_train_begin(self, logs: object = None) -> None:
        """Starts new files; those of a run taken up again are replaced, so that none is torn."""
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
            self._events.histograms("statistics", epoch.epoch, statistics.read(path))


class Events:
    """Event files, one for each folder of a run that something is written to.

    Args:
        folder: where the folders are; files that are there already are replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}

    def scalars(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each of some curves.

        Args:
            name: of the folder.
            step: of the points.
            values: by the tags of the curves.
        """
        self._write(name, step, [Summary.Value(tag=t, simple_value=v) for t, v in values.items()])

    def histograms(self, name: str, step: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Adds the distribution of some numbers each.

        Args:
            name: of the folder.
            step: that they are of.
            values: by their tags.
        """
        found = (histogram_pb(tag, numbers) for tag, numbers in values.items())
        self._write(name, step, [value for summary in found for value in summary.value])

    def picture(self, name: str, step: int, tag: str, path: Path) -> None:
        """Adds a picture.

        Args:
            name: of the folder.
            step: that it is of.
            tag: what it is of.
            path: a PNG file.

        Raises:
            RunError: it is not one.
        """
        content = path.read_bytes() if path.is_file() else b""
        if len(content) < 24 or not content.startswith(_PNG):
            raise RunError(f"{path} is damaged (it is not a PNG file): delete it and --resume.")
        width, height = struct.unpack(">II", content[16:24])  # where PNG has them
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
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        _append(path, Event(wall_time=now, file_version="brain.Event:2"))
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written ({error}): delete or rename what is in the way, and "
            "--resume."
        ) from error
    return path


def _append(path: Path, event: Event) -> None:
    # Opened for each event: nothing to close when a training is interrupted.
    with path.open("ab") as file:
        RecordWriter(file).write(event.SerializeToString())
