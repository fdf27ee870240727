import numpy as np
import pytest

from batchnorm.benchmark import limit, runners
from batchnorm.benchmark.asked import PASSES
from batchnorm.benchmark.limit import copies, threaded


def test_every_pass_has_a_limit() -> None:
    assert [copies(which) for which in PASSES] == [2.0, 4.5, 1.0]


@pytest.mark.parametrize("shape", [(7, 3), (1, 4), (64, 8, 8, 16)])
@pytest.mark.parametrize("quickest", ["alone", "together"])
def test_a_copy_is_whole(
    shape: tuple[int, ...], quickest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether one core is the quicker or all are."""
    monkeypatch.setattr(limit, "_quickest", lambda function: function.__name__ != quickest)
    target = np.zeros(shape)
    monkeypatch.setattr(np, "zeros_like", lambda array: target)
    array = np.random.default_rng(0).normal(size=shape)
    threaded(array)()
    np.testing.assert_array_equal(target, array)


def test_the_backend_has_a_way_to_copy() -> None:
    array = np.ones((4, 4), np.float32)
    runners.choose().copier(array)()
