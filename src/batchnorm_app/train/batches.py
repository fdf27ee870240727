"""Images in batches, in an order that depends only on the seed and the epoch."""

import math

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.data import Split
from batchnorm_app.errors import UserError

Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def pad_to_whole_batches(rows: npt.NDArray[np.int64], batch_size: int) -> npt.NDArray[np.int64]:
    """Appends the first rows again until all batches are whole.

    A smaller last batch would have worse statistics, and JAX would compile again for its shape.

    Args:
        rows: `(N,)`, at least one.
        batch_size: rows in a batch.

    Returns:
        `(M,)`, where M is the next multiple of `batch_size`.
    """
    return np.resize(rows, math.ceil(len(rows) / batch_size) * batch_size)


class Batches(keras.utils.PyDataset):
    """Batches of all images once, in their own order; the last one may be smaller.

    From arrays, Keras would make the batches with TensorFlow on every backend.

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
        """Returns the number of batches."""
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        """Returns the images and labels of a batch."""
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.split.images[rows], self.split.labels[rows]


class Shuffled(Batches):
    """Whole batches of images, shuffled anew for each epoch.

    The remainder of an epoch is dropped: the statistics of a few images are poor, but the moving
    averages would weigh them like those of a whole batch, and JAX would compile the step again for
    their shape. Each epoch drops different images.

    Args:
        split: images and labels.
        batch_size: images in a batch; at least 2, at most all.
        seed: of the order, with the epoch.

    Raises:
        UserError: the batch size is out of range.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        count = len(split.labels)
        if not 2 <= batch_size <= count:
            raise UserError(
                f"a batch of {batch_size} out of {count} training images: the batch size must be "
                f"from 2 to {count}. One image alone has no variance that batch normalization "
                "could measure; set --batch-size."
            )
        super().__init__(split, batch_size)
        self.seed = seed

    def __len__(self) -> int:
        """Returns the number of whole batches."""
        return len(self.order) // self.batch_size

    def start(self, epoch: int) -> None:
        """Shuffles the images for an epoch, counted from 0."""
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.order))


class ShuffleEachEpoch(keras.callbacks.Callback):
    """Shuffles the batches for the epoch, whose number they cannot know in a resumed run.

    Args:
        batches: that the model is fitted to.
    """

    def __init__(self, batches: Shuffled) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Shuffles before Keras reads the first batch."""
        self.batches.start(epoch)
