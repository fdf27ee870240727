"""Images in batches, in an order that depends on the seed and the epoch and on nothing else."""

import math

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.data import Split
from batchnorm.train.run import RunError

Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def filled(rows: npt.NDArray[np.int64], batch_size: int) -> npt.NDArray[np.int64]:
    """Rows, and the first of them again, until all batches are whole.

    A smaller last batch would have bad statistics, and JAX would compile once more for its shape.

    Args:
        rows: `(N,)`, of which there is at least one.
        batch_size: rows in a batch.

    Returns:
        `(M,)`, M the next multiple of `batch_size`.
    """
    return np.resize(rows, math.ceil(len(rows) / batch_size) * batch_size)


class Batches(keras.utils.PyDataset):
    """All images once, in their own order; the last batch may be smaller.

    Given as arrays, Keras would cut the images into batches with TensorFlow on every backend.

    Args:
        split: images and labels.
        batch_size: images in a batch.
    """

    def __init__(self, split: Split, batch_size: int) -> None:
        super().__init__()
        self.split = split
        self.batch_size = batch_size
        self.order: npt.NDArray[np.int64] = np.arange(len(split.labels))

    def __len__(self) -> int:
        """How many batches there are."""
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        """The images and labels of one batch."""
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.split.images[rows], self.split.labels[rows]


class Shuffled(Batches):
    """Whole batches only, of images shuffled anew for each epoch.

    What is left at the end of an epoch is dropped: the statistics of a few images are bad ones,
    which the moving averages would take for as good as the others', and JAX would compile the
    step once more for their shape. Each epoch drops other images.

    Args:
        split: images and labels.
        batch_size: images in a batch; at least 2, at most all.
        seed: decides the order, with the epoch.

    Raises:
        RunError: the batch size is out of range.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        count = len(split.labels)
        if not 2 <= batch_size <= count:
            raise RunError(
                f"a batch of {batch_size} out of {count} training images: the batch size must be "
                f"from 2 to {count}. One image alone has no variance that batch normalization "
                "could measure; set --batch-size."
            )
        super().__init__(split, batch_size)
        self.seed = seed

    def __len__(self) -> int:
        """How many whole batches there are."""
        return len(self.order) // self.batch_size

    def start(self, epoch: int) -> None:
        """Puts the images in the order of an epoch, counted from 0."""
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.order))


class ShuffleEachEpoch(keras.callbacks.Callback):
    """Tells the batches which epoch it is, which they cannot count in a run taken up again.

    Args:
        batches: those that the model is fitted to.
    """

    def __init__(self, batches: Shuffled) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Called by Keras before the first batch is asked for."""
        self.batches.start(epoch)
