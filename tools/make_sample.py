"""Makes the embedded sample of Fashion-MNIST from the four official files.

    python tools/make_sample.py /usr/share/datasets src/batchnorm/data/fashion_mnist_sample.npz

The same files always give the same bytes.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchnorm.data import DataError, Split, fashion_mnist

SEED = 2015
TRAIN_PER_CLASS = 600
TEST_PER_CLASS = 100


def choose(split: Split, per_class: int, random: np.random.RandomState) -> npt.NDArray[np.intp]:
    """Chooses equally many images of each class, in shuffled order.

    Args:
        split: images and labels.
        per_class: the number of images of each class.
        random: the random generator.

    Returns:
        Indices into the split, `(classes * per_class,)`.

    Raises:
        ValueError: a class has fewer images.
    """
    chosen = []
    for label, name in enumerate(fashion_mnist.CLASSES):
        places = np.flatnonzero(split.labels == label)
        if len(places) < per_class:
            raise ValueError(f"found {len(places)} images of {name!r}; expected {per_class}")
        chosen.append(random.permutation(places)[:per_class])
    return random.permutation(np.concatenate(chosen))


def sample(folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Draws the sample's arrays from the official files in a folder.

    Args:
        folder: of the four files.

    Returns:
        Images `(N, 28, 28, 1)` and labels `(N,)`, each for training and for testing.
    """
    data = fashion_mnist.load(folder)
    # NumPy promises the same stream for ever for RandomState, but not for its Generators.
    random = np.random.RandomState(SEED)
    train = choose(data.train, TRAIN_PER_CLASS, random)
    test = choose(data.test, TEST_PER_CLASS, random)
    return {
        "train_images": data.train.images[train],
        "train_labels": data.train.labels[train].astype(np.uint8),
        "test_images": data.test.images[test],
        "test_labels": data.test.labels[test].astype(np.uint8),
    }


def write(path: Path, arrays: dict[str, npt.NDArray[np.uint8]]) -> None:
    """Writes arrays as an npz file that depends on nothing else.

    Args:
        path: the file.
        arrays: its arrays, by name.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            # Unix; by default zipfile records the system that it runs on.
            member.create_system = 3
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content.getvalue(), compresslevel=9)


def main() -> None:
    """Reads the command line and makes the sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the folder of the four official files")
    parser.add_argument("destination", type=Path, help="the npz file to write")
    arguments = parser.parse_args()
    try:
        arrays = sample(arguments.source)
    except DataError as error:
        parser.error(str(error))
    except ValueError as error:
        parser.error(f"{arguments.source}: {error}")
    write(arguments.destination, arrays)
    print(f"{arguments.destination}: {arguments.destination.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
