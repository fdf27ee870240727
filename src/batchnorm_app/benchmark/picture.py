"""The picture of a benchmark: selects the cases that it shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchnorm_app.benchmark.contestants import PLAIN
from batchnorm_app.benchmark.request import BACKENDS, DEFAULT_MODES, PASSES, VARIANTS
from batchnorm_app.plots.benchmark import benchmark as plot

Case = Mapping[str, Any]

_MAX_VARIANTS = 2  # in a panel


def draw(cases: Sequence[Case], path: Path) -> None:
    """Draws one pass, one mode of each backend and two variants.

    Where they were measured, these are the forward and backward pass, the mode that Keras trains
    in, and the plain and conditional variants.

    Args:
        cases: of `benchmark.json`, at least one.
        path: the picture to write.
    """
    # Forward and backward first, which contains the work of the other passes.
    measured = {case["pass"] for case in cases}
    pass_name = next(name for name in ("forward+backward", *PASSES) if name in measured)
    cases = [case for case in cases if case["pass"] == pass_name]
    modes: dict[str, str] = {}
    for case in cases:
        if case["mode"] == DEFAULT_MODES[case["backend"]] or case["backend"] not in modes:
            modes[case["backend"]] = case["mode"]
    measured = {case["variant"] for case in cases}
    variants = [variant for variant in VARIANTS if variant in measured][:_MAX_VARIANTS]
    title = pass_name.replace("+", " and ").capitalize()
    hidden = {PLAIN} if "plain" in variants else set()  # its own variant shows it
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
    return {name: figures for name, figures in contestants.items() if name not in names}
