"""The NumPy reference against the oracle, and wrong references that the comparison catches."""

import doctest
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from batchnorm import reference
from batchnorm.reference import batch_norm_backward, batch_norm_infer, batch_norm_train
from tests import oracle
from tests.compare import assert_close

pytestmark = pytest.mark.no_backend

Array = npt.NDArray[Any]
MOMENTUM, EPSILON = 0.9, 1e-3


class Row(NamedTuple):
    """One row of the table: a batch with this mean and deviation, and the options of the call."""

    shape: tuple[int, ...]
    axis: int = -1
    dtype: str = "float64"
    mean: float = 1.0
    deviation: float = 1.0
    tolerance: float = 1e-12


TABLE = {
    "rank 2": Row((7, 4)),
    "rank 3": Row((5, 3, 4)),
    "rank 4": Row((5, 3, 2, 4)),
    "rank 5": Row((4, 3, 2, 2, 3)),
    "rank 2, axis 1": Row((7, 4), 1),
    "rank 3, axis 1": Row((5, 4, 3), 1),
    "rank 4, axis 1": Row((5, 4, 3, 2), 1),
    "rank 5, axis 1": Row((4, 3, 2, 2, 3), 1),
    "axis 0": Row((4, 9), 0),
    "axis -2": Row((5, 4, 3), -2),
    "float32": Row((64, 5, 4), -1, "float32", tolerance=1e-6),
    "float32, axis 1": Row((64, 4, 5), 1, "float32", tolerance=1e-6),
    "float16": Row((64, 5, 4), -1, "float16", 100.0, tolerance=1e-3),
    "float16, axis 1": Row((64, 4, 5), 1, "float16", 100.0, tolerance=1e-3),
    "float32, mean 1e4": Row((64, 8, 8, 3), -1, "float32", 1e4, tolerance=1e-5),
    "float32, mean 1e6": Row((64, 8, 8, 3), -1, "float32", 1e6, tolerance=1e-5),
    "float32, mean 1e6, axis 1": Row((64, 3, 8, 8), 1, "float32", 1e6, tolerance=1e-5),
    "float32, mean -1e6, 260000 rows": Row((64, 64, 64, 2), -1, "float32", -1e6, tolerance=1e-5),
    "float64, mean 1e4": Row((64, 8, 8, 3), -1, "float64", 1e4, tolerance=1e-11),
    "float64, mean 1e6": Row((64, 8, 8, 3), -1, "float64", 1e6, tolerance=1e-9),
    "float32, tiny": Row((64, 3), -1, "float32", 1e-3, 1e-3, 2e-6),
    "float32, constant": Row((64, 5, 3), -1, "float32", 4096.1, 0.0, 1e-5),
    "float64, constant": Row((64, 5, 3), -1, "float64", 4096.1, 0.0, 1e-10),
    "one channel": Row((9, 1)),
    "one channel, axis 1": Row((9, 1, 3), 1),
    "one sample": Row((1, 5, 6, 3)),
    "one sample, one value": Row((1, 3)),
    "empty": Row((0, 3)),
    "empty, axis 1": Row((0, 3, 4), 1, "float32"),
    "empty space": Row((4, 0, 3)),
}


class Case(NamedTuple):
    """The arrays of a row, which are read-only."""

    row: Row
    x: Array
    dy: Array
    gamma: Array
    beta: Array
    moving_mean: Array
    moving_variance: Array

    @property
    def parameters(self) -> tuple[Array, Array, Array, Array]:
        return self.gamma, self.beta, self.moving_mean, self.moving_variance


def make_case(row: Row) -> Case:
    rng = np.random.default_rng(1502)
    channels = row.shape[row.axis]
    # Channels differ in mean and in deviation, so that mixing them up is noticed.
    spread = np.linspace(1.0, 1.5, channels)
    last = rng.normal(size=np.moveaxis(np.empty(row.shape), row.axis, -1).shape)
    x = np.moveaxis(row.mean * spread + row.deviation * spread * last, -1, row.axis)
    parameter = "float64" if row.dtype == "float64" else "float32"
    arrays = (
        x.astype(row.dtype),
        rng.normal(size=row.shape).astype(row.dtype),
        rng.uniform(0.5, 2.0, size=channels).astype(parameter),
        rng.normal(size=channels).astype(parameter),
        (row.mean * spread + 0.1 * row.deviation).astype(parameter),
        rng.uniform(0.5, 2.0, size=channels).astype(parameter),
    )
    for array in arrays:
        array.flags.writeable = False
    return Case(row, *arrays)


@pytest.fixture(params=list(TABLE))
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(TABLE[request.param])


class Training(NamedTuple):
    """The results of a training step."""

    y: Array
    moving_mean: Array
    moving_variance: Array


Train = Callable[[Case], Training]
Backward = Callable[[Case], tuple[Array, Array, Array]]


def train(case: Case) -> Training:
    y, _, moving_mean, moving_variance = batch_norm_train(
        case.x, *case.parameters, axis=case.row.axis, momentum=MOMENTUM, epsilon=EPSILON
    )
    return Training(y, moving_mean, moving_variance)


def backward(case: Case) -> tuple[Array, Array, Array]:
    _, cache, _, _ = batch_norm_train(case.x, *case.parameters, axis=case.row.axis, epsilon=EPSILON)
    return batch_norm_backward(case.dy, cache)


def check_training(implementation: Train, case: Case) -> None:
    """Compares a training step, the reference's or a wrong one, with the oracle."""
    row = case.row
    expected = oracle.batch_norm(
        case.x, *case.parameters, axis=row.axis, momentum=MOMENTUM, epsilon=EPSILON
    )
    actual = implementation(case)
    assert_close(actual.y, expected.y, row.tolerance)
    assert_close(actual.moving_mean, expected.moving_mean, row.tolerance)
    assert_close(actual.moving_variance, expected.moving_variance, row.tolerance)


def check_backward(implementation: Backward, case: Case) -> None:
    """Compares gradients, the reference's or wrong ones, with the oracle."""
    row = case.row
    expected = oracle.gradients(case.x, case.dy, case.gamma, axis=row.axis, epsilon=EPSILON)
    # dgamma and dbeta are sums over a channel: their rounding grows with the channel.
    rows = case.x.size // row.shape[row.axis]
    dx, dgamma, dbeta = implementation(case)
    assert_close(dx, expected.dx, row.tolerance)
    assert_close(dgamma, expected.dgamma, row.tolerance * np.sqrt(rows))
    assert_close(dbeta, expected.dbeta, row.tolerance * np.sqrt(rows))


def test_training(case: Case) -> None:
    check_training(train, case)


def test_dtypes_and_layout(case: Case) -> None:
    y, cache, moving_mean, moving_variance = batch_norm_train(
        case.x, *case.parameters, axis=case.row.axis
    )
    dx, dgamma, dbeta = batch_norm_backward(case.dy, cache)
    wide = np.result_type(case.x.dtype, np.float32)
    assert y.dtype == dx.dtype == case.x.dtype
    assert cache.centred.dtype == cache.mean.dtype == cache.variance.dtype == wide
    assert moving_mean.dtype == moving_variance.dtype == dgamma.dtype == dbeta.dtype == wide
    assert y.flags.c_contiguous and dx.flags.c_contiguous


def test_the_cache_tells_the_moments_of_the_batch(case: Case) -> None:
    axis, tolerance = case.row.axis, case.row.tolerance
    _, cache, _, _ = batch_norm_train(case.x, *case.parameters, axis=axis)
    expected = oracle.batch_norm(case.x, *case.parameters, axis=axis)
    assert_close(cache.mean, expected.mean, tolerance)
    assert_close(cache.variance, expected.variance, tolerance)


def test_the_mean_is_the_nearest_float32() -> None:
    x = np.random.default_rng(0).normal(1e6, 1.0, size=(1000, 50)).astype(np.float32)
    _, cache, _, _ = batch_norm_train(x, np.ones(50), np.zeros(50), np.zeros(50), np.ones(50))
    error = np.abs(cache.mean - oracle.batch_norm(x).mean)
    assert error.max() <= 0.51 * np.spacing(np.float32(1e6))


def test_inference(case: Case) -> None:
    row = case.row
    y = batch_norm_infer(case.x, *case.parameters, axis=row.axis, epsilon=EPSILON)
    expected = oracle.batch_norm(
        case.x, *case.parameters, axis=row.axis, epsilon=EPSILON, training=False
    )
    assert y.dtype == case.x.dtype
    assert_close(y, expected.y, row.tolerance)


def test_backward(case: Case) -> None:
    if case.x.size:
        check_backward(backward, case)


@pytest.mark.parametrize("name", ["rank 2", "rank 3, axis 1", "rank 5", "axis 0", "one channel"])
def test_backward_is_the_finite_difference_of_the_forward_pass(name: str) -> None:
    case = make_case(TABLE[name])
    dy, axis = case.dy, case.row.axis

    def loss(x: oracle.Array, gamma: oracle.Array, beta: oracle.Array) -> float:
        y, *_ = batch_norm_train(x, gamma, beta, *case.parameters[2:], axis=axis, epsilon=EPSILON)
        return float(np.sum(y * dy))

    x, gamma, beta = case.x, case.gamma, case.beta
    dx, dgamma, dbeta = backward(case)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        direction, along = rng.normal(size=x.shape), rng.normal(size=gamma.shape)
        slope = oracle.finite_difference(lambda v: loss(v, gamma, beta), x, direction, 1e-6)
        assert_close(slope, np.sum(dx * direction), 1e-7)
        slope = oracle.finite_difference(lambda v: loss(x, v, beta), gamma, along, 1e-6)
        assert_close(slope, np.sum(dgamma * along), 1e-7)
        slope = oracle.finite_difference(lambda v: loss(x, gamma, v), beta, along, 1e-6)
        assert_close(slope, np.sum(dbeta * along), 1e-7)


@pytest.mark.parametrize("name", ["empty", "empty, axis 1", "empty space"])
def test_an_empty_batch_has_empty_gradients(name: str) -> None:
    case = make_case(TABLE[name])
    dx, dgamma, dbeta = backward(case)
    assert dx.shape == case.x.shape
    assert_close(dgamma, np.zeros(3), 0.0)
    assert_close(dbeta, np.zeros(3), 0.0)


def test_an_empty_batch_leaves_the_moving_averages_to_the_last_bit() -> None:
    averages = np.array([0.1, 1 / 3]), np.array([0.7, 1e-9])
    x = np.empty((0, 2), np.float32)
    _, _, mean, variance = batch_norm_train(x, np.ones(2), np.zeros(2), *averages)
    assert_close(mean, averages[0], 0.0)
    assert_close(variance, averages[1], 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_batch_that_is_not_finite_leaves_all_moving_averages(bad: float) -> None:
    x = np.array([[1.0, bad], [2.0, 3.0]])
    with np.errstate(invalid="ignore", over="ignore"):
        y, cache, mean, variance = batch_norm_train(x, np.ones(2), np.zeros(2), [5, 6], [7, 8])
    assert np.isfinite(y[:, 0]).all()
    assert not np.isfinite(cache.variance[1])
    assert_close(mean, [5.0, 6.0], 0.0)
    assert_close(variance, [7.0, 8.0], 0.0)


def test_averages_keep_their_own_dtype() -> None:
    x = np.random.default_rng(0).normal(size=(6, 2))
    parameters = np.ones(2), np.zeros(2), np.zeros(2, np.float32), np.ones(2, np.float16)
    _, _, mean, variance = batch_norm_train(x, *parameters)
    assert mean.dtype == variance.dtype == np.float32


def test_a_constant_channel_comes_out_as_beta() -> None:
    x = np.full((1000, 2), 4096.1, np.float32)
    y, *_ = batch_norm_train(x, np.ones(2), [0.5, -3.0], np.zeros(2), np.ones(2))
    assert_close(y, np.broadcast_to([0.5, -3.0], x.shape), 1e-6)


def test_integers_and_lists_become_floats() -> None:
    x = [[1, 10], [3, 60], [6, 20]]
    y, cache, mean, _ = batch_norm_train(x, [1, 2], [0, 5], [0, 0], [1, 1], momentum=0.5)
    expected = oracle.batch_norm(x, [1, 2], [0, 5], momentum=0.5)
    assert y.dtype == np.float64
    assert_close(y, expected.y, 1e-12)
    assert_close(mean, expected.moving_mean, 1e-12)
    dx, _, _ = batch_norm_backward([[1, 0], [0, 1], [0, 0]], cache)
    assert_close(dx, oracle.gradients(x, [[1, 0], [0, 1], [0, 0]], [1, 2]).dx, 1e-12)
    assert batch_norm_infer(np.ones((1, 1), np.int8), [1], [0], [0], [1]).dtype == np.float32


def test_momentum_and_epsilon_may_be_zero() -> None:
    x = np.array([[1.0], [3.0]])
    y, _, mean, variance = batch_norm_train(x, [1.0], [0.0], [9.0], [9.0], momentum=0, epsilon=0)
    assert_close(y, [[-1.0], [1.0]], 1e-15)
    assert_close(mean, [2.0], 1e-15)
    assert_close(variance, [1.0], 1e-15)


def test_the_example_in_the_docstring_runs() -> None:
    result = doctest.testmod(reference)
    assert result.attempted >= 9
    assert result.failed == 0


ONES, ZEROS = np.ones(3), np.zeros(3)
GOOD: dict[str, Any] = {
    "x": np.arange(12.0).reshape(4, 3),
    "gamma": ONES,
    "beta": ZEROS,
    "moving_mean": ZEROS,
    "moving_variance": ONES,
}
BAD_IN_BOTH: list[tuple[dict[str, Any], list[str]]] = [
    ({"gamma": np.ones(4)}, ["gamma has shape (4,)", "x has 3 channels", "shape (3,)"]),
    ({"beta": np.ones((1, 3))}, ["beta has shape (1, 3)", "x has 3 channels", "shape (3,)"]),
    ({"moving_mean": 0.0}, ["moving_mean has shape ()", "shape (3,)"]),
    ({"moving_variance": np.ones(4)}, ["moving_variance has shape (4,)", "correct axis"]),
    ({"axis": 0}, ["gamma has shape (3,)", "x has 4 channels", "correct axis"]),
    ({"axis": 2}, ["axis=2", "shape (4, 3)", "Pass -1 for (N, ..., C), 1 for (N, C, ...)"]),
    ({"axis": -3}, ["axis=-3", "shape (4, 3)"]),
    ({"x": np.ones(3)}, ["shape (3,)", "two axes or more", "x[:, None]"]),
    ({"x": 1.0}, ["shape ()", "two axes or more"]),
    ({"x": np.ones((4, 3), complex)}, ["x has dtype complex128", "real numbers", ".astype"]),
    ({"x": np.full((4, 3), "1")}, ["x has dtype <U1", "real numbers"]),
    ({"gamma": np.ones(3, complex)}, ["gamma has dtype complex128", "real numbers"]),
    ({"epsilon": -1e-3}, ["epsilon=-0.001", "at least 0", "1e-3"]),
    ({"epsilon": float("nan")}, ["epsilon=nan", "finite"]),
    ({"epsilon": float("inf")}, ["epsilon=inf", "finite"]),
]
BAD_IN_TRAINING: list[tuple[dict[str, Any], list[str]]] = [
    ({"momentum": 1.0}, ["momentum=1.0", "at least 0 and below 1", "0.99"]),
    ({"momentum": -0.1}, ["momentum=-0.1", "at least 0 and below 1"]),
    ({"momentum": float("nan")}, ["momentum=nan", "at least 0 and below 1"]),
]


@pytest.mark.parametrize("bad, fragments", BAD_IN_BOTH + BAD_IN_TRAINING)
def test_training_refuses(bad: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        batch_norm_train(**(GOOD | bad))
    assert [words for words in fragments if words not in str(error.value)] == []


@pytest.mark.parametrize("bad, fragments", BAD_IN_BOTH)
def test_inference_refuses(bad: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        batch_norm_infer(**(GOOD | bad))
    assert [words for words in fragments if words not in str(error.value)] == []


def test_backward_refuses_another_shape() -> None:
    _, cache, _, _ = batch_norm_train(**GOOD)
    with pytest.raises(ValueError) as error:
        batch_norm_backward(np.ones((3, 4)), cache)
    for words in ("dy has shape (3, 4)", "x had (4, 3)", "Pass the gradient"):
        assert words in str(error.value)
    with pytest.raises(ValueError, match="dy has dtype complex128"):
        batch_norm_backward(np.ones((4, 3), complex), cache)


# What follows is wrong on purpose: the comparison above must notice every one of these.


def wrong_train(
    *,
    ddof: int = 0,
    outside: bool = False,
    epsilon: float = EPSILON,
    axis: int | None = None,
    momentum: float = MOMENTUM,
    moving_ddof: int = 0,
    beta_first: bool = False,
) -> Train:
    """Normalizes over the first axes, correctly unless an option adds a mistake."""

    def implementation(case: Case) -> Training:
        axes = tuple(range(case.x.ndim - 1)) if axis is None else axis
        mean = case.x.mean(axis=axes, keepdims=True)
        variance = case.x.var(axis=axes, ddof=ddof, keepdims=True)
        root = np.sqrt(variance) + epsilon if outside else np.sqrt(variance + epsilon)
        normalized = (case.x - mean) / root
        y = case.gamma * normalized + case.beta
        if beta_first:
            y = case.gamma * (normalized + case.beta)
        every = tuple(range(case.x.ndim - 1))
        batch_mean, batch_variance = case.x.mean(every), case.x.var(every, ddof=moving_ddof)
        return Training(
            y,
            momentum * case.moving_mean + (1 - momentum) * batch_mean,
            momentum * case.moving_variance + (1 - momentum) * batch_variance,
        )

    return implementation


WRONG_TRAINING: dict[str, Train] = {
    "variance with n - 1": wrong_train(ddof=1),
    "epsilon outside the root": wrong_train(outside=True),
    "no epsilon": wrong_train(epsilon=0.0),
    "another epsilon": wrong_train(epsilon=1e-5),
    "mean over the channels": wrong_train(axis=-1),
    "mean over the batch alone": wrong_train(axis=0),
    "momentum the wrong way round": wrong_train(momentum=1 - MOMENTUM),
    "moving variance with n - 1": wrong_train(moving_ddof=1),
    "beta before gamma": wrong_train(beta_first=True),
    "output of another shape": lambda case: train(case)._replace(y=train(case).y[:1]),
    "one NaN": lambda case: train(case)._replace(moving_mean=np.full(4, np.nan)),
}


@pytest.mark.parametrize("implementation", WRONG_TRAINING.values(), ids=WRONG_TRAINING)
def test_the_comparison_catches_a_wrong_training_step(implementation: Train) -> None:
    case = make_case(TABLE["rank 3"])
    check_training(wrong_train(), case)
    with pytest.raises(AssertionError):
        check_training(implementation, case)


def test_the_comparison_catches_a_swapped_axis() -> None:
    square = make_case(Row((4, 4, 4), 1))

    def last(case: Case) -> Training:
        return train(case._replace(row=case.row._replace(axis=-1)))

    with pytest.raises(AssertionError):
        check_training(last, square)


def one_pass(case: Case) -> Training:
    """Computes the variance as E[x^2] - E[x]^2, which cancels."""
    mean, square = case.x.mean((0, 1, 2)), (case.x * case.x).mean((0, 1, 2))
    variance = np.maximum(square - mean * mean, 0)
    return train(case)._replace(y=normalize(case, mean, variance))


def centred_once(case: Case) -> Training:
    """Centres by a rounded mean."""
    mean = case.x.mean((0, 1, 2))
    return train(case)._replace(y=normalize(case, mean, case.x.var((0, 1, 2))))


def folded(case: Case) -> Training:
    """Multiplies the mean out into the shift."""
    exact = oracle.batch_norm(case.x)
    scale = (case.gamma / np.sqrt(exact.variance + EPSILON)).astype(np.float32)
    shift = (case.beta - exact.mean * scale).astype(np.float32)
    return train(case)._replace(y=case.x * scale + shift)


def normalize(case: Case, mean: Array, variance: Array) -> Array:
    scaled: Array = case.gamma * (case.x - mean) / np.sqrt(variance + EPSILON)
    return scaled + case.beta


@pytest.mark.parametrize("implementation", [one_pass, centred_once, folded])
def test_the_comparison_catches_what_loses_digits(implementation: Train) -> None:
    case = make_case(TABLE["float32, mean 1e6"])
    with pytest.raises(AssertionError):
        check_training(implementation, case)


def without_mean_and_variance(case: Case) -> tuple[Array, Array, Array]:
    """Treats the mean and the variance as constants."""
    _, dgamma, dbeta = backward(case)
    result = oracle.batch_norm(case.x)
    return case.dy * case.gamma / np.sqrt(result.variance + EPSILON), dgamma, dbeta


def without_variance(case: Case) -> tuple[Array, Array, Array]:
    """Treats the variance as a constant."""
    dx, dgamma, dbeta = without_mean_and_variance(case)
    return dx - dx.mean(axis=(0, 1)), dgamma, dbeta


def without_gamma(case: Case) -> tuple[Array, Array, Array]:
    return backward(case._replace(gamma=np.ones_like(case.gamma)))


def swapped(case: Case) -> tuple[Array, Array, Array]:
    dx, dgamma, dbeta = backward(case)
    return dx, dbeta, dgamma


@pytest.mark.parametrize(
    "implementation", [without_mean_and_variance, without_variance, without_gamma, swapped]
)
def test_the_comparison_catches_wrong_gradients(implementation: Backward) -> None:
    with pytest.raises(AssertionError):
        check_backward(implementation, make_case(TABLE["rank 3"]))


@pytest.mark.parametrize(
    "actual, expected, tolerance",
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, np.nan, np.inf, -np.inf], [1.0, np.nan, np.inf, -np.inf], 0.0),
        ([0.0, 1001.0], [0.5, 1000.0], 0.5),
        (np.empty((0, 3)), np.empty((0, 3)), 0.0),
        (1.0, np.float32(1.0), 0.0),
    ],
)
def test_close(actual: npt.ArrayLike, expected: npt.ArrayLike, tolerance: float) -> None:
    assert_close(actual, expected, tolerance)


@pytest.mark.parametrize(
    "actual, expected, tolerance, words",
    [
        ([1.0, 2.0], [1.0, 2.5], 0.1, "error 0.2 is above the tolerance 0.1 at index (1,): 2.0"),
        ([[0.0], [5.0]], [[0.0], [0.5]], 1.0, "index (1, 0): 5.0 instead of 0.5; 1 of 2"),
        ([np.nan, 1.0], [1.0, 1.0], 1e9, "index (0,): nan instead of 1.0"),
        ([1.0, 1.0], [1.0, np.nan], 1e9, "index (1,): 1.0 instead of nan"),
        ([np.inf], [1.0], 1e9, "inf instead of 1.0"),
        ([1.0], [np.inf], 1e9, "1.0 instead of inf"),
        ([-np.inf], [np.inf], 1e9, "-inf instead of inf"),
        ([1.0], [1.5], float("nan"), "1.0 instead of 1.5"),
        ([1.0, 1.0], [1.0], 1.0, "shape (2,) is not the expected shape (1,)"),
        ([1.0], 1.0, 1.0, "shape (1,) is not the expected shape ()"),
        (np.empty((0, 3)), np.empty((3, 0)), 1.0, "shape (0, 3)"),
    ],
)
def test_not_close(
    actual: npt.ArrayLike, expected: npt.ArrayLike, tolerance: float, words: str
) -> None:
    with pytest.raises(AssertionError) as error:
        assert_close(actual, expected, tolerance)
    assert words in str(error.value)
