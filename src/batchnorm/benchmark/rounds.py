"""Contestants in turn: how long each takes, and how many times as long as another."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
Work = Callable[[], object]

_MOST = 1000  # calls in a round


def seconds(work: Sequence[Work], rounds: int, least: float = 0.0) -> Seconds:
    """How long a call of each of some functions takes, in turn.

    What comes before does not count: two calls of each, the first of which may compile, and a turn.

    Args:
        work: the functions.
        rounds: how often each has its turn.
        least: how long a turn lasts, at least, in seconds: a function that takes less is called
            more often, and the time is that of one call.

    Returns:
        `(rounds, functions)`, in seconds.
    """
    for function in work:
        function()
    calls = [_calls(least, _taken(function, 1)) for function in work]
    return np.array(
        [
            [_taken(function, count) / count for function, count in zip(work, calls, strict=True)]
            for _ in range(1 + rounds)
        ]
    )[1:]


def _calls(least: float, taken: float) -> int:
    return min(max(1, math.ceil(least / max(taken, 1e-9))), _MOST)


def _taken(function: Work, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - start


def spread(values: Seconds) -> dict[str, float]:
    """The median and the quartiles."""
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(median), "lower": float(lower), "upper": float(upper)}


def results(names: Sequence[str], took: Seconds, limit: Seconds | None = None) -> dict[str, Any]:
    """The figures of contestants.

    Args:
        names: whose, ours first.
        took: a column for each, in seconds.
        limit: the memory limit, measured as often.

    Returns:
        "rounds", how many there were; "limit", if it is given; and "contestants" by name: of each
        "seconds", "times_ours", how many times as long it takes as ours in the same round, and
        "times_limit". All but the first as median and quartiles; the limit also has "quickest", the
        one that counts, as whatever else the machine does only adds to it.
    """
    found = {
        name: {"seconds": spread(column), "times_ours": spread(column / took[:, 0])}
        for name, column in zip(names, took.T, strict=True)
    }
    if limit is None:
        return {"rounds": len(took), "contestants": found}
    for each, column in zip(found.values(), took.T, strict=True):
        each["times_limit"] = spread(column / limit.min())
    quickest = {"quickest": float(limit.min())}
    return {"rounds": len(took), "limit": spread(limit) | quickest, "contestants": found}
