"""How long a training step takes with this layer, with Keras's, and with none, side by side.

    KERAS_BACKEND=tensorflow python benchmarks/steps.py --model resnet --depth 20

Builds the model once for each normalization and takes steps of each in turn. Prints the median of
the times and, of each turn's, how many times as long Keras's layer takes; then, how long a thread
prepares a batch, moved and flipped.
"""

import argparse
import platform
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.models.lenet import lenet
from batchnorm.models.resnet import resnet
from batchnorm.train.augment import augmented
from batchnorm.train.fit import make_repeatable
from batchnorm.train.normalization import normalization

SHAPE = (32, 32, 3)


def model_of(name: str, depth: int, expression: str) -> keras.Model:
    """A compiled model with a normalization."""
    layer = normalization(expression)
    if name == "resnet":
        model = resnet(SHAPE, depth=depth, normalization=layer)
    else:
        model = lenet(SHAPE, normalization=layer)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def seconds(work: Sequence[Callable[[], object]], times: int) -> npt.NDArray[np.float64]:
    """How long each of some functions takes, in turn: `(times, functions)`.

    What two turns before took, and compiled, does not count.
    """
    found = np.empty((times + 2, len(work)))
    for turn in found:
        for number, function in enumerate(work):
            start = time.perf_counter()
            function()
            turn[number] = time.perf_counter() - start
    return found[2:]


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
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (asked.batch_size, *SHAPE)).astype(np.uint8)
    labels = random.integers(0, 10, asked.batch_size)
    names = list(dict.fromkeys([*asked.normalizations, "keras"]))
    models = [model_of(asked.model, asked.depth, name) for name in names]
    steps = [lambda model=model: model.train_on_batch(images, labels) for model in models]
    taken = seconds([*steps, lambda: augmented(images, random)], asked.steps)
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
