"""Effects of small and dependent batches on batch normalization: LeNet on Fashion-MNIST.

    KERAS_BACKEND=jax python experiments/small_batches.py

Trains LeNet once for each condition, normalization and seed, by Adam whose rate decays as a cosine
to zero, and measures the accuracy on the test images at several steps. Prints a table, and writes
`small_batches.csv` and `small_batches.png` to a folder.
"""

import argparse
import csv
import importlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from batchnorm import BatchNormalization, Ramp, Renorm, ZeroDebiased
from batchnorm.data import NAMES, Dataset, load
from batchnorm.models.lenet import lenet
from batchnorm_app.train.accuracy import accuracy
from batchnorm_app.train.batches import Batches
from batchnorm_app.train.loop import make_repeatable

EARLY = (20, 50, 100, 200, 500, 1000, 2000)
SHOWN = (50, 200)  # steps of the table, beside the last

Rows = npt.NDArray[np.int64]


class Condition(NamedTuple):
    """The composition of batches, and the steps after which the model is tested.

    Attributes:
        size: images in a batch.
        runs: number of runs of one class that a batch consists of; 0 for random images.
        points: steps, of which the last is the end of the training.
    """

    size: int
    runs: int
    points: tuple[int, ...]


CONDITIONS = {
    "4 at random": Condition(4, 0, (*EARLY, 5000, 10000, 14000, 15000)),
    "32 of two classes": Condition(32, 2, (*EARLY, 3000, 3740)),
    "32 of one class": Condition(32, 1, (*EARLY, 3000, 3740)),
}


class Record(NamedTuple):
    """The measurements at one step of one training; the names are the columns of the CSV file.

    Attributes:
        condition: a name of `CONDITIONS`.
        normalization: a name of `NORMALIZATIONS`.
        seed: of the initial weights and of the order of the images.
        step: number of training steps so far.
        training: accuracy on the training batches since the previous record, in training mode.
        inference: accuracy on the test images in inference mode.
        own: accuracy on the test images with each batch's own statistics, in random batches of
            the training's size; only in the last record, NaN in the others.
    """

    condition: str
    normalization: str
    seed: int
    step: int
    training: float
    inference: float
    own: float = float("nan")


def renorm(steps: int) -> Renorm:
    """Returns the paper's schedule in its proportions, complete after a quarter of a training."""
    end = steps // 4
    return Renorm(rmax=Ramp(1.0, 3.0, end // 8, end), dmax=Ramp(0.0, 5.0, end // 8, end * 5 // 8))


# Functions from the number of training steps to a layer factory.
NORMALIZATIONS: dict[str, Callable[[int], Callable[[], keras.layers.Layer] | None]] = {
    "plain": lambda steps: BatchNormalization,
    "plain, momentum 0.9": lambda steps: lambda: BatchNormalization(momentum=0.9),
    "zero-debiased": lambda steps: lambda: BatchNormalization(moving=ZeroDebiased(0.99)),
    "renorm": lambda steps: lambda: BatchNormalization(renorm=renorm(steps)),
    "none": lambda steps: None,
}


def chunks(values: Rows, size: int) -> Rows:
    """Divides values into chunks of a size; drops the remainder."""
    count = len(values) // size
    return values[: count * size].reshape(count, -1)


def epoch(labels: Rows, condition: Condition, rng: np.random.Generator) -> Rows:
    """Returns the rows of each batch of an epoch."""
    runs = max(condition.runs, 1)
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if condition.runs == 0:
        classes = [np.arange(len(labels))]
    parts = [chunks(rng.permutation(rows), condition.size // runs) for rows in classes]
    return chunks(rng.permutation(np.concatenate(parts)), runs)


def order(labels: Rows, condition: Condition, seed: int) -> Rows:
    """Returns the rows of each batch of a training, epoch after epoch."""
    rng, epochs = np.random.default_rng(seed), list[Rows]()
    while sum(map(len, epochs)) < condition.points[-1]:
        epochs.append(epoch(labels, condition, rng))
    return np.concatenate(epochs)[: condition.points[-1]]


def build(name: str, steps: int, rate: float) -> keras.Model:
    """Returns a compiled LeNet with a normalization of `NORMALIZATIONS`."""
    model = lenet(normalization=NORMALIZATIONS[name](steps))
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(
    condition_name: str, name: str, data: Dataset, rate: float, seed: int
) -> Iterator[Record]:
    """Trains once, and yields the records."""
    keras.utils.clear_session()
    make_repeatable(seed)
    condition = CONDITIONS[condition_name]
    size, end = condition.size, condition.points[-1]
    model, rows = build(name, end, rate), order(data.train.labels, condition, seed)
    batches, test = Batches(data.train, size), Batches(data.test, 500)
    for first, last in pairwise((0, *condition.points)):
        batches.order = rows[first:last].ravel()
        (training,) = model.fit(batches, shuffle=False, verbose=0).history["accuracy"]
        correct = model.predict(test, verbose=0).argmax(-1) == data.test.labels
        record = Record(condition_name, name, seed, last, training, float(correct.mean()))
        if last == end:
            record = record._replace(own=accuracy(model, data.test, size, training=True))
        yield record


def mean(records: Sequence[Record], column: str = "inference") -> str:
    """Formats the mean over the seeds."""
    return f"{np.mean([getattr(record, column) for record in records]):.3f}"


def table(records: Sequence[Record]) -> Iterator[str]:
    """Yields the lines of the table in Markdown."""
    names = ["batches", "normalization", *(f"step {step}" for step in SHOWN)]
    names += ["end", "its range", "own statistics", "as trained"]
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for condition, name in dict.fromkeys(record[:2] for record in records):
        group = [record for record in records if record[:2] == (condition, name)]
        end = [record for record in group if record.step == CONDITIONS[condition].points[-1]]
        early = [mean([record for record in group if record.step == step]) for step in SHOWN]
        values = [record.inference for record in end]
        cells = [*early, mean(end), f"{min(values):.3f} to {max(values):.3f}"]
        cells += [mean(end, column) for column in ("own", "training")]
        yield f"| {' | '.join([condition, name, *cells])} |"


def draw(records: Sequence[Record], path: Path) -> None:
    """Draws the accuracy in inference mode over the steps, with a panel for each condition."""
    conditions = list(dict.fromkeys(record.condition for record in records))
    figure = Figure(figsize=(1.5 + 3.6 * len(conditions), 4.3), layout="constrained")
    panels = figure.subplots(1, len(conditions), sharey=True, squeeze=False)[0]
    for axes, condition in zip(panels, conditions, strict=True):
        panel(axes, [record for record in records if record.condition == condition])
        axes.set(title=f"Batches of {condition}", xlabel="Training steps")
    panels[0].set_ylabel("Test accuracy in inference mode")
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=100)


def panel(axes: Any, records: Sequence[Record]) -> None:
    """Draws the mean over the seeds as a line, and their range as a band."""
    steps = sorted({record.step for record in records})
    for name, style in zip(NORMALIZATIONS, ("-", "--", ":", "-", "-."), strict=True):
        group = [record for record in records if record.normalization == name]
        if not group:
            continue
        values = [[record.inference for record in group if record.step == step] for step in steps]
        color = f"C{list(NORMALIZATIONS).index(name)}"
        axes.plot(steps, np.mean(values, axis=1), style, color=color, label=name, linewidth=2)
        axes.fill_between(
            steps,
            np.min(values, axis=1),
            np.max(values, axis=1),
            color=color,
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xscale="log", ylim=(0, 1))
    axes.set_xticks([20, 100, 500, 2000, steps[-1]], labels=[20, 100, 500, 2000, steps[-1]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=NAMES, default="fashion-mnist")
    parser.add_argument("--data-dir", help="the folder of the data set's official files")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=[*CONDITIONS])
    parser.add_argument(
        "--normalizations", nargs="+", choices=NORMALIZATIONS, default=[*NORMALIZATIONS]
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="at the first step")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    folder = Path(tempfile.gettempdir(), "batchnorm-small-batches")
    parser.add_argument(
        "--output", type=Path, default=folder, help="folder for the CSV and the PNG file"
    )
    return parser.parse_args()


def main() -> None:
    """Trains, and reports."""
    options = arguments()
    data, records = load(options.data, options.data_dir), list[Record]()
    names = ("batchnorm", "keras", keras.config.backend())
    modules = [f"{name} {importlib.import_module(name).__version__}" for name in names]
    print(", ".join([*modules, platform.machine(), f"{os.cpu_count()} cores"]), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "small_batches.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Record._fields)
        for condition in options.conditions:
            for name in options.normalizations:
                for seed in range(options.seeds):
                    rows = list(train(condition, name, data, options.learning_rate, seed))
                    result = f"{rows[-1].inference:.4f}"
                    print(f"{condition}, {name}, seed {seed}: {result}", flush=True)
                    writer.writerows(rows)
                    records += rows
    draw(records, options.output / "small_batches.png")
    print("", *table(records), f"\nCSV and picture: {options.output}", sep="\n")


if __name__ == "__main__":
    main()
