"""The type of every data set, and the error for a file or folder that cannot be used."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from batchnorm.data.excerpt import excerpt, shorten


class Split(NamedTuple):
    """One part of a data set, in memory.

    Attributes:
        images: `uint8`, `(N, H, W, C)`, values 0 to 255.
        labels: `int64`, `(N,)`, indices into the data set's `classes`.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __repr__(self) -> str:
        """Returns shapes and types instead of millions of pixels."""
        shapes = (f"{array.dtype} {array.shape}" for array in self)
        return "Split(images={}, labels={})".format(*shapes)


class Dataset(NamedTuple):
    """A data set of labelled images.

    Attributes:
        name: its name in `load`.
        train: the part for training.
        test: the part for testing.
        classes: the name of each class, in the order of the labels.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        """Returns the name, the shapes and a few classes."""
        return (
            f"Dataset(name={excerpt(self.name)}, train={self.train!r}, test={self.test!r}, "
            f"classes={excerpt(self.classes)})"
        )


class DataError(ValueError):
    """Raised for a file or folder of data that cannot be used.

    Args:
        file: the file, folder or address at fault.
        fault: the actual content; a long text, which may quote a file, is cut.
        expected: the content that it should have.
        hint: the fix, in full sentences.
    """

    def __init__(self, file: Path | str, fault: str, expected: str, hint: str) -> None:
        """Keeps the four parts in `args`, so that the error survives pickling between processes."""
        super().__init__(str(file), shorten(fault), expected, hint)

    def __str__(self) -> str:
        """Returns the four parts as one message."""
        file, fault, expected, hint = self.args
        return f"{file}: found {fault}; expected {expected}. {hint}"


def make_split(
    file: Path | str,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer[Any]],
    classes: int,
    hint: str,
) -> Split:
    """Joins images and labels after checking that they belong together.

    Args:
        file: the file that holds the labels, for the error.
        images: `(N, H, W, C)`.
        labels: `(N,)`, integers of any width.
        classes: the number of classes.
        hint: the last sentences of an error.

    Returns:
        The images as they are and the labels as `int64`.

    Raises:
        DataError: the counts differ, or a label lies outside `[0, classes)`.
    """
    if len(labels) != len(images):
        fault = f"{len(labels)} labels for {len(images)} images"
        raise DataError(file, fault, "one label for each image", hint)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        fault = f"the label {labels[wrong[0]]} at place {wrong[0]}"
        raise DataError(file, fault, f"labels from 0 to {classes - 1}", hint)
    return Split(images, labels.astype(np.int64))
