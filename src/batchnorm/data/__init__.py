"""Data sets of labelled images, by name.

Nothing here needs Keras or one of its backends, except for a download.
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
    """Loads a data set by name, from the disk if it is there, else by a download.

    Args:
        name: one of `NAMES`. `"fashion-mnist-sample"` comes with the package and needs neither
            folder nor network.
        data_dir: the folder that holds the official files; no other location is tried then.

    Returns:
        Images `uint8` `(N, H, W, C)` and labels `int64` `(N,)`, for training and for testing.

    Raises:
        ValueError: there is no data set of this name.
        DataError: a file is missing, not the official one, or cannot be downloaded.

    Example:
        >>> from batchnorm.data import load
        >>> load("fashion-mnist-sample").train.images.shape
        (6000, 28, 28, 1)
    """
    _check(name)
    return _LOADERS[name](data_dir)


def classes(name: str) -> tuple[str, ...]:
    """Returns the classes of a data set, whose files are not needed for that.

    Args:
        name: one of `NAMES`.

    Returns:
        The name of each class, in the order of the labels.

    Raises:
        ValueError: there is no data set of this name.

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
