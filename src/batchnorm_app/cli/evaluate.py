"""`batchnorm evaluate`: scores of a trained generator."""

from pathlib import Path
from typing import Annotated

from batchnorm_app import choices
from batchnorm_app.cli.backend import choose_backend
from batchnorm_app.cli.errors import report_errors
from batchnorm_app.cli.options import RunBackend, RunFolder, Seed, integer, path_option
from batchnorm_app.console import console


def evaluate(
    run: RunFolder,
    count: Annotated[
        int,
        integer("Generated images for the judge (GAN-test).", choices.GENERATED_IMAGES),
    ] = 2000,
    train_count: Annotated[
        int | None,
        integer(
            "Generated images to train a classifier on (GAN-train); default: as many as the real "
            "training images, at most 20,000.",
            choices.GAN_TRAIN_IMAGES,
        ),
    ] = None,
    judge: Annotated[
        Path | None,
        path_option(
            "Classifier of the real images, such as judge.keras of another run; default: train "
            "one and write it to RUN.",
            metavar="FILE",
        ),
    ] = None,
    features: Annotated[
        Path | None,
        path_option(
            "Keras model that maps images to features, for diversity and distances; "
            "default: the judge's features.",
            metavar="FILE",
        ),
    ] = None,
    judge_epochs: Annotated[
        int | None,
        integer(
            "Epochs of the judge on the real images; GAN-train takes as many steps. Default: 5, "
            "or more for a small data set.",
            choices.JUDGE_EPOCHS,
        ),
    ] = None,
    seed: Seed = 0,
    backend: RunBackend = None,
) -> None:
    """Score a trained generator with classifiers and distances.

    Writes the scores to scores.json in RUN.
    """
    with report_errors():
        choose_backend(backend, run)
        from batchnorm_app.evaluate.generator import EvaluationRequest, evaluate_generator
        from batchnorm_app.runs.run import Run

        request = EvaluationRequest(
            count=count,
            train_count=train_count,
            judge=judge,
            features=features,
            judge_epochs=judge_epochs,
            seed=seed,
        )
        evaluate_generator(Run(run), request, console())
