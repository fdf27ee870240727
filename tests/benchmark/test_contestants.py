"""Contestants do the same work: what they return is the same."""

from functools import cache
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm.benchmark import runners
from batchnorm.benchmark.asked import MODES, PASSES, USUAL, VARIANTS
from batchnorm.benchmark.contestants import GAIN, GATHER, KERAS, OURS, PLAIN, contestants
from batchnorm.benchmark.inputs import inputs
from tests.compare import assert_close

BACKEND = keras.backend.backend()
RUNNER = runners.choose()
SHAPES = [(8, 4, 5, 6), (8, 6), (8, 3, 6)]
TOLERANCE = 1e-3
# Whose work is another's: it stands beside for comparison.
OTHERS = {"plain": set(), "conditional": {PLAIN}, "weighted": {PLAIN}, "renorm": {PLAIN}}


@cache
def returned(
    variant: str, shape: tuple[int, ...], which: str, mode: str
) -> dict[str, list[npt.NDArray[Any]]]:
    """y, and after the backward pass the gradient of x, of each contestant."""
    numbers = inputs(shape)
    x, dy = RUNNER.tensor(numbers.x), RUNNER.tensor(numbers.dy)
    found = {}
    for name, each in contestants(RUNNER, variant, numbers).items():
        result = RUNNER.work(each.runs, which, mode, x, dy, each.given)()
        values = result[: 2 if which == "forward+backward" else 1]
        found[name] = [keras.ops.convert_to_numpy(value) for value in values]
    return found


@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("variant", OTHERS)
def test_contestants_agree(variant: str, which: str) -> None:
    found = returned(variant, SHAPES[0], which, USUAL[BACKEND])
    assert [*found][0] == OURS and len(found) > len(OTHERS[variant]) + 1
    for name in found.keys() - OTHERS[variant]:
        for value, expected in zip(found[name], found[OURS], strict=True):
            assert_close(value, expected, TOLERANCE)
    for name in OTHERS[variant]:  # the comparison can fail
        if (variant, which) not in (("weighted", "inference"), ("renorm", "inference")):
            assert np.abs(found[name][0] - found[OURS][0]).max() > TOLERANCE


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("variant", ["plain", "conditional"])
def test_contestants_agree_on_other_shapes(variant: str, shape: tuple[int, ...]) -> None:
    found = returned(variant, shape, "forward+backward", USUAL[BACKEND])
    for name in found.keys() - OTHERS[variant]:
        for value, expected in zip(found[name], found[OURS], strict=True):
            assert_close(value, expected, TOLERANCE)


@pytest.mark.parametrize("mode", MODES[BACKEND])
def test_modes_agree(mode: str) -> None:
    for name, values in returned("plain", SHAPES[1], "forward+backward", mode).items():
        expected = returned("plain", SHAPES[1], "forward+backward", USUAL[BACKEND])[name]
        for value, each in zip(values, expected, strict=True):
            assert_close(value, each, TOLERANCE)


def test_plain_is_what_float64_says() -> None:
    numbers = inputs(SHAPES[0])
    x = numbers.x.astype(float)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(variance + 1e-3) * numbers.gamma[0] + numbers.beta[0]
    for values in returned("plain", SHAPES[0], "forward", USUAL[BACKEND]).values():
        assert_close(values[0], expected, TOLERANCE)


def test_ghost_batches_divide_the_batch() -> None:
    sizes = {samples: inputs((samples, 1)).group for samples in (2, 6, 8, 17, 64, 128, 256)}
    assert sizes == {2: 1, 6: 3, 8: 4, 17: 1, 64: 16, 128: 16, 256: 16}
    found = returned("ghost", SHAPES[0], "forward", USUAL[BACKEND])
    whole, parts = found[PLAIN][0], found[OURS][0]
    assert [*found] == [OURS, PLAIN] and np.abs(whole - parts).max() > TOLERANCE
    numbers = inputs(SHAPES[0])
    half = (parts[:4] - numbers.beta[0]) / numbers.gamma[0]
    assert np.abs(half.mean((0, 1, 2))).max() < 1e-5


def test_who_takes_part() -> None:
    numbers = inputs((8, 4))
    names = {variant: [*contestants(RUNNER, variant, numbers)] for variant in VARIANTS}
    assert names == {
        "plain": [OURS, KERAS, RUNNER.OWN],
        "conditional": [OURS, PLAIN, GATHER, GAIN],
        "weighted": [OURS, PLAIN, KERAS],
        "renorm": [OURS, PLAIN, KERAS],
        "ghost": [OURS, PLAIN],
    }


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise ImportError("No module named 'flax'")

    monkeypatch.setattr(RUNNER, "own", missing)
    assert [*contestants(RUNNER, "plain", inputs((8, 4)))] == [OURS, KERAS]


class Square(keras.layers.Layer):
    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs * inputs


class Next(keras.layers.Layer):
    def call(self, inputs: Any, training: bool = False) -> Any:
        return keras.ops.reshape(inputs, (-1, 2)) + 1.0


@pytest.mark.parametrize("layer, units", [(Square, 1), (Next, 0)])
def test_bytes_kept_for_the_backward_pass(layer: type[keras.layers.Layer], units: int) -> None:
    numbers = inputs((8, 4, 4, 2))
    made = layer()
    made.build(numbers.shape)
    kept = RUNNER.kept(RUNNER.of_layer(made), RUNNER.tensor(numbers.x), {})
    assert kept == units * numbers.x.nbytes


def test_keras_keeps_more_than_the_input_alone_where_it_does() -> None:
    numbers = inputs((8, 16, 16, 4))
    who = contestants(RUNNER, "plain", numbers)
    units = {
        name: RUNNER.kept(each.runs, RUNNER.tensor(numbers.x), {}) / numbers.x.nbytes
        for name, each in who.items()
    }
    assert units[KERAS] == pytest.approx({"tensorflow": 1, "jax": 2, "torch": 2}[BACKEND], abs=0.02)
    own = {"tensorflow": 1, "jax": 2, "torch": 1}[BACKEND]
    assert units[RUNNER.OWN] == pytest.approx(own, abs=0.02)
