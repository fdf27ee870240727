"""A judge: its training, its seed, its features and predictions."""

import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm.models.classifier import classifier
from batchnorm_app.errors import UserError
from batchnorm_app.evaluate import judge as module
from batchnorm_app.evaluate.judge import features, outputs, predictions, train_judge
from batchnorm_app.train.accuracy import accuracy
from batchnorm_app.train.batches import Batch, Batches, Shuffled
from batchnorm_app.train.loop import make_repeatable
from tests.app.small import backend_left_as_it_was, split

COUNT = 256
SMALL: dict[str, Any] = {"epochs": 6, "batch_size": 32}  # 8 batches an epoch

Trained = tuple[keras.Model, list[float]]


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    """A judge, and its accuracy at the end of each epoch, in a process that is deterministic."""
    with backend_left_as_it_was():
        make_repeatable(0)
        accuracies: list[float] = []
        callback = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: accuracies.append(logs["accuracy"])
        )
        yield train_judge(split(COUNT), 10, seed=1, callbacks=[callback], **SMALL), accuracies


@pytest.fixture(scope="module")
def judge(trained: Trained) -> keras.Model:
    return trained[0]


def test_a_judge_learns(trained: Trained) -> None:
    judge, accuracies = trained
    assert accuracy(judge, split(100, seed=1), 50) > 0.5
    assert accuracy(classifier(seed=1), split(100, seed=1), 50) < 0.3
    assert len(accuracies) == 6
    assert 0 <= accuracies[0] < accuracies[-1] <= 1


def test_the_rate_falls_to_0(judge: keras.Model) -> None:
    assert float(judge.optimizer.iterations) == 48
    assert float(judge.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)


def test_the_weights_depend_on_the_arguments_and_no_global_generator_advances(
    judge: keras.Model,
) -> None:
    make_repeatable(99)  # another seed than the first judge's
    states = random.getstate(), np.random.get_state()
    second = train_judge(split(COUNT), 10, seed=1, **SMALL)
    assert repr((random.getstate(), np.random.get_state())) == repr(states)
    values = keras.ops.convert_to_numpy(keras.random.normal((4,)))
    keras.utils.set_random_seed(99)
    expected = keras.ops.convert_to_numpy(keras.random.normal((4,)))
    np.testing.assert_array_equal(values, expected)
    for weights, expected in zip(judge.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


class FirstEpoch(Exception):
    """Ends a training at the beginning of its first epoch."""


def test_the_seed_decides_the_weights_and_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffles: list[Shuffled] = []
    weights: list[Any] = []

    class RecordedShuffled(Shuffled):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            shuffles.append(self)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            weights.append(self.model.get_weights()[0])
            raise FirstEpoch

    monkeypatch.setattr(module, "Shuffled", RecordedShuffled)
    for seed in (3, 3, 4):
        with pytest.raises(FirstEpoch):
            train_judge(split(64), 10, seed=seed, callbacks=[Stop()], **SMALL)
    np.testing.assert_array_equal(shuffles[0].order, shuffles[1].order)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (shuffles[0].order != shuffles[2].order).any()
    assert (weights[0] != weights[2]).all()


def test_the_features_are_the_inputs_of_the_logits(judge: keras.Model) -> None:
    """In inference mode, in the order of the images, and once each."""
    part = split(50, seed=2)
    values = features(judge, part.images, batch_size=16)
    assert values.shape == (50, 128) and values.dtype == np.float64
    kernel, bias = judge.get_layer("logits").get_weights()
    logits = keras.ops.convert_to_numpy(judge(part.images, training=False))
    np.testing.assert_allclose(values @ kernel + bias, logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(outputs(judge, part.images, 16), logits, rtol=1e-3, atol=1e-3)


def test_predictions(judge: keras.Model) -> None:
    part = split(50, seed=2)
    logits = keras.ops.convert_to_numpy(judge(part.images, training=False))
    labels = predictions(judge, part.images, batch_size=16)
    np.testing.assert_array_equal(labels, logits.argmax(-1))
    assert labels.dtype == np.int64
    assert len(set(labels.tolist())) > 5


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
    observed_sizes = set()

    class RecordedBatches(Batches):
        def __getitem__(self, index: int) -> Batch:
            batch = super().__getitem__(index)
            observed_sizes.add(len(batch[0]))
            return batch

    monkeypatch.setattr(module, "Batches", RecordedBatches)
    assert predictions(judge, split(count).images, batch_size).shape == (count,)
    assert observed_sizes == sizes


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
    with pytest.raises(UserError, match="batch of 128 out of 50"):
        train_judge(split(50), 10, epochs=1)
