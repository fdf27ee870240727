"""`batchnorm train`: a command for each model, whose options are the settings of its training."""

import time
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from batchnorm_app import choices
from batchnorm_app.cli.backend import choose_backend, need
from batchnorm_app.cli.errors import report_errors
from batchnorm_app.cli.options import (
    BatchSize,
    Data,
    DataDir,
    DiscriminatorLearningRate,
    Epochs,
    EpochSchedule,
    Group,
    LearningRate,
    Normalization,
    Output,
    Overwrite,
    Resume,
    Schedule,
    Seed,
    TrainBackend,
    integer,
    is_given,
    named,
    number,
)
from batchnorm_app.console import console

app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False)
PICTURES = 20  # of a GAN's training, by default
_FOLDER_OPTIONS = ("output", "resume", "overwrite")  # all others are settings
_MOMENTUM_REASON = ": 0 keeps nothing of the past, 1 would never change."


@app.callback()
def train() -> None:
    """Train a model and write it to a folder, with curves, logs and results.

    An interrupted run continues with --resume to the same weights, bit for bit.
    """


@app.command()
def lenet(
    context: typer.Context,
    data: Data = "fashion-mnist-sample",
    data_dir: DataDir = None,
    epochs: Epochs = 10,
    batch_size: BatchSize = 32,
    optimizer: Annotated[str, named("Optimizer", choices.OPTIMIZERS)] = "adam",
    learning_rate: LearningRate = 1e-2,
    schedule: EpochSchedule = "cosine",
    seed: Seed = 0,
    normalization: Normalization = "ours",
    image_size: Annotated[
        int | None,
        integer(
            "Resize images to this side length in pixels; default: no resizing.", choices.IMAGE_SIZE
        ),
    ] = None,
    backend: TrainBackend = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train LeNet, a classifier of small images.

    An interrupted run continues with --resume to the same weights, bit for bit.
    """
    _train("lenet", context, context.params)


@app.command()
def resnet(
    context: typer.Context,
    data: Data = "fashion-mnist-sample",
    data_dir: DataDir = None,
    depth: Annotated[
        int,
        integer(
            "Number of layers with weights: 6n + 2 with basic blocks, 9n + 2 with bottlenecks.",
            choices.DEPTH,
        ),
    ] = 20,
    block: Annotated[
        str | None, named("Residual block", choices.BLOCKS, "; default: the one that fits --depth")
    ] = None,
    epochs: Epochs = 10,
    batch_size: BatchSize = 128,
    learning_rate: LearningRate = 0.1,
    schedule: EpochSchedule = "cosine",
    momentum: Annotated[
        float,
        number("Momentum of the optimizer, from 0 to below 1.", choices.MOMENTUM, _MOMENTUM_REASON),
    ] = 0.9,
    weight_decay: Annotated[
        float,
        number(
            "Decoupled weight decay, multiplied by the learning rate in each step; with momentum "
            "0.9, ten times the coefficient of an L2 penalty.",
            choices.WEIGHT_DECAY,
        ),
    ] = 5e-3,
    decay: Annotated[
        str,
        named("Weights that decay", choices.DECAYS, "; all adds gammas, betas and biases"),
    ] = "kernels",
    augment: Annotated[
        bool, typer.Option(help="Shift training images by up to 4 pixels and flip half of them.")
    ] = True,
    precision: Annotated[
        str,
        named("Precision", choices.PRECISIONS, "; weights and statistics stay float32"),
    ] = "float32",
    seed: Seed = 0,
    normalization: Normalization = "ours",
    backend: TrainBackend = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a pre-activation ResNet, a deep classifier of small images.

    An interrupted run continues with --resume to the same weights, bit for bit.
    """
    _train("resnet", context, context.params)


@app.command()
def gan(
    context: typer.Context,
    data: Data = "fashion-mnist-sample",
    data_dir: DataDir = None,
    conditioning: Annotated[
        str,
        named(
            "Conditioning of the generator",
            choices.CONDITIONINGS,
            "; class gives each class its own gammas and betas",
        ),
    ] = "class",
    width: Annotated[int, integer("Number of filters at full image size.", choices.WIDTH)] = 16,
    steps: Annotated[int, integer("Generator steps.", choices.STEPS)] = 1000,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = 2e-3,
    discriminator_learning_rate: DiscriminatorLearningRate = 1e-3,
    schedule: Schedule = "cosine",
    latent_size: Annotated[
        int, integer("Size of each image's latent vector.", choices.LATENT_SIZE)
    ] = 64,
    discriminator_steps: Annotated[
        int,
        integer("Discriminator steps per generator step.", choices.DISCRIMINATOR_STEPS),
    ] = 1,
    average: Annotated[
        float,
        number(
            "Momentum of the generator's averaged weights, from 0 to below 1.",
            choices.MOMENTUM,
            _MOMENTUM_REASON,
        ),
    ] = 0.998,
    samples_every: Annotated[
        int | None,
        integer(
            "Steps between pictures, history lines and checkpoints; default: a "
            f"{PICTURES}th of --steps.",
            choices.STEPS,
        ),
    ] = None,
    seed: Seed = 0,
    normalization: Normalization = "ours",
    backend: TrainBackend = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a GAN that draws images of each class.

    An interrupted run continues with --resume to the same weights, bit for bit.
    """
    every = samples_every or -(-steps // PICTURES)
    _train("gan", context, context.params | {"samples_every": every}, "PIL")


def _train(model: str, context: typer.Context, options: dict[str, Any], *modules: str) -> None:
    """Starts or resumes a run.

    Args:
        model: the name of the model.
        context: tells which options the user gave.
        options: their values, under the settings' names but for the three of the folder.
        modules: further modules of the extra `train` that this model needs.
    """
    output, resume, overwrite = (options[name] for name in _FOLDER_OPTIONS)
    if resume and (overwrite or output is None):
        raise typer.BadParameter("--resume needs --output, and excludes --overwrite.")
    folder = output or Path("runs", f"{model}-{time.strftime('%Y%m%d-%H%M%S')}")
    settings = {name: value for name, value in options.items() if name not in _FOLDER_OPTIONS}
    settings["model"] = model
    resume_command = f"batchnorm train {model} --output {quote(str(folder))} --resume"
    with report_errors(resume_command, folder):
        need("matplotlib", "tensorboard", *modules)
        backend = choose_backend(settings["backend"], folder if resume else None)
        from batchnorm_app.runs.run import Run
        from batchnorm_app.train import start

        if resume:
            received = {n: v for n, v in settings.items() if n == "model" or is_given(context, n)}
            start.resume(Run(folder), received, console())
        else:
            settings["backend"] = backend
            start.start(Run(folder), _check_settings(settings), overwrite, console())


def _check_settings(settings: dict[str, Any]) -> Any:
    """Returns the settings of a run; raises a usage error that names the option out of range."""
    from batchnorm_app.runs.expressions import GRAMMAR
    from batchnorm_app.runs.limits import SettingError
    from batchnorm_app.runs.settings import Settings

    try:
        return Settings.from_values(settings)
    except SettingError as error:
        grammar = f" Allowed are\n{GRAMMAR}" if error.setting == "normalization" else ""
        option = f"--{error.setting.replace('_', '-')}"
        raise typer.BadParameter(f"{option} {error.received}: {error.reason}{grammar}") from None
