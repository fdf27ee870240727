"""How long a training step takes with this layer, with Keras's, and with none, side by side.

    KERAS_BACKEND=tensorflow python benchmarks/steps.py --model resnet --depth 20

Builds the model once for each normalization and takes steps of each in turn. Prints the median of
the times and, of each turn's, how many times as long Keras's layer takes; then, how long a thread
prepares a batch, moved and flipped.
"""

import argparse
import platform

import keras
import numpy as np

from batchnorm.benchmark.models import compiled, noise, steps
from batchnorm.benchmark.rounds import seconds
from batchnorm.train.augment import augmented
from batchnorm.train.fit import make_repeatable

SHAPE = (32, 32, 3)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=("lenet", "resnet"), default="resnet")
    parser.add_argument("--depth", type=int, default=20, help="of the ResNet")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "normalizations", nargs="*", default=["ours", "keras", "none"], metavar="NORMALIZATION"
    )
    asked = parser.parse_args()
    make_repeatable(0)
    names = list(dict.fromkeys([*asked.normalizations, "keras"]))
    depth = asked.depth if asked.model == "resnet" else None
    models = [compiled(SHAPE, name, depth) for name in names]
    images, random = noise(asked.batch_size, SHAPE), np.random.default_rng(0)
    work = [*steps(models, asked.batch_size), lambda: augmented(images, random)]
    taken = seconds(work, asked.steps)
    print(
        f"{asked.model}, batch {asked.batch_size}, {keras.config.backend()}, {platform.machine()}"
    )
    print(f"{'normalization':24} {'median ms':>10} {'Keras / it':>10}")
    theirs = taken[:, names.index("keras")]
    for name, column in zip(names, taken.T, strict=False):
        ratio = float(np.median(theirs / column))
        print(f"{name:24} {1000 * np.median(column):10.1f} {ratio:10.2f}")
    share = float(np.median(taken[:, -1] / theirs))
    print(f"{'a batch, moved':24} {1000 * np.median(taken[:, -1]):10.1f} {1 / share:10.0f}")


if __name__ == "__main__":
    main()
