"""Augmented images against all possible results."""

import threading
from itertools import product
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm.data import Split
from batchnorm_app.errors import UserError
from batchnorm_app.train.augment import Augmented, augment
from batchnorm_app.train.batches import Batch, Batches, Shuffled, ShuffleEachEpoch
from tests.app.small import split

Images = npt.NDArray[np.uint8]


def distinctive(*shape: int) -> Images:
    """Returns images with pairwise different pixels."""
    size = int(np.prod(shape[1:]))
    random = np.random.default_rng(0)
    pixels = [random.permutation(255)[:size] + 1 for _ in range(shape[0])]
    return np.array(pixels, np.uint8).reshape(shape)


def possibilities(image: Images) -> Images:
    """Returns all 162 augmentations of an image, in the order of `(row, column, flipped)`."""
    height, width, _ = image.shape
    grey = np.rint(image.mean())
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), constant_values=grey)
    crops = [
        padded[row : row + height, column : column + width]
        for row, column in product(range(9), range(9))
    ]
    return np.array([variant for crop in crops for variant in (crop, crop[:, ::-1])])


@pytest.mark.parametrize("shape", [(5, 5, 1), (5, 7, 3), (12, 5, 1), (7, 8, 3)])
def test_each_image_is_a_crop_of_its_own_padded_flipped_or_not(shape: tuple[int, ...]) -> None:
    images = distinctive(20, *shape)
    original = images.copy()
    augmented = augment(images, np.random.default_rng(1))
    assert augmented.shape == images.shape and augmented.dtype == np.uint8
    assert augmented.flags.c_contiguous
    np.testing.assert_array_equal(images, original)
    assert not np.shares_memory(augmented, images)
    for image, result in zip(images, augmented, strict=True):
        assert (possibilities(image) == result).all((1, 2, 3)).sum() == 1


def test_all_shifts_and_flips_occur_equally_often() -> None:
    (image,) = distinctive(1, 5, 6, 3)
    augmented = augment(np.repeat(image[None], 8100, axis=0), np.random.default_rng(2))
    matches = (augmented[:, None] == possibilities(image)).all((2, 3, 4))
    assert (matches.sum(1) == 1).all()
    counts = matches.sum(0)  # 50 of each on average, with a deviation of 7
    assert 20 < counts.min() and counts.max() < 85
    assert counts.sum() == 8100


def test_augmentation_depends_only_on_the_random_numbers() -> None:
    images = distinctive(20, 6, 6, 1)
    one, same, other = (augment(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def labelled(count: int) -> Split:
    """Returns images of one colour each, which tells their label after any shift."""
    labels = np.arange(count)
    images = np.broadcast_to((labels + 1)[:, None, None, None], (count, 6, 6, 1))
    return Split(images.astype(np.uint8), labels)


def epoch_batches(batches: Augmented, epoch: int) -> list[Batch]:
    batches.start(epoch)
    return [batches[index] for index in range(len(batches))]


def test_labels_belong_to_their_images() -> None:
    batches = epoch_batches(Augmented(labelled(200), 16, seed=0), 3)
    assert len(batches) == 12
    for images, labels in batches:
        np.testing.assert_array_equal(images.max((1, 2, 3)), labels + 1)
        assert len(images) == 16
    assert len({int(label) for _, labels in batches for label in labels}) == 192


def test_a_batch_is_a_function_of_seed_epoch_and_index() -> None:
    # All images are equal, so that their order has no effect.
    images = np.repeat(distinctive(1, 6, 6, 1), 40, axis=0)
    same = Split(images, np.arange(40) % 10)
    one, other = (Augmented(same, 10, seed=3) for _ in range(2))
    later, first = epoch_batches(one, 1), epoch_batches(one, 0)
    for expected, batch in zip(first, epoch_batches(other, 0), strict=True):
        np.testing.assert_array_equal(batch[0], expected[0])
        np.testing.assert_array_equal(batch[1], expected[1])
    other.start(0)
    np.testing.assert_array_equal(other[2][0], first[2][0])  # in any order of access
    different = [*first, *later, *epoch_batches(Augmented(same, 10, seed=4), 0)]
    assert len({batch[0].tobytes() for batch in different}) == 12


def test_order_and_labels_equal_those_of_plain_batches() -> None:
    shifted, plain = Augmented(split(50), 8, seed=5), Shuffled(split(50), 8, seed=5)
    for epoch in (0, 2):
        shifted.start(epoch)
        plain.start(epoch)
        np.testing.assert_array_equal(shifted.order, plain.order)
        for index in range(6):
            np.testing.assert_array_equal(shifted[index][1], plain[index][1])
            assert (shifted[index][0] != plain[index][0]).any()


@pytest.mark.parametrize("batch_size", [1, 51])
def test_a_batch_size_out_of_range_is_refused(batch_size: int) -> None:
    with pytest.raises(UserError, match="from 2 to 50"):
        Augmented(split(50), batch_size, seed=0)


class Observer(keras.Model):
    """Calls a function with every batch that Keras trains it on, as arrays."""

    def __init__(self, look: Any) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(10, "softmax")
        self.look = look

    def build(self, shape: Any) -> None:
        self.dense.build((None, shape[-1]))

    def call(self, x: Any) -> Any:
        return self.dense(keras.ops.mean(keras.ops.cast(x, "float32"), axis=(1, 2)))

    def train_step(self, *arguments: Any) -> Any:
        images, labels = arguments[-1][:2]  # JAX passes the state first
        self.look(keras.ops.convert_to_numpy(images), keras.ops.convert_to_numpy(labels))
        return super().train_step(*arguments)


def train(batches: Augmented, look: Any, epochs: int = 1, first: int = 0, **options: Any) -> None:
    model = Observer(look)
    model.build((None, *batches.split.images.shape[1:]))
    # With a loss and a metric Keras reads a batch before the first epoch begins.
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[accuracy], run_eagerly=True)
    model.fit(
        batches,
        epochs=epochs,
        initial_epoch=first,
        shuffle=False,
        verbose=0,
        callbacks=[ShuffleEachEpoch(batches)],
        **options,
    )


def test_keras_trains_on_these_batches_in_their_order() -> None:
    """Regardless of batches that Keras reads before the first epoch."""
    batches, observed = Augmented(split(40), 6, seed=1), list[Batch]()
    test = Batches(split(10, seed=1), 10)
    train(batches, lambda x, y: observed.append((x, y)), epochs=4, first=1, validation_data=test)
    observed = [batch for batch in observed if len(batch[0]) == 6]
    expected = [
        batch for epoch in (1, 2, 3) for batch in epoch_batches(Augmented(split(40), 6, 1), epoch)
    ]
    assert len(observed) == len(expected) == 18
    for (images, labels), (expected_images, expected_labels) in zip(
        observed, expected, strict=True
    ):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(np.ravel(labels), expected_labels)


def test_batches_are_prepared_while_the_training_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is so slow that the next batch is ready before it ends."""
    plain, steps = Shuffled(split(48), 6, seed=1), list[bool]()
    plain.start(0)
    events = {plain[index][0].tobytes(): threading.Event() for index in range(8)}

    def watch(images: Images, random: np.random.Generator) -> Images:
        augmented = augment(images, random)
        if event := events.get(images.tobytes()):
            event.set()
        return augmented

    def look(*_: Any) -> None:
        following = list(events.values())[len(steps) + 1 :][:1]
        # After one timeout, later steps do not wait again.
        steps.append(all(steps) and all(event.wait(timeout=20) for event in following))

    monkeypatch.setattr("batchnorm_app.train.augment.augment", watch)
    train(Augmented(split(48), 6, seed=1), look)
    assert steps == [True] * 8
