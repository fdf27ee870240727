"""The options of a training are its settings."""

from pathlib import Path
from typing import Any

import pytest

from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import GanSettings, ResNetSettings
from batchnorm_app.train import start
from tests.app.cli.calling import BACKEND, Begun, call


def test_the_options_of_a_gan_are_its_settings(begun: list[Begun], tmp_path: Path) -> None:
    assert call("train", "gan").exit_code == 0
    ((run, settings, overwrite),) = begun
    assert run.folder.parent == Path("runs") and run.folder.name.startswith("gan-")
    assert not overwrite
    assert settings == GanSettings(
        model="gan",
        data="fashion-mnist-sample",
        data_dir=None,
        steps=1000,
        conditioning="class",
        width=16,
        batch_size=64,
        learning_rate=2e-3,
        discriminator_learning_rate=1e-3,
        schedule="cosine",
        latent_size=64,
        discriminator_steps=1,
        average=0.998,
        samples_every=50,
        seed=0,
        normalization="ours",
        backend=BACKEND,
    )
    command = "--data cifar10 --data-dir . --steps 9 --conditioning none --width 3 --batch-size 4 "
    command += "--learning-rate 0.5 --discriminator-learning-rate 0.25 --schedule constant "
    command += "--latent-size 5 --discriminator-steps 2 "
    command += "--average 0 --samples-every 7 --seed 8 --normalization ghost:2+zero-debiased "
    command += "--output run --overwrite"
    assert call("train", "gan", *command.split()).exit_code == 0
    assert begun[1].run.folder == Path("run") and begun[1].overwrite
    assert begun[1].settings == GanSettings(
        model="gan",
        data="cifar10",
        data_dir=str(tmp_path),
        steps=9,
        conditioning="none",
        width=3,
        batch_size=4,
        learning_rate=0.5,
        discriminator_learning_rate=0.25,
        schedule="constant",
        latent_size=5,
        discriminator_steps=2,
        average=0.0,
        samples_every=7,
        seed=8,
        normalization="ghost:2+zero-debiased",
        backend=BACKEND,
    )


def test_the_options_of_a_resnet_are_its_settings(begun: list[Begun], tmp_path: Path) -> None:
    assert call("train", "resnet").exit_code == 0
    ((run, settings, overwrite),) = begun
    assert run.folder.parent == Path("runs") and run.folder.name.startswith("resnet-")
    assert not overwrite
    assert settings == ResNetSettings(
        model="resnet",
        data="fashion-mnist-sample",
        data_dir=None,
        depth=20,
        block=None,
        epochs=10,
        batch_size=128,
        learning_rate=0.1,
        schedule="cosine",
        momentum=0.9,
        weight_decay=5e-3,
        decay="kernels",
        augment=True,
        precision="float32",
        seed=0,
        normalization="ours",
        backend=BACKEND,
    )
    command = "--data cifar10 --data-dir . --depth 29 --block bottleneck --epochs 3 --batch-size 4 "
    command += "--learning-rate 0.5 --schedule drop:1,2 --momentum 0 --weight-decay 0 --decay all "
    command += "--no-augment --precision mixed_bfloat16 --seed 8 --normalization renorm:2,4 "
    command += "--output run --overwrite"
    assert call("train", "resnet", *command.split()).exit_code == 0
    assert begun[1].run.folder == Path("run") and begun[1].overwrite
    assert begun[1].settings == ResNetSettings(
        model="resnet",
        data="cifar10",
        data_dir=str(tmp_path),
        depth=29,
        block="bottleneck",
        epochs=3,
        batch_size=4,
        learning_rate=0.5,
        schedule="drop:1,2",
        momentum=0.0,
        weight_decay=0.0,
        decay="all",
        augment=False,
        precision="mixed_bfloat16",
        seed=8,
        normalization="renorm:2,4",
        backend=BACKEND,
    )


@pytest.mark.parametrize("steps, every", [(1, 1), (20, 1), (21, 2), (41, 3), (1000, 50)])
def test_twenty_pictures_at_most(begun: list[Begun], steps: int, every: int) -> None:
    call("train", "gan", "--steps", steps)
    assert begun[0].settings.samples_every == every


def test_only_what_is_given_must_be_the_runs(
    untrained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interval that was resolved from --steps was not given."""
    received: list[Any] = []
    monkeypatch.setattr(start, "resume", lambda run, values, console: received.append(values))
    resume = ("train", "gan", "--output", untrained.folder, "--resume")
    for more in ((), ("--steps", 9), ("--samples-every", 4)):
        assert call(*resume, *more).exit_code == 0
    assert received == [
        {"model": "gan"} | more for more in ({}, {"steps": 9}, {"samples_every": 4})
    ]
