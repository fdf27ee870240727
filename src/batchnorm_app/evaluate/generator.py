"""Evaluates the generator of a run: trains a judge, generates images, scores them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchnorm.data import Dataset, Split, load
from batchnorm_app.console import say
from batchnorm_app.errors import UserError
from batchnorm_app.evaluate.judge import train_judge
from batchnorm_app.evaluate.model_files import read_extractor, read_judge
from batchnorm_app.evaluate.scores import Scores, score
from batchnorm_app.files import atomic, write_json
from batchnorm_app.progress import Stage
from batchnorm_app.runs.load import gan_settings, load_generator
from batchnorm_app.runs.run import Run
from batchnorm_app.train.gan.generate import generate, latents
from batchnorm_app.train.loop import make_repeatable

MAX_GENERATED = 20_000  # images for GAN-train, unless the request sets their number
JUDGE_IMAGES = 128_000  # that a judge sees in its training, repeated for a small data set
CHUNK = 1000  # images between two steps of the bar


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """The settings of an evaluation.

    Attributes:
        count: generated images to judge, at least 1.
        train_count: generated images to train GAN-train's classifier on, at least 128; `None` for
            as many as the real training images, but at most 20,000.
        judge: the file of a classifier; `None` to train one.
        features: the file of a model from images to features; `None` for those of the judge.
        judge_epochs: epochs of the judge's training; `None` for 5, or more of a small data set.
        seed: of the judge, of GAN-train's classifier, and of the latents.
    """

    count: int = 2000
    train_count: int | None = None
    judge: Path | None = None
    features: Path | None = None
    judge_epochs: int | None = None
    seed: int = 0


def evaluate_generator(run: Run, request: EvaluationRequest, console: Console) -> Scores:
    """Scores the generator of a run, and writes and prints the scores.

    Args:
        run: a finished run of a GAN; receives `scores.json`, and the judge if one is trained.
        request: the settings.
        console: shows the progress and the table.

    Returns:
        The scores.

    Raises:
        UserError: the folder is not a finished run of a GAN, a model does not fit the data, is
            missing or damaged, or a file cannot be written.
        DataError: the data cannot be read.
    """
    settings = gan_settings(run)
    model = load_generator(run)
    real = load(settings.data, settings.data_dir)
    make_repeatable(request.seed)
    extractor = None if request.features is None else read_extractor(request.features, real)
    amounts = _amounts(request, real)
    if request.judge is None:
        judge = _train_judge(run, real, amounts.judge_epochs, request.seed, console)
    else:
        judge = read_judge(request.judge, real)
    total = max(request.count, amounts.trained_on, amounts.compared)
    generated = _generate(model, len(real.classes), total, request.seed, console)
    scores = _score(judge, real, generated, request, amounts, extractor, console)
    _write(run, scores, request, amounts)
    _show(run, scores, request, amounts, console)
    return scores


class _Amounts(NamedTuple):
    """The numbers of epochs and images, from the request and the data."""

    judge_epochs: int
    trained_on: int  # generated images, for GAN-train's classifier
    gan_train_epochs: int
    compared: int  # real test images, and as many generated ones


def _amounts(request: EvaluationRequest, real: Dataset) -> _Amounts:
    images = len(real.train.labels)
    epochs = request.judge_epochs or max(5, math.ceil(JUDGE_IMAGES / images))
    trained_on = request.train_count or min(images, MAX_GENERATED)
    # The classifier of GAN-train takes as many steps as the judge.
    gan_train_epochs = max(1, round(epochs * images / trained_on))
    return _Amounts(epochs, trained_on, gan_train_epochs, len(real.test.labels))


def _train_judge(run: Run, real: Dataset, epochs: int, seed: int, console: Console) -> keras.Model:
    text = f"A judge learns from {len(real.train.labels):,} real images, {_epochs(epochs)}"
    with Stage(console, text) as stage:
        judge = train_judge(
            real.train, len(real.classes), epochs=epochs, seed=seed, callbacks=[stage]
        )
    with atomic(run.judge) as temporary:
        judge.save(temporary)
    return judge


def _generate(model: keras.Model, classes: int, count: int, seed: int, console: Console) -> Split:
    """Generates images of each class in turn, so that the first ones are balanced, too."""
    labels = np.arange(count) % classes
    mixtures = np.eye(classes, dtype=np.float32)[labels]
    points = latents(seed, count, model.inputs[0].shape[1])
    parts = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
    images = []
    with Stage(console, f"The generator makes {count:,} images", len(parts)) as stage:
        for part in parts:
            images.append(generate(model, points[part], mixtures[part]))
            stage.advance()
    return Split(np.concatenate(images), labels)


def _score(
    judge: keras.Model,
    real: Dataset,
    generated: Split,
    request: EvaluationRequest,
    amounts: _Amounts,
    extractor: keras.Model | None,
    console: Console,
) -> Scores:
    epochs = _epochs(amounts.gan_train_epochs)
    text = f"A classifier learns from {amounts.trained_on:,} generated images, {epochs}"
    with Stage(console, text, then="The scores are measured") as stage:
        try:
            return score(
                judge,
                real,
                generated,
                judged=request.count,
                trained_on=amounts.trained_on,
                gan_train_epochs=amounts.gan_train_epochs,
                seed=request.seed,
                extractor=extractor,
                callbacks=[stage],
            )
        except ValueError as error:
            raise UserError(str(error)) from error


def _write(run: Run, scores: Scores, request: EvaluationRequest, amounts: _Amounts) -> None:
    write_json(
        run.scores,
        {
            **scores._asdict(),
            "judged": request.count,
            "trained_on": amounts.trained_on,
            "compared": amounts.compared,
            "judge": str(request.judge or run.judge),
            "features": "the judge's" if request.features is None else str(request.features),
            "judge_epochs": amounts.judge_epochs if request.judge is None else None,
            "gan_train_epochs": amounts.gan_train_epochs,
            "seed": request.seed,
        },
    )


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _show(
    run: Run, scores: Scores, request: EvaluationRequest, amounts: _Amounts, console: Console
) -> None:
    tests = amounts.compared
    owner = "the judge" if request.features is None else request.features.name
    diversity = f"{scores.diversity / scores.diversity_real:.3f}"
    table = Table(title="Scores", show_lines=True)
    for name in ("score", "", "meaning"):
        table.add_column(name, justify="right" if not name else "left", overflow="fold")
    for row in (
        (
            "judge's accuracy",
            f"{scores.judge_accuracy:.3f}",
            f"Of {tests:,} real test images, the share that the judge classifies correctly; what "
            "GAN-test would be if generated images were like real ones.",
        ),
        (
            "GAN-test",
            f"{scores.gan_test:.3f}",
            f"Of {request.count:,} generated images, the share that the judge assigns to the class "
            "they were generated as: can they be recognized?",
        ),
        (
            "GAN-train",
            f"{scores.gan_train:.3f}",
            "Of the real test images, the share recognized by a classifier that learned from "
            f"{amounts.trained_on:,} generated images alone: are they as varied as real ones?",
        ),
        (
            "diversity",
            diversity,
            f"Mean distance of generated images of one class on {owner}'s features, relative to "
            "real ones; 0 if all are alike.",
        ),
        (
            f"Frechet distance on {owner}'s features",
            f"{scores.frechet_distance:.4g}",
            f"Between {tests:,} generated and as many real test images; the best is 0. Compare it "
            "only for the same features and numbers of images.",
        ),
    ):
        table.add_row(*map(Text, row))
    console.print(table)
    line = f"Written: {run.scores}"
    say(line, console)
