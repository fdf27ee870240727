"""The oracle against numbers worked out by hand, finite differences, and what must not matter."""

import numpy as np
import pytest

from tests import oracle
from tests.compare import assert_close

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
