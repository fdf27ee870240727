import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from batchnorm_app.runs.history import Epoch
from batchnorm_app.runs.run import Run
from batchnorm_app.train.tensorboard import Events, TensorBoard

FIRST = Epoch(1, 0.1, 2.0, 0.25, 3.0, 0.125, 9.0)
SECOND = FIRST._replace(epoch=2, loss=1.0, val_accuracy=0.5)


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    epochs: list[Epoch] = []
    callback = TensorBoard(Run(tmp_path), epochs)
    callback.on_train_begin()
    for epoch in (FIRST, SECOND):
        epochs.append(epoch)
        callback.on_epoch_end(epoch.epoch - 1)
    assert read(Run(tmp_path).tensorboard / "train") == {
        "loss": [(1, 2.0), (2, 1.0)],
        "accuracy": [(1, 0.25), (2, 0.25)],
        "learning_rate": [(1, pytest.approx(0.1)), (2, pytest.approx(0.1))],
    }
    assert read(Run(tmp_path).tensorboard / "test") == {
        "loss": [(1, 3.0), (2, 3.0)],
        "accuracy": [(1, 0.125), (2, 0.5)],
    }


def test_tensorboard_reads_the_pictures(tmp_path: Path) -> None:
    events = Events(tmp_path)
    sizes = {2: (5, 3), 4: (7, 9)}  # width, height
    for step, (width, height) in sizes.items():
        picture = np.full((height, width, 3), 10 * step, np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{step}.png")
        events.picture("samples", step, "all classes", tmp_path / f"{step}.png")
        events.scalars("samples", step, {"loss": step / 8})
    accumulator = EventAccumulator(str(tmp_path / "samples"))
    accumulator.Reload()
    images = accumulator.Images("all classes")
    assert [(image.step, (image.width, image.height)) for image in images] == list(sizes.items())
    for image in images:
        assert image.encoded_image_string == (tmp_path / f"{image.step}.png").read_bytes()
    assert read(tmp_path / "samples") == {"loss": [(2, 0.25), (4, 0.5)]}


def test_a_resumed_run_replaces_a_torn_file(tmp_path: Path) -> None:
    TensorBoard(Run(tmp_path), [FIRST]).on_train_begin()
    (torn,) = (Run(tmp_path).tensorboard / "train").iterdir()
    torn.write_bytes(torn.read_bytes()[:-5])
    TensorBoard(Run(tmp_path), [FIRST, SECOND]).on_train_begin()
    assert read(Run(tmp_path).tensorboard / "train")["loss"] == [(1, 2.0), (2, 1.0)]


@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="has TensorFlow anyway")
def test_tensorflow_is_not_needed(tmp_path: Path) -> None:
    lines = [
        "import sys, pathlib",
        "sys.modules['tensorflow'] = None",
        "from batchnorm_app.runs.history import Epoch",
        "from batchnorm_app.train.tensorboard import TensorBoard",
        "from batchnorm_app.runs.run import Run",
        f"run = Run(pathlib.Path({str(tmp_path)!r}))",
        "TensorBoard(run, [Epoch(*range(7))]).on_train_begin()",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
    assert read(Run(tmp_path).tensorboard / "train")["loss"] == [(0, 2.0)]
