"""The scores of a run of a GAN: a judge, generated images, a file of numbers, and a table."""

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
from batchnorm.models.classifier import FEATURES
from batchnorm.train.errors import RunError
from batchnorm.train.files import atomic, write_json
from batchnorm.train.fit import make_repeatable
from batchnorm.train.gan.generate import generate, latents
from batchnorm.train.gan.judge import train_judge
from batchnorm.train.gan.scores import Scores, score
from batchnorm.train.run import Run
from batchnorm.train.stage import Stage
from batchnorm.train.trained import gan_settings, generator, read

MOST = 20_000  # generated images for GAN-train, unless more are asked for
ENOUGH = 128_000  # real images for a judge to see, however few there are
AT_A_TIME = 1000  # images between two moves of the bar


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of an evaluation.

    Attributes:
        count: generated images that are judged, at least 1.
        train_count: generated images that a classifier learns from, at least 128; `None` for as
            many as the real training images, but at most 20,000.
        judge: the file of a classifier; `None` to train one.
        features: the file of a model from images to features; `None` for those of the judge.
        judge_epochs: how often the judge sees every real image; `None` for 5, or more of a small
            data set.
        seed: of the judge, of the classifier that learns from generated images, and of latents.
    """

    count: int = 2000
    train_count: int | None = None
    judge: Path | None = None
    features: Path | None = None
    judge_epochs: int | None = None
    seed: int = 0


def evaluate(run: Run, asked: Asked, console: Console) -> Scores:
    """Scores the generator of a run, and writes and prints the scores.

    Args:
        run: a finished run of a GAN; receives `scores.json`, and the judge if one is trained.
        asked: how to score.
        console: shows the progress and the table.

    Returns:
        The scores.

    Raises:
        RunError: the folder is not a finished run of a GAN, a model does not fit the data, is
            missing or damaged, or a file cannot be written.
        DataError: the data cannot be read.
    """
    settings = gan_settings(run)
    model = generator(run)
    real = load(settings.data, settings.data_dir)
    make_repeatable(asked.seed)
    extractor = None if asked.features is None else _extractor(asked.features, real)
    amounts = _amounts(asked, real)
    if asked.judge is None:
        judge = _train_judge(run, real, amounts.judge_epochs, asked.seed, console)
    else:
        judge = _judge(asked.judge, real)
    total = max(asked.count, amounts.trained_on, amounts.compared)
    generated = _generate(model, len(real.classes), total, asked.seed, console)
    scores = _score(judge, real, generated, asked, amounts, extractor, console)
    _write(run, scores, asked, amounts)
    _show(run, scores, asked, amounts, console)
    return scores


class _Amounts(NamedTuple):
    """How much is done, as follows from what is asked and from the data."""

    judge_epochs: int
    trained_on: int  # generated images, by GAN-train's classifier
    gan_train_epochs: int
    compared: int  # real images, and as many generated ones


def _amounts(asked: Asked, real: Dataset) -> _Amounts:
    images = len(real.train.labels)
    epochs = asked.judge_epochs or max(5, math.ceil(ENOUGH / images))
    trained_on = asked.train_count or min(images, MOST)
    # As many steps as the judge.
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
    """Images of each class in turn, so that the first of them are balanced, too."""
    labels = np.arange(count) % classes
    mixtures = np.eye(classes, dtype=np.float32)[labels]
    points = latents(seed, count, model.inputs[0].shape[1])
    parts = [slice(start, start + AT_A_TIME) for start in range(0, count, AT_A_TIME)]
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
    asked: Asked,
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
                judged=asked.count,
                trained_on=amounts.trained_on,
                gan_train_epochs=amounts.gan_train_epochs,
                seed=asked.seed,
                extractor=extractor,
                callbacks=[stage],
            )
        except ValueError as error:
            raise RunError(str(error)) from error


def _write(run: Run, scores: Scores, asked: Asked, amounts: _Amounts) -> None:
    write_json(
        run.scores,
        {
            **scores._asdict(),
            "judged": asked.count,
            "trained_on": amounts.trained_on,
            "compared": amounts.compared,
            "judge": str(asked.judge or run.judge),
            "features": "the judge's" if asked.features is None else str(asked.features),
            "judge_epochs": amounts.judge_epochs if asked.judge is None else None,
            "gan_train_epochs": amounts.gan_train_epochs,
            "seed": asked.seed,
        },
    )


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _judge(path: Path, real: Dataset) -> keras.Model:
    model = _read(path, real)
    found, wanted = model.outputs[0].shape[1:], (len(real.classes),)
    if len(model.outputs) != 1 or tuple(found) != wanted:
        raise RunError(
            f"{path} cannot judge {real.name}: it answers with {_shape(found)} for an image, and a "
            f"judge does with {_shape(wanted)}, a logit for each class."
        )
    if FEATURES not in [layer.name for layer in model.layers]:
        raise RunError(
            f"{path} is no judge: it has no layer {FEATURES!r} that could stand for an image. "
            "Leave --judge out to train one; it is written to the run."
        )
    return model


def _extractor(path: Path, real: Dataset) -> keras.Model:
    model = _read(path, real)
    found = model.outputs[0].shape[1:]
    if len(model.outputs) != 1 or len(found) != 1:
        raise RunError(
            f"{path} gives no features: for an image it answers with {_shape(found)}, and features "
            "are (D,). End it with a pooling or a flattening."
        )
    return model


def _read(path: Path, real: Dataset) -> keras.Model:
    model = read(path)
    images = tuple(real.test.images.shape[1:])
    # Of no inputs are subclasses of keras.Model, which do not say what they take.
    found = [tuple(each.shape[1:]) for each in getattr(model, "inputs", None) or []]
    fits = len(found) == 1 and len(found[0]) == len(images)
    if not fits or any(a not in (None, b) for a, b in zip(found[0], images, strict=True)):
        takes = " and ".join(map(_shape, found)) or "what it does not say"
        raise RunError(
            f"{path} does not fit {real.name}, whose images are {_shape(images)}: it takes {takes}."
        )
    return model


def _shape(shape: tuple[int | None, ...]) -> str:
    return str(tuple(shape))


def _show(run: Run, scores: Scores, asked: Asked, amounts: _Amounts, console: Console) -> None:
    tests = amounts.compared
    owner = "the judge" if asked.features is None else asked.features.name
    kept = f"{scores.diversity / scores.diversity_real:.3f}"
    table = Table(title="Scores", show_lines=True)
    for name in ("score", "", "what it is"):
        table.add_column(name, justify="right" if not name else "left", overflow="fold")
    for row in (
        (
            "judge's accuracy",
            f"{scores.judge_accuracy:.3f}",
            f"Of {tests:,} real test images, the share that the judge takes for what they are; "
            "what GAN-test would be, were generated images like real ones.",
        ),
        (
            "GAN-test",
            f"{scores.gan_test:.3f}",
            f"Of {asked.count:,} generated images, the share that the judge takes for the class "
            "they were generated as: can they be recognized?",
        ),
        (
            "GAN-train",
            f"{scores.gan_train:.3f}",
            f"Of the real test images, the share that is recognized by a classifier that learned "
            f"from {amounts.trained_on:,} generated images alone: are they as varied as real ones?",
        ),
        (
            "diversity",
            kept,
            f"How far generated images of one class lie apart on {owner}'s features, as a multiple "
            "of real ones; 0 if all are alike.",
        ),
        (
            f"Frechet distance on {owner}'s features",
            f"{scores.frechet_distance:.4g}",
            f"Between {tests:,} generated and as many real test images, 0 at best; to be compared "
            "for the same features and as many images only.",
        ),
    ):
        table.add_row(*map(Text, row))
    console.print(table)
    line = f"Written: {run.scores}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
