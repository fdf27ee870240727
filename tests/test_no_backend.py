"""The mark `no_backend`: on PyTorch, a test that has it may call nothing of the backend."""

from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import BatchNormalization
from tests.differentiate import BACKEND

pytestmark = [
    pytest.mark.no_backend,
    pytest.mark.skipif(BACKEND != "torch", reason="the mark is proved on PyTorch"),
]


@pytest.mark.parametrize(
    "call",
    [
        lambda: keras.ops.zeros(2),
        lambda: keras.Variable(1.0),
        lambda: keras.random.normal((2,)),
        lambda: BatchNormalization().build((2, 3)),
        lambda: BatchNormalization()(np.ones((2, 3), "float32")),
    ],
    ids=["operation", "variable", "random numbers", "build", "layer"],
)
def test_the_backend_is_refused(call: Any) -> None:
    with pytest.raises(AssertionError, match="marked no_backend calls PyTorch"):
        call()


def test_numpy_is_not() -> None:
    assert np.ones(2).sum() == 2
    assert BatchNormalization().get_config()["epsilon"] == 1e-3
