"""Moved and flipped images against all that could have become of them."""

import threading
from itertools import product
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm.data import Split
from batchnorm.train.augment import Augmented, augmented
from batchnorm.train.batches import Batch, Batches, Shuffled, ShuffleEachEpoch
from batchnorm.train.run import RunError
from tests.train.small import split

Images = npt.NDArray[np.uint8]


def distinctive(*shape: int) -> Images:
    """Images whose pixels are all different."""
    size = int(np.prod(shape[1:]))
    random = np.random.default_rng(0)
    pixels = [random.permutation(255)[:size] + 1 for _ in range(shape[0])]
    return np.array(pixels, np.uint8).reshape(shape)


def possibilities(image: Images) -> Images:
    """All 162 images that can become of one, `(top, left, flipped)` in this order."""
    height, width, _ = image.shape
    grey = np.rint(image.mean())
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), constant_values=grey)
    crops = [
        padded[top : top + height, left : left + width] for top, left in product(range(9), range(9))
    ]
    return np.array([each for crop in crops for each in (crop, crop[:, ::-1])])


@pytest.mark.parametrize("shape", [(5, 5, 1), (5, 7, 3), (12, 5, 1), (7, 8, 3)])
def test_each_image_is_a_crop_of_its_own_padded_flipped_or_not(shape: tuple[int, ...]) -> None:
    images = distinctive(20, *shape)
    before = images.copy()
    made = augmented(images, np.random.default_rng(1))
    assert made.shape == images.shape and made.dtype == np.uint8
    assert made.flags.c_contiguous
    np.testing.assert_array_equal(images, before)
    assert not np.shares_memory(made, images)
    for image, found in zip(images, made, strict=True):
        assert (possibilities(image) == found).all((1, 2, 3)).sum() == 1


def test_every_place_and_both_sides_occur_equally_often() -> None:
    (image,) = distinctive(1, 5, 6, 3)
    made = augmented(np.repeat(image[None], 8100, axis=0), np.random.default_rng(2))
    found = (made[:, None] == possibilities(image)).all((2, 3, 4))
    assert (found.sum(1) == 1).all()
    counts = found.sum(0)  # 50 of each on average, with a deviation of 7
    assert 20 < counts.min() and counts.max() < 85
    assert counts.sum() == 8100


def test_places_depend_on_the_random_numbers_alone() -> None:
    images = distinctive(20, 6, 6, 1)
    one, same, other = (augmented(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def labelled(count: int) -> Split:
    """Images of one colour each, which says their label wherever they are moved."""
    labels = np.arange(count)
    images = np.broadcast_to((labels + 1)[:, None, None, None], (count, 6, 6, 1))
    return Split(images.astype(np.uint8), labels)


def whole(batches: Augmented, epoch: int) -> list[Batch]:
    batches.start(epoch)
    return [batches[index] for index in range(len(batches))]


def test_labels_belong_to_their_images() -> None:
    found = whole(Augmented(labelled(200), 16, seed=0), 3)
    assert len(found) == 12
    for images, labels in found:
        np.testing.assert_array_equal(images.max((1, 2, 3)), labels + 1)
        assert len(images) == 16
    assert len({int(label) for _, labels in found for label in labels}) == 192


def test_a_batch_is_a_function_of_seed_epoch_and_index() -> None:
    # All images are the same one, so that the order changes nothing.
    images = np.repeat(distinctive(1, 6, 6, 1), 40, axis=0)
    same = Split(images, np.arange(40) % 10)
    one, other = (Augmented(same, 10, seed=3) for _ in range(2))
    later, first = whole(one, 1), whole(one, 0)
    for expected, found in zip(first, whole(other, 0), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    other.start(0)
    np.testing.assert_array_equal(other[2][0], first[2][0])  # whatever was asked for before
    different = [*first, *later, *whole(Augmented(same, 10, seed=4), 0)]
    assert len({batch[0].tobytes() for batch in different}) == 12


def test_order_and_labels_are_those_of_the_plain_batches() -> None:
    moved, plain = Augmented(split(50), 8, seed=5), Shuffled(split(50), 8, seed=5)
    for epoch in (0, 2):
        moved.start(epoch)
        plain.start(epoch)
        np.testing.assert_array_equal(moved.order, plain.order)
        for index in range(6):
            np.testing.assert_array_equal(moved[index][1], plain[index][1])
            assert (moved[index][0] != plain[index][0]).any()


@pytest.mark.parametrize("batch_size", [1, 51])
def test_a_batch_size_out_of_range_is_refused(batch_size: int) -> None:
    with pytest.raises(RunError, match="from 2 to 50"):
        Augmented(split(50), batch_size, seed=0)


class Onlooker(keras.Model):
    """Calls a function with all that Keras trains it on, as arrays."""

    def __init__(self, look: Any) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(10, "softmax")
        self.look = look

    def build(self, shape: Any) -> None:
        self.dense.build((None, shape[-1]))

    def call(self, x: Any) -> Any:
        return self.dense(keras.ops.mean(keras.ops.cast(x, "float32"), axis=(1, 2)))

    def train_step(self, *given: Any) -> Any:
        images, labels = given[-1][:2]  # behind the state, on JAX
        self.look(keras.ops.convert_to_numpy(images), keras.ops.convert_to_numpy(labels))
        return super().train_step(*given)


def trained(batches: Augmented, look: Any, epochs: int = 1, first: int = 0, **more: Any) -> None:
    model = Onlooker(look)
    model.build((None, *batches.split.images.shape[1:]))
    # With a loss and a metric Keras looks at a batch before the first epoch has begun.
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[accuracy], run_eagerly=True)
    model.fit(
        batches,
        epochs=epochs,
        initial_epoch=first,
        shuffle=False,
        verbose=0,
        callbacks=[ShuffleEachEpoch(batches)],
        **more,
    )


def test_keras_trains_on_these_batches_in_their_order() -> None:
    """Whatever it looks at before the first epoch."""
    batches, seen = Augmented(split(40), 6, seed=1), list[Batch]()
    test = Batches(split(10, seed=1), 10)
    trained(batches, lambda x, y: seen.append((x, y)), epochs=4, first=1, validation_data=test)
    seen = [batch for batch in seen if len(batch[0]) == 6]
    expected = [batch for epoch in (1, 2, 3) for batch in whole(Augmented(split(40), 6, 1), epoch)]
    assert len(seen) == len(expected) == 18
    for (images, labels), (moved, wanted) in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(images, moved)
        np.testing.assert_array_equal(np.ravel(labels), wanted)


def test_batches_are_prepared_while_the_training_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is so slow that the next batch is ready before it ends."""
    plain, steps = Shuffled(split(48), 6, seed=1), list[bool]()
    plain.start(0)
    prepared = {plain[index][0].tobytes(): threading.Event() for index in range(8)}

    def watch(images: Images, random: np.random.Generator) -> Images:
        made = augmented(images, random)
        if known := prepared.get(images.tobytes()):
            known.set()
        return made

    def look(*_: Any) -> None:
        following = list(prepared.values())[len(steps) + 1 :][:1]
        # What is not ready in time is waited for once, not in each step.
        steps.append(all(steps) and all(each.wait(timeout=20) for each in following))

    monkeypatch.setattr("batchnorm.train.augment.augmented", watch)
    trained(Augmented(split(48), 6, seed=1), look)
    assert steps == [True] * 8
