import numpy as np
import pytest

from batchnorm_app.benchmark import memory_limit, runners
from batchnorm_app.benchmark.memory_limit import copies, fastest_copier
from batchnorm_app.benchmark.request import PASSES


def test_every_pass_has_a_limit() -> None:
    assert [copies(pass_name) for pass_name in PASSES] == [2.0, 4.5, 1.0]


@pytest.mark.parametrize("shape", [(7, 3), (1, 4), (64, 8, 8, 16)])
@pytest.mark.parametrize("fastest", ["single", "parallel"])
def test_a_copy_is_complete(
    shape: tuple[int, ...], fastest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limit, "_best_time", lambda function: function.__name__ != fastest)
    target = np.zeros(shape)
    monkeypatch.setattr(np, "zeros_like", lambda array: target)
    array = np.random.default_rng(0).normal(size=shape)
    fastest_copier(array)()
    np.testing.assert_array_equal(target, array)


def test_each_runner_copies() -> None:
    array = np.ones((4, 4), np.float32)
    runners.choose().copier(array)()
