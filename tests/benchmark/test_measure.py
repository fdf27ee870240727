"""What one backend measures, in this process."""

import importlib.util
import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import keras
import pytest

from batchnorm.benchmark import measure, models
from batchnorm.benchmark.asked import PASSES, USUAL, VARIANTS, Asked

BACKEND = keras.backend.backend()


def numbers(value: Any) -> Iterator[float]:
    """All numbers in it, wherever they are."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif value is not None and not isinstance(value, str):
        yield value


def measured(**asked: Any) -> list[dict[str, Any]]:
    """The cases, all of whose figures are finite and positive."""
    given = {"shapes": ((8, 3),), "rounds": 2, "steps": False, **asked}
    about, *records = measure.measured(Asked(**given))
    assert about["about"]["backend"] == BACKEND
    assert {"batchnorm", "keras", "numpy", BACKEND} <= about["about"]["versions"].keys()
    assert all(math.isfinite(number) and number > 0 for number in numbers(records))
    return records


def test_every_variant_and_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LEAST", 1e-4)
    mode = USUAL[BACKEND]
    cases = [record["case"] for record in measured(modes=(mode,))]
    assert [(c["variant"], c["pass"]) for c in cases] == [*product(VARIANTS, PASSES)]
    for case in cases:
        assert (case["backend"], case["shape"], case["mode"]) == (BACKEND, [8, 3], mode)
        assert case["x_bytes"] == 8 * 3 * 4 and case["bandwidth"] > 0 and case["rounds"] == 2
        assert case["limit"].keys() == {"median", "lower", "upper", "quickest"}
        for each in case["contestants"].values():
            for name in ("seconds", "times_ours", "times_limit"):
                assert each[name].keys() == {"median", "lower", "upper"}
            assert ("kept" in each) == (case["pass"] == "forward+backward")


def test_every_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LEAST", 1e-4)
    records = measured(variants=("plain",), passes=("inference",))
    assert [r["case"]["mode"] for r in records] == [*Asked().modes_of(BACKEND)]


def test_training_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.MODELS["LeNet"].batch == 128
    monkeypatch.setattr(models, "MODELS", {"LeNet": models.Step(4, (16, 16, 1))})
    (record,) = measured(shapes=(), steps=True)
    step = record["step"]
    assert (step["model"], step["batch"], step["image_shape"]) == ("LeNet", 4, [16, 16, 1])
    assert [*step["contestants"]] == ["batchnorm", "Keras", "none"]


def test_the_models_are_those_with_the_layers() -> None:
    """A ResNet's lie within its blocks, but for the last."""
    for step in models.MODELS.values():
        block = None if step.depth is None else "bottleneck"
        names = []
        for expression in models.NORMALIZATIONS.values():
            made = models.compiled(step.image_shape, expression, step.depth, block)
            found = [e for e in made.layers if isinstance(e, keras.layers.BatchNormalization)]
            names.append({type(each).__module__.split(".")[0] for each in found})
        assert names == [{"batchnorm"}, {"keras"}, set()]


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    find, hidden = importlib.util.find_spec, "flax"
    monkeypatch.setattr(measure, "find_spec", lambda name: None if name == hidden else find(name))
    about = next(measure.measured(Asked(shapes=())))["about"]
    expected = ["flax is not installed, and flax.nnx is left out"] if BACKEND == "jax" else []
    assert about["notes"] == expected
