"""A GAN's training: from its settings to a folder full of samples."""

import shutil
import time
from collections.abc import Iterator
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console

from batchnorm.data import Dataset, load
from batchnorm.plots.samples import animation, samples
from batchnorm.train import checkpoint
from batchnorm.train.batches import Shuffled
from batchnorm.train.errors import RunError
from batchnorm.train.files import atomic, read_numbers, write_json
from batchnorm.train.fit import make_repeatable, save_model
from batchnorm.train.gan.generate import calibrate, generate, latents
from batchnorm.train.gan.networks import Networks, draws
from batchnorm.train.gan.progress import ProgressBar
from batchnorm.train.history import NonFiniteError, check_finite, write_csv
from batchnorm.train.results import HINT
from batchnorm.train.run import Run
from batchnorm.train.settings import GanSettings
from batchnorm.train.tensorboard import Events

COLUMNS = 10  # of samples, a latent each
CALIBRATION = (4, 250)  # batches, and images in each


class Interval(NamedTuple):
    """One row of the history; the names are the columns of `history.csv`.

    Attributes:
        step: how many steps were done, at its end.
        learning_rate: the generator's, at its end.
        discriminator_loss: mean over the steps since the row before.
        generator_loss: likewise.
        seconds: of these steps.
    """

    step: int
    learning_rate: float
    discriminator_loss: float
    generator_loss: float
    seconds: float


class Prepared(NamedTuple):
    """What a training needs, before its folder is touched."""

    data: Dataset
    train: Shuffled
    networks: Networks


def prepare(settings: GanSettings) -> Prepared:
    """Reads the data and builds the networks; see `batchnorm.train.start.Training`."""
    make_repeatable(settings.seed)
    data = load(settings.data, settings.data_dir)
    train = Shuffled(data.train, settings.batch_size, settings.seed)
    height, width, channels = data.train.images.shape[1:]
    try:
        networks = Networks(settings, (height, width, channels), len(data.classes))
    except ValueError as error:
        raise RunError(str(error)) from error
    return Prepared(data, train, networks)


def finish(run: Run, settings: GanSettings, prepared: Prepared, console: Console) -> None:
    """Trains to the end and draws the samples; see `batchnorm.train.start.Training`."""
    history: list[Interval] = []
    networks = prepared.networks
    if run.checkpoint.exists():
        history = checkpoint.restore(run.checkpoint, networks.variables, Interval, settings.steps)
        write_csv(run.history, history)
    try:
        _train(run, settings, prepared, history, console)
    except NonFiniteError as error:
        raise NonFiniteError(f"{error} {_keep_last_good(run, settings, prepared)}") from error
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
    """Writes the animation of the frames, of which a user may have deleted some."""
    frames = [frame for row in history if (frame := run.frame(row.step)).exists()]
    if frames:
        with atomic(run.animation) as temporary:
            try:
                animation(frames, temporary)
            except ValueError as error:
                raise RunError(f"{error}: delete it and --resume.") from error


def show(run: Run, console: Console) -> None:
    """Prints where the samples are; see `batchnorm.train.start.Training`."""
    results = read_numbers(run.results, ["steps", "seconds", "milliseconds_a_step"], HINT)
    line = (
        f"{results['steps']} steps in {results['seconds']:.1f} s, "
        f"{results['milliseconds_a_step']:.0f} ms each; samples: {run.samples}"
    )
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    line = f"How good they are: batchnorm evaluate {quote(str(run.folder))}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _train(
    run: Run, settings: GanSettings, prepared: Prepared, history: list[Interval], console: Console
) -> None:
    data, train, networks = prepared
    first = history[-1].step if history else 0
    events = Events(run.tensorboard)
    for row in history:
        _tell(events, run, row)
    losses: list[tuple[float, float]] = []
    with ProgressBar(console, first, settings.steps) as progress:
        start = time.perf_counter()
        for step, batch in enumerate(_batches(train, settings, first), first):
            pair = networks.step(*batch, *draws(settings, len(data.classes), step))
            losses.append((float(pair[0]), float(pair[1])))
            for name, loss in zip(("discriminator", "generator"), losses[-1], strict=True):
                check_finite(f"the {name}'s loss", loss, f"step {step + 1}")
            progress.advance(*losses[-1])
            if (step + 1) % settings.samples_every == 0 or step + 1 == settings.steps:
                means = np.mean(losses, axis=0).tolist()
                rate = float(networks.generator_optimizer.learning_rate)
                row = Interval(step + 1, rate, means[0], means[1], time.perf_counter() - start)
                history.append(row)
                _record(run, settings, prepared, history)
                _tell(events, run, row)
                progress.say(row, len(losses))
                losses, start = [], time.perf_counter()


def _batches(
    train: Shuffled, settings: GanSettings, first: int
) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """The real images and labels of each step from the first on, `(k, N, ...)` each."""
    count = settings.discriminator_steps
    epoch = -1
    for step in range(first, settings.steps):
        found = []
        for number in range(step * count, (step + 1) * count):
            if number // len(train) != epoch:
                epoch = number // len(train)
                train.start(epoch)
            found.append(train[number % len(train)])
        yield tuple(np.stack(each) for each in zip(*found, strict=True))


def _record(run: Run, settings: GanSettings, prepared: Prepared, history: list[Interval]) -> None:
    """Draws the samples; then, so that no picture is missed, writes checkpoint and history."""
    data, _, networks = prepared
    classes, title = len(data.classes), f"step {history[-1].step}"
    calibrate(networks.average, settings.seed, CALIBRATION, networks.forward)
    values = checkpoint.values(networks.variables, title)  # before pictures of NaN
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


def _tell(events: Events, run: Run, row: Interval) -> None:
    """Adds a row of the history to TensorBoard's files."""
    scalars = {name: value for name, value in row._asdict().items() if name != "step"}
    events.scalars("train", row.step, scalars)
    if run.frame(row.step).exists():
        events.picture("samples", row.step, "samples", run.frame(row.step))


def _keep_last_good(run: Run, settings: GanSettings, prepared: Prepared) -> str:
    if not run.checkpoint.exists():
        return "No checkpoint was written yet, so there is nothing to keep."
    networks = prepared.networks
    history = checkpoint.restore(run.checkpoint, networks.variables, Interval, settings.steps)
    save_model(run, networks.average)
    return f"{run.model} and {run.checkpoint.name} are those of step {history[-1].step}."
