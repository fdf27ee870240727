"""Training images as they might have been: a little elsewhere, or seen in a mirror."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from batchnorm.data import Split
from batchnorm.train.batches import Batch, Shuffled

PADDING = 4  # pixels at each side
AHEAD = 8  # batches


class Augmented(Shuffled):
    """Shuffled images, each padded, cropped at random to its size, and flipped half of the time.

    A thread is some batches ahead of the training, so that it need not wait. An image's place and
    side depend on the seed, the epoch and its batch, and on nothing else.

    Args:
        split: images and labels.
        batch_size: images in a batch; at least 2, at most all.
        seed: decides all that is random, with the epoch.

    Raises:
        RunError: the batch size is out of range.

    References:
        He, Zhang, Ren, Sun 2016, arXiv:1512.03385, section 4.2.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        super().__init__(split, batch_size, seed)
        self._epoch = 0
        # Not Keras 3.15's workers: fit looks at a batch before the first epoch, and those that they
        # have prepared by then come first in it, on PyTorch and JAX.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._ahead: dict[int, Future[Batch]] = {}

    def start(self, epoch: int) -> None:
        """Puts the images in the order of an epoch, counted from 0."""
        super().start(epoch)
        self._epoch = epoch
        self._ahead.clear()

    def __getitem__(self, index: int) -> Batch:
        """The images and labels of one batch."""
        for each in range(index, min(index + AHEAD, len(self))):
            if each not in self._ahead:
                # Without the 1, batch 0 would share its numbers with the order.
                random = np.random.default_rng((self.seed, self._epoch, each, 1))
                self._ahead[each] = self._thread.submit(_moved, super().__getitem__(each), random)
        return self._ahead.pop(index).result()


def _moved(batch: Batch, random: np.random.Generator) -> Batch:
    images, labels = batch
    return augmented(images, random), labels


def augmented(images: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Images, each moved by up to `PADDING` pixels a side, and every second one flipped.

    Args:
        images: `(N, H, W, C)`.
        random: decides where to, and which.

    Returns:
        Others of the same shape, as grey as the image's mean where nothing was.
    """
    count, height, width, channels = images.shape
    shape = (count, height + 2 * PADDING, width + 2 * PADDING, channels)
    # Black would be an edge that no test image has; a mean is what a standardized image has at 0.
    padded = np.empty(shape, np.uint8)
    padded[:] = np.rint(images.mean(axis=(1, 2, 3), keepdims=True))
    padded[:, PADDING:-PADDING, PADDING:-PADDING] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = random.integers(0, 2 * PADDING + 1, (2, count))
    cropped = np.moveaxis(windows[np.arange(count), top, left], 1, -1)
    flipped = random.integers(0, 2, count).astype(bool)
    cropped[flipped] = cropped[flipped, :, ::-1]
    return np.ascontiguousarray(cropped)
