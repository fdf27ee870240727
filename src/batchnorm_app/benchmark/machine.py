"""The machine, and the environment variables that decide how fast it provides memory."""

import os
import platform
from pathlib import Path
from typing import Any

# Makes glibc keep freed memory, instead of returning it to the system and faulting it in again,
# page by page: in one arena, because a thread's arena holds at most 64 MB, and JAX allocates its
# outputs in threads. glibc reads all three when a process starts.
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_ARENA_MAX": "1",
}
ENVIRONMENT = (*TUNED, "THP_MEM_ALLOC_ENABLE", "TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS")


def machine() -> dict[str, Any]:
    """Returns processor, cores, memory in bytes, system and Python."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_bytes": _memory(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def environment(tuned: bool) -> dict[str, str | None]:
    """Returns the variables of `ENVIRONMENT` in a measuring process; `None` where not set.

    Args:
        tuned: the process is started with the variables of `TUNED`.
    """
    values = os.environ | (TUNED if tuned else {})
    return {name: values.get(name) for name in ENVIRONMENT}


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
