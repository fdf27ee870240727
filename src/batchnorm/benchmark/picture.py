"""Which of the cases of a benchmark its picture shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchnorm.benchmark.asked import BACKENDS, PASSES, USUAL, VARIANTS
from batchnorm.benchmark.contestants import PLAIN
from batchnorm.plots.benchmark import benchmark as plot

Case = Mapping[str, Any]

_VARIANTS = 2  # that a panel has room for


def draw(cases: Sequence[Case], path: Path) -> None:
    """Draws one pass, one mode of each backend and two variants.

    Of those that were measured: forward and backward pass, the mode that Keras trains in, plain and
    conditional, if they are among them.

    Args:
        cases: those of `benchmark.json`, one or more.
        path: the picture to write.
    """
    # The one that has all the others' work in it comes first.
    which = _first(("forward+backward", *PASSES), [case["pass"] for case in cases])
    cases = [case for case in cases if case["pass"] == which]
    modes: dict[str, str] = {}
    for case in cases:
        if case["mode"] == USUAL[case["backend"]] or case["backend"] not in modes:
            modes[case["backend"]] = case["mode"]
    there = {case["variant"] for case in cases}
    variants = [variant for variant in VARIANTS if variant in there][:_VARIANTS]
    title = which.replace("+", " and ").capitalize()
    hidden = {PLAIN} if "plain" in variants else set()  # it is there already
    rows = {
        f"{BACKENDS[backend]}, {mode}": [
            {**case, "contestants": _without(hidden, case["contestants"])}
            for case in cases
            if (case["backend"], case["mode"]) == (backend, mode) and case["variant"] in variants
        ]
        for backend, mode in modes.items()
    }
    plot(rows, f"{title}, float32, milliseconds", path)


def _without(names: set[str], contestants: Case) -> Case:
    return {name: each for name, each in contestants.items() if name not in names}


def _first(names: Sequence[str], there: Sequence[str]) -> str:
    return next(name for name in names if name in there)
