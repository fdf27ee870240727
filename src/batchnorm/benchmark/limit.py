"""The memory limit: how fast this machine could do a pass if arithmetic took no time."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from batchnorm.benchmark.inputs import Array
from batchnorm.benchmark.machine import cores

# How often a pass reads or writes an array as large as x, at least. Forward: the mean, the
# variance about it, and the output; backward: x and dy twice, for their sums and for dx.
_TRAFFIC = {"inference": 1 + 1, "forward": 3 + 1, "forward+backward": 3 + 1 + 4 + 1}
_OF_A_COPY = 1 + 1


def copies(which: str) -> float:
    """How many copies of x move as many bytes as a pass must.

    Args:
        which: of `PASSES`.

    Example:
        >>> copies("inference"), copies("forward"), copies("forward+backward")
        (1.0, 2.0, 4.5)
    """
    return _TRAFFIC[which] / _OF_A_COPY


def threaded(array: Array) -> Callable[[], object]:
    """What copies an array to another one that is there: one core or all, as is faster."""
    target = np.zeros_like(array)
    count = cores()
    parts = [*zip(np.array_split(target, count), np.array_split(array, count), strict=True)]
    pool = ThreadPoolExecutor(count)

    def alone() -> None:
        np.copyto(target, array)

    def together() -> None:
        wait([pool.submit(np.copyto, *part) for part in parts])

    return min((alone, together), key=_quickest)


def _quickest(function: Callable[[], object]) -> float:
    found = []
    for _ in range(7):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)
