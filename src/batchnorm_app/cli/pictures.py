"""Commands that draw pictures of a trained run."""

from pathlib import Path
from typing import Annotated

import typer

from batchnorm_app.choices import SAMPLES_PER_ROW
from batchnorm_app.cli.backend import choose_backend, need
from batchnorm_app.cli.errors import report_errors
from batchnorm_app.cli.options import RunBackend, RunFolder, Seed, integer, path_option
from batchnorm_app.console import say


def features(
    run: RunFolder,
    image: Annotated[int, typer.Option(help="Index of the test image, from 0.", min=0)] = 0,
    output: Annotated[
        Path | None, path_option("Picture file; default: features.png in RUN.")
    ] = None,
    backend: RunBackend = None,
) -> None:
    """Draw the feature maps of a classifier's first layers for an image."""
    with report_errors():
        need("matplotlib")
        choose_backend(backend, run)
        from batchnorm_app.runs.run import Run
        from batchnorm_app.train.pictures import draw_feature_maps

        say(f"Drawn: {draw_feature_maps(Run(run), image, output)}")


def sample(
    run: RunFolder,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Classes to draw, by number or name, such as 0,3,Bag; default: all.",
            metavar="CLASSES",
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            help="Draw interpolations from one class to another, such as 0:3.",
            metavar="CLASS:CLASS",
        ),
    ] = None,
    count: Annotated[int, integer("Images per row.", SAMPLES_PER_ROW)] = 10,
    seed: Seed = 0,
    output: Annotated[Path | None, path_option("Picture file; default: sample.png in RUN.")] = None,
    backend: RunBackend = None,
) -> None:
    """Draw images of a trained generator, one row per class."""
    if classes is not None and mix is not None:
        raise typer.BadParameter("--mix and --classes exclude each other.")
    with report_errors():
        need("matplotlib", "PIL")
        choose_backend(backend, run)
        from batchnorm_app.runs.run import Run
        from batchnorm_app.train.gan import sample as sampling

        if mix is not None:
            picture = sampling.mix(Run(run), mix.split(":"), count, seed, output)
        else:
            class_names = None if classes is None else classes.split(",")
            picture = sampling.sample(Run(run), class_names, count, seed, output)
        say(f"Drawn: {picture}")


def statistics(
    run: RunFolder,
    output: Annotated[
        Path | None, path_option("Picture file; default: statistics.png in RUN.")
    ] = None,
) -> None:
    """Draw the statistics of a classifier's normalization layers, by layer and epoch."""
    with report_errors():
        need("matplotlib")
        choose_backend(None, run)
        from batchnorm_app.runs.run import Run
        from batchnorm_app.train.pictures import draw_statistics

        say(f"Drawn: {draw_statistics(Run(run), output)}")
