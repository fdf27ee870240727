"""All cases of one backend, one after the other."""

import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import keras

from batchnorm.benchmark import models, runners
from batchnorm.benchmark.asked import ROUNDS, Asked
from batchnorm.benchmark.contestants import Contestant, contestants
from batchnorm.benchmark.inputs import Inputs, inputs
from batchnorm.benchmark.limit import copies
from batchnorm.benchmark.rounds import results, seconds
from batchnorm.benchmark.runners import Runner

Record = dict[str, Any]

LEAST = 3e-3  # seconds that a turn lasts
BACKWARD = "forward+backward"


def measured(asked: Asked) -> Iterator[Record]:
    """Measures on the backend in use.

    Args:
        asked: what.

    Yields:
        `{"about": ...}`, then a `{"case": ...}` for each variant, shape, mode and pass, and a
        `{"step": ...}` for each model; their times are in seconds.
    """
    runner, backend = runners.choose(), keras.backend.backend()
    yield {"about": _about(backend, runner)}
    for shape in asked.shapes:
        numbers = inputs(shape)
        for variant in asked.variants:
            for record in _variant(runner, asked, variant, numbers):
                where = {"backend": backend, "variant": variant, "shape": list(shape)}
                yield {"case": where | record}
    if asked.steps:
        for name in models.MODELS:
            yield {"step": {"backend": backend} | models.measured(name, asked.rounds)}


def _variant(runner: Runner, asked: Asked, variant: str, numbers: Inputs) -> Iterator[Record]:
    """All modes and passes of one variant of one shape."""
    who = contestants(runner, variant, numbers)
    x, dy = runner.tensor(numbers.x), runner.tensor(numbers.dy)
    copy, moved = runner.copier(numbers.x), numbers.x.nbytes
    kept = _kept(runner, who, x, moved) if BACKWARD in asked.passes else {}
    for mode in asked.modes_of(keras.backend.backend()):
        for which in asked.passes:
            work = [runner.work(each.runs, which, mode, x, dy, each.given) for each in who.values()]
            # Not one of those that take turns: some leave threads behind that are busy for a while.
            copied = seconds([copy], ROUNDS, LEAST)[:, 0]
            took = seconds(work, asked.rounds, LEAST)
            found = results([*who], took, copies(which) * copied)
            if which == BACKWARD:
                for name, each in found["contestants"].items():
                    each["kept"] = kept[name]
            bandwidth = 2 * moved / float(copied.min())
            yield {"mode": mode, "pass": which, "x_bytes": moved, "bandwidth": bandwidth} | found


def _kept(runner: Runner, who: dict[str, Contestant], x: Any, unit: int) -> dict[str, float]:
    return {name: runner.kept(each.runs, x, each.given) / unit for name, each in who.items()}


def _about(backend: str, runner: Runner) -> Record:
    names = ("batchnorm", "keras", "numpy", backend, *(("flax",) if backend == "jax" else ()))
    versions = {n: importlib.import_module(n).__version__ for n in names if find_spec(n)}
    missing = [name for name in names if name not in versions]
    notes = [f"{name} is not installed, and {runner.OWN} is left out" for name in missing]
    return {"backend": backend, "versions": versions, "notes": notes}
