"""Times functions in turn, and compares their times."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
Work = Callable[[], object]

_MAX_CALLS = 1000  # in a turn


def seconds(work: Sequence[Work], rounds: int, min_seconds: float = 0.0) -> Seconds:
    """Times one call of each function, in turn.

    Two calls of each function, the first of which may compile, and one turn come before, untimed.

    Args:
        work: the functions.
        rounds: turns of each function.
        min_seconds: shortest turn: a function that takes less is called repeatedly, and the turn
            divided by the number of calls.

    Returns:
        `(rounds, functions)`, in seconds.
    """
    for function in work:
        function()
    calls = [_calls(min_seconds, _elapsed(function, 1)) for function in work]
    return np.array(
        [
            [_elapsed(function, count) / count for function, count in zip(work, calls, strict=True)]
            for _ in range(1 + rounds)
        ]
    )[1:]


def _calls(min_seconds: float, call_seconds: float) -> int:
    return min(max(1, math.ceil(min_seconds / max(call_seconds, 1e-9))), _MAX_CALLS)


def _elapsed(function: Work, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - start


def spread(values: Seconds) -> dict[str, float]:
    """Returns the median and the quartiles."""
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(median), "lower": float(lower), "upper": float(upper)}


def results(names: Sequence[str], times: Seconds, limit: Seconds | None = None) -> dict[str, Any]:
    """Returns the figures of contestants.

    Args:
        names: of the contestants, ours first.
        times: `(rounds, contestants)`, in seconds.
        limit: the memory limit, `(rounds,)`, in seconds.

    Returns:
        "rounds", their number; "limit", if there is one; and "contestants" by name, each with
        "seconds", "times_ours" (the ratio to ours in the same round) and "times_limit". All but the
        first are median and quartiles. The limit also has "quickest", which "times_limit" refers
        to, because other work of the machine can only slow the copies.
    """
    contestants = {
        name: {"seconds": spread(column), "times_ours": spread(column / times[:, 0])}
        for name, column in zip(names, times.T, strict=True)
    }
    if limit is None:
        return {"rounds": len(times), "contestants": contestants}
    for figures, column in zip(contestants.values(), times.T, strict=True):
        figures["times_limit"] = spread(column / limit.min())
    quickest = {"quickest": float(limit.min())}
    return {"rounds": len(times), "limit": spread(limit) | quickest, "contestants": contestants}
