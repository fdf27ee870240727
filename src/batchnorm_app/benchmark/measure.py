"""Measures all cases of one backend, one after the other."""

import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import keras

from batchnorm_app.benchmark import runners, training_steps
from batchnorm_app.benchmark.contestants import Contestant, contestants
from batchnorm_app.benchmark.inputs import Inputs, inputs
from batchnorm_app.benchmark.memory_limit import copies
from batchnorm_app.benchmark.request import ROUNDS, BenchmarkRequest
from batchnorm_app.benchmark.runners import Runner
from batchnorm_app.benchmark.timing import results, seconds
from batchnorm_app.benchmark.training_steps import measure_steps

Record = dict[str, Any]

MIN_SECONDS = 3e-3  # of a turn
BACKWARD = "forward+backward"


def measure(request: BenchmarkRequest) -> Iterator[Record]:
    """Measures on the backend in use.

    Args:
        request: the settings.

    Yields:
        `{"about": ...}`, then a `{"case": ...}` for each variant, shape, mode and pass, and a
        `{"step": ...}` for each model; their times are in seconds.
    """
    runner, backend = runners.choose(), keras.backend.backend()
    yield {"about": _describe(backend, runner)}
    for shape in request.shapes:
        numbers = inputs(shape)
        for variant in request.variants:
            for record in _variant(runner, request, variant, numbers):
                case = {"backend": backend, "variant": variant, "shape": list(shape)}
                yield {"case": case | record}
    if request.steps:
        for name in training_steps.MODELS:
            yield {"step": {"backend": backend} | measure_steps(name, request.rounds)}


def _variant(
    runner: Runner, request: BenchmarkRequest, variant: str, numbers: Inputs
) -> Iterator[Record]:
    """Measures all modes and passes of one variant of one shape."""
    by_name = contestants(runner, variant, numbers)
    x, dy = runner.tensor(numbers.x), runner.tensor(numbers.dy)
    copy, size = runner.copier(numbers.x), numbers.x.nbytes
    saved = _saved_bytes(runner, by_name, x) if BACKWARD in request.passes else {}
    for mode in request.modes_of(keras.backend.backend()):
        for pass_name in request.passes:
            work = [
                runner.work(contestant.target, pass_name, mode, x, dy, contestant.arguments)
                for contestant in by_name.values()
            ]
            # The copy takes no turn: some contestants leave threads that are busy for a while.
            copy_times = seconds([copy], ROUNDS, MIN_SECONDS)[:, 0]
            times = seconds(work, request.rounds, MIN_SECONDS)
            record = results([*by_name], times, copies(pass_name) * copy_times)
            if pass_name == BACKWARD:
                for name, figures in record["contestants"].items():
                    figures["kept"] = saved[name] / size
            bandwidth = 2 * size / float(copy_times.min())
            case = {"mode": mode, "pass": pass_name, "x_bytes": size, "bandwidth": bandwidth}
            yield case | record


def _saved_bytes(runner: Runner, by_name: dict[str, Contestant], x: Any) -> dict[str, int]:
    return {
        name: runner.saved_bytes(contestant.target, x, contestant.arguments)
        for name, contestant in by_name.items()
    }


def _describe(backend: str, runner: Runner) -> Record:
    names = ("batchnorm", "keras", "numpy", backend, *(("flax",) if backend == "jax" else ()))
    installed = [name for name in names if find_spec(name)]
    versions = {name: importlib.import_module(name).__version__ for name in installed}
    missing = [name for name in names if name not in installed]
    notes = [f"{name} is not installed, and {runner.NATIVE} is left out" for name in missing]
    return {"backend": backend, "versions": versions, "notes": notes}
