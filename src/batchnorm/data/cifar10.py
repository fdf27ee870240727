"""CIFAR-10 (Krizhevsky 2009): 60,000 colour images of ten classes, 32 by 32."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchnorm.data import unpickle
from batchnorm.data.dataset import DataError, Dataset, Split, make_split
from batchnorm.data.excerpt import excerpt
from batchnorm.data.locations import DataFiles, download, keras_datasets

FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
META = "batches.meta"
# Keras 2 kept FOLDER itself in its cache, Keras 3 unpacks the archive into this one.
CACHE = f"{FOLDER}-target"
FILES = DataFiles(files=(*TRAIN, TEST, META), subfolders=(FOLDER, f"{CACHE}/{FOLDER}"))
# The address and the checksum of keras.datasets.cifar10.
ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CHANNELS, SIDE = 3, 32
ROW = CHANNELS * SIDE * SIDE

FILE_HINT = f"Replace the folder {FOLDER} by the official one, unpacked from {ORIGIN}."
FOLDER_HINT = (
    f"Unpack {ORIGIN} there, name the folder that holds {FOLDER}, or name none: "
    "then Keras's cache and a download are tried in turn."
)


def load(data_dir: str | Path | None = None) -> Dataset:
    """Loads CIFAR-10 from its official folder `cifar-10-batches-py`.

    Without `data_dir`, the folder is searched in Keras's cache, and downloaded by Keras if it is
    not there. Its pickles are read without running any code that they may contain.

    Args:
        data_dir: the folder itself or its parent; no other location is tried then.

    Returns:
        50,000 images for training and 10,000 for testing, `(N, 32, 32, 3)`.

    Raises:
        DataError: a file is missing, not the official one, or cannot be downloaded.
    """
    if data_dir is not None:
        folder = FILES.require(data_dir, FOLDER_HINT)
    else:
        folder = FILES.find(keras_datasets()) or _fetch()
    classes = _classes(folder / META)
    batches = [_batch(folder / name) for name in TRAIN]
    train = Split(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
    return Dataset("cifar10", train, _batch(folder / TEST), classes)


def _fetch() -> Path:
    hint = (
        f"Unpack {ORIGIN} by hand, so that there is a folder {keras_datasets() / FOLDER}, "
        "or pass the folder as data_dir."
    )
    path = download(CACHE, ORIGIN, hint, extract=True, file_hash=SHA256)
    return FILES.require(path, hint)


def _batch(path: Path) -> Split:
    batch = unpickle.read(path, FILE_HINT)
    rows, labels = _entry(path, batch, "data"), _entry(path, batch, "labels")
    if not isinstance(rows, np.ndarray):
        raise DataError(path, f"data of {type(rows).__name__}", "an array", FILE_HINT)
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != ROW or not len(rows):
        fault = f"data of {rows.dtype} {rows.shape}"
        raise DataError(path, fault, f"uint8 (N, {ROW}) with N at least 1", FILE_HINT)
    planes = rows.reshape(-1, CHANNELS, SIDE, SIDE)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return make_split(path, images, _labels(path, labels), len(CLASSES), FILE_HINT)


def _labels(path: Path, labels: object) -> npt.NDArray[np.integer[Any]]:
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        return labels
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        # A number too large for 64 bits is not a label either, and gets the error below.
        with suppress(OverflowError):
            return np.array(labels, np.int64)
    raise DataError(path, "labels of another kind", "a list of 64-bit integers", FILE_HINT)


def _classes(path: Path) -> tuple[str, ...]:
    names = _entry(path, unpickle.read(path, FILE_HINT), "label_names")
    expected = f"{len(CLASSES)} names in a list"
    texts = [_name(name) for name in names] if isinstance(names, list) else []
    if len(texts) != len(CLASSES) or not all(texts):
        raise DataError(path, f"label_names {excerpt(names)}", expected, FILE_HINT)
    return tuple(texts)


def _name(value: object) -> str:
    """Returns the name of a class; "" unless the value is a name."""
    text = value.decode("latin1") if isinstance(value, bytes) else value
    fits = isinstance(text, str) and len(text) <= 100 and text.isascii() and text.isprintable()
    return str(text) if fits else ""


def _entry(path: Path, batch: dict[str, Any], key: str) -> object:
    if key not in batch:
        raise DataError(
            path, f"the keys {excerpt(sorted(batch))}", f"the key {key!r} among them", FILE_HINT
        )
    return batch[key]
