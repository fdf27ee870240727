"""What a measuring process says, made up."""

from itertools import product
from typing import Any

from batchnorm.benchmark.asked import USUAL, Asked

OWN = {"tensorflow": "FusedBatchNormV3", "jax": "flax.nnx", "torch": "torch.nn"}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "lower": 0.9 * median, "upper": 1.1 * median}


def contestants(*names: str, kept: bool = False, unit: float = 2e-3) -> dict[str, Any]:
    """Each takes longer than the one before."""
    return {
        name: {
            "seconds": spread(unit * number),
            "times_ours": spread(float(number)),
            "times_limit": spread(2.0 * number),
        }
        | ({"kept": float(number)} if kept else {})
        for number, name in enumerate(names, 1)
    }


def case(backend: str, shape: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    made = {
        "backend": backend,
        "variant": "plain",
        "shape": list(shape),
        "mode": USUAL[backend],
        "pass": "forward+backward",
        "x_bytes": 2**25,
        "bandwidth": 4e10,
        "rounds": 3,
        "limit": {**spread(1e-3), "quickest": 0.9e-3},
        **changes,
    }
    rivals = {
        "plain": ("Keras", OWN[backend]),
        "conditional": ("batchnorm plain", "moments+gather", "Keras+gain"),
    }.get(made["variant"], ("batchnorm plain",))
    kept = made["pass"] == "forward+backward"
    return {**made, "contestants": contestants("batchnorm", *rivals, kept=kept)}


def step(backend: str) -> dict[str, Any]:
    found = {"backend": backend, "model": "LeNet", "batch": 128, "image_shape": [28, 28, 1]}
    times = contestants("none", "batchnorm", "Keras")
    ordered = {name: times[name] for name in ("batchnorm", "Keras", "none")}
    return {**found, "depth": None, "rounds": 3, "contestants": ordered}


def records(backend: str, asked: Asked) -> list[dict[str, Any]]:
    """All that is asked for."""
    about = {"backend": backend, "versions": {backend: "1.2.3"}, "notes": []}
    modes = asked.modes_of(backend)
    cases = [
        {"case": case(backend, shape, **{"variant": variant, "mode": mode, "pass": which})}
        for shape, variant, mode, which in product(
            asked.shapes, asked.variants, modes, asked.passes
        )
    ]
    return [{"about": about}, *cases, *([{"step": step(backend)}] if asked.steps else [])]
