"""The embedded sample of Fashion-MNIST: real pictures, no download, no folder."""

import io
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from batchnorm.data.dataset import DataError, Dataset, Split, make_split
from batchnorm.data.fashion_mnist import CLASSES, SIZE

NAME = "fashion-mnist-sample"
FILE = "fashion_mnist_sample.npz"
MEND = "Install batchnorm again: this file is part of the package."


def load() -> Dataset:
    """Load the sample of Fashion-MNIST that comes with the package.

    The training images are drawn from the official training file and the test images from the
    official test file, as many of each class, in shuffled order.

    Returns:
        6,000 images to train on and 1,000 to test with, `(N, 28, 28, 1)`.

    Raises:
        DataError: The file in the package is damaged or missing.
    """
    try:
        content = resources.files("batchnorm.data").joinpath(FILE).read_bytes()
    except OSError as error:
        raise DataError(FILE, "no readable file in the package", FILE, MEND) from error
    return parse(content)


def parse(content: bytes) -> Dataset:
    """Read the sample from the bytes of its file.

    Args:
        content: A zip file of four NumPy arrays.

    Returns:
        The sample.

    Raises:
        DataError: These are not the bytes of a sample.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            parts = {name: _split(archive, name) for name in ("train", "test")}
    except DataError:
        raise
    # Damaged zip files raise errors of many kinds, and zipfile documents no closed list.
    except Exception as error:
        found = f"a file that cannot be read ({type(error).__name__}: {error})"
        raise DataError(FILE, found, "the zip file of arrays that was packed", MEND) from error
    return Dataset(NAME, parts["train"], parts["test"], CLASSES)


def _split(archive: Any, name: str) -> Split:
    images: npt.NDArray[np.uint8] = archive[f"{name}_images"]
    labels: npt.NDArray[np.uint8] = archive[f"{name}_labels"]
    for array, shape in ((images, (len(images), *SIZE, 1)), (labels, (len(labels),))):
        if array.dtype != np.uint8 or array.shape != shape:
            raise DataError(FILE, f"{array.dtype} {array.shape}", f"uint8 {shape}", MEND)
    return make_split(FILE, images, labels, len(CLASSES), MEND)
