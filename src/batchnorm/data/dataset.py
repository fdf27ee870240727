"""What every data set is here, and the one error for a file that is not what it should be."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from batchnorm.data.excerpt import excerpt, shorten


class Split(NamedTuple):
    """One part of a data set, all of it in memory.

    Attributes:
        images: `uint8`, `(N, H, W, C)`, values 0 to 255.
        labels: `int64`, `(N,)`, places in the data set's `classes`.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __repr__(self) -> str:
        """Shapes and types, in place of millions of pixels."""
        shapes = (f"{array.dtype} {array.shape}" for array in self)
        return "Split(images={}, labels={})".format(*shapes)


class Dataset(NamedTuple):
    """A data set of labelled images.

    Attributes:
        name: The name that `load` knows it by.
        train: What to learn from.
        test: What to judge by.
        classes: The name of each class, in the order of the labels.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        """The name, the shapes and a few classes."""
        return (
            f"Dataset(name={excerpt(self.name)}, train={self.train!r}, test={self.test!r}, "
            f"classes={excerpt(self.classes)})"
        )


class DataError(ValueError):
    """A file or folder of data that cannot be used, with the way to mend it.

    Args:
        file: The file, folder or address at fault.
        found: What is there; a long text, which a file may have brought about, is cut.
        expected: What should be there.
        mend: What to do about it, in whole sentences.
    """

    def __init__(self, file: Path | str, found: str, expected: str, mend: str) -> None:
        """Keep the four parts in `args`, so that the error survives pickling between processes."""
        super().__init__(str(file), shorten(found), expected, mend)

    def __str__(self) -> str:
        """The four parts as one message."""
        file, found, expected, mend = self.args
        return f"{file}: found {found}; expected {expected}. {mend}"


def make_split(
    file: Path | str,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer[Any]],
    classes: int,
    mend: str,
) -> Split:
    """Join images and labels after checking that they belong together.

    Args:
        file: The file that holds the labels, for the error.
        images: `(N, H, W, C)`.
        labels: `(N,)`, integers of any width.
        classes: How many classes there are.
        mend: The advice an error ends with.

    Returns:
        The images as they are and the labels as `int64`.

    Raises:
        DataError: The counts differ, or a label lies outside `[0, classes)`.
    """
    if len(labels) != len(images):
        found = f"{len(labels)} labels for {len(images)} images"
        raise DataError(file, found, "one label for each image", mend)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        found = f"the label {labels[wrong[0]]} at place {wrong[0]}"
        raise DataError(file, found, f"labels from 0 to {classes - 1}", mend)
    return Split(images, labels.astype(np.int64))
