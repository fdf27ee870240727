"""Made-up records of a measuring process."""

from itertools import product
from typing import Any

from batchnorm_app.benchmark.request import DEFAULT_MODES, BenchmarkRequest

NATIVE = {"tensorflow": "FusedBatchNormV3", "jax": "flax.nnx", "torch": "torch.nn"}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "lower": 0.9 * median, "upper": 1.1 * median}


def contestants(*names: str, saved: bool = False, unit: float = 2e-3) -> dict[str, Any]:
    """Returns figures by name, of which each is slower than the one before."""
    return {
        name: {
            "seconds": spread(unit * number),
            "times_ours": spread(float(number)),
            "times_limit": spread(2.0 * number),
        }
        | ({"kept": float(number)} if saved else {})
        for number, name in enumerate(names, 1)
    }


def case(backend: str, shape: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    record = {
        "backend": backend,
        "variant": "plain",
        "shape": list(shape),
        "mode": DEFAULT_MODES[backend],
        "pass": "forward+backward",
        "x_bytes": 2**25,
        "bandwidth": 4e10,
        "rounds": 3,
        "limit": {**spread(1e-3), "quickest": 0.9e-3},
        **changes,
    }
    rivals = {
        "plain": ("Keras", NATIVE[backend]),
        "conditional": ("batchnorm plain", "moments+gather", "Keras+gain"),
    }.get(record["variant"], ("batchnorm plain",))
    saved = record["pass"] == "forward+backward"
    return {**record, "contestants": contestants("batchnorm", *rivals, saved=saved)}


def step(backend: str) -> dict[str, Any]:
    record = {"backend": backend, "model": "LeNet", "batch": 128, "image_shape": [28, 28, 1]}
    times = contestants("none", "batchnorm", "Keras")
    ordered = {name: times[name] for name in ("batchnorm", "Keras", "none")}
    return {**record, "depth": None, "rounds": 3, "contestants": ordered}


def records(backend: str, request: BenchmarkRequest) -> list[dict[str, Any]]:
    """Returns all records of a request."""
    description = {"backend": backend, "versions": {backend: "1.2.3"}, "notes": []}
    modes = request.modes_of(backend)
    cases = [
        {"case": case(backend, shape, **{"variant": variant, "mode": mode, "pass": pass_name})}
        for shape, variant, mode, pass_name in product(
            request.shapes, request.variants, modes, request.passes
        )
    ]
    return [{"about": description}, *cases, *([{"step": step(backend)}] if request.steps else [])]
