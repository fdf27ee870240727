"""The oracle against numbers worked out by hand, finite differences, and invariances."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from tests import oracle
from tests.compare import assert_close

pytestmark = pytest.mark.no_backend

EXACT = 1e-15


def test_two_samples_of_two_channels() -> None:
    # Channel 0: mean (1 + 3) / 2 = 2, variance ((-1)^2 + 1^2) / 2 = 1, xhat = -1, 1.
    # Channel 1: mean (10 + 30) / 2 = 20, variance (100 + 100) / 2 = 100, xhat = -10/10, 10/10.
    result = oracle.batch_norm([[1.0, 10.0], [3.0, 30.0]], [2.0, 3.0], [0.5, -1.0], epsilon=0.0)
    assert_close(result.mean, [2.0, 20.0], EXACT)
    assert_close(result.variance, [1.0, 100.0], EXACT)
    assert_close(result.y, [[-2 + 0.5, -3 - 1], [2 + 0.5, 3 - 1]], EXACT)


def test_epsilon_stands_beside_the_variance_under_the_root() -> None:
    # Mean 2, variance 1, sqrt(1 + 3) = 2.
    assert_close(oracle.batch_norm([[1.0], [3.0]], epsilon=3.0).y, [[-0.5], [0.5]], EXACT)


def test_momentum_is_the_share_of_the_old_value() -> None:
    # moving_mean 0.75 * 4 + 0.25 * 2 = 3.5; moving_variance 0.75 * 5 + 0.25 * 1 = 4.
    result = oracle.batch_norm([[1.0], [3.0]], None, None, [4.0], [5.0], momentum=0.75)
    assert_close(result.moving_mean, [3.5], EXACT)
    assert_close(result.moving_variance, [4.0], EXACT)


def test_moving_statistics_start_at_zero_and_one() -> None:
    # 0.5 * 0 + 0.5 * 2 = 1; 0.5 * 1 + 0.5 * 1 = 1.
    result = oracle.batch_norm([[1.0], [3.0]], momentum=0.5)
    assert_close(result.moving_mean, [1.0], EXACT)
    assert_close(result.moving_variance, [1.0], EXACT)


def test_channels_on_axis_1() -> None:
    # Channel 0 holds 0, 0, 4, 4: mean 2, variance 4, xhat -1, -1, 1, 1.
    # Channel 1 holds 7, 1, 1, 7: mean 4, variance 9, xhat 1, -1, -1, 1.
    x = [[[0.0, 0.0], [7.0, 1.0]], [[4.0, 4.0], [1.0, 7.0]]]
    result = oracle.batch_norm(x, axis=1, epsilon=0.0)
    assert_close(result.mean, [2.0, 4.0], EXACT)
    assert_close(result.variance, [4.0, 9.0], EXACT)
    assert_close(result.y, [[[-1, -1], [1, -1]], [[1, 1], [-1, 1]]], EXACT)


def test_weights() -> None:
    # Mean (3 * 0 + 1 * 4) / 4 = 1, variance (3 * 1 + 1 * 9) / 4 = 3, sqrt(3 + 1) = 2.
    result = oracle.batch_norm([[0.0], [4.0]], epsilon=1.0, weights=[3.0, 1.0])
    assert_close(result.mean, [1.0], EXACT)
    assert_close(result.variance, [3.0], EXACT)
    assert_close(result.y, [[-0.5], [1.5]], EXACT)


def test_a_row_of_weight_zero_is_not_measured_but_normalized() -> None:
    # Of 1, 3 and 12 only 1 and 3 count: mean 2, variance 1; (12 - 2) / sqrt(1 + 3) = 5.
    x = [[1.0], [3.0], [12.0]]
    result = oracle.batch_norm(x, epsilon=3.0, weights=[True, True, False])
    assert_close(result.y, [[-0.5], [0.5], [5.0]], EXACT)
    assert_close(oracle.batch_norm(x[:2]).moving_mean, result.moving_mean, EXACT)
    nan = oracle.batch_norm([[1.0], [3.0], [np.nan]], epsilon=3.0, weights=[1, 1, 0])
    assert_close(nan.y, [[-0.5], [0.5], [np.nan]], EXACT)
    assert_close(nan.moving_mean, result.moving_mean, EXACT)


def test_inference_uses_the_moving_statistics_and_leaves_them() -> None:
    # (5 - 1) / sqrt(3 + 1) = 2, times 10, plus 1.
    result = oracle.batch_norm([[5.0]], [10.0], [1.0], [1.0], [3.0], epsilon=1.0, training=False)
    assert_close(result.y, [[21.0]], EXACT)
    for value, expected in zip(result[1:], (1.0, 3.0, 1.0, 3.0), strict=True):
        assert_close(value, [expected], EXACT)


@pytest.mark.parametrize("x, weights", [([[5.0], [9.0]], [0.0, 0.0]), (np.empty((0, 1)), None)])
def test_nothing_to_measure_is_inference(x: oracle.Array, weights: list[float] | None) -> None:
    result = oracle.batch_norm(x, None, None, [1.0], [3.0], epsilon=1.0, weights=weights)
    assert_close(result.y, (np.asarray(x) - 1.0) / 2.0, EXACT)
    for value, expected in zip(result[1:], (1.0, 3.0, 1.0, 3.0), strict=True):
        assert_close(value, [expected], EXACT)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_moment_that_is_not_finite_stops_every_channel(bad: float) -> None:
    result = oracle.batch_norm([[1.0, bad], [3.0, 0.0]], None, None, [7.0, 8.0], [5.0, 6.0])
    assert_close(result.mean[:1], [2.0], EXACT)
    assert not np.isfinite(result.variance[1])
    assert_close(result.moving_mean, [7.0, 8.0], EXACT)
    assert_close(result.moving_variance, [5.0, 6.0], EXACT)


def test_low_precision_is_taken_as_the_numbers_it_holds() -> None:
    # In float16 1000 and 1001 have the mean 1000.5 exactly; their sum of 2001 it cannot hold.
    x = np.array([[1000.0], [1001.0]], np.float16)
    result = oracle.batch_norm(x)
    assert result.y.dtype == np.float64
    assert_close(result.mean, [1000.5], EXACT)
    assert_close(result.variance, [0.25], EXACT)


def test_gradients_by_hand() -> None:
    # x = -1, -1, 1, 1 has mean 0 and variance 1; sqrt(1 + 3) = 2, so xhat = x / 2. With dy = 1, 0,
    # 0, 0 and gamma = 1: sum(g) = 1, sum(g xhat) = -1/2, dx_j = (g_j - (1 - xhat_j / 2) / 4) / 2.
    # xhat = -1/2: (1 - 1.25 / 4) / 2 = 0.34375, (0 - 1.25 / 4) / 2 = -0.15625.
    # xhat = 1/2: (0 - 0.75 / 4) / 2 = -0.09375.
    x, dy = [[-1.0], [-1.0], [1.0], [1.0]], [[1.0], [0.0], [0.0], [0.0]]
    dx, dgamma, dbeta = oracle.gradients(x, dy, epsilon=3.0)
    assert_close(dx, [[0.34375], [-0.15625], [-0.09375], [-0.09375]], EXACT)
    assert_close(dgamma, [-0.5], EXACT)
    assert_close(dbeta, [1.0], EXACT)


def test_weighted_gradients_by_hand() -> None:
    # As in test_weights xhat = -1/2, 3/2 and sqrt(3 + 1) = 2; the shares are 3/4 and 1/4. With
    # dy = 1, 0 and gamma = 8: g = 8, 0, sum(g) = 8, sum(g xhat) = -4.
    # dx_0 = (8 - 3/4 (8 + 2)) / 2 = 0.25; dx_1 = (0 - 1/4 (8 - 6)) / 2 = -0.25.
    result = oracle.gradients([[0.0], [4.0]], [[1.0], [0.0]], [8.0], epsilon=1.0, weights=[3, 1])
    assert_close(result.dx, [[0.25], [-0.25]], EXACT)
    assert_close(result.dgamma, [-0.5], EXACT)
    assert_close(result.dbeta, [1.0], EXACT)


def test_inference_gradients_by_hand() -> None:
    # xhat = (5 - 1) / sqrt(3 + 1) = 2; dx = 7 * 10 / 2.
    result = oracle.inference_gradients([[5.0]], [[7.0]], [10.0], [1.0], [3.0], epsilon=1.0)
    assert_close(result.dx, [[35.0]], EXACT)
    assert_close(result.dgamma, [14.0], EXACT)
    assert_close(result.dbeta, [7.0], EXACT)


def test_training_gradients_need_weight() -> None:
    with pytest.raises(ValueError, match="use inference_gradients"):
        oracle.gradients([[1.0], [2.0]], [[1.0], [1.0]], weights=[0.0, 0.0])


def test_finite_difference_of_a_cubic() -> None:
    # f = x^3 + 2 y at (2, 5) along (1, 3): 3 * 4 * 1 + 2 * 3 = 18, and step^2 more for the cubic.
    def f(x: oracle.Array) -> float:
        return float(x[0] ** 3 + 2.0 * x[1])

    assert_close(oracle.finite_difference(f, [2.0, 5.0], [1.0, 3.0], 0.5), 18.25, 1e-14)


def test_renorm_by_hand() -> None:
    # Batch mean 2, variance 1, stddev sqrt(1 + 3) = 2, xhat = -1/2, 1/2.
    # r = 2 / 4 = 1/2, d = (2 - 1) / 4 = 1/4, so xhat r + d = 0, 1/2 and y = 2 (0, 1/2) + 1.
    # moving_mean 0.5 * 0 + 0.5 * 2 = 1, moving_stddev 0.5 * 4 + 0.5 * 2 = 3, variance 9 - 3 = 6.
    # renorm_mean 0.75 * 1 + 0.25 * 2 = 1.25, renorm_stddev 0.75 * 4 + 0.25 * 2 = 3.5.
    result = oracle.renorm(
        [[1.0], [3.0]], [2.0], [1.0], [0.0], [4.0], [1.0], [4.0],
        momentum=0.5, renorm_momentum=0.75, epsilon=3.0,
    )  # fmt: skip
    assert_close(result.y, [[1.0], [2.0]], EXACT)
    expected = (2.0, 1.0, 1.0, 6.0, 3.0, 1.25, 3.5, 0.5, 0.25)
    for value, number in zip(result[1:], expected, strict=True):
        assert_close(value, [number], EXACT)


@pytest.mark.parametrize(
    "rmin, rmax, dmax, r, d",
    [
        (None, None, None, 0.5, 0.25),
        (0.75, None, None, 0.75, 0.25),
        (None, 0.25, None, 0.25, 0.25),
        (None, None, 0.125, 0.5, 0.125),
        (0.25, 1.0, 0.5, 0.5, 0.25),
        (1.0, 1.0, 0.0, 1.0, 0.0),
    ],
)
def test_renorm_limits(
    rmin: float | None, rmax: float | None, dmax: float | None, r: float, d: float
) -> None:
    result = oracle.renorm(
        [[1.0], [3.0]], None, None, [0.0], [4.0], [1.0], [4.0],
        rmin=rmin, rmax=rmax, dmax=dmax, epsilon=3.0,
    )  # fmt: skip
    assert_close(result.r, [r], EXACT)
    assert_close(result.d, [d], EXACT)
    assert_close(result.y, [[-0.5 * r + d], [0.5 * r + d]], EXACT)


def test_renorm_d_is_limited_from_below_too() -> None:
    # d = (2 - 10) / 4 = -2.
    states: tuple[list[float], ...] = ([0.0], [4.0], [10.0], [4.0])
    result = oracle.renorm([[1.0], [3.0]], None, None, *states, dmax=0.5, epsilon=3.0)
    assert_close(result.d, [-0.5], EXACT)


def test_renorm_stddev_has_a_floor() -> None:
    # The state is 0, so sqrt(epsilon) = 2 serves: r = sqrt(12 + 4) / 2 = 2, d = (4 - 0) / 2 = 2;
    # x = 4 +- sqrt(12). The state itself moves from 0: 0.5 * 0 + 0.5 * 4 = 2.
    x = np.array([[4.0], [4.0]]) + np.sqrt(12.0) * np.array([[-1.0], [1.0]])
    result = oracle.renorm(
        x, None, None, [0.0], [0.0], [0.0], [0.0], momentum=0.5, renorm_momentum=0.5, epsilon=4.0
    )
    assert_close(result.r, [2.0], 1e-14)
    assert_close(result.d, [2.0], 1e-14)
    assert_close(result.renorm_stddev, [2.0], 1e-14)


def test_renorm_moving_variance_is_never_negative() -> None:
    # Batch stddev sqrt(0 + 4) = 2; moving_stddev 0.5 * 0 + 0.5 * 2 = 1; 1 - 4 is below 0.
    states: tuple[list[float], ...] = ([0.0], [0.0], [0.0], [1.0])
    result = oracle.renorm([[5.0]], None, None, *states, momentum=0.5, epsilon=4.0)
    assert_close(result.moving_stddev, [1.0], EXACT)
    assert_close(result.moving_variance, [0.0], EXACT)


@pytest.mark.parametrize("moving_variance, stddev", [(None, 4.0), ([5.0], np.sqrt(8.0))])
def test_renorm_with_nothing_to_measure(moving_variance: list[float] | None, stddev: float) -> None:
    # Without a moving_variance it is 16 - 3, and its stddev 4; else sqrt(5 + 3).
    result = oracle.renorm(
        [[9.0], [3.0]], None, None, [1.0], [4.0], [7.0], [8.0],
        moving_variance=moving_variance, epsilon=3.0, weights=[0.0, 0.0],
    )  # fmt: skip
    assert_close(result.y, [[8.0 / stddev], [2.0 / stddev]], EXACT)
    variance = stddev**2 - 3.0
    expected = (1.0, variance, 1.0, variance, 4.0, 7.0, 8.0, 1.0, 0.0)
    for value, number in zip(result[1:], expected, strict=True):
        assert_close(value, [number], 1e-14)


def test_renorm_states_ignore_what_is_not_finite() -> None:
    states: tuple[list[float], ...] = ([1.0, 1.0], [4.0, 4.0], [7.0, 7.0], [8.0, 8.0])
    result = oracle.renorm([[1.0, np.nan], [3.0, 2.0]], None, None, *states, epsilon=3.0)
    after = (result.moving_mean, result.moving_stddev, result.renorm_mean, result.renorm_stddev)
    for value, expected in zip(after, states, strict=True):
        assert_close(value, expected, EXACT)
    assert_close(result.moving_variance, [13.0, 13.0], EXACT)


_rng = np.random.default_rng(20150211)
X = 3.0 + 2.0 * _rng.normal(size=(4, 3, 2, 5))
DY = _rng.normal(size=X.shape)
GAMMA, BETA = _rng.normal(size=5), _rng.normal(size=5)
WEIGHTS = _rng.integers(0, 4, size=(4, 3, 2)).astype(np.float64)


@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS[:, :1], np.array([2.0, 0.0, 1.0, 0.5])])
@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_gradients_are_finite_differences(axis: int, weights: oracle.Array | None) -> None:
    x, dy = np.moveaxis(X, -1, axis), np.moveaxis(DY, -1, axis)

    def loss(x: oracle.Array, gamma: oracle.Array, beta: oracle.Array) -> float:
        y = oracle.batch_norm(x, gamma, beta, axis=axis, epsilon=0.1, weights=weights).y
        return float(np.sum(y * dy))

    dx, dgamma, dbeta = oracle.gradients(x, dy, GAMMA, axis=axis, epsilon=0.1, weights=weights)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        direction, along = rng.normal(size=x.shape), rng.normal(size=5)
        slope = oracle.finite_difference(lambda v: loss(v, GAMMA, BETA), x, direction, 1e-5)
        assert_close(slope, np.sum(dx * direction), 1e-7)
        slope = oracle.finite_difference(lambda v: loss(x, v, BETA), GAMMA, along, 1e-5)
        assert_close(slope, np.sum(dgamma * along), 1e-7)
        slope = oracle.finite_difference(lambda v: loss(x, GAMMA, v), BETA, along, 1e-5)
        assert_close(slope, np.sum(dbeta * along), 1e-7)


def test_inference_gradients_are_finite_differences() -> None:
    mean, variance = np.linspace(-1.0, 4.0, 5), np.linspace(0.5, 2.0, 5)

    def loss(x: oracle.Array, gamma: oracle.Array) -> float:
        y = oracle.batch_norm(x, gamma, BETA, mean, variance, training=False).y
        return float(np.sum(y * DY))

    dx, dgamma, dbeta = oracle.inference_gradients(X, DY, GAMMA, mean, variance)
    slope = oracle.finite_difference(lambda v: loss(v, GAMMA), X, DY, 1e-5)
    assert_close(slope, np.sum(dx * DY), 1e-7)
    slope = oracle.finite_difference(lambda v: loss(X, v), GAMMA, BETA, 1e-5)
    assert_close(slope, np.sum(dgamma * BETA), 1e-7)
    assert_close(dbeta, DY.sum(axis=(0, 1, 2)), 1e-13)


def test_a_weight_is_a_number_of_repetitions() -> None:
    times = np.array([2, 0, 1, 3])
    repeated = oracle.batch_norm(np.repeat(X, times, axis=0), GAMMA, BETA)
    weighted = oracle.batch_norm(X, GAMMA, BETA, weights=times)
    assert_close(np.repeat(weighted.y, times, axis=0), repeated.y, 1e-12)
    for actual, expected in zip(weighted[1:], repeated[1:], strict=True):
        assert_close(actual, expected, 1e-12)


def test_only_the_ratios_of_weights_matter() -> None:
    one = oracle.batch_norm(X, GAMMA, BETA, weights=WEIGHTS)
    other = oracle.batch_norm(X, GAMMA, BETA, weights=0.3 * WEIGHTS)
    for actual, expected in zip(other, one, strict=True):
        assert_close(actual, expected, 1e-12)


@pytest.mark.parametrize("shape", [(), (4,), (1, 3), (4, 1, 2), (1, 1, 1)])
def test_weights_broadcast_and_are_padded_on_the_right(shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=shape)
    full = np.ones((4, 3, 2))
    full *= weights.reshape(shape + (1,) * (3 - len(shape)))
    for x, axis in ((X, -1), (np.moveaxis(X, -1, 1), 1)):
        actual = oracle.batch_norm(x, axis=axis, weights=weights)
        expected = oracle.batch_norm(x, axis=axis, weights=full)
        for value, number in zip(actual, expected, strict=True):
            assert_close(value, number, 1e-13)


def test_the_axis_only_says_where_the_channels_are() -> None:
    expected = oracle.batch_norm(X, GAMMA, BETA, weights=WEIGHTS)
    for axis in (0, 1, 2, 3, -2):
        result = oracle.batch_norm(
            np.moveaxis(X, -1, axis), GAMMA, BETA, axis=axis, weights=WEIGHTS
        )
        assert_close(result.y, np.moveaxis(expected.y, -1, axis), EXACT)
        assert_close(result.moving_variance, expected.moving_variance, EXACT)


def test_without_epsilon_shift_and_scale_of_the_input_do_not_matter() -> None:
    plain = oracle.batch_norm(X, GAMMA, BETA, epsilon=0.0)
    moved = oracle.batch_norm(7.0 * X - 100.0, GAMMA, BETA, epsilon=0.0)
    assert_close(moved.y, plain.y, 1e-12)
    assert_close(moved.mean, 7.0 * plain.mean - 100.0, 1e-12)
    assert_close(moved.variance, 49.0 * plain.variance, 1e-12)


def test_the_gradient_is_blind_to_shift_and_scale_of_the_input() -> None:
    dx = oracle.gradients(X, DY, GAMMA, epsilon=0.0, weights=WEIGHTS).dx
    assert_close(dx.sum(axis=(0, 1, 2)), np.zeros(5), 1e-12)
    assert_close((dx * X).sum(axis=(0, 1, 2)), np.zeros(5), 1e-12)


def test_renorm_at_its_own_statistics_is_batch_norm() -> None:
    plain = oracle.batch_norm(X, GAMMA, BETA, weights=WEIGHTS)
    stddev = np.sqrt(plain.variance + 1e-3)
    states = (plain.mean, stddev, plain.mean, stddev)
    result = oracle.renorm(X, GAMMA, BETA, *states, weights=WEIGHTS)
    assert_close(result.y, plain.y, 1e-12)
    assert_close(result.moving_variance, plain.variance, 1e-12)


@pytest.mark.parametrize("axis", [-1, 1])
def test_renorm_without_limits_normalizes_by_the_renorm_statistics(axis: int) -> None:
    mean, stddev = np.linspace(1.0, 2.0, 5), np.linspace(0.5, 3.0, 5)
    x = np.moveaxis(X, -1, axis)
    y = oracle.renorm(x, GAMMA, BETA, BETA, stddev, mean, stddev, axis=axis).y
    expected = GAMMA * (X - mean) / stddev + BETA
    assert_close(y, np.moveaxis(expected, -1, axis), 1e-12)


def state_of(*values: Any) -> dict[str, Any]:
    names = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")
    arrays = (np.asarray(value, np.float64) for value in values)
    return dict(zip(names, arrays, strict=False))


def assert_states_close(actual: Any, expected: Any, tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(actual[name], value, tolerance)


@pytest.mark.parametrize(
    "strided, x, y, mean, variance, unbiased",
    [
        # Groups {2, 10}, {1, 1}, {7}: means 6, 1, 7, variances 16, 0, 0, stddevs 5, 3, 3. The mean
        # of the batch is (2 * 6 + 2 * 1 + 7) / 5, its variance 2 * 16 / 5 or, with 16 * 2 / 1 for
        # the first, 2 * 32 / 5.
        (False, [2, 10, 1, 1, 7], [-0.8, 0.8, 0, 0, 0], 4.2, 6.4, 12.8),
        # Groups {2, 10}, {1, 9}, {7}, three apart: means 6, 5, 7, variances 16, 16, 0.
        (True, [2, 1, 7, 10, 9], [-0.8, -0.8, 0, 0.8, 0.8], 5.8, 12.8, 25.6),
    ],
)
def test_ghost_batches_by_hand(
    strided: bool, x: list[float], y: list[float], mean: float, variance: float, unbiased: float
) -> None:
    options: dict[str, Any] = {"epsilon": 9.0, "ghost": (2, strided), "rate": 0.25}
    for bessel, target in ((False, variance), (True, unbiased)):
        result = oracle.step(np.c_[x], state_of([4], [8]), unbiased=bessel, **options)
        assert_close(result.y, np.c_[y], 1e-14)
        after = state_of([0.75 * 4 + 0.25 * mean], [0.75 * 8 + 0.25 * target])
        assert_states_close(result.state, after, 1e-14)


@pytest.mark.parametrize(
    "weights, variance",
    [
        # 2 and 10 have the variance 16. n = 2: 2 / 1; n = 3/2: (3/2) / max(1/2, 1); n = 1 and less:
        # once; n = 6: 6 / 5.
        ([1, 1], 32.0),
        ([0.75, 0.75], 24.0),
        ([0.5, 0.5], 16.0),
        ([0.25, 0.25], 16.0),
        ([3, 3], 19.2),
    ],
)
def test_bessels_factor_counts_weights(weights: list[float], variance: float) -> None:
    options: dict[str, Any] = {"rate": 1.0, "epsilon": 9.0, "unbiased": True, "weights": weights}
    result = oracle.step([[2.0], [10.0]], state_of([0], [0]), **options)
    assert_close(result.state["moving_variance"], [variance], 1e-14)
    assert_close(result.y, [[-0.8], [0.8]], EXACT)


def test_bessels_factor_counts_positions() -> None:
    # The 4 positions 2, 10, 10, 2: 16 * 4 / 3.
    x = [[[2.0], [10.0]], [[10.0], [2.0]]]
    result = oracle.step(x, state_of([0], [0]), rate=1.0, unbiased=True)
    assert_close(result.state["moving_variance"], [64.0 / 3.0], 1e-14)


@pytest.mark.parametrize("unbiased, stddev", [(False, 5.0), (True, 41.0**0.5)])
def test_renorm_of_ghost_batches_by_hand(unbiased: bool, stddev: float) -> None:
    # Groups {2, 10}, {-2, 6} and, without weight, {20}. Means 6 and 2, on average 4; variances 16,
    # unbiased 32; stddev 5; xhat = -0.8, 0.8. r = 5 / 10, d = (4 - 3) / 10: 0.5 xhat + 0.1 = -0.3,
    # 0.5. The last is (20 - 0) / sqrt(7 + 9) = 5. Then 2 xhat + 1, then 10 times that, minus 1.
    result = oracle.step(
        [[2.0], [10.0], [-2.0], [6.0], [20.0]], state_of([0], [7], [9], [3], [10]), [10], [-1],
        epsilon=9.0, weights=[1, 1, 1, 1, 0], ghost=(2, False), rate=0.25, unbiased=unbiased,
        renorm=(None, None, None, 0.5), adjustment=(2.0, 1.0),
    )  # fmt: skip
    assert_close(result.y, [[3.0], [19.0], [3.0], [19.0], [109.0]], 1e-13)
    moved = 0.75 * 9.0 + 0.25 * stddev
    after = state_of([1.0], [moved**2 - 9.0], [moved], [3.5], [7.5])
    assert_states_close(result.state, after, 1e-13)


def test_a_step_in_inference_knows_no_ghost_renorm_or_adjustment() -> None:
    # (5 - 1) / sqrt(3 + 1) = 2 and (9 - 1) / 2 = 4, times 10, plus 1.
    state = state_of([1], [3], [7], [8], [9])
    result = oracle.step(
        [[5.0], [9.0]], state, [10], [1], training=False, epsilon=1.0, ghost=(1, False),
        renorm=(None, None, None, 0.5), adjustment=(2.0, 1.0),
    )  # fmt: skip
    assert_close(result.y, [[21.0], [41.0]], EXACT)
    assert_states_close(result.state, state, 0)


def test_gradients_of_a_step_by_hand() -> None:
    # Of test_renorm_of_ghost_batches_by_hand: the group {2, 10} has xhat = -0.8, 0.8, shares of 1/2
    # and g = dy * 10 * 2 * 0.5 = 10, 0, so sum(g) = 10, sum(g xhat) = -8 and
    # dx = (10 - (10 + 6.4) / 2) / 5 = 0.36, (0 - (10 - 6.4) / 2) / 5 = -0.36. dy is 0 in the second
    # group. In {20} dx = 1 * 10 * 2 / 4 = 5. gamma multiplies -0.3 * 2 + 1 = 0.4 and 5 * 2 + 1.
    dx, dgamma, dbeta = oracle.step_gradients(
        [[2.0], [10.0], [-2.0], [6.0], [20.0]], [[1.0], [0.0], [0.0], [0.0], [1.0]],
        state_of([0], [7], [9], [3], [10]), [10], None,
        epsilon=9.0, weights=[1, 1, 1, 1, 0], ghost=(2, False),
        renorm=(None, None, None, 0.5), adjustment=(2.0, 1.0),
    )  # fmt: skip
    assert_close(dx, [[0.36], [-0.36], [0.0], [0.0], [5.0]], 1e-14)
    assert dgamma is not None and dbeta is None
    assert_close(dgamma, [0.4 + 11.0], 1e-14)


SAMPLES = 3.0 + 2.0 * _rng.normal(size=(5, 3, 4))
SLOPES = _rng.normal(size=SAMPLES.shape)
STATE = state_of(*_rng.uniform(0.5, 3.0, size=(5, 4)))
PARAMETERS: dict[str, list[Any]] = {
    "none": [None, None],
    "of channels": list(_rng.normal(size=(2, 4))),
    "of samples": list(_rng.normal(size=(2, 5, 4))),
}
# One of the groups of (2, False) is without weight.
SOME = np.outer([2.0, 0.5, 0.0, 0.0, 3.0], [1.0, 2.0, 0.0])
EVERYTHING: dict[str, Any] = {
    "epsilon": 0.1,
    "weights": SOME,
    "ghost": (2, False),
    "rate": 0.3,
    "unbiased": True,
    "renorm": (0.9, 1.1, 0.2, 0.4),
    "adjustment": (_rng.uniform(0.5, 2.0, size=(5, 3, 1)), _rng.normal(size=(5, 1, 4))),
}
TABLE: dict[str, dict[str, Any]] = {
    "plain": {},
    "inference": EVERYTHING | {"training": False},
    "weights": {"weights": SOME},
    "ghost": {"ghost": (2, False)},
    "strided": {"ghost": (2, True)},
    "two strided": {"ghost": (3, True)},
    "one group": {"ghost": (9, True)},
    "samples apart": {"ghost": (1, False)},
    "ghost of weights": {"ghost": (2, False), "weights": SOME},
    "strided of weights": {"ghost": (2, True), "weights": SOME},
    "renorm": {"renorm": (None, None, None, 0.4)},
    "renorm of strided": {"renorm": (None, None, None, 0.4), "ghost": (2, True), "weights": SOME},
    "clipped renorm": {"renorm": (0.9, 1.1, 0.2, 0.4)},
    "adjustment": {"adjustment": EVERYTHING["adjustment"]},
    "no weight": EVERYTHING | {"weights": np.zeros((5, 3))},
    "everything": EVERYTHING,
}


def grouped(x: oracle.Array, options: dict[str, Any]) -> list[tuple[slice, float, oracle.Result]]:
    """The samples of each group, the sum of their weights, and the group alone, normalized."""
    size, strided = options.get("ghost", (5, False))
    weights, training = options.get("weights", np.ones((5, 3))), options.get("training", True)
    count = -(-5 // size)
    groups = []
    for j in range(count):
        part = slice(j, None, count) if strided else slice(j * size, (j + 1) * size)
        result = oracle.batch_norm(
            x[part], None, None, STATE["moving_mean"], STATE["moving_variance"],
            epsilon=0.1, training=training, weights=weights[part],
        )  # fmt: skip
        groups.append((part, float(weights[part].sum()), result))
    return groups


def averages(x: oracle.Array, options: dict[str, Any]) -> list[Any]:
    """The mean and the variance of the batch; nothing if it has no weight."""
    groups = grouped(x, options)
    total = sum(n for _, n, _ in groups)
    return [sum(n * result[k] for _, n, result in groups) / total for k in (1, 2)] if total else []


def correction(x: oracle.Array, options: dict[str, Any]) -> tuple[Any, Any]:
    moments = averages(x, options)
    if not moments or "renorm" not in options or not options.get("training", True):
        return 1.0, 0.0
    r = np.sqrt(moments[1] + 0.1) / STATE["renorm_stddev"]
    d = (moments[0] - STATE["renorm_mean"]) / STATE["renorm_stddev"]
    low, high, most, _ = options["renorm"]
    return (r, d) if low is None else (np.clip(r, low, high), np.clip(d, -most, most))


def composed(
    x: oracle.Array, gamma: Any, beta: Any, options: dict[str, Any], r: Any, d: Any
) -> oracle.Array:
    """The output of a step from groups that are normalized alone, and from a correction."""
    y = np.empty_like(x)
    for part, n, alone in grouped(x, options):
        y[part] = alone.y * r + d if n else alone.y
    if "adjustment" in options and options.get("training", True):
        y = y * options["adjustment"][0] + options["adjustment"][1]
    if gamma is not None:
        samples = gamma.ndim == 2
        y = y * (gamma[:, None] if samples else gamma) + (beta[:, None] if samples else beta)
    return y


@pytest.mark.parametrize("shape", PARAMETERS)
@pytest.mark.parametrize("options", TABLE.values(), ids=list(TABLE))
def test_a_step_is_composed_of_its_groups(options: dict[str, Any], shape: str) -> None:
    gamma, beta = PARAMETERS[shape]
    result = oracle.step(SAMPLES, STATE, gamma, beta, **{"epsilon": 0.1} | options)
    expected = composed(SAMPLES, gamma, beta, options, *correction(SAMPLES, options))
    assert_close(result.y, expected, 1e-12)


@pytest.mark.parametrize("options", TABLE.values(), ids=list(TABLE))
def test_a_step_moves_the_state_to_the_average_of_its_groups(options: dict[str, Any]) -> None:
    options = {"epsilon": 0.1, **options, "unbiased": False, "rate": 0.3}
    after, moments = dict(STATE), averages(SAMPLES, options)
    if moments and options.get("training", True):
        stddev = np.sqrt(moments[1] + 0.1)
        towards = [("moving_mean", moments[0], 0.3), ("moving_variance", moments[1], 0.3)]
        if "renorm" in options:
            towards += [("moving_stddev", stddev, 0.3)]
            towards += [("renorm_mean", moments[0], 0.4), ("renorm_stddev", stddev, 0.4)]
        after |= {name: after[name] + rate * (to - after[name]) for name, to, rate in towards}
        if "renorm" in options:
            after["moving_variance"] = after["moving_stddev"] ** 2 - 0.1
    result = oracle.step(SAMPLES, STATE, **options)
    assert_states_close(result.state, after, 1e-13)


@pytest.mark.parametrize("shape", PARAMETERS)
@pytest.mark.parametrize("options", TABLE.values(), ids=list(TABLE))
def test_gradients_of_a_step_are_finite_differences(options: dict[str, Any], shape: str) -> None:
    gamma, beta = PARAMETERS[shape]
    # The correction is a constant: that of SAMPLES, wherever the loss is taken.
    r, d = correction(SAMPLES, options)
    arguments = [SAMPLES, gamma, beta]

    def loss(k: int, value: oracle.Array) -> float:
        x, own_gamma, own_beta = arguments[:k] + [value] + arguments[k + 1 :]
        return float(np.sum(composed(x, own_gamma, own_beta, options, r, d) * SLOPES))

    exact = oracle.step_gradients(SAMPLES, SLOPES, STATE, gamma, beta, **{"epsilon": 0.1} | options)
    rng = np.random.default_rng(1)
    for k, (point, gradient) in enumerate(zip(arguments, exact, strict=True)):
        if point is None:
            assert gradient is None
            continue
        assert gradient is not None and gradient.shape == point.shape
        for _ in range(3):
            along = rng.normal(size=point.shape)
            slope = oracle.finite_difference(partial(loss, k), point, along, 1e-5)
            assert_close(slope, np.sum(gradient * along), 1e-7)


@pytest.mark.parametrize("of_samples", [False, True])
@pytest.mark.parametrize(
    "axes, own",
    [
        ((1, 3), (1, 3, 1, 4)),
        ((3, 1), (1, 3, 1, 4)),
        ((-2, 1), (1, 3, 2, 1)),
        ((1, 2, 3), (1, 3, 2, 4)),
        ((2,), (2,)),
        (1, (3,)),
        (-1, (4,)),
    ],
)
def test_several_axes_are_one_of_all_their_channels(
    axes: int | tuple[int, ...], own: tuple[int, ...], of_samples: bool
) -> None:
    shape, rng = (5, 3, 2, 4), np.random.default_rng(2)
    channel_axes = sorted(a % 4 for a in np.atleast_1d(axes))
    rest = [i for i in range(4) if i not in channel_axes]
    parameter_shape = (5, *own[-3:]) if of_samples else own

    def flat(value: oracle.Array) -> oracle.Array:
        return np.transpose(value, rest + channel_axes).reshape(*(shape[i] for i in rest), -1)

    def lined(value: oracle.Array) -> oracle.Array:
        return value.reshape((5, -1) if of_samples else -1)

    x, dy, scale, shift = rng.normal(size=(4, *shape))
    state = state_of(*rng.uniform(0.5, 2.0, size=(5, *own)))
    lines = {name: value.reshape(-1) for name, value in state.items()}
    gamma, beta = rng.normal(size=(2, *parameter_shape))
    options = EVERYTHING | {"weights": rng.integers(0, 3, size=[shape[i] for i in rest])}
    multi_axis = options | {"axis": axes, "adjustment": (scale, shift)}
    single_axis = options | {"adjustment": (flat(scale), flat(shift))}
    actual = oracle.step(x, state, gamma, beta, **multi_axis)
    expected = oracle.step(flat(x), lines, lined(gamma), lined(beta), **single_axis)
    assert_close(flat(actual.y), expected.y, 1e-13)
    after = {name: value.reshape(own) for name, value in expected.state.items()}
    assert_states_close(actual.state, after, 1e-13)
    dx, *slopes = oracle.step_gradients(x, dy, state, gamma, beta, **multi_axis)
    flat_dx, *sums = oracle.step_gradients(
        flat(x), flat(dy), lines, lined(gamma), lined(beta), **single_axis
    )
    assert_close(flat(dx), flat_dx, 1e-13)
    for value, number in zip(slopes, sums, strict=True):
        assert value is not None and number is not None
        assert_close(value, number.reshape(parameter_shape), 1e-12)


@pytest.mark.parametrize("shape", [(), (4,), (5, 4), (5, 1, 1), (1, 3, 4), (5, 3, 4)])
def test_an_adjustment_broadcasts(shape: tuple[int, ...]) -> None:
    scale, shift = np.random.default_rng(3).normal(size=(2, *shape))
    plain = oracle.step(SAMPLES, STATE).y
    actual = oracle.step(SAMPLES, STATE, adjustment=(scale, shift)).y
    if len(shape) == 2:
        scale, shift = scale[:, None], shift[:, None]
    assert_close(actual, plain * scale + shift, 1e-13)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_step_of_few_options_is_batch_norm(axis: int, weights: oracle.Array | None) -> None:
    x, dy = np.moveaxis(X, -1, axis), np.moveaxis(DY, -1, axis)
    arguments: dict[str, Any] = {"axis": axis, "epsilon": 0.1, "weights": weights}
    state = state_of(BETA, GAMMA**2)
    for training in (True, False):
        expected = oracle.batch_norm(
            x, GAMMA, BETA, *state.values(), training=training, momentum=0.7, **arguments
        )
        actual = oracle.step(x, state, GAMMA, BETA, training=training, rate=0.3, **arguments)
        assert_close(actual.y, expected.y, 1e-13)
        assert_states_close(actual.state, state_of(*expected[3:]), 1e-13)
    gradients = oracle.step_gradients(x, dy, state, GAMMA, BETA, **arguments)
    for value, number in zip(gradients, oracle.gradients(x, dy, GAMMA, **arguments), strict=True):
        assert value is not None
        assert_close(value, number, 1e-13)


def test_what_a_step_is_not_told_is_as_for_batch_norm() -> None:
    expected = oracle.batch_norm(X, moving_mean=BETA, moving_variance=GAMMA**2)
    actual = oracle.step(X, state_of(BETA, GAMMA**2))
    assert_close(actual.y, expected.y, EXACT)
    assert_states_close(actual.state, state_of(*expected[3:]), EXACT)


@pytest.mark.parametrize("limits", [(None, None, None), (0.9, 1.1, 0.2), (None, 0.5, None)])
def test_a_step_with_renorm_is_renorm(limits: tuple[Any, Any, Any]) -> None:
    state = state_of(*np.random.default_rng(4).uniform(0.5, 2.0, size=(5, 5)))
    expected = oracle.renorm(
        X, GAMMA, BETA, *(value for name, value in state.items() if name != "moving_variance"),
        rmin=limits[0], rmax=limits[1], dmax=limits[2], momentum=0.7, renorm_momentum=0.6,
        weights=WEIGHTS,
    )  # fmt: skip
    options: dict[str, Any] = {"rate": 0.3, "renorm": (*limits, 0.4), "weights": WEIGHTS}
    actual = oracle.step(X, state, GAMMA, BETA, **options)
    assert_close(actual.y, expected.y, 1e-13)
    assert_states_close(actual.state, state_of(*expected[3:8]), 1e-13)


@pytest.mark.parametrize("ghost", [(5, False), (5, True), (8, False), (8, True)])
def test_a_group_of_all_is_no_group(ghost: tuple[int, bool]) -> None:
    plain = oracle.step(SAMPLES, STATE, **EVERYTHING | {"ghost": None})
    actual = oracle.step(SAMPLES, STATE, **EVERYTHING | {"ghost": ghost})
    assert_close(actual.y, plain.y, 0)
    assert_states_close(actual.state, plain.state, 0)


def test_weights_of_ghost_batches_are_numbers_of_repetitions() -> None:
    # In each group of two there are four repetitions.
    times = np.array([1, 3, 2, 2])
    state = state_of(*np.random.default_rng(4).uniform(0.5, 2.0, size=(5, 5)))
    options = EVERYTHING | {"adjustment": None, "weights": None}
    repeated = oracle.step(
        np.repeat(X, times, axis=0), state, GAMMA, **options | {"ghost": (4, False)}
    )
    weighted = oracle.step(X, state, GAMMA, **options | {"weights": times})
    assert_close(np.repeat(weighted.y, times, axis=0), repeated.y, 1e-12)
    assert_states_close(weighted.state, repeated.state, 1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("renorm", [None, (None, None, None, 0.4)])
def test_a_group_that_is_not_finite_leaves_the_whole_state(bad: float, renorm: Any) -> None:
    x = SAMPLES.copy()
    x[4, 0, 1] = bad
    result = oracle.step(x, STATE, ghost=(2, False), renorm=renorm)
    clean = oracle.step(SAMPLES, STATE, ghost=(2, False), renorm=renorm)
    assert_states_close(result.state, STATE, 0)
    assert_close(result.y[..., [0, 2, 3]], clean.y[..., [0, 2, 3]], EXACT)
    # The correction is one for all groups.
    assert (np.isfinite(result.y[:4, :, 1]) == (renorm is None)).all()


@pytest.mark.parametrize("hidden", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("ghost", [None, (2, False), (2, True)])
def test_what_has_no_weight_does_not_matter(hidden: float, ghost: tuple[int, bool] | None) -> None:
    seen = SOME > 0
    x, dy = np.where(seen[..., None], SAMPLES, hidden), np.where(seen[..., None], SLOPES, 0.0)
    parameters, options = PARAMETERS["of channels"], EVERYTHING | {"ghost": ghost}
    exact, actual = (oracle.step(inputs, STATE, *parameters, **options) for inputs in (SAMPLES, x))
    assert_close(actual.y[seen], exact.y[seen], 0)
    assert_states_close(actual.state, exact.state, 0)
    expected, slopes = (
        oracle.step_gradients(inputs, dy, STATE, *parameters, **options) for inputs in (SAMPLES, x)
    )
    assert_close(slopes[0], expected[0], 0)
    for value, number in zip(slopes[1:], expected[1:], strict=True):
        assert value is not None and number is not None
        assert_close(value, number, 0)


@pytest.mark.parametrize("ghost", [None, (2, False), (2, True)])
def test_an_empty_batch_leaves_the_state(ghost: tuple[int, bool] | None) -> None:
    x, options = np.empty((0, 3, 4)), EVERYTHING | {"weights": None, "adjustment": None}
    result = oracle.step(x, STATE, **options | {"ghost": ghost})
    assert result.y.shape == x.shape
    assert_states_close(result.state, STATE, 0)
    dx, dgamma, _ = oracle.step_gradients(x, x, STATE, np.ones(4), **options | {"ghost": ghost})
    assert dx.shape == x.shape and dgamma is not None
    assert_close(dgamma, np.zeros(4), 0)


def test_ghost_batches_need_a_batch() -> None:
    with pytest.raises(ValueError, match="axis 0"):
        oracle.step(X, state_of(np.zeros(4), np.ones(4)), axis=0, ghost=(2, False))
