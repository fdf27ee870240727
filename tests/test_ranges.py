"""Means, constants, variances, weights and rates far from 1, and hidden samples among them."""

import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import (
    BatchNormalization,
    Cumulative,
    Exponential,
    Ghost,
    Moments,
    Ramp,
    Renorm,
    ZeroDebiased,
    batch_norm,
    kernels,
    merge,
    moments,
)
from batchnorm.kernels import reference
from batchnorm.stages.state import update
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, MODES, Array, compiled, gradients, tensors, to_numpy

NAMES = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")
COMPILED = MODES[-1]


@pytest.fixture(params=["native", "reference"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "reference":
        monkeypatch.setattr(kernels, "KERNELS", (reference,))
    yield


def step(x: Array, state: dict[str, Array], weights: Any = None, **options: Any) -> Any:
    """Returns y and the state of a step, compiled where the backend compiles."""
    x_, *values = tensors([x, *state.values()], "float32")
    weights = None if weights is None else tensors([weights])[0]

    def run(x: Any, weights: Any, *values: Any) -> Any:
        variables = dict(zip(state, values, strict=True))
        return batch_norm(x, variables, training=True, sample_weight=weights, **options)

    y, new = compiled(run, COMPILED)(x_, weights, *values)
    return to_numpy(y), {name: to_numpy(value) for name, value in new.items()}


HIDDEN = {
    "the first": [0],
    "the last": [2],
    "all but the last": [0, 1],
    "all but the first": [1, 2],
}


@pytest.mark.parametrize("hidden", HIDDEN)
def test_hidden_ghost_batches_far_from_zero(hidden: str) -> None:
    x = (1e6 + np.random.default_rng(0).normal(size=(12, 16, 2))).astype("float32")
    weights = np.ones(12, "float32")
    weights[np.isin(np.arange(12) // 4, HIDDEN[hidden])] = 0
    state = dict(zip(NAMES, np.array([[0] * 2, [2] * 2, [1] * 2, [1e6] * 2, [1] * 2]), strict=True))
    options = {"statistics": Ghost(4), "renorm": Renorm(rmax=3.0, dmax=5.0)}
    y, new = step(x, state, weights, **options)
    same: dict[str, Any] = {
        "ghost": (4, False),
        "renorm": (1 / 3, 3.0, 5.0, 0.01),
        "rate": 0.01,
    }
    right = oracle.step(x, state, weights=weights, **same)
    assert_close(y[weights > 0], right.y[weights > 0], 1e-5)
    for name, value in right.state.items():
        assert_close(new[name], value, 1e-6)


def test_merging_empty_parts_far_from_zero() -> None:
    x = (1e6 + np.random.default_rng(0).normal(size=(64, 2))).astype("float32")
    empty = Moments(*tensors([0.0, [-1e30, np.nan], [1.0, np.inf]], "float32"))
    parts = [moments(tensors([part])[0], [0]) for part in (x[:7], x[7:])]
    for order in ([empty, *parts], [parts[0], empty, parts[1]], [*parts, empty]):
        merged = merge(*order)
        assert_close(to_numpy(merged.mean), x.astype("float64").mean(0), 1e-7)
        # The parts' means are rounded to 0.03.
        assert_close(to_numpy(merged.variance), x.astype("float64").var(0), 0.02)


FIRST: dict[str, tuple[dict[str, Any], bool]] = {
    "zero-debiased": ({"moving": ZeroDebiased(0.99)}, True),
    "cumulative": ({"moving": Cumulative()}, True),
    "no momentum": ({"moving": Exponential(0.0)}, True),
    "a schedule": ({"moving": Exponential(Ramp(0.0, 0.99, 0, 10))}, True),
    "renorm": ({"moving": Cumulative(), "renorm": Renorm(momentum=0.0)}, False),
    "a schedule in renorm": (
        {"moving": Cumulative(), "renorm": Renorm(momentum=Ramp(0, 1, 0, 9))},
        False,
    ),
}


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("old", [1.0, np.nan, np.inf, 1e30])
def test_a_first_step_replaces_what_was(old: float, name: str) -> None:
    """At rate 1 nothing remains of the old value, not even its rounding error."""
    options, nonfinite = FIRST[name]
    if not np.isfinite(old) and not nonfinite:
        pytest.skip("renorm normalizes by its state")
    x = (1e-4 * np.random.default_rng(0).normal(size=(512, 2))).astype("float32")
    names = NAMES if "renorm" in options else NAMES[:2]
    state: dict[str, Any] = {statistic: np.full(2, old) for statistic in names}
    counts = options["moving"].counts or "renorm" in options
    state |= {"step": np.zeros(())} if counts else {}
    _, new = step(x, state, epsilon=1e-9, **options)
    variance = x.astype("float64").var(0)
    stddev = np.sqrt(variance + 1e-9)
    for statistic, right in (
        ("moving_variance", variance),
        ("moving_stddev", stddev),
        ("renorm_stddev", stddev),
    ):
        if statistic in new:
            assert_close(new[statistic] / right, np.ones(2), 1e-5)
    for statistic in ("moving_mean", "renorm_mean"):
        if statistic in new:
            assert_close(new[statistic] * 1e4, x.astype("float64").mean(0) * 1e4, 1e-6)


def test_a_step_stays_between_what_was_and_the_batch() -> None:
    draw = np.random.default_rng(0)
    old, batch = (draw.normal(size=5000) * 10.0 ** draw.integers(-8, 8, 5000) for _ in range(2))
    old, batch = (value.astype("float32").astype("float64") for value in (old, batch))
    old_, batch_ = tensors([old, batch], "float32")
    lowest, highest = (
        to_numpy(keras.ops.minimum(old_, batch_)),
        to_numpy(keras.ops.maximum(old_, batch_)),
    )
    for rate in (0.0, 2.0**-10, 0.25, 0.5, 0.875, 1 - 2.0**-10, 1 - 2.0**-24, 1.0):
        for argument in (rate, tensors([np.float32(rate)])[0]):
            new = to_numpy(update(old_, batch_, argument))
            assert ((lowest <= new) & (new <= highest)).all()
            right = (1 - rate) * old + rate * batch
            share = (1 - rate) * np.abs(old) + rate * np.abs(batch)
            assert (np.abs(new - right) <= 3e-7 * share).all()
            assert (to_numpy(update(old_, old_, argument)) == to_numpy(old_)).all()
    assert (to_numpy(update(old_, batch_, 1.0)) == to_numpy(batch_)).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [3, 7])
def test_huge_constants(size: int, weighted: bool, kernel: None) -> None:
    """The rounding errors of their means have squares that no float32 holds."""
    values = np.array([1e8, 1e20, 1e27, -1e30, 3e38, 0.1], "float32")
    x = np.tile(values, (size, 1))
    x[:, -1] += np.arange(size) / 10  # this one is none
    weights = None
    if weighted:
        weights = np.r_[0.0, 2.0, np.ones(size - 2)].astype("float32")
        x[0] = 5e37
    state = {"moving_mean": np.zeros(6), "moving_variance": np.ones(6)}
    y, new = step(x, state, weights, moving=Exponential(0.0))
    assert (y[int(weighted) :, :-1] == 0).all()
    assert (new["moving_mean"][:-1] == values[:-1]).all()
    assert (new["moving_variance"][:-1] == 0).all()
    right = oracle.step(x[int(weighted) :], state, weights=None if weights is None else weights[1:])
    assert_close(y[int(weighted) :, -1], right.y[:, -1], 1e-5)

    def loss(x: Any) -> Any:
        variables = {name: value[:5] for name, value in state.items()}
        values = tensors([*variables.values()], "float32")
        y, _ = batch_norm(x, dict(zip(variables, values, strict=True)), training=True)
        return keras.ops.sum(y * keras.ops.cos(keras.ops.arange(size, dtype="float32"))[:, None])

    (dx,) = gradients(loss, *tensors([np.tile(values[:-1], (size, 1))]))
    cosines = np.cos(np.arange(size))
    expected = np.tile((cosines - cosines.mean())[:, None] / np.sqrt(1e-3), (1, 5))
    assert_close(to_numpy(dx), expected, 1e-5)


def test_huge_batches_that_are_none_stay_nan(kernel: None) -> None:
    """A training that diverges shows it."""
    x = (1e30 * np.random.default_rng(0).normal(size=(8, 1))).astype("float32")
    y, new = step(x, {"moving_mean": np.zeros(1), "moving_variance": np.ones(1)})
    assert np.isnan(y).all() or (y == 0).all()
    assert new["moving_mean"] == 0 and new["moving_variance"] == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [1e-37, 1e36])
def test_factors_on_weights(factor: float, mode: str) -> None:
    draw = np.random.default_rng(0)
    x, weights = draw.normal(3.0, 2.0, (12, 5, 3)), draw.uniform(0.5, 1.0, (12, 5))
    state = dict(zip(NAMES, draw.uniform(0.5, 2, (5, 3)), strict=True))
    x_, weights_, *values = tensors([x, weights * factor, *state.values()], "float32")
    options: dict[str, Any] = {"statistics": Ghost(4), "renorm": Renorm(0.5, 2.0, 1.0)}
    options["moving"] = Exponential(0.9, unbiased=True)

    def run(x: Any, weights: Any, *values: Any) -> Any:
        variables = dict(zip(state, values, strict=True))
        return batch_norm(x, variables, training=True, sample_weight=weights, **options)

    y, new = compiled(run, mode)(x_, weights_, *values)
    same: dict[str, Any] = {"ghost": (4, False), "renorm": (0.5, 2.0, 1.0, 0.01), "rate": 0.1}
    right = oracle.step(x, state, weights=weights * factor, unbiased=True, **same)
    assert_close(to_numpy(y), right.y, 1e-5)
    for name, value in right.state.items():
        assert_close(to_numpy(new[name]), value, 1e-5)


def test_the_unit_of_weights_is_in_the_count() -> None:
    x, weights = np.random.default_rng(0).normal(size=(2, 8, 1)).astype("float32")
    x_, weights_ = tensors([x, np.abs(weights) * np.float32(1e30)])
    result = moments(x_, [0], weights_)
    assert_close(to_numpy(result.count) / 1e30, np.abs(weights).sum(), 1e-6)
    mean = (x * np.abs(weights)).sum() / np.abs(weights).sum()
    assert_close(to_numpy(result.mean), [mean], 1e-6)


def test_ordinary_weights_stay_as_they_are() -> None:
    """Zeros, ones and numbers near them stay, to the last bit."""
    from batchnorm.stages.weights import scaled

    for values in ([0.0, 1.0, 1.0], [0.3, 700.0, 0.0], [0.0, 0.0, 0.0]):
        (weights,) = tensors([values], "float32")
        run = compiled(functools.partial(lambda w: scaled(w, w)[0]), COMPILED)
        assert (to_numpy(run(weights)) == np.array(values, "float32")).all()
        assert scaled(weights, np.array([True]))[1] == 1.0


def test_weights_without_end() -> None:
    with pytest.raises(ValueError, match=r"sample_weight must be finite, and holds inf in float32"):
        BatchNormalization()(np.zeros((2, 3)), training=True, sample_weight=np.array([1, np.inf]))


@pytest.mark.skipif(BACKEND == "torch", reason="its sums are a tree")
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *(((16, 15, 17, 1), (3,)), ((16, 1, 15, 17), (1,)), ((31, 33), (1,)), ((4095, 1), (1,))),
        *(((30, 2, 30, 2, 4), (1, 3)), ((1000, 2, 3, 2), (1, 3))),
    ],
)
def test_no_sum_is_taken_in_sequence(
    shape: tuple[int, ...], axis: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the reference, forward and backward; a thousand terms in a row would cost two digits."""
    monkeypatch.setattr(kernels, "KERNELS", (reference,))
    check_sums(shape, axis)


def check_sums(shape: tuple[int, ...], axis: tuple[int, ...]) -> None:
    """Compares y, dx, dgamma and dbeta with the oracle, each relative to its own scale."""
    draw = np.random.default_rng(0)
    keepdims = [size if place in axis else 1 for place, size in enumerate(shape)]
    vector = [size for size in keepdims if size != 1] if len(axis) > 1 else [shape[axis[0]]]
    vector = keepdims if len(axis) > 1 else vector
    state = {"moving_mean": np.zeros(vector), "moving_variance": np.ones(vector)}
    names = axis if len(axis) > 1 else axis[0]
    old = tensors([*state.values()], "float32")

    def run(x: Any, dy: Any, gamma: Any, beta: Any) -> Any:
        def loss(x: Any, gamma: Any, beta: Any) -> Any:
            values = dict(zip(state, old, strict=True))
            y, _ = batch_norm(x, values, gamma, beta, training=True, axis=names)
            return keras.ops.sum(y * dy), y

        (_, y) = loss(x, gamma, beta)
        return y, gradients(lambda *a: loss(*a)[0], x, gamma, beta)

    step = compiled(run, MODES[1] if len(MODES) > 1 else MODES[0])
    gamma, beta = draw.normal(1, 0.3, vector), draw.normal(size=vector)
    reduced = tuple(place for place in range(len(shape)) if place not in axis)
    for mean, cut in ((1.9, False), (1e6, False), (0.0, True)):
        x = draw.normal(mean, 1, shape).astype("float32")
        x = np.maximum(x, 0) if cut else x
        dy = draw.normal(0.5, 1, shape).astype("float32")
        y, (dx, dgamma, dbeta) = step(*tensors([x, dy, gamma, beta], "float32"))
        args = [a.astype("float32") for a in (gamma, beta)]
        right = oracle.step(x, state, *args, axis=names)
        exact = oracle.step_gradients(x, dy, state, *args, axis=names)
        assert_close(to_numpy(y), right.y, 1e-5)
        largest = np.abs(exact[0]).max(reduced, keepdims=True)
        assert_close(to_numpy(dx) / largest, exact[0] / largest, 1e-5)
        xhat = oracle.step(x, state, axis=names).y
        for actual, expected, terms in ((dgamma, exact[1], dy * xhat), (dbeta, exact[2], dy)):
            root = np.sqrt((terms.astype("float64") ** 2).sum(reduced)).reshape(vector)
            assert_close(to_numpy(actual) / root, expected / root, 1e-5)
