"""Kernels agree with the oracle, and the comparison detects one that does not."""

from typing import Any

import numpy as np
import pytest
from keras import ops

from batchnorm import batch_norm, kernels
from batchnorm.kernels import KERNELS, Kernel, choose, reference
from batchnorm.kernels.kernel import Call
from batchnorm.stages.affine import Affine
from batchnorm.stages.plan import Plan, plan_of
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import tensors, to_numpy

SHAPE = (5, 4, 3)


class Wrong:
    """A kernel with one common mistake."""

    def __init__(self, mistake: str) -> None:
        self.mistake = mistake

    def supports(self, plan: Plan) -> bool:
        return True

    def train(self, plan: Plan, call: Call) -> Any:
        y, moments = reference.train(plan, call)
        if self.mistake == "unbiased variance":
            moments = moments._replace(variance=moments.variance * 20 / 19)
        elif self.mistake == "moving mean not updated":
            moments = moments._replace(mean=call.prior[0])
        elif self.mistake == "epsilon outside the root":
            y = y * plan.spread(
                ops.sqrt(moments.variance + call.epsilon)
                / (ops.sqrt(moments.variance) + call.epsilon)
            )
        elif self.mistake == "shift left out":
            y = y - plan.spread(call.affine.shift)
        elif self.mistake == "one element":
            y = ops.where(y == ops.max(y), 0.0, y)
        return y, moments

    def infer(self, *arguments: Any) -> Any:
        return reference.infer(*arguments)


MISTAKES = (
    "unbiased variance",
    "moving mean not updated",
    "epsilon outside the root",
    "shift left out",
    "one element",
)


def compare(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compares a kernel with the oracle; the layer's tests do so for the selected kernels."""
    monkeypatch.setattr(kernels, "choose", lambda plan: kernel)
    x = np.random.default_rng(0).normal(1, 2, SHAPE)
    values = np.random.default_rng(1).uniform(0.5, 2, (4, 3))
    x_, *parameters = tensors([x, *values], "float32")
    gamma, beta, mean, variance = parameters
    state = {"moving_mean": mean, "moving_variance": variance}
    exact = [to_numpy(value) for value in (x_, *parameters)]
    for training in (True, False):
        y, new = batch_norm(x_, state, gamma, beta, training=training, epsilon=0.1)
        expected = oracle.batch_norm(*exact, training=training, epsilon=0.1)
        assert_close(to_numpy(y), expected.y, 1e-5)
        assert_close(to_numpy(new["moving_mean"]), expected.moving_mean, 1e-5)
        assert_close(to_numpy(new["moving_variance"]), expected.moving_variance, 1e-5)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_a_kernel(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(kernel, monkeypatch)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_kernel_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="above the tolerance"):
        compare(Wrong(mistake), monkeypatch)


def test_the_wrong_kernel_without_its_mistake_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    compare(Wrong("none"), monkeypatch)


def test_the_reference_supports_every_plan_and_comes_last() -> None:
    assert KERNELS[-1] is reference
    for rank in range(1, 6):
        for dtype in ("float16", "bfloat16", "float32", "float64", "int32"):
            assert reference.supports(plan_of((None,) * rank, -1, dtype))
            assert choose(plan_of((None,) * rank, -1, dtype)) in KERNELS


def test_affine_steps_per_sample() -> None:
    """Scale and shift may be rows `(N, C)`, one a sample."""
    x = np.random.default_rng(0).normal(1, 2, SHAPE).astype("float32")
    scale, shift = np.random.default_rng(1).normal(size=(2, 5, 3)).astype("float32")
    x_, *rows = tensors([x, scale, shift])
    prior = (ops.zeros(3), ops.ones(3))
    y, _ = reference.train(plan_of(SHAPE, -1, "float32"), Call(x_, Affine(*rows), 1e-3, prior))
    expected = oracle.batch_norm(x).y * scale[:, None] + shift[:, None]
    assert_close(to_numpy(y), expected, 1e-5)
    y = reference.infer(plan_of(SHAPE, -1, "float32"), x_, *prior, Affine(*rows), 1e-3)
    expected = x.astype("float64") / np.sqrt(1.001) * scale[:, None] + shift[:, None]
    assert_close(to_numpy(y), expected, 1e-5)
