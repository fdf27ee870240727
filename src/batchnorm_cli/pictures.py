"""Commands that draw pictures of a run that is trained."""

from pathlib import Path
from typing import Annotated

import typer

from batchnorm_cli.backend import choose_backend, need
from batchnorm_cli.console import say
from batchnorm_cli.errors import errors_in_words
from batchnorm_cli.options import LAST_SEED, Backend, RunFolder, path_option


def features(
    run: RunFolder,
    image: Annotated[int, typer.Option(help="Which test image, from 0.", min=0)] = 0,
    output: Annotated[
        Path | None, path_option("The picture; default: features.png in RUN.")
    ] = None,
    backend: Backend = None,
) -> None:
    """Draw what the first layers of a trained model make of an image."""
    with errors_in_words():
        need("matplotlib")
        choose_backend(backend, run)
        from batchnorm.train.features import draw
        from batchnorm.train.run import Run

        say(f"Drawn: {draw(Run(run), image, output)}")


def sample(
    run: RunFolder,
    classes: Annotated[
        str | None,
        typer.Option(
            help="What to draw, by numbers or names: 0,3,Bag; default: every class.",
            metavar="CLASSES",
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            help="Go from a class to another, by mixtures of the two: 0:3.", metavar="CLASS:CLASS"
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Images in a row.", min=1, max=100)] = 10,
    seed: Annotated[
        int, typer.Option(help="Decides the random numbers.", min=0, max=LAST_SEED)
    ] = 0,
    output: Annotated[Path | None, path_option("The picture; default: sample.png in RUN.")] = None,
    backend: Backend = None,
) -> None:
    """Draw images with a trained generator, a row for each class."""
    if classes is not None and mix is not None:
        raise typer.BadParameter("--mix and --classes exclude each other.")
    with errors_in_words():
        need("matplotlib", "PIL")
        choose_backend(backend, run)
        from batchnorm.train.gan import sample as sampling
        from batchnorm.train.run import Run

        if mix is not None:
            picture = sampling.mix(Run(run), mix.split(":"), count, seed, output)
        else:
            wanted = None if classes is None else classes.split(",")
            picture = sampling.draw(Run(run), wanted, count, seed, output)
        say(f"Drawn: {picture}")


def statistics(
    run: RunFolder,
    output: Annotated[
        Path | None, path_option("The picture; default: statistics.png in RUN.")
    ] = None,
) -> None:
    """Draw what the normalization layers of a classifier kept, layer by layer, epoch by epoch."""
    with errors_in_words():
        need("matplotlib")
        choose_backend(None, run)
        from batchnorm.train.run import Run
        from batchnorm.train.statistics import draw

        say(f"Drawn: {draw(Run(run), output)}")
