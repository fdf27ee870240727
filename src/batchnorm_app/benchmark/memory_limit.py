"""The memory limit: the time of a pass on this machine if arithmetic took none."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from batchnorm_app.benchmark.inputs import Array
from batchnorm_app.benchmark.machine import cores

# The fewest arrays of x's size that a pass reads + writes. Forward: x for the mean, the variance
# about it and the output + y. Backward: x and dy for their sums, and again for dx + dx.
_TRAFFIC = {"inference": 1 + 1, "forward": 3 + 1, "forward+backward": 3 + 1 + 4 + 1}
_COPY_TRAFFIC = 1 + 1


def copies(pass_name: str) -> float:
    """Returns the number of copies of x that move as many bytes as a pass must.

    Args:
        pass_name: of `PASSES`.

    Example:
        >>> copies("inference"), copies("forward"), copies("forward+backward")
        (1.0, 2.0, 4.5)
    """
    return _TRAFFIC[pass_name] / _COPY_TRAFFIC


def fastest_copier(array: Array) -> Callable[[], object]:
    """Returns a function that copies an array to an existing one, on one core or all of them."""
    target = np.zeros_like(array)
    count = cores()
    parts = [*zip(np.array_split(target, count), np.array_split(array, count), strict=True)]
    pool = ThreadPoolExecutor(count)

    def single() -> None:
        np.copyto(target, array)

    def parallel() -> None:
        wait([pool.submit(np.copyto, *part) for part in parts])

    return min((single, parallel), key=_best_time)


def _best_time(function: Callable[[], object]) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
