"""Labelled images to learn from: one call, one kind of answer.

Nothing here needs Keras or a backend of it, until something must be downloaded.
"""

from collections.abc import Callable
from pathlib import Path

from batchnorm.data import cifar10, fashion_mnist, sample
from batchnorm.data.dataset import DataError, Dataset, Split
from batchnorm.data.excerpt import excerpt
from batchnorm.data.suggest import suggest

__all__ = ["NAMES", "DataError", "Dataset", "Split", "classes", "load"]

_LOADERS: dict[str, Callable[[str | Path | None], Dataset]] = {
    # The sample lies in the package, whatever folder holds the other data sets.
    "fashion-mnist-sample": lambda data_dir: sample.load(),
    "fashion-mnist": fashion_mnist.load,
    "cifar10": cifar10.load,
}
_CLASSES: dict[str, tuple[str, ...]] = {
    "fashion-mnist-sample": fashion_mnist.CLASSES,
    "fashion-mnist": fashion_mnist.CLASSES,
    "cifar10": cifar10.CLASSES,
}
NAMES: tuple[str, ...] = tuple(_LOADERS)


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Load a data set by name, from the disk if it is there, else by a download.

    Args:
        name: One of `NAMES`. `"fashion-mnist-sample"` comes with the package and needs neither
            folder nor network.
        data_dir: The folder that holds the official files. If given, no other place is tried.

    Returns:
        Images `uint8` `(N, H, W, C)` and labels `int64` `(N,)`, to train on and to test with.

    Raises:
        ValueError: There is no data set of this name.
        DataError: A file is missing or is not what it should be, or cannot be downloaded.

    Example:
        >>> from batchnorm.data import load
        >>> load("fashion-mnist-sample").train.images.shape
        (6000, 28, 28, 1)
    """
    _check(name)
    return _LOADERS[name](data_dir)


def classes(name: str) -> tuple[str, ...]:
    """The classes of a data set, none of whose files is needed for them.

    Args:
        name: One of `NAMES`.

    Returns:
        The name of each class, in the order of the labels.

    Raises:
        ValueError: There is no data set of this name.

    Example:
        >>> from batchnorm.data import classes
        >>> classes("cifar10")[:3]
        ('airplane', 'automobile', 'bird')
    """
    _check(name)
    return _CLASSES[name]


def _check(name: str) -> None:
    if not isinstance(name, str) or name not in _LOADERS:
        hint = suggest(name, NAMES) if isinstance(name, str) else "."
        allowed = ", ".join(map(repr, NAMES))
        raise ValueError(f"no data set is named {excerpt(name)}{hint} Allowed are {allowed}.")
