"""Times of a training step with this layer, with Keras's, and without any, side by side.

    KERAS_BACKEND=tensorflow python experiments/training_steps.py --model resnet --depth 20

Builds the model once for each normalization and takes steps of each in turn. Prints the median of
the times, and the median ratio of Keras's layer to each in the same turn; then the time that a
thread takes to augment a batch.
"""

import argparse
import platform

import keras
import numpy as np

from batchnorm_app.benchmark.timing import seconds
from batchnorm_app.benchmark.training_steps import compiled_model, noise_images, steps
from batchnorm_app.train.augment import augment
from batchnorm_app.train.loop import make_repeatable

SHAPE = (32, 32, 3)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=("lenet", "resnet"), default="resnet")
    parser.add_argument("--depth", type=int, default=20, help="depth of the ResNet")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "normalizations", nargs="*", default=["ours", "keras", "none"], metavar="NORMALIZATION"
    )
    arguments = parser.parse_args()
    make_repeatable(0)
    names = list(dict.fromkeys([*arguments.normalizations, "keras"]))
    depth = arguments.depth if arguments.model == "resnet" else None
    models = [compiled_model(SHAPE, name, depth) for name in names]
    images, random = noise_images(arguments.batch_size, SHAPE), np.random.default_rng(0)
    work = [*steps(models, arguments.batch_size), lambda: augment(images, random)]
    times = seconds(work, arguments.steps)
    machine = f"{keras.config.backend()}, {platform.machine()}"
    print(f"{arguments.model}, batch {arguments.batch_size}, {machine}")
    print(f"{'normalization':24} {'median ms':>10} {'Keras / it':>10}")
    keras_times = times[:, names.index("keras")]
    for name, column in zip(names, times.T, strict=False):
        ratio = float(np.median(keras_times / column))
        print(f"{name:24} {1000 * np.median(column):10.1f} {ratio:10.2f}")
    share = float(np.median(times[:, -1] / keras_times))
    print(f"{'augmentation':24} {1000 * np.median(times[:, -1]):10.1f} {1 / share:10.0f}")


if __name__ == "__main__":
    main()
