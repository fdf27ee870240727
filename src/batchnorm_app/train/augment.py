"""Data augmentation: random shifts and horizontal flips."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from batchnorm.data import Split
from batchnorm_app.train.batches import Batch, Shuffled

PADDING = 4  # pixels at each side
AHEAD = 8  # batches that the thread prepares


class Augmented(Shuffled):
    """Shuffled images, each padded, cropped at random to its size, and flipped half of the time.

    A thread prepares batches ahead of the training, which therefore need not wait. An image's shift
    and flip depend only on the seed, the epoch and its batch.

    Args:
        split: images and labels.
        batch_size: images in a batch; at least 2, at most all.
        seed: of the order, the shifts and the flips, with the epoch.

    Raises:
        UserError: the batch size is out of range.

    References:
        He, Zhang, Ren, Sun 2016, arXiv:1512.03385, section 4.2.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        super().__init__(split, batch_size, seed)
        self._epoch = 0
        # Not Keras 3.15's workers: `fit` reads a batch before the first epoch, and on PyTorch and
        # JAX the batches that workers have prepared by then come first in it, in the old order.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._ahead: dict[int, Future[Batch]] = {}

    def start(self, epoch: int) -> None:
        """Shuffles the images for an epoch, counted from 0."""
        super().start(epoch)
        self._epoch = epoch
        self._ahead.clear()

    def __getitem__(self, index: int) -> Batch:
        """Returns the images and labels of a batch."""
        for batch in range(index, min(index + AHEAD, len(self))):
            if batch not in self._ahead:
                # Without the 1, batch 0 would share its random numbers with the order.
                random = np.random.default_rng((self.seed, self._epoch, batch, 1))
                self._ahead[batch] = self._thread.submit(
                    _augment_batch, super().__getitem__(batch), random
                )
        return self._ahead.pop(index).result()


def _augment_batch(batch: Batch, random: np.random.Generator) -> Batch:
    images, labels = batch
    return augment(images, random), labels


def augment(images: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Shifts each image by up to `PADDING` pixels along each axis, and flips half of them.

    Args:
        images: `(N, H, W, C)`.
        random: decides the shifts and the flips.

    Returns:
        New images of the same shape, with the image's mean where it was shifted away.
    """
    count, height, width, channels = images.shape
    shape = (count, height + 2 * PADDING, width + 2 * PADDING, channels)
    # Black borders would make edges that no test image has; standardization maps the mean to 0.
    padded = np.empty(shape, np.uint8)
    padded[:] = np.rint(images.mean(axis=(1, 2, 3), keepdims=True))
    padded[:, PADDING:-PADDING, PADDING:-PADDING] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    rows, columns = random.integers(0, 2 * PADDING + 1, (2, count))
    cropped = np.moveaxis(windows[np.arange(count), rows, columns], 1, -1)
    flipped = random.integers(0, 2, count).astype(bool)
    cropped[flipped] = cropped[flipped, :, ::-1]
    return np.ascontiguousarray(cropped)
