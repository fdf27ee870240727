"""`batchnorm train`: a command for each model, whose options are the settings of its training."""

import time
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from batchnorm_cli.backend import choose_backend, need
from batchnorm_cli.console import console
from batchnorm_cli.errors import errors_in_words
from batchnorm_cli.options import (
    BLOCKS,
    CONDITIONINGS,
    DECAYS,
    LAST_SEED,
    OPTIMIZERS,
    PRECISIONS,
    Backend,
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
    named,
)
from batchnorm_cli.options import decay as weight_decay_in_range

app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False)
PICTURES = 20  # that a GAN's training draws, unless told otherwise


@app.callback()
def train() -> None:
    """Train a model: pictures, numbers, logs and the model go to a folder.

    An interrupted run continues with --resume to the same weights, bit for bit.
    """


@app.command()
def lenet(
    context: typer.Context,
    data: Data = "fashion-mnist-sample",
    data_dir: DataDir = None,
    epochs: Epochs = 10,
    batch_size: BatchSize = 32,
    optimizer: Annotated[str, named(OPTIMIZERS, "What takes the steps")] = "adam",
    learning_rate: LearningRate = 1e-2,
    schedule: EpochSchedule = "cosine",
    seed: Seed = 0,
    normalization: Normalization = "ours",
    image_size: Annotated[
        int | None,
        typer.Option(help="Side that the network sees; default: the images'.", min=16, max=512),
    ] = None,
    backend: Backend = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train LeNet, a classifier of small images.

    An interrupted run continues with --resume to the same weights, bit for bit.
    """
    _train("lenet", context, context.params)


def _share(value: float) -> float:
    if not 0 <= value < 1:
        raise typer.BadParameter(
            f"{value} is not in [0, 1): at 0 nothing is kept of what was, and at 1 nothing is new."
        )
    return value


@app.command()
def resnet(
    context: typer.Context,
    data: Data = "fashion-mnist-sample",
    data_dir: DataDir = None,
    depth: Annotated[
        int,
        typer.Option(
            help="Layers with weights: 6n + 2 of basic blocks, 9n + 2 of bottlenecks.",
            min=1,
            max=1202,
        ),
    ] = 20,
    block: Annotated[
        str | None, named(BLOCKS, "What it is made of; default: what fits the depth")
    ] = None,
    epochs: Epochs = 10,
    batch_size: BatchSize = 128,
    learning_rate: LearningRate = 0.1,
    schedule: EpochSchedule = "cosine",
    momentum: Annotated[
        float, typer.Option(help="What a step keeps of the one before.", callback=_share)
    ] = 0.9,
    weight_decay: Annotated[
        float,
        typer.Option(
            help="What weights lose in a step, times the rate; with momentum 0.9, ten times the "
            "coefficient of an L2 penalty.",
            callback=weight_decay_in_range,
        ),
    ] = 5e-3,
    decay: Annotated[
        str, named(DECAYS, "What loses weight, kernels alone or gammas, betas and biases too")
    ] = "kernels",
    augment: Annotated[
        bool, typer.Option(help="Move training images by up to 4 pixels, and flip half of them.")
    ] = True,
    precision: Annotated[
        str, named(PRECISIONS, "What is computed in, beside weights and statistics")
    ] = "float32",
    seed: Seed = 0,
    normalization: Normalization = "ours",
    backend: Backend = None,
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
        named(CONDITIONINGS, "How the generator is told what to draw, by normalizations per class"),
    ] = "class",
    width: Annotated[
        int, typer.Option(help="Filters at the images' full size.", min=1, max=512)
    ] = 16,
    steps: Annotated[
        int, typer.Option(help="Steps of the generator.", min=1, max=10_000_000)
    ] = 1000,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = 2e-3,
    discriminator_learning_rate: DiscriminatorLearningRate = 1e-3,
    schedule: Schedule = "cosine",
    latent_size: Annotated[
        int, typer.Option(help="Random numbers that an image is made of.", min=1, max=1024)
    ] = 64,
    discriminator_steps: Annotated[
        int,
        typer.Option(help="Steps of the discriminator for each of the generator.", min=1, max=32),
    ] = 1,
    average: Annotated[
        float,
        typer.Option(
            help="What a step keeps of the generator's average, from 0 to below 1.",
            callback=_share,
        ),
    ] = 0.998,
    samples_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between two pictures, lines of the history and checkpoints; default: a "
            f"{PICTURES}th of --steps.",
            min=1,
            max=10_000_000,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="Decides weights, order and all that is drawn.", min=0, max=LAST_SEED),
    ] = 0,
    normalization: Normalization = "ours",
    backend: Backend = None,
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
    """Starts a run or takes one up again.

    Args:
        model: its name.
        context: knows which options the user gave.
        options: their values, under the settings' names but for those that say where.
        modules: of the extra `train`, that this model needs beside the usual ones.
    """
    output, resume, overwrite = (options[name] for name in ("output", "resume", "overwrite"))
    if resume and (overwrite or output is None):
        raise typer.BadParameter("--resume needs --output, and excludes --overwrite.")
    folder = output or Path("runs", f"{model}-{time.strftime('%Y%m%d-%H%M%S')}")
    apart = ("output", "resume", "overwrite")
    settings = {"model": model} | {k: v for k, v in options.items() if k not in apart}
    again = f"batchnorm train {model} --output {quote(str(folder))} --resume"
    with errors_in_words(again, folder):
        need("matplotlib", "tensorboard", *modules)
        chosen = choose_backend(settings["backend"], folder if resume else None)
        from batchnorm.train.run import Run
        from batchnorm.train.start import resume as go_on
        from batchnorm.train.start import start

        if resume:
            go_on(Run(folder), {"model": model} | _given(context, settings), console())
        else:
            checked = _checked(settings | {"backend": chosen})
            start(Run(folder), checked, overwrite, console())


def _checked(settings: dict[str, Any]) -> Any:
    """The settings of a run, or the refusal of the option that is out of range."""
    from batchnorm.train.limits import SettingError
    from batchnorm.train.normalization import GRAMMAR
    from batchnorm.train.settings import Settings

    try:
        return Settings.checked(settings)
    except SettingError as error:
        grammar = f" Allowed are\n{GRAMMAR}" if error.setting == "normalization" else ""
        option = f"--{error.setting.replace('_', '-')}"
        raise typer.BadParameter(f"{option} {error.received}: {error.reason}{grammar}") from None


def _given(context: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    sources = {name: context.get_parameter_source(name) for name in values}
    return {
        name: values[name]
        for name, source in sources.items()
        if source and source.name != "DEFAULT"
    }
