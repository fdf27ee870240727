"""Trains a GAN, from its settings to a folder of samples."""

import shutil
import time
from collections.abc import Iterator
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console

from batchnorm.data import Dataset, load
from batchnorm_app.console import say
from batchnorm_app.errors import UserError
from batchnorm_app.files import atomic, read_numbers, write_json
from batchnorm_app.plots.samples import animation, samples
from batchnorm_app.runs import checkpoint
from batchnorm_app.runs.history import NonFiniteError, check_finite, write_csv
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import GanSettings
from batchnorm_app.train.batches import Shuffled
from batchnorm_app.train.gan.generate import calibrate, generate, latents
from batchnorm_app.train.gan.networks import Networks, draw_inputs
from batchnorm_app.train.gan.step_bar import StepBar
from batchnorm_app.train.loop import make_repeatable, save_model
from batchnorm_app.train.results import HINT
from batchnorm_app.train.tensorboard import Events

COLUMNS = 10  # of samples, one for each latent
CALIBRATION = (4, 250)  # batches, and images in each


class Interval(NamedTuple):
    """One row of the history; the names are the columns of `history.csv`.

    Attributes:
        step: number of the interval's last step, from 1.
        learning_rate: of the generator, after that step.
        discriminator_loss: mean over the interval's steps.
        generator_loss: mean over the interval's steps.
        seconds: duration of the interval.
    """

    step: int
    learning_rate: float
    discriminator_loss: float
    generator_loss: float
    seconds: float


class GanSetup(NamedTuple):
    """The objects of a training that exist before its folder is touched."""

    data: Dataset
    train: Shuffled
    networks: Networks


def prepare(settings: GanSettings) -> GanSetup:
    """Reads the data and builds the networks; see `batchnorm_app.train.start.Training`."""
    make_repeatable(settings.seed)
    data = load(settings.data, settings.data_dir)
    train = Shuffled(data.train, settings.batch_size, settings.seed)
    height, width, channels = data.train.images.shape[1:]
    try:
        networks = Networks(settings, (height, width, channels), len(data.classes))
    except ValueError as error:
        raise UserError(str(error)) from error
    return GanSetup(data, train, networks)


def finish(run: Run, settings: GanSettings, setup: GanSetup, console: Console) -> None:
    """Trains to the end and draws the samples; see `batchnorm_app.train.start.Training`."""
    history: list[Interval] = []
    networks = setup.networks
    if run.checkpoint.exists():
        history = checkpoint.restore(run.checkpoint, networks.variables, Interval, settings.steps)
        write_csv(run.history, history)
    try:
        _train(run, settings, setup, history, console)
    except NonFiniteError as error:
        raise NonFiniteError(f"{error} {_keep_last_good(run, settings, setup)}") from error
    _animate(run, history)
    save_model(run, networks.average)
    seconds = sum(row.seconds for row in history)
    write_json(
        run.results,
        {
            "steps": settings.steps,
            "seconds": seconds,
            "milliseconds_a_step": 1000.0 * seconds / settings.steps,
            "discriminator_loss": history[-1].discriminator_loss,
            "generator_loss": history[-1].generator_loss,
        },
    )


def _animate(run: Run, history: list[Interval]) -> None:
    """Writes the animation of the frames that exist; a user may have deleted some."""
    frames = [frame for row in history if (frame := run.frame(row.step)).exists()]
    if frames:
        with atomic(run.animation) as temporary:
            try:
                animation(frames, temporary)
            except ValueError as error:
                raise UserError(f"{error}: delete it and --resume.") from error


def show(run: Run, console: Console) -> None:
    """Prints the time and the path of the samples; see `batchnorm_app.train.start.Training`."""
    results = read_numbers(run.results, ["steps", "seconds", "milliseconds_a_step"], HINT)
    line = (
        f"{results['steps']} steps in {results['seconds']:.1f} s, "
        f"{results['milliseconds_a_step']:.0f} ms each; samples: {run.samples}"
    )
    say(line, console)
    line = f"To score them: batchnorm evaluate {quote(str(run.folder))}"
    say(line, console)


def _train(
    run: Run, settings: GanSettings, setup: GanSetup, history: list[Interval], console: Console
) -> None:
    data, train, networks = setup
    first = history[-1].step if history else 0
    events = Events(run.tensorboard)
    for row in history:
        _write_events(events, run, row)
    losses: list[tuple[float, float]] = []
    with StepBar(console, first, settings.steps) as bar:
        start = time.perf_counter()
        for step, batch in enumerate(_batches(train, settings, first), first):
            pair = networks.step(*batch, *draw_inputs(settings, len(data.classes), step))
            losses.append((float(pair[0]), float(pair[1])))
            for name, loss in zip(("discriminator", "generator"), losses[-1], strict=True):
                check_finite(f"the {name}'s loss", loss, f"step {step + 1}")
            bar.advance(*losses[-1])
            if (step + 1) % settings.samples_every == 0 or step + 1 == settings.steps:
                means = np.mean(losses, axis=0).tolist()
                rate = float(networks.generator_optimizer.learning_rate)
                row = Interval(step + 1, rate, means[0], means[1], time.perf_counter() - start)
                history.append(row)
                _record(run, settings, setup, history)
                _write_events(events, run, row)
                bar.say(row, len(losses))
                losses, start = [], time.perf_counter()


def _batches(
    train: Shuffled, settings: GanSettings, first: int
) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Yields the real images and labels of each step from the first on, `(k, N, ...)` each."""
    count = settings.discriminator_steps
    epoch = -1
    for step in range(first, settings.steps):
        batches = []
        for index in range(step * count, (step + 1) * count):
            if index // len(train) != epoch:
                epoch = index // len(train)
                train.start(epoch)
            batches.append(train[index % len(train)])
        yield tuple(np.stack(arrays) for arrays in zip(*batches, strict=True))


def _record(run: Run, settings: GanSettings, setup: GanSetup, history: list[Interval]) -> None:
    """Draws the samples, then writes checkpoint and history, so that no picture is missing."""
    data, _, networks = setup
    classes, title = len(data.classes), f"step {history[-1].step}"
    calibrate(networks.calibration, settings.seed, CALIBRATION)
    values = checkpoint.values(networks.variables, title)  # raises before pictures of NaN are drawn
    points = np.tile(latents(settings.seed, COLUMNS, settings.latent_size), (classes, 1))
    labels = np.eye(classes, dtype=np.float32).repeat(COLUMNS, axis=0)
    images = generate(networks.average, points, labels)
    images = images.reshape(classes, COLUMNS, *images.shape[1:])
    run.frames.mkdir(exist_ok=True)
    frame = run.frame(history[-1].step)
    with atomic(frame) as temporary:
        samples(images, data.classes, temporary, title)
    with atomic(run.samples) as temporary:
        shutil.copyfile(frame, temporary)
    checkpoint.save(run.checkpoint, values, history)
    write_csv(run.history, history)


def _write_events(events: Events, run: Run, row: Interval) -> None:
    """Adds a row of the history to TensorBoard's event files."""
    scalars = {name: value for name, value in row._asdict().items() if name != "step"}
    events.scalars("train", row.step, scalars)
    if run.frame(row.step).exists():
        events.picture("samples", row.step, "samples", run.frame(row.step))


def _keep_last_good(run: Run, settings: GanSettings, setup: GanSetup) -> str:
    if not run.checkpoint.exists():
        return "No checkpoint was written yet, so there is nothing to keep."
    networks = setup.networks
    history = checkpoint.restore(run.checkpoint, networks.variables, Interval, settings.steps)
    save_model(run, networks.average)
    return f"{run.model} and {run.checkpoint.name} are those of step {history[-1].step}."
