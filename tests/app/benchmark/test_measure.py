"""The measurements of one backend, in this process."""

import importlib.util
import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import keras
import pytest

from batchnorm_app.benchmark import measure, training_steps
from batchnorm_app.benchmark.request import DEFAULT_MODES, PASSES, VARIANTS, BenchmarkRequest

BACKEND = keras.backend.backend()


def numbers(value: Any) -> Iterator[float]:
    """Yields all numbers of a nested value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif value is not None and not isinstance(value, str):
        yield value


def checked_records(**settings: Any) -> list[dict[str, Any]]:
    """Returns the records, after a check that all figures are finite and positive."""
    settings = {"shapes": ((8, 3),), "rounds": 2, "steps": False, **settings}
    description, *records = measure.measure(BenchmarkRequest(**settings))
    assert description["about"]["backend"] == BACKEND
    assert {"batchnorm", "keras", "numpy", BACKEND} <= description["about"]["versions"].keys()
    assert all(math.isfinite(number) and number > 0 for number in numbers(records))
    return records


def test_every_variant_and_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MIN_SECONDS", 1e-4)
    mode = DEFAULT_MODES[BACKEND]
    cases = [record["case"] for record in checked_records(modes=(mode,))]
    assert [(c["variant"], c["pass"]) for c in cases] == [*product(VARIANTS, PASSES)]
    for case in cases:
        assert (case["backend"], case["shape"], case["mode"]) == (BACKEND, [8, 3], mode)
        assert case["x_bytes"] == 8 * 3 * 4 and case["bandwidth"] > 0 and case["rounds"] == 2
        assert case["limit"].keys() == {"median", "lower", "upper", "quickest"}
        for figures in case["contestants"].values():
            for name in ("seconds", "times_ours", "times_limit"):
                assert figures[name].keys() == {"median", "lower", "upper"}
            assert ("kept" in figures) == (case["pass"] == "forward+backward")


def test_every_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MIN_SECONDS", 1e-4)
    records = checked_records(variants=("plain",), passes=("inference",))
    assert [r["case"]["mode"] for r in records] == [*BenchmarkRequest().modes_of(BACKEND)]


def test_training_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_steps.MODELS["LeNet"].batch == 128
    monkeypatch.setattr(training_steps, "MODELS", {"LeNet": training_steps.Step(4, (16, 16, 1))})
    (record,) = checked_records(shapes=(), steps=True)
    step = record["step"]
    assert (step["model"], step["batch"], step["image_shape"]) == ("LeNet", 4, [16, 16, 1])
    assert [*step["contestants"]] == ["batchnorm", "Keras", "none"]


def test_models_have_the_layers_of_their_normalization() -> None:
    # Most layers of a ResNet lie within its blocks; the last lies in the model itself.
    for step in training_steps.MODELS.values():
        block = None if step.depth is None else "bottleneck"
        names = []
        for expression in training_steps.NORMALIZATIONS.values():
            model = training_steps.compiled_model(step.image_shape, expression, step.depth, block)
            layers = [
                layer
                for layer in model.layers
                if isinstance(layer, keras.layers.BatchNormalization)
            ]
            names.append({type(layer).__module__.split(".")[0] for layer in layers})
        assert names == [{"batchnorm"}, {"keras"}, set()]


def test_a_missing_package_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    find, hidden = importlib.util.find_spec, "flax"
    monkeypatch.setattr(measure, "find_spec", lambda name: None if name == hidden else find(name))
    description = next(measure.measure(BenchmarkRequest(shapes=())))["about"]
    expected = ["flax is not installed, and flax.nnx is left out"] if BACKEND == "jax" else []
    assert description["notes"] == expected
