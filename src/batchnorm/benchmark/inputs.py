"""What all contestants of a case are given: the same numbers."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from batchnorm.benchmark.asked import Shape

Array = npt.NDArray[Any]

CLASSES = 10
GROUP = 16  # samples of a ghost batch, where the batch has more and can be divided so
EPSILON = 1e-3
MOMENTUM = 0.99


class Inputs(NamedTuple):
    """The numbers of one shape.

    Attributes:
        x: the input, float32.
        dy: the gradient that reaches y.
        labels: the class of each sample.
        weights: 0 or 1 for each sample, so that a mask can say the same.
        gamma: a row for each class; the first one is that of all where there are none.
        beta: likewise.
    """

    x: Array
    dy: Array
    labels: Array
    weights: Array
    gamma: Array
    beta: Array

    @property
    def shape(self) -> Shape:
        """Of x."""
        return self.x.shape

    @property
    def mask(self) -> Array:
        """The weights as Keras's layer takes them: of x's rank without the channels."""
        return self.weights.astype(bool).reshape(-1, *(1 for _ in self.shape[1:-1]))

    @property
    def group(self) -> int:
        """Samples of a ghost batch: at most `GROUP` and half of the batch, and they divide it."""
        samples = self.shape[0]
        most = min(GROUP, max(samples // 2, 1))
        return max(size for size in range(1, most + 1) if samples % size == 0)


def inputs(shape: Shape) -> Inputs:
    """The numbers of a shape, the same ones each time."""
    random = np.random.default_rng(math.prod(shape))
    weights = np.ones(shape[0], np.float32)
    weights[::4] = 0
    x = random.standard_normal(shape, np.float32)
    x += np.float32(0.5)
    return Inputs(
        x=x,
        dy=random.standard_normal(shape, np.float32),
        labels=random.integers(0, CLASSES, shape[0]).astype(np.int32),
        weights=weights,
        gamma=1 + random.standard_normal((CLASSES, shape[-1]), np.float32) / 10,
        beta=random.standard_normal((CLASSES, shape[-1]), np.float32) / 10,
    )
