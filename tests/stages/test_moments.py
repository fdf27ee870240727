"""Moments and their merge: properties that hold for every partition of every input."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from batchnorm import Moments, merge, moments
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import Array, tensors, to_numpy

QUICK = settings(max_examples=25, deadline=None)


def measure(x: Array, weights: Array | None = None) -> Moments:
    column = None if weights is None else tensors([weights[:, None]])[0]
    return moments(tensors([x])[0], [0], column)


def check(actual: Moments, x: Array, weights: Array | None = None) -> None:
    expected = oracle.batch_norm(
        x, moving_mean=np.zeros(2), moving_variance=np.zeros(2), weights=weights
    )
    assert_close(to_numpy(actual.mean), expected.mean, 1e-5)
    # Means of 1e3 are held to 1e-4, and so is the deviation about them where parts are merged.
    assert_close(to_numpy(actual.variance), expected.variance, 1e-4)
    count = len(x) if weights is None else weights.sum()
    assert_close(np.ravel(to_numpy(ops.convert_to_tensor(actual.count)))[0], count, 1e-5)


inputs = st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([0.0, -3.0, 1e3]))


def draw_batch(drawn: tuple[int, float], rows: int) -> Array:
    seed, mean = drawn
    return np.random.default_rng(seed).normal(mean, 2.0, (rows, 2)).astype("float32")


@QUICK
@given(inputs, st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_merging_any_partition_gives_the_whole(drawn: Any, sizes: list[int]) -> None:
    x = draw_batch(drawn, rows=sum(sizes))
    parts = np.split(x, np.cumsum(sizes)[:-1])
    check(merge(*(measure(part) for part in parts)), x)


@QUICK
@given(inputs, st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_a_weight_repeats_its_element(drawn: Any, repeats: list[int]) -> None:
    x = draw_batch(drawn, rows=len(repeats))
    weights = np.array(repeats, "float32")
    check(measure(x, weights), x, weights)
    check(measure(x, weights), np.repeat(x, repeats, axis=0))


@QUICK
@given(inputs, st.floats(0.01, 100), st.integers(1, 12))
def test_scaling_all_weights_changes_the_count_alone(drawn: Any, factor: float, rows: int) -> None:
    x = draw_batch(drawn, rows=rows)
    weights = np.random.default_rng(rows).uniform(0.1, 1, rows).astype("float32")
    one, other = measure(x, weights), measure(x, weights * np.float32(factor))
    assert_close(to_numpy(other.mean), to_numpy(one.mean), 1e-5)
    assert_close(to_numpy(other.variance), to_numpy(one.variance), 1e-5)
    assert_close(to_numpy(other.count), to_numpy(one.count) * factor, 1e-5)


@QUICK
@given(inputs, st.integers(1, 12))
def test_order_does_not_matter(drawn: Any, rows: int) -> None:
    x = draw_batch(drawn, rows=rows)
    check(measure(x[::-1].copy()), x)


def test_an_empty_part_may_hold_anything() -> None:
    x = draw_batch((0, 0.0), 6)
    empty = Moments(*tensors([0.0, [np.nan, np.inf], [np.nan, np.nan]], "float32"))
    for parts in ([measure(x), empty], [empty, measure(x)], [empty, empty, measure(x)]):
        check(merge(*parts), x)


def test_parts_far_from_zero_keep_their_variance() -> None:
    x = np.random.default_rng(0).normal(1e6, 1.0, (64, 2)).astype("float32")
    merged = merge(*(measure(part) for part in np.split(x, 8)))
    # Each part's mean is rounded to 0.06, which is all that is lost.
    assert_close(to_numpy(merged.variance), x.astype("float64").var(0), 0.1)
