"""The embedded sample of Fashion-MNIST, which needs no download and no folder."""

import io
import zipfile
from importlib import resources

import numpy as np
import numpy.typing as npt

from batchnorm.data.dataset import DataError, Dataset, Split, make_split
from batchnorm.data.fashion_mnist import CLASSES, SIZE

NAME = "fashion-mnist-sample"
FILE = "fashion_mnist_sample.npz"
LARGEST = 1 << 26  # bytes of an array; the largest one has 4.7 million
HINT = "Install batchnorm again: this file is part of the package."


def load() -> Dataset:
    """Loads the sample of Fashion-MNIST that comes with the package.

    The training images are drawn from the official training file and the test images from the
    official test file, equally many of each class, in shuffled order.

    Returns:
        6,000 images for training and 1,000 for testing, `(N, 28, 28, 1)`.

    Raises:
        DataError: the file in the package is damaged or missing.
    """
    try:
        content = resources.files("batchnorm.data").joinpath(FILE).read_bytes()
    except OSError as error:
        raise DataError(FILE, "no readable file in the package", FILE, HINT) from error
    return parse(content)


def parse(content: bytes) -> Dataset:
    """Reads the sample from the bytes of its file.

    Args:
        content: a zip file of four NumPy arrays.

    Returns:
        The sample.

    Raises:
        DataError: the bytes are not those of a sample.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {name: _split(archive, name) for name in ("train", "test")}
    except DataError:
        raise
    # Damaged zip files raise errors of many kinds, and zipfile documents no closed list.
    except Exception as error:
        fault = f"a file that cannot be read ({type(error).__name__}: {error})"
        raise DataError(FILE, fault, "the zip file of arrays that was packed", HINT) from error
    return Dataset(NAME, parts["train"], parts["test"], CLASSES)


def _split(archive: zipfile.ZipFile, name: str) -> Split:
    images = _array(archive, f"{name}_images", (*SIZE, 1))
    labels = _array(archive, f"{name}_labels", ())
    return make_split(FILE, images, labels, len(CLASSES), HINT)


def _array(archive: zipfile.ZipFile, name: str, item: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Reads an array of items of this shape; NumPy's reader trusts the size in a header."""
    member = archive.getinfo(f"{name}.npy")
    if member.file_size > LARGEST:
        fault = f"{name} of {member.file_size:,} bytes"
        raise DataError(FILE, fault, f"at most {LARGEST:,}", HINT)
    stream = io.BytesIO(archive.read(member))
    if np.lib.format.read_magic(stream) != (1, 0):
        raise DataError(FILE, f"{name} of another version", "version 1.0 of .npy", HINT)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    expected = (*(shape[:1] or ("N",)), *item)
    if dtype != np.uint8 or shape != expected or fortran:
        raise DataError(FILE, f"{name} of {dtype} {shape}", f"uint8 {expected}", HINT)
    return np.frombuffer(bytearray(stream.read()), np.uint8).reshape(shape)
