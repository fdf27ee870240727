"""Runs of a GAN: their files, and resuming them after interruptions."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from batchnorm.data import load
from batchnorm.models.gan import discriminator
from batchnorm_app.errors import UserError
from batchnorm_app.runs.history import NonFiniteError
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import GanSettings
from batchnorm_app.train.batches import Shuffled
from batchnorm_app.train.gan import training
from batchnorm_app.train.gan.generate import generate, latents
from batchnorm_app.train.gan.networks import Networks
from batchnorm_app.train.gan.step_bar import StepBar
from batchnorm_app.train.gan.training import Interval
from batchnorm_app.train.start import resume
from tests.app import small
from tests.app.train.test_loop import state
from tests.calling import called
from tests.differentiate import Array

KILLED_TRAINING = """
import os, signal, sys
from pathlib import Path
from batchnorm_app.train.gan.step_bar import StepBar
from tests.app import small
from tests.app.train.gan import test_training

steps = []

def kill(self, *losses):
    steps.append(losses)
    if len(steps) == 30:
        os.kill(os.getpid(), signal.SIGKILL)

StepBar.advance = kill
small.train(Path(sys.argv[1]), test_training.settings())
"""
STEPS, EVERY, WIDTH, LATENT = 50, 25, 4, 16


def settings(**changes: Any) -> GanSettings:
    """Returns settings with the real images that the package contains."""
    options: dict[str, Any] = {
        "data": "fashion-mnist-sample",
        "width": WIDTH,
        "latent_size": LATENT,
        "batch_size": 32,
        "steps": STEPS,
        "samples_every": EVERY,
        **changes,
    }
    return small.gan_settings(Path("nowhere"), **options)


class CompiledNetworks:
    """Returns networks with their initial values, compiled only once.

    Replaces `Networks` in this process; a subprocess compiles its own.
    """

    def __init__(self) -> None:
        self.cache: dict[Any, tuple[Networks, list[Array]]] = {}

    def __call__(self, *arguments: Any) -> Networks:
        if arguments not in self.cache:
            networks = Networks(*arguments)
            first = [
                np.array(keras.ops.convert_to_numpy(variable)) for variable in networks.variables
            ]
            self.cache[arguments] = networks, first
        networks, first = self.cache[arguments]
        for variable, value in zip(networks.variables, first, strict=True):
            variable.assign(value)
        return networks


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[CompiledNetworks]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Networks", networks := CompiledNetworks())
        yield networks


@pytest.fixture(scope="module")
def losses() -> list[tuple[float, float]]:
    """The losses of the complete run, once it has finished."""
    return []


@pytest.fixture(scope="module")
def complete(
    tmp_path_factory: pytest.TempPathFactory,
    compiled: CompiledNetworks,
    losses: list[tuple[float, float]],
) -> Run:
    """A run without interruptions; read-only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepBar, "advance", lambda self, *pair: losses.append(pair))
        return small.train(tmp_path_factory.mktemp("runs") / "gan", settings())


def pixels(path: Path) -> Array:
    return np.asarray(Image.open(path).convert("RGB"))


def rows(run: Run) -> list[dict[str, str]]:
    with run.history.open() as file:
        return list(csv.DictReader(file))


def check_model(run: Run) -> keras.Model:
    """Checks that the model is the checkpoint's average, bit for bit, and returns it."""
    model = keras.models.load_model(run.model, compile=False)
    # The generator, the discriminator, the average.
    first = len(model.variables) + len(discriminator(width=WIDTH).variables)
    with np.load(run.checkpoint) as arrays:
        for index, variable in enumerate(model.variables, first):
            value = keras.ops.convert_to_numpy(variable)
            np.testing.assert_array_equal(value, arrays[f"variable {index}"])
        generator_values = [arrays[f"variable {index}"] for index in range(len(model.variables))]
    equal = [
        np.array_equal(keras.ops.convert_to_numpy(variable), value)
        for variable, value in zip(model.variables, generator_values, strict=True)
    ]
    assert not any(equal)  # the average differs from the generator
    return model


def check_equal_runs(run: Run, complete: Run) -> None:
    """Checks that two runs are equal bit for bit, except for the times."""
    assert state(run) == state(complete)
    names = [
        sorted(path.name for path in other_run.folder.iterdir()) for other_run in (run, complete)
    ]
    assert names[0] == names[1]
    for path, expected in (
        (run.samples, complete.samples),
        *((run.frame(step), complete.frame(step)) for step in (EVERY, STEPS)),
    ):
        np.testing.assert_array_equal(pixels(path), pixels(expected))
    times = {"seconds": ""}
    assert [row | times for row in rows(run)] == [row | times for row in rows(complete)]
    check_model(run)


def test_a_finished_run_has_everything(complete: Run) -> None:
    assert sorted(path.name for path in complete.folder.iterdir()) == [
        "checkpoint.npz",
        "config.json",
        "frames",
        "history.csv",
        "model.keras",
        "results.json",
        "samples.gif",
        "samples.png",
        "tensorboard",
    ]
    frames = sorted(complete.frames.iterdir())
    assert [path.name for path in frames] == ["0000025.png", "0000050.png"]
    assert sorted(path.name for path in complete.tensorboard.iterdir()) == ["samples", "train"]
    for folder in complete.tensorboard.iterdir():
        assert len(list(folder.iterdir())) == 1
    np.testing.assert_array_equal(pixels(complete.samples), pixels(frames[-1]))
    with Image.open(complete.animation) as gif:
        assert getattr(gif, "n_frames", 1) == 2
    history_rows = rows(complete)
    assert tuple(history_rows[0]) == Interval._fields
    assert [row["step"] for row in history_rows] == ["25", "50"]
    rates = [1e-3 * (1 + np.cos(np.pi * step / 50)) / 2 for step in (25, 50)]
    assert [float(row["learning_rate"]) for row in history_rows] == pytest.approx(
        rates, rel=1e-4, abs=1e-9
    )
    results = json.loads(complete.results.read_text())
    seconds = sum(float(row["seconds"]) for row in history_rows)
    assert results == {
        "steps": 50,
        "seconds": pytest.approx(seconds),
        "milliseconds_a_step": pytest.approx(1000 * seconds / 50),
        "discriminator_loss": float(history_rows[-1]["discriminator_loss"]),
        "generator_loss": float(history_rows[-1]["generator_loss"]),
    }


def test_the_saved_model_is_the_average(complete: Run) -> None:
    check_model(complete)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose process was killed between two checkpoints; read-only."""
    run = Run(tmp_path_factory.mktemp("runs") / "killed")
    command = [sys.executable, "-c", KILLED_TRAINING, str(run.folder)]
    environment = os.environ | {"KERAS_BACKEND": keras.config.backend()}
    process = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    return run


@pytest.fixture
def copied(killed: Run, tmp_path: Path) -> Run:
    shutil.copytree(killed.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def test_a_killed_run_resumes_bit_for_bit(
    copied: Run, complete: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is interrupted once more, by Control-C."""
    with np.load(copied.checkpoint) as arrays:
        assert arrays["history"][:, 0].tolist() == [EVERY]
    assert not copied.model.exists() and not copied.animation.exists()
    calls = []

    def stop(self: StepBar, *losses: float) -> None:
        calls.append(losses)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StepBar, "advance", stop)
        resume(copied, {}, small.silent())
    assert [row["step"] for row in rows(copied)] == [str(EVERY)]
    copied.history.unlink()  # as after a kill between checkpoint and history
    resume(copied, {}, small.silent())
    check_equal_runs(copied, complete)


def test_a_run_killed_before_its_results_gets_them(tmp_path: Path, complete: Run) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(complete.folder, run.folder)
    for path in (run.results, run.model, run.animation):
        path.unlink()
    resume(run, {}, small.silent())
    assert run.results.read_text() == complete.results.read_text()
    check_equal_runs(run, complete)


def test_the_last_good_state_outlives_a_loss_that_is_not_finite(
    copied: Run, complete: Run, compiled: CompiledNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(copied)
    ((networks, _),) = compiled.cache.values()
    original_step, count = networks.step, 0

    def step(*batch: Array) -> Any:
        """Makes the discriminator's weights infinite before the third step."""
        nonlocal count
        count += 1
        for variable in networks.discriminator.trainable_variables if count == 3 else ():
            variable.assign(np.full(variable.shape, np.inf))
        return original_step(*batch)

    monkeypatch.setattr(networks, "step", step)
    with pytest.raises(NonFiniteError) as caught:
        resume(copied, {}, small.silent())
    assert str(caught.value) == (
        f"the discriminator's loss is nan at step {EVERY + 3}. Try a lower --learning-rate. "
        f"{copied.model} and checkpoint.npz are those of step {EVERY}."
    )
    assert state(copied) == before
    assert not copied.results.exists()
    check_model(copied)
    for path in (copied.samples, copied.frame(EVERY)):
        np.testing.assert_array_equal(pixels(path), pixels(complete.frame(EVERY)))


@pytest.mark.parametrize("name", ["discriminator", "generator"])
def test_a_first_interval_that_is_not_finite_leaves_no_state(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the loss and the step; the steps are replaced, not compiled."""
    run, run_settings = Run(tmp_path / "run"), settings()
    setup = training.prepare(run_settings)
    losses = iter([(0.5, 1.0), (np.nan, 0.5) if name == "discriminator" else (0.5, -np.inf)])
    monkeypatch.setattr(setup.networks, "step", lambda *_: next(losses))
    run.create(run_settings)
    value = "nan" if name == "discriminator" else "-inf"
    with pytest.raises(NonFiniteError) as caught:
        training.finish(run, run_settings, setup, small.silent())
    assert str(caught.value) == (
        f"the {name}'s loss is {value} at step 2. Try a lower --learning-rate. "
        "No checkpoint was written yet, so there is nothing to keep."
    )
    assert [path.name for path in run.folder.iterdir()] == ["config.json"]


def test_a_batch_size_that_does_not_fit_leaves_no_folder(tmp_path: Path, data_dir: Path) -> None:
    with pytest.raises(UserError, match="a batch of 400 out of 300.*from 2 to 300"):
        small.train(tmp_path / "run", small.gan_settings(data_dir, batch_size=400))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_model_is_an_error(tmp_path: Path, complete: Run) -> None:
    run = Run(tmp_path / "run")
    run.create(settings())
    with np.load(complete.checkpoint) as arrays:
        incomplete = {name: arrays[name] for name in arrays.files if name != "variable 3"}
    np.savez(run.checkpoint, **incomplete)
    with pytest.raises(UserError, match="is not a checkpoint of this model"):
        resume(run, {}, small.silent())


def test_other_settings_are_refused(complete: Run) -> None:
    with pytest.raises(UserError, match="width: this run's is 4, received 5"):
        resume(complete, {"width": 5, "model": "gan"}, small.silent())


def test_each_epoch_shows_all_real_images_in_its_order(data_dir: Path) -> None:
    """Two steps of the discriminator for each of the generator, over more than an epoch."""
    run_settings = small.gan_settings(data_dir, batch_size=90, discriminator_steps=2, steps=4)
    train = Shuffled(load(run_settings.data, run_settings.data_dir).train, 90, run_settings.seed)
    assert len(train) == 3
    step_batches = list(training._batches(train, run_settings, 0))
    assert [images.shape for images, _ in step_batches] == [(2, 90, 28, 28, 1)] * 4
    flat = [(i, n) for images, labels in step_batches for i, n in zip(images, labels, strict=True)]
    for index, (images, labels) in enumerate(flat):
        train.start(index // 3)
        for part, expected in zip((images, labels), train[index % 3], strict=True):
            np.testing.assert_array_equal(part, expected)
    # A resumed training continues at its step.
    for (images, _), (resumed, _) in zip(
        step_batches[2:], training._batches(train, run_settings, 2), strict=True
    ):
        np.testing.assert_array_equal(images, resumed)


def test_losses(complete: Run, losses: list[tuple[float, float]]) -> None:
    assert np.shape(losses) == (STEPS, 2) and np.isfinite(losses).all()
    for row, part in zip(rows(complete), (losses[:EVERY], losses[EVERY:]), strict=True):
        means = [float(row[f"{name}_loss"]) for name in ("discriminator", "generator")]
        assert means == pytest.approx(np.mean(part, axis=0))
    # The discriminator learns, quickly at first.
    assert 0 < np.mean(losses[EVERY:], axis=0)[0] < np.mean(losses[:5], axis=0)[0] / 4


def test_images(complete: Run) -> None:
    model, one_hot = check_model(complete), np.eye(10, dtype="float32")
    points = latents(0, 1, LATENT).repeat(10, axis=0)
    raw = called(model, [points, one_hot], False)
    assert np.isfinite(raw).all() and raw.std() > 0.02
    images = generate(model, points, one_hot).astype(int)
    distances = np.abs(images[:, None] - images[None]).mean((2, 3, 4))
    assert distances[~np.eye(10, dtype=bool)].min() > 1
    other_images = generate(model, latents(0, 10, LATENT), one_hot[[3] * 10]).astype(int)
    assert np.abs(other_images[1:] - other_images[:1]).mean((1, 2, 3)).min() > 1


def test_iterations_are_counted(complete: Run, compiled: CompiledNetworks) -> None:
    ((networks, _),) = compiled.cache.values()
    indices = {id(variable): index for index, variable in enumerate(networks.variables)}
    with np.load(complete.checkpoint) as arrays:
        for optimizer in (networks.generator_optimizer, networks.discriminator_optimizer):
            assert arrays[f"variable {indices[id(optimizer.iterations)]}"] == STEPS


def test_without_conditions() -> None:
    """The class enters only through the first layer."""
    networks = Networks(settings(conditioning="none"), (8, 8, 1), 10)
    for model in (networks.generator, networks.average):
        gammas = [variable.shape for variable in model.variables if variable.path.endswith("gamma")]
        assert [len(shape) for shape in gammas] == [1] * 3
        points, one_hot = latents(0, 1, LATENT).repeat(10, axis=0), np.eye(10, dtype="float32")
        images = called(model, [points, one_hot], False)
        assert np.ptp(images, axis=0).max() > 1e-3
