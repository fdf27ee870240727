"""Peak memory of one contestant, from the high-water mark of the whole process."""

import ctypes
import gc
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchnorm_app.benchmark import runners
from batchnorm_app.benchmark.contestants import contestants
from batchnorm_app.benchmark.inputs import inputs

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(variant: str, shape: Sequence[int], mode: str, name: str) -> int:
    """Returns the peak bytes that a forward and backward pass add to this process.

    Both passes run once, in a process that has run them on two samples and holds the inputs; the
    memory of compiling counts, too.

    Args:
        variant: of `VARIANTS`.
        shape: of the inputs.
        mode: one of the backend's.
        name: of the contestant.
    """
    runner = runners.choose()
    for size in (min(2, shape[0]), shape[0]):
        numbers = inputs((size, *shape[1:]))
        contestant = contestants(runner, variant, numbers)[name]
        x, dy = runner.tensor(numbers.x), runner.tensor(numbers.dy)
        work: Any = runner.work(
            contestant.target, "forward+backward", mode, x, dy, contestant.arguments
        )
        before = _reset_high_water_mark()
        work()
    return _high_water_mark() - before


def _reset_high_water_mark() -> int:
    """Resets the high-water mark where the system can, and returns it."""
    gc.collect()
    # glibc keeps freed memory, and a pass that takes it again would not raise the mark.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    with suppress(OSError):
        _CLEAR.write_text("5", "ascii")
    return _high_water_mark()


def _high_water_mark() -> int:
    """Returns the most bytes that this process has had since its start or the last reset."""
    # On Linux ru_maxrss starts at the memory of the parent, and cannot be reset.
    if _STATUS.exists():
        (line,) = (text for text in _STATUS.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    # ru_maxrss is in bytes on macOS, in units of 1024 bytes elsewhere.
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024
