"""Peak memory of one contestant: what the whole process took at most, once."""

import ctypes
import gc
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchnorm.benchmark import runners
from batchnorm.benchmark.contestants import contestants
from batchnorm.benchmark.inputs import inputs

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(variant: str, shape: Sequence[int], mode: str, name: str) -> int:
    """What forward and backward pass add to the memory of this process, at their peak, in bytes.

    Both run once, in a process that has done the same on two samples and has made the inputs; what
    compiling takes counts, too.

    Args:
        variant: of `VARIANTS`.
        shape: of the inputs.
        mode: one of the backend's.
        name: the contestant's.
    """
    runner = runners.choose()
    for size in (min(2, shape[0]), shape[0]):
        numbers = inputs((size, *shape[1:]))
        who = contestants(runner, variant, numbers)[name]
        x, dy = runner.tensor(numbers.x), runner.tensor(numbers.dy)
        work: Any = runner.work(who.runs, "forward+backward", mode, x, dy, who.given)
        before = _begin()
        work()
    return _most() - before


def _begin() -> int:
    """The memory that this process has; what it had before is forgotten, where that can be."""
    gc.collect()
    # glibc hands back what is free, which would else be taken again without a trace.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    with suppress(OSError):
        _FORGET.write_text("5", "ascii")
    return _most()


def _most() -> int:
    """The most memory that this process ever had, or had since `_begin`."""
    # On Linux ru_maxrss is at least what the parent had when it started this process.
    if _STATUS.exists():
        (line,) = (text for text in _STATUS.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    # In bytes on macOS alone.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
