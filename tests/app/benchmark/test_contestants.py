"""Contestants do the same work: their results are equal."""

from functools import cache
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm_app.benchmark import runners
from batchnorm_app.benchmark.contestants import GAIN, GATHER, KERAS, OURS, PLAIN, contestants
from batchnorm_app.benchmark.inputs import inputs
from batchnorm_app.benchmark.request import DEFAULT_MODES, MODES, PASSES, VARIANTS
from tests.compare import assert_close

BACKEND = keras.backend.backend()
RUNNER = runners.choose()
SHAPES = [(8, 4, 5, 6), (8, 6), (8, 3, 6)]
TOLERANCE = 1e-3
# Contestants that do other work, for comparison.
DIFFERENT = {"plain": set(), "conditional": {PLAIN}, "weighted": {PLAIN}, "renorm": {PLAIN}}


@cache
def results(
    variant: str, shape: tuple[int, ...], pass_name: str, mode: str
) -> dict[str, list[npt.NDArray[Any]]]:
    """Returns y, and after the backward pass the gradient of x, of each contestant."""
    numbers = inputs(shape)
    x, dy = RUNNER.tensor(numbers.x), RUNNER.tensor(numbers.dy)
    by_name = {}
    for name, contestant in contestants(RUNNER, variant, numbers).items():
        result = RUNNER.work(contestant.target, pass_name, mode, x, dy, contestant.arguments)()
        values = result[: 2 if pass_name == "forward+backward" else 1]
        by_name[name] = [keras.ops.convert_to_numpy(value) for value in values]
    return by_name


@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("variant", DIFFERENT)
def test_contestants_agree(variant: str, pass_name: str) -> None:
    outputs = results(variant, SHAPES[0], pass_name, DEFAULT_MODES[BACKEND])
    assert [*outputs][0] == OURS and len(outputs) > len(DIFFERENT[variant]) + 1
    for name in outputs.keys() - DIFFERENT[variant]:
        for value, expected in zip(outputs[name], outputs[OURS], strict=True):
            assert_close(value, expected, TOLERANCE)
    for name in DIFFERENT[variant]:  # the comparison can fail
        if (variant, pass_name) not in (("weighted", "inference"), ("renorm", "inference")):
            assert np.abs(outputs[name][0] - outputs[OURS][0]).max() > TOLERANCE


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("variant", ["plain", "conditional"])
def test_contestants_agree_on_other_shapes(variant: str, shape: tuple[int, ...]) -> None:
    outputs = results(variant, shape, "forward+backward", DEFAULT_MODES[BACKEND])
    for name in outputs.keys() - DIFFERENT[variant]:
        for value, expected in zip(outputs[name], outputs[OURS], strict=True):
            assert_close(value, expected, TOLERANCE)


@pytest.mark.parametrize("mode", MODES[BACKEND])
def test_modes_agree(mode: str) -> None:
    for name, values in results("plain", SHAPES[1], "forward+backward", mode).items():
        expected = results("plain", SHAPES[1], "forward+backward", DEFAULT_MODES[BACKEND])[name]
        for value, expectation in zip(values, expected, strict=True):
            assert_close(value, expectation, TOLERANCE)


def test_plain_agrees_with_float64() -> None:
    numbers = inputs(SHAPES[0])
    x = numbers.x.astype(float)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(variance + 1e-3) * numbers.gamma[0] + numbers.beta[0]
    for values in results("plain", SHAPES[0], "forward", DEFAULT_MODES[BACKEND]).values():
        assert_close(values[0], expected, TOLERANCE)


def test_ghost_batches_divide_the_batch() -> None:
    sizes = {samples: inputs((samples, 1)).group for samples in (2, 6, 8, 17, 64, 128, 256)}
    assert sizes == {2: 1, 6: 3, 8: 4, 17: 1, 64: 16, 128: 16, 256: 16}
    outputs = results("ghost", SHAPES[0], "forward", DEFAULT_MODES[BACKEND])
    pooled, ghost = outputs[PLAIN][0], outputs[OURS][0]
    assert [*outputs] == [OURS, PLAIN] and np.abs(pooled - ghost).max() > TOLERANCE
    numbers = inputs(SHAPES[0])
    half = (ghost[:4] - numbers.beta[0]) / numbers.gamma[0]
    assert np.abs(half.mean((0, 1, 2))).max() < 1e-5


def test_contestants_of_each_variant() -> None:
    numbers = inputs((8, 4))
    names = {variant: [*contestants(RUNNER, variant, numbers)] for variant in VARIANTS}
    assert names == {
        "plain": [OURS, KERAS, RUNNER.NATIVE],
        "conditional": [OURS, PLAIN, GATHER, GAIN],
        "weighted": [OURS, PLAIN, KERAS],
        "renorm": [OURS, PLAIN, KERAS],
        "ghost": [OURS, PLAIN],
    }


def test_a_native_layer_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise ImportError("No module named 'flax'")

    monkeypatch.setattr(RUNNER, "native", missing)
    assert [*contestants(RUNNER, "plain", inputs((8, 4)))] == [OURS, KERAS]


class Square(keras.layers.Layer):
    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs * inputs


class AddOne(keras.layers.Layer):
    def call(self, inputs: Any, training: bool = False) -> Any:
        return keras.ops.reshape(inputs, (-1, 2)) + 1.0


@pytest.mark.parametrize("layer_class, units", [(Square, 1), (AddOne, 0)])
def test_bytes_saved_for_the_backward_pass(
    layer_class: type[keras.layers.Layer], units: int
) -> None:
    numbers = inputs((8, 4, 4, 2))
    layer = layer_class()
    layer.build(numbers.shape)
    saved = RUNNER.saved_bytes(RUNNER.from_layer(layer), RUNNER.tensor(numbers.x), {})
    assert saved == units * numbers.x.nbytes


def test_bytes_that_keras_and_the_native_layer_save() -> None:
    numbers = inputs((8, 16, 16, 4))
    x = RUNNER.tensor(numbers.x)
    units = {
        name: RUNNER.saved_bytes(contestant.target, x, {}) / numbers.x.nbytes
        for name, contestant in contestants(RUNNER, "plain", numbers).items()
    }
    assert units[KERAS] == pytest.approx({"tensorflow": 1, "jax": 2, "torch": 2}[BACKEND], abs=0.02)
    native = {"tensorflow": 1, "jax": 2, "torch": 1}[BACKEND]
    assert units[RUNNER.NATIVE] == pytest.approx(native, abs=0.02)
