"""A judge is trained, seeded and asked."""

import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm.models.classifier import classifier
from batchnorm.train.batches import Batch, Batches, Shuffled
from batchnorm.train.evaluate import accuracy
from batchnorm.train.fit import make_repeatable
from batchnorm.train.gan import judge as module
from batchnorm.train.gan.judge import features, outputs, predictions, train_judge
from batchnorm.train.run import RunError
from tests.train.small import backend_left_as_it_was, split

COUNT = 256
SMALL: dict[str, Any] = {"epochs": 6, "batch_size": 32}  # 8 batches an epoch

Trained = tuple[keras.Model, list[float]]


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    """A judge, and its accuracy at the end of each epoch, in a process that is deterministic."""
    with backend_left_as_it_was():
        make_repeatable(0)
        seen: list[float] = []
        look = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(logs["accuracy"])
        )
        yield train_judge(split(COUNT), 10, seed=1, callbacks=[look], **SMALL), seen


@pytest.fixture(scope="module")
def judge(trained: Trained) -> keras.Model:
    return trained[0]


def test_it_learns(trained: Trained) -> None:
    judge, seen = trained
    assert accuracy(judge, split(100, seed=1), 50) > 0.5
    assert accuracy(classifier(seed=1), split(100, seed=1), 50) < 0.3
    assert len(seen) == 6
    assert 0 <= seen[0] < seen[-1] <= 1


def test_the_rate_falls_to_0(judge: keras.Model) -> None:
    assert float(judge.optimizer.iterations) == 48
    assert float(judge.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)


def test_the_arguments_decide_it_all_and_no_global_generator_is_moved(judge: keras.Model) -> None:
    make_repeatable(99)  # otherwise than for the first
    before = random.getstate(), np.random.get_state()
    again = train_judge(split(COUNT), 10, seed=1, **SMALL)
    assert repr((random.getstate(), np.random.get_state())) == repr(before)
    drawn = keras.ops.convert_to_numpy(keras.random.normal((4,)))
    keras.utils.set_random_seed(99)
    expected = keras.ops.convert_to_numpy(keras.random.normal((4,)))
    np.testing.assert_array_equal(drawn, expected)
    for one, same in zip(judge.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)


class Begun(Exception):
    """All is as it is at the beginning of the first epoch."""


def test_the_seed_is_that_of_the_weights_and_of_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Shuffled] = []
    weights: list[Any] = []

    class Watched(Shuffled):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            weights.append(self.model.get_weights()[0])
            raise Begun

    monkeypatch.setattr(module, "Shuffled", Watched)
    for seed in (3, 3, 4):
        with pytest.raises(Begun):
            train_judge(split(64), 10, seed=seed, callbacks=[Stop()], **SMALL)
    np.testing.assert_array_equal(made[0].order, made[1].order)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (made[0].order != made[2].order).any()
    assert (weights[0] != weights[2]).all()


def test_the_features_are_those_that_the_logits_are_made_of(judge: keras.Model) -> None:
    """In inference mode, in the order of the images, and once each."""
    part = split(50, seed=2)
    seen = features(judge, part.images, batch_size=16)
    assert seen.shape == (50, 128) and seen.dtype == np.float64
    kernel, bias = judge.get_layer("logits").get_weights()
    logits = keras.ops.convert_to_numpy(judge(part.images, training=False))
    np.testing.assert_allclose(seen @ kernel + bias, logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(outputs(judge, part.images, 16), logits, rtol=1e-3, atol=1e-3)


def test_predictions(judge: keras.Model) -> None:
    part = split(50, seed=2)
    logits = keras.ops.convert_to_numpy(judge(part.images, training=False))
    found = predictions(judge, part.images, batch_size=16)
    np.testing.assert_array_equal(found, logits.argmax(-1))
    assert found.dtype == np.int64
    assert len(set(found.tolist())) > 5


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(50, 16, {16}), (32, 16, {16}), (7, 16, {7})]
)
def test_all_batches_are_of_one_size(
    judge: keras.Model,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    batch_size: int,
    sizes: set[int],
) -> None:
    seen = set()

    class Watched(Batches):
        def __getitem__(self, index: int) -> Batch:
            batch = super().__getitem__(index)
            seen.add(len(batch[0]))
            return batch

    monkeypatch.setattr(module, "Batches", Watched)
    assert predictions(judge, split(count).images, batch_size).shape == (count,)
    assert seen == sizes


def test_no_images(judge: keras.Model) -> None:
    with pytest.raises(ValueError, match="received no images"):
        features(judge, split(0).images)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_out_of_range(label: int) -> None:
    part = split(50)
    part.labels[7] = label
    with pytest.raises(ValueError, match=f"label {label} at place 7; .* from 0 to 9"):
        train_judge(part, 10, epochs=1)


def test_no_epochs_and_too_few_images() -> None:
    with pytest.raises(ValueError, match="epochs=0"):
        train_judge(split(50), 10, epochs=0, batch_size=16)
    with pytest.raises(RunError, match="batch of 128 out of 50"):
        train_judge(split(50), 10, epochs=1)
