import numpy as np
import pytest

from batchnorm_app.errors import UserError
from batchnorm_app.train.batches import Batches, Shuffled
from tests.app.small import split

pytestmark = pytest.mark.no_backend


def order(batches: Shuffled, epoch: int) -> list[int]:
    batches.start(epoch)
    return [int(label) for index in range(len(batches)) for label in batches[index][1]]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    numbered = split(50)._replace(labels=np.arange(50))
    one, other = Shuffled(numbered, 8, seed=3), Shuffled(numbered, 8, seed=3)
    first = order(one, 0)
    assert order(one, 1) != first
    assert order(one, 0) == first == order(other, 0)
    assert order(Shuffled(numbered, 8, seed=4), 0) != first


def test_whole_batches_of_images_with_their_labels() -> None:
    images, labels = split(50)
    batches = Shuffled(split(50)._replace(labels=np.arange(50)), 8, seed=0)
    rows = order(batches, 5)
    assert len(batches) == 6
    assert len(set(rows)) == 48
    np.testing.assert_array_equal(batches[2][0], images[rows[16:24]])


def test_all_images_in_their_order() -> None:
    images, labels = split(50)
    batches = [Batches(split(50), 16)[index] for index in range(4)]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), images)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), labels)
    assert len(Batches(split(50), 16)) == 4


@pytest.mark.parametrize("batch_size", [0, 1, 51])
def test_a_batch_size_out_of_range_is_refused(batch_size: int) -> None:
    with pytest.raises(UserError, match=f"batch of {batch_size} out of 50 .* from 2 to 50"):
        Shuffled(split(50), batch_size, seed=0)
