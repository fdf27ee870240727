"""What small and dependent batches do to batch normalization: LeNet on Fashion-MNIST.

    KERAS_BACKEND=jax python benchmarks/small_batches.py

Trains LeNet once for each condition, normalization and seed, by Adam whose rate decays as a cosine
to zero, and measures the accuracy on the test images on the way. Prints a table, and leaves
`small_batches.csv` and `small_batches.png` in a folder.
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
from batchnorm.train.batches import Batches
from batchnorm.train.evaluate import accuracy
from batchnorm.train.fit import make_repeatable

EARLY = (20, 50, 100, 200, 500, 1000, 2000)
SHOWN = (50, 200)  # steps of the table, beside the last

Rows = npt.NDArray[np.int64]


class Condition(NamedTuple):
    """How batches are put together, and the steps after which the model is tested.

    Attributes:
        size: images in a batch.
        runs: how many runs of images of one class a batch is made of; 0 for images at random.
        points: the last one is the end of the training.
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
    """What is known at one point of one training; the names are the columns of the CSV file.

    Attributes:
        condition: a name of `CONDITIONS`.
        normalization: a name of `NORMALIZATIONS`.
        seed: of the first weights and of the order of the images.
        step: how many batches were trained on.
        training: accuracy on the training batches since the record before, as they were trained on.
        inference: accuracy on the test images in inference mode.
        own: the same with each batch's own statistics, batches of the training's size at random;
            only at the end, elsewhere NaN.
    """

    condition: str
    normalization: str
    seed: int
    step: int
    training: float
    inference: float
    own: float = float("nan")


def renorm(steps: int) -> Renorm:
    """The paper's schedule, its proportions kept, over in a quarter of a training."""
    end = steps // 4
    return Renorm(rmax=Ramp(1.0, 3.0, end // 8, end), dmax=Ramp(0.0, 5.0, end // 8, end * 5 // 8))


# From the steps of the training to what makes a layer.
NORMALIZATIONS: dict[str, Callable[[int], Callable[[], keras.layers.Layer] | None]] = {
    "plain": lambda steps: BatchNormalization,
    "plain, momentum 0.9": lambda steps: lambda: BatchNormalization(momentum=0.9),
    "zero-debiased": lambda steps: lambda: BatchNormalization(moving=ZeroDebiased(0.99)),
    "renorm": lambda steps: lambda: BatchNormalization(renorm=renorm(steps)),
    "none": lambda steps: None,
}


def whole(values: Rows, size: int) -> Rows:
    """The values in groups; what is left over is dropped."""
    count = len(values) // size
    return values[: count * size].reshape(count, -1)


def epoch(labels: Rows, condition: Condition, rng: np.random.Generator) -> Rows:
    """The rows of each batch, for batches of every image once."""
    runs = max(condition.runs, 1)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if condition.runs == 0:
        groups = [np.arange(len(labels))]
    parts = [whole(rng.permutation(group), condition.size // runs) for group in groups]
    return whole(rng.permutation(np.concatenate(parts)), runs)


def order(labels: Rows, condition: Condition, seed: int) -> Rows:
    """The rows of each batch of a training, epoch after epoch."""
    rng, made = np.random.default_rng(seed), list[Rows]()
    while sum(map(len, made)) < condition.points[-1]:
        made.append(epoch(labels, condition, rng))
    return np.concatenate(made)[: condition.points[-1]]


def build(name: str, steps: int, rate: float) -> keras.Model:
    """A compiled LeNet with a normalization of `NORMALIZATIONS`."""
    model = lenet(normalization=NORMALIZATIONS[name](steps))
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(place: str, name: str, data: Dataset, rate: float, seed: int) -> Iterator[Record]:
    """One training; the condition is that of the place."""
    keras.utils.clear_session()
    make_repeatable(seed)
    condition = CONDITIONS[place]
    size, end = condition.size, condition.points[-1]
    model, rows = build(name, end, rate), order(data.train.labels, condition, seed)
    batches, test = Batches(data.train, size), Batches(data.test, 500)
    for first, last in pairwise((0, *condition.points)):
        batches.order = rows[first:last].ravel()
        (seen,) = model.fit(batches, shuffle=False, verbose=0).history["accuracy"]
        right = model.predict(test, verbose=0).argmax(-1) == data.test.labels
        record = Record(place, name, seed, last, seen, float(right.mean()))
        if last == end:
            record = record._replace(own=accuracy(model, data.test, size, training=True))
        yield record


def mean(records: Sequence[Record], column: str = "inference") -> str:
    """The mean over the seeds."""
    return f"{np.mean([getattr(record, column) for record in records]):.3f}"


def table(records: Sequence[Record]) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    names = ["batches", "normalization", *(f"step {step}" for step in SHOWN)]
    names += ["end", "its range", "own statistics", "as trained"]
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for place, name in dict.fromkeys(record[:2] for record in records):
        found = [record for record in records if record[:2] == (place, name)]
        end = [record for record in found if record.step == CONDITIONS[place].points[-1]]
        early = [mean([record for record in found if record.step == step]) for step in SHOWN]
        values = [record.inference for record in end]
        cells = [*early, mean(end), f"{min(values):.3f} to {max(values):.3f}"]
        cells += [mean(end, column) for column in ("own", "training")]
        yield f"| {' | '.join([place, name, *cells])} |"


def draw(records: Sequence[Record], path: Path) -> None:
    """Draws the accuracy in inference mode over the steps, a panel a condition."""
    places = list(dict.fromkeys(record.condition for record in records))
    figure = Figure(figsize=(1.5 + 3.6 * len(places), 4.3), layout="constrained")
    panels = figure.subplots(1, len(places), sharey=True, squeeze=False)[0]
    for axes, place in zip(panels, places, strict=True):
        panel(axes, [record for record in records if record.condition == place])
        axes.set(title=f"Batches of {place}", xlabel="Training steps")
    panels[0].set_ylabel("Test accuracy in inference mode")
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=100)


def panel(axes: Any, records: Sequence[Record]) -> None:
    """Draws the mean over the seeds as a line, and their range as its shade."""
    steps = sorted({record.step for record in records})
    for name, style in zip(NORMALIZATIONS, ("-", "--", ":", "-", "-."), strict=True):
        found = [record for record in records if record.normalization == name]
        if not found:
            continue
        values = [[r.inference for r in found if r.step == step] for step in steps]
        color = f"C{list(NORMALIZATIONS).index(name)}"
        axes.plot(steps, [np.mean(v) for v in values], style, color=color, label=name, linewidth=2)
        lowest, highest = [min(v) for v in values], [max(v) for v in values]
        axes.fill_between(steps, lowest, highest, color=color, alpha=0.15, linewidth=0)
    axes.set(xscale="log", ylim=(0, 1))
    axes.set_xticks([20, 100, 500, 2000, steps[-1]], labels=[20, 100, 500, 2000, steps[-1]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=NAMES, default="fashion-mnist")
    parser.add_argument("--data-dir", help="the folder of the data set's official files")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=[*CONDITIONS])
    parser.add_argument(
        "--normalizations", nargs="+", choices=NORMALIZATIONS, default=[*NORMALIZATIONS]
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="at the first step")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    folder = Path(tempfile.gettempdir(), "batchnorm-small-batches")
    parser.add_argument("--output", type=Path, default=folder, help="receives CSV and PNG")
    return parser.parse_args()


def main() -> None:
    """Trains, and reports."""
    given = arguments()
    data, records = load(given.data, given.data_dir), list[Record]()
    names = ("batchnorm", "keras", keras.config.backend())
    modules = [f"{name} {importlib.import_module(name).__version__}" for name in names]
    print(", ".join([*modules, platform.machine(), f"{os.cpu_count()} cores"]), flush=True)
    given.output.mkdir(parents=True, exist_ok=True)
    with (given.output / "small_batches.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Record._fields)
        for place in given.conditions:
            for name in given.normalizations:
                for seed in range(given.seeds):
                    found = list(train(place, name, data, given.learning_rate, seed))
                    print(f"{place}, {name}, seed {seed}: {found[-1].inference:.4f}", flush=True)
                    writer.writerows(found)
                    records += found
    draw(records, given.output / "small_batches.png")
    print("", *table(records), f"\nCSV and picture: {given.output}", sep="\n")


if __name__ == "__main__":
    main()
