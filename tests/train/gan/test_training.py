"""Runs of a GAN: what they leave, and that an interruption changes nothing."""

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
from batchnorm.train.batches import Shuffled
from batchnorm.train.gan import training
from batchnorm.train.gan.generate import generate, latents
from batchnorm.train.gan.networks import Networks
from batchnorm.train.gan.progress import ProgressBar
from batchnorm.train.gan.training import Interval
from batchnorm.train.history import NonFiniteError
from batchnorm.train.run import Run, RunError
from batchnorm.train.settings import GanSettings
from batchnorm.train.start import resume
from tests.calling import called
from tests.differentiate import Array
from tests.train import small
from tests.train.test_fit import state

KILLED = """
import os, signal, sys
from pathlib import Path
from batchnorm.train.gan.networks import Networks
from batchnorm.train.gan.progress import ProgressBar
from tests.train import small
from tests.train.gan import test_training

steps = []

def kill(self, *losses):
    steps.append(losses)
    if len(steps) == 30:
        os.kill(os.getpid(), signal.SIGKILL)

ProgressBar.advance = kill
small.train(Path(sys.argv[1]), test_training.settings())
"""
STEPS, EVERY, WIDTH, LATENT = 50, 25, 4, 16


def settings(**changes: Any) -> GanSettings:
    """Real pictures, those that come with the package."""
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


class Compiled:
    """Makes networks that are as new, of which the code was compiled before.

    For a process that trains what it has trained already; one of its own compiles its own.
    """

    def __init__(self) -> None:
        self.known: dict[Any, tuple[Networks, list[Array]]] = {}

    def __call__(self, *arguments: Any) -> Networks:
        if arguments not in self.known:
            made = Networks(*arguments)
            first = [np.array(keras.ops.convert_to_numpy(each)) for each in made.variables]
            self.known[arguments] = made, first
        networks, first = self.known[arguments]
        for variable, value in zip(networks.variables, first, strict=True):
            variable.assign(value)
        return networks


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[Compiled]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "Networks", made := Compiled())
        yield made


@pytest.fixture(scope="module")
def losses() -> list[tuple[float, float]]:
    """Those of the whole run, when it has ended."""
    return []


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    compiled: Compiled,
    losses: list[tuple[float, float]],
) -> Run:
    """A run that nobody interrupted; not to be changed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ProgressBar, "advance", lambda self, *pair: losses.append(pair))
        return small.train(tmp_path_factory.mktemp("runs") / "gan", settings())


def pixels(path: Path) -> Array:
    return np.asarray(Image.open(path).convert("RGB"))


def rows(run: Run) -> list[dict[str, str]]:
    with run.history.open() as file:
        return list(csv.DictReader(file))


def check_model(run: Run) -> keras.Model:
    """The model is the checkpoint's average, bit for bit."""
    model = keras.models.load_model(run.model, compile=False)
    # The generator, the discriminator, the average.
    first = len(model.variables) + len(discriminator(width=WIDTH).variables)
    with np.load(run.checkpoint) as arrays:
        for number, variable in enumerate(model.variables, first):
            value = keras.ops.convert_to_numpy(variable)
            np.testing.assert_array_equal(value, arrays[f"variable {number}"])
        trained = [arrays[f"variable {number}"] for number in range(len(model.variables))]
    same = [
        np.array_equal(keras.ops.convert_to_numpy(variable), value)
        for variable, value in zip(model.variables, trained, strict=True)
    ]
    assert not any(same)  # an average, of another state than the generator's
    return model


def check_ends_alike(run: Run, whole: Run) -> None:
    """Bit for bit, but for the times."""
    assert state(run) == state(whole)
    names = [sorted(path.name for path in each.folder.iterdir()) for each in (run, whole)]
    assert names[0] == names[1]
    for one, other in (
        (run.samples, whole.samples),
        *((run.frame(step), whole.frame(step)) for step in (EVERY, STEPS)),
    ):
        np.testing.assert_array_equal(pixels(one), pixels(other))
    times = {"seconds": ""}
    assert [row | times for row in rows(run)] == [row | times for row in rows(whole)]
    check_model(run)


def test_a_finished_run_has_everything(whole: Run) -> None:
    assert sorted(path.name for path in whole.folder.iterdir()) == [
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
    frames = sorted(whole.frames.iterdir())
    assert [path.name for path in frames] == ["0000025.png", "0000050.png"]
    assert sorted(path.name for path in whole.tensorboard.iterdir()) == ["samples", "train"]
    for folder in whole.tensorboard.iterdir():
        assert len(list(folder.iterdir())) == 1
    np.testing.assert_array_equal(pixels(whole.samples), pixels(frames[-1]))
    with Image.open(whole.animation) as animated:
        assert getattr(animated, "n_frames", 1) == 2
    found = rows(whole)
    assert tuple(found[0]) == Interval._fields
    assert [row["step"] for row in found] == ["25", "50"]
    rates = [1e-3 * (1 + np.cos(np.pi * step / 50)) / 2 for step in (25, 50)]
    assert [float(row["learning_rate"]) for row in found] == pytest.approx(
        rates, rel=1e-4, abs=1e-9
    )
    results = json.loads(whole.results.read_text())
    seconds = sum(float(row["seconds"]) for row in found)
    assert results == {
        "steps": 50,
        "seconds": pytest.approx(seconds),
        "milliseconds_a_step": pytest.approx(1000 * seconds / 50),
        "discriminator_loss": float(found[-1]["discriminator_loss"]),
        "generator_loss": float(found[-1]["generator_loss"]),
    }


def test_the_saved_model_is_the_average(whole: Run) -> None:
    check_model(whole)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose process was killed between two checkpoints; not to be changed."""
    run = Run(tmp_path_factory.mktemp("runs") / "killed")
    command = [sys.executable, "-c", KILLED, str(run.folder)]
    environment = os.environ | {"KERAS_BACKEND": keras.config.backend()}
    ended = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    return run


@pytest.fixture
def copied(killed: Run, tmp_path: Path) -> Run:
    shutil.copytree(killed.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def test_a_killed_run_ends_as_if_nothing_had_been(
    copied: Run, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is interrupted once more, by Control-C."""
    with np.load(copied.checkpoint) as arrays:
        assert arrays["history"][:, 0].tolist() == [EVERY]
    assert not copied.model.exists() and not copied.animation.exists()
    seen = []

    def stop(self: ProgressBar, *losses: float) -> None:
        seen.append(losses)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ProgressBar, "advance", stop)
        resume(copied, {}, small.silent())
    assert [row["step"] for row in rows(copied)] == [str(EVERY)]
    copied.history.unlink()  # as after a kill between checkpoint and history
    resume(copied, {}, small.silent())
    check_ends_alike(copied, whole)


def test_a_run_killed_before_its_results_gets_them(tmp_path: Path, whole: Run) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(whole.folder, run.folder)
    for path in (run.results, run.model, run.animation):
        path.unlink()
    resume(run, {}, small.silent())
    assert run.results.read_text() == whole.results.read_text()
    check_ends_alike(run, whole)


def test_the_last_good_state_outlives_a_loss_that_is_not_finite(
    copied: Run, whole: Run, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(copied)
    ((networks, _),) = compiled.known.values()
    learn, count = networks.step, 0

    def step(*batch: Array) -> Any:
        """The third spoils the discriminator's weights, and what they reach."""
        nonlocal count
        count += 1
        for variable in networks.discriminator.trainable_variables if count == 3 else ():
            variable.assign(np.full(variable.shape, np.inf))
        return learn(*batch)

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
        np.testing.assert_array_equal(pixels(path), pixels(whole.frame(EVERY)))


@pytest.mark.parametrize("name", ["discriminator", "generator"])
def test_a_first_interval_that_is_not_finite_leaves_no_state(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose loss it was, and when; told with no step compiled."""
    run, asked = Run(tmp_path / "run"), settings()
    prepared = training.prepare(asked)
    losses = iter([(0.5, 1.0), (np.nan, 0.5) if name == "discriminator" else (0.5, -np.inf)])
    monkeypatch.setattr(prepared.networks, "step", lambda *given: next(losses))
    run.create(asked)
    value = "nan" if name == "discriminator" else "-inf"
    with pytest.raises(NonFiniteError) as caught:
        training.finish(run, asked, prepared, small.silent())
    assert str(caught.value) == (
        f"the {name}'s loss is {value} at step 2. Try a lower --learning-rate. "
        "No checkpoint was written yet, so there is nothing to keep."
    )
    assert [path.name for path in run.folder.iterdir()] == ["config.json"]


def test_a_batch_size_that_does_not_fit_leaves_no_folder(tmp_path: Path, data_dir: Path) -> None:
    with pytest.raises(RunError, match="a batch of 400 out of 300.*from 2 to 300"):
        small.train(tmp_path / "run", small.gan_settings(data_dir, batch_size=400))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_model_is_an_error(tmp_path: Path, whole: Run) -> None:
    run = Run(tmp_path / "run")
    run.create(settings())
    with np.load(whole.checkpoint) as arrays:
        others = {name: arrays[name] for name in arrays.files if name != "variable 3"}
    np.savez(run.checkpoint, **others)
    with pytest.raises(RunError, match="is not a checkpoint of this model"):
        resume(run, {}, small.silent())


def test_other_settings_are_refused(whole: Run) -> None:
    with pytest.raises(RunError, match="width: this run's is 4, received 5"):
        resume(whole, {"width": 5, "model": "gan"}, small.silent())


def test_real_images_are_all_seen_in_an_order_of_the_epoch(data_dir: Path) -> None:
    """Two steps of the discriminator for each of the generator, over more than an epoch."""
    asked = small.gan_settings(data_dir, batch_size=90, discriminator_steps=2, steps=4)
    train = Shuffled(load(asked.data, asked.data_dir).train, 90, asked.seed)
    assert len(train) == 3
    found = list(training._batches(train, asked, 0))
    assert [images.shape for images, _ in found] == [(2, 90, 28, 28, 1)] * 4
    flat = [(i, n) for images, labels in found for i, n in zip(images, labels, strict=True)]
    for number, (images, labels) in enumerate(flat):
        train.start(number // 3)
        for part, expected in zip((images, labels), train[number % 3], strict=True):
            np.testing.assert_array_equal(part, expected)
    # What is taken up again goes on where it was.
    for (images, _), (again, _) in zip(found[2:], training._batches(train, asked, 2), strict=True):
        np.testing.assert_array_equal(images, again)


def test_losses(whole: Run, losses: list[tuple[float, float]]) -> None:
    assert np.shape(losses) == (STEPS, 2) and np.isfinite(losses).all()
    for row, part in zip(rows(whole), (losses[:EVERY], losses[EVERY:]), strict=True):
        means = [float(row[f"{name}_loss"]) for name in ("discriminator", "generator")]
        assert means == pytest.approx(np.mean(part, axis=0))
    # The discriminator learns, quickly at first.
    assert 0 < np.mean(losses[EVERY:], axis=0)[0] < np.mean(losses[:5], axis=0)[0] / 4


def test_images(whole: Run) -> None:
    model, every = check_model(whole), np.eye(10, dtype="float32")
    same = latents(0, 1, LATENT).repeat(10, axis=0)
    raw = called(model, [same, every], False)
    assert np.isfinite(raw).all() and raw.std() > 0.02
    images = generate(model, same, every).astype(int)
    apart = np.abs(images[:, None] - images[None]).mean((2, 3, 4))
    assert apart[~np.eye(10, dtype=bool)].min() > 1
    others = generate(model, latents(0, 10, LATENT), every[[3] * 10]).astype(int)
    assert np.abs(others[1:] - others[:1]).mean((1, 2, 3)).min() > 1


def test_iterations_are_counted(whole: Run, compiled: Compiled) -> None:
    ((networks, _),) = compiled.known.values()
    places = {id(variable): number for number, variable in enumerate(networks.variables)}
    with np.load(whole.checkpoint) as arrays:
        for each in (networks.generator_optimizer, networks.discriminator_optimizer):
            assert arrays[f"variable {places[id(each.iterations)]}"] == STEPS


def test_without_conditions() -> None:
    """The class enters through the first layer alone."""
    networks = Networks(settings(conditioning="none"), (8, 8, 1), 10)
    for model in (networks.generator, networks.average):
        gammas = [each.shape for each in model.variables if each.path.endswith("gamma")]
        assert [len(shape) for shape in gammas] == [1] * 3
        points, every = latents(0, 1, LATENT).repeat(10, axis=0), np.eye(10, dtype="float32")
        images = called(model, [points, every], False)
        assert np.ptp(images, axis=0).max() > 1e-3
