"""A Fashion-MNIST small enough to train on in a moment, and runs of it."""

import dataclasses
import gzip
import io
import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from batchnorm.data import Split
from batchnorm.models.gan import generator
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import GanSettings, LeNetSettings, ResNetSettings, Settings
from batchnorm_app.train.start import start

TRAIN, TEST = 300, 50


def split(count: int, seed: int = 0) -> Split:
    """Random images that are the brighter the higher their class, so that they can be learned."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    images = generator.integers(0, 60, (count, 28, 28, 1)) + 19 * labels[:, None, None, None]
    return Split(images.astype(np.uint8), labels)


def write_idx(folder: Path, train: int = TRAIN, test: int = TEST) -> None:
    for prefix, part in (("train", split(train)), ("t10k", split(test, seed=1))):
        images, labels = part.images[..., 0], part.labels.astype(np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
            path = folder / f"{prefix}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=1))


def settings(data_dir: Path, **changes: Any) -> LeNetSettings:
    small = LeNetSettings(
        model="lenet",
        data="fashion-mnist",
        data_dir=str(data_dir),
        epochs=3,
        batch_size=32,
        optimizer="adam",
        learning_rate=0.01,
        schedule="cosine",
        seed=7,
        normalization="ours",
        image_size=None,
        backend=keras.config.backend(),
    )
    return dataclasses.replace(small, **changes)


def resnet_settings(data_dir: Path, **changes: Any) -> ResNetSettings:
    small = ResNetSettings(
        model="resnet",
        data="fashion-mnist",
        data_dir=str(data_dir),
        depth=8,
        block=None,
        epochs=2,
        batch_size=32,
        learning_rate=0.01,
        schedule="cosine",
        momentum=0.9,
        weight_decay=2e-3,
        decay="kernels",
        augment=True,
        precision="float32",
        seed=7,
        normalization="ours",
        backend=keras.config.backend(),
    )
    return dataclasses.replace(small, **changes)


def gan_settings(data_dir: Path, **changes: Any) -> GanSettings:
    small = GanSettings(
        model="gan",
        data="fashion-mnist",
        data_dir=str(data_dir),
        steps=6,
        conditioning="class",
        width=2,
        batch_size=16,
        learning_rate=1e-3,
        discriminator_learning_rate=1e-3,
        schedule="cosine",
        latent_size=8,
        discriminator_steps=1,
        average=0.9,
        samples_every=2,
        seed=7,
        backend=keras.config.backend(),
    )
    return dataclasses.replace(small, **changes)


def untrained(folder: Path, data_dir: Path) -> Run:
    """Returns a run of an untrained GAN whose images depend much on class and latents."""
    run, run_settings = Run(folder), gan_settings(data_dir)
    run.create(run_settings)
    model = generator(width=run_settings.width, latent_size=run_settings.latent_size)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape) / 2)
    model.save(run.model)
    return run


def train(folder: Path, run_settings: Settings) -> Run:
    run = Run(folder)
    start(run, run_settings, False, silent())
    return run


_KILLED = """
import json, os, signal, sys
from pathlib import Path
from batchnorm_app.runs.settings import Settings
from batchnorm_app.train.epoch_bar import EpochBar
from tests.app import small

def kill(self, batch, logs):
    if len(self.epochs) == 1 and batch == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

EpochBar.on_train_batch_end = kill
small.train(Path(sys.argv[1]), Settings.from_json(json.loads(sys.argv[2])))
"""


def kill(run: Run, run_settings: Settings, batch: int) -> None:
    """Trains in a process of its own, which is killed after a batch of the second epoch."""
    arguments = [str(run.folder), json.dumps(run_settings.to_json()), str(batch)]
    command = [sys.executable, "-c", _KILLED, *arguments]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL


def silent() -> Console:
    return Console(file=io.StringIO(), width=100)


@contextmanager
def backend_left_as_it_was() -> Iterator[None]:
    """A run makes the whole process deterministic, which other tests may not expect."""
    yield
    if keras.config.backend() == "tensorflow":
        from tensorflow.python.framework import config

        config.disable_op_determinism()
    elif keras.config.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(False)
