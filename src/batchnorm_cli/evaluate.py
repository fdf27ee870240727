"""`batchnorm evaluate`: what the images of a trained generator are worth."""

from pathlib import Path
from typing import Annotated

import typer

from batchnorm_cli.backend import choose_backend
from batchnorm_cli.console import console
from batchnorm_cli.errors import errors_in_words
from batchnorm_cli.options import LAST_SEED, Backend, RunFolder, path_option

MOST_IMAGES = 1_000_000  # which are held in memory


def evaluate(
    run: RunFolder,
    count: Annotated[
        int,
        typer.Option(
            help="Generated images that the judge looks at (GAN-test).", min=1, max=MOST_IMAGES
        ),
    ] = 2000,
    train_count: Annotated[
        int | None,
        typer.Option(
            help="Generated images that a classifier learns from (GAN-train); default: as many as "
            "the real training images, at most 20,000.",
            min=128,
            max=MOST_IMAGES,
        ),
    ] = None,
    judge: Annotated[
        Path | None,
        path_option(
            "A classifier of the real images, such as judge.keras of another run; default: "
            "one is trained, and written to RUN.",
            metavar="FILE",
        ),
    ] = None,
    features: Annotated[
        Path | None,
        path_option(
            "A Keras model from images to features, to measure diversity and distance on; "
            "default: the judge's features.",
            metavar="FILE",
        ),
    ] = None,
    judge_epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the real images for the judge; GAN-train makes as many steps. "
            "Default: 5, or more for a small data set.",
            min=1,
            max=10_000,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="Decides the judge and what is generated.", min=0, max=LAST_SEED),
    ] = 0,
    backend: Backend = None,
) -> None:
    """Score a trained generator, by classifiers and distances.

    The scores go to scores.json in RUN.
    """
    with errors_in_words():
        choose_backend(backend, run)
        from batchnorm.train.gan import evaluate as scoring
        from batchnorm.train.run import Run

        asked = scoring.Asked(
            count=count,
            train_count=train_count,
            judge=judge,
            features=features,
            judge_epochs=judge_epochs,
            seed=seed,
        )
        scoring.evaluate(Run(run), asked, console())
