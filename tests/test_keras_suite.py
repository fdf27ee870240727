"""Keras's own tests of its layer, with ours in its place."""

from collections.abc import Iterator

import keras.src.layers
import pytest
from keras.src.layers.normalization.batch_normalization_test import BatchNormalizationTest

from batchnorm import BatchNormalization

__all__ = ["BatchNormalizationTest"]

# Keras does not test itself with warnings as errors.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(keras.src.layers, "BatchNormalization", BatchNormalization)
    yield


def test_the_tests_are_given_ours() -> None:
    from keras.src.layers.normalization import batch_normalization_test

    assert batch_normalization_test.layers.BatchNormalization is BatchNormalization
