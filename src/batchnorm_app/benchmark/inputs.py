"""The numbers that all contestants of a case receive."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from batchnorm_app.benchmark.request import Shape

Array = npt.NDArray[Any]

CLASSES = 10
GROUP = 16  # samples of a ghost batch, if they divide the batch and are fewer
EPSILON = 1e-3
MOMENTUM = 0.99


class Inputs(NamedTuple):
    """The numbers of one shape.

    Attributes:
        x: the input, float32.
        dy: the gradient that reaches y.
        labels: the class of each sample.
        weights: 0 or 1 for each sample, so that a mask can express the same.
        gamma: a row for each class; layers without classes take the first.
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
        """The shape of x."""
        return self.x.shape

    @property
    def mask(self) -> Array:
        """The weights as Keras's layer takes them: with x's axes but the channels'."""
        return self.weights.astype(bool).reshape(-1, *(1 for _ in self.shape[1:-1]))

    @property
    def group(self) -> int:
        """The size of a ghost batch: the largest divisor up to `GROUP` and half of the batch."""
        samples = self.shape[0]
        limit = min(GROUP, max(samples // 2, 1))
        return max(size for size in range(1, limit + 1) if samples % size == 0)


def inputs(shape: Shape) -> Inputs:
    """Returns the numbers of a shape, the same in every call."""
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
