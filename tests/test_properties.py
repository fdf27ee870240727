"""Symmetries, limits and guarantees that hold for batches of any values and size."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from batchnorm import (
    BatchNormalization,
    ConditionalBatchNormalization,
    Cumulative,
    Exponential,
    Ghost,
    Moments,
    Renorm,
    ZeroDebiased,
    batch_norm,
    merge,
    moments,
)
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import (
    BACKEND,
    MODES,
    Array,
    Function,
    compiled,
    gradients,
    tensors,
    to_numpy,
)

# JAX compiles every operation anew for each shape, so it runs fewer examples.
QUICK = settings(max_examples=15 if BACKEND == "jax" else 30, deadline=None, derandomize=True)
NAMES = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")
RENORM = Renorm(rmax=1.5, dmax=0.5)
MOVING = st.sampled_from([Exponential(0.9), Exponential(0.5, unbiased=True), Cumulative()])
RENORMS = st.sampled_from([None, RENORM])
GHOSTS = st.sampled_from([None, Ghost(1), Ghost(2), Ghost(4), Ghost(4, strided=True)])


def quarters(seed: int, rows: int) -> Array:
    """Random multiples of 1/4: exact in sums and in products with powers of two."""
    return np.random.default_rng(seed).integers(-8, 8, (rows, 3, 2)).astype("float32") / 4


def started(step: int = 2) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    state: dict[str, Any] = {name: draw.uniform(0.5, 2.0, 2).astype("float32") for name in NAMES}
    return state | {"step": np.int32(step)}


def train(x: Array, state: Any = None, **options: Any) -> tuple[Array, dict[str, Array]]:
    """Returns y and the state after a training step."""
    (x_,) = tensors([x])
    y, new = batch_norm(x_, state or started(), training=True, **options)
    return to_numpy(y), {name: to_numpy(value) for name, value in new.items()}


def check(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Compares two results of `train`."""
    assert_close(actual[0], expected[0], tolerance)
    assert actual[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        assert_close(actual[1][name], value, tolerance)


def slope(x: Array, dy: Array, **options: Any) -> Array:
    """The gradient of sum(y * dy) in x."""
    (dy_,) = tensors([dy])
    loss = lambda x: ops.sum(batch_norm(x, started(), training=True, **options)[0] * dy_)  # noqa: E731
    return to_numpy(gradients(loss, *tensors([x]))[0])


SEEDS = st.integers(0, 2**32 - 1)
COPIED = st.lists(st.integers(0, 3), min_size=6, max_size=6).map(np.array)


@QUICK
@given(SEEDS, COPIED, MOVING, RENORMS)
def test_a_weight_repeats_its_sample(seed: int, copied: Array, moving: Any, renorm: Any) -> None:
    x, weights = quarters(seed, 4), np.bincount(copied, minlength=4).astype("float32")
    options = {"moving": moving, "renorm": renorm}
    y, state = train(x, sample_weight=weights, **options)
    check((y[copied], state), train(x[copied], **options))
    dy, dx = quarters(seed + 1, 4), np.zeros_like(x)
    np.add.at(dx, copied, slope(x[copied], dy[copied], **options))
    actual = slope(x, dy * weights[:, None, None], sample_weight=weights, **options)
    assert_close(actual, dx, 1e-4)


@QUICK
@given(SEEDS, st.floats(0.01, 100), RENORMS, GHOSTS)
def test_scaling_all_weights_changes_nothing(
    seed: int, factor: float, renorm: Any, ghost: Any
) -> None:
    x, weights = quarters(seed, 6), np.random.default_rng(seed).uniform(0.1, 1.0, (6, 3))
    options = {"renorm": renorm, "statistics": ghost}
    check(
        train(x, sample_weight=weights * factor, **options),
        train(x, sample_weight=weights, **options),
    )


@QUICK
@given(SEEDS, st.permutations(range(6)), MOVING, RENORMS)
def test_order_does_not_matter(seed: int, order: Any, moving: Any, renorm: Any) -> None:
    x, weights = quarters(seed, 6), np.arange(6.0, dtype="float32")
    options = {"moving": moving, "renorm": renorm}
    y, state = train(x, sample_weight=weights, **options)
    check(train(x[order], sample_weight=weights[order], **options), (y[order], state))


@QUICK
@given(SEEDS, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12))
def test_any_partition_merges_to_the_whole(seed: int, drawn: Any) -> None:
    parts, repeats = np.array(drawn).T
    x, weights = quarters(seed, len(drawn)), repeats.astype("float32")[:, None, None]
    measured = [moments(x[parts == part], [0, 1], weights[parts == part]) for part in range(4)]
    merged, direct = merge(*measured), moments(x, [0, 1], weights)
    assert_close(to_numpy(merged.mean), to_numpy(direct.mean), 1e-5)
    assert_close(to_numpy(merged.variance), to_numpy(direct.variance), 1e-5)
    assert_close(to_numpy(merged.count), 3 * repeats.sum(), 0)


def test_no_part_at_all_merges_to_zeros() -> None:
    empty = Moments(*tensors([0.0, [np.nan, 1.0], [1.0, np.inf]], "float32"))
    merged = merge(empty, empty)
    for actual in (merged.mean, merged.variance, ops.stack([merged.count] * 2)):
        assert_close(to_numpy(actual), [0.0, 0.0], 0)


@QUICK
@given(SEEDS, st.sampled_from([-4.0, -0.5, 0.25, 8.0]), st.integers(-64, 64), GHOSTS)
def test_scale_and_shift_of_the_input(seed: int, scale: float, shift: int, ghost: Any) -> None:
    x = quarters(seed, 6)
    options = {"moving": Exponential(0.0), "statistics": ghost}
    y, state = train(x, epsilon=1e-3, **options)
    mean, variance = state["moving_mean"] * scale + shift, state["moving_variance"] * scale**2
    moved = {"moving_mean": mean, "moving_variance": variance}
    actual = train(x * np.float32(scale) + shift, epsilon=1e-3 * scale**2, **options)
    check(actual, (y * np.sign(scale), moved))


@QUICK
@given(SEEDS, st.integers(1, 5), st.integers(0, 3), st.booleans(), MOVING, RENORMS)
def test_a_ghost_of_the_whole_batch_is_no_ghost(
    seed: int, rows: int, more: int, strided: bool, moving: Any, renorm: Any
) -> None:
    x, options = quarters(seed, rows), {"moving": moving, "renorm": renorm}
    check(train(x, statistics=Ghost(rows + more, strided), **options), train(x, **options))


@QUICK
@given(SEEDS, st.integers(2, 3), st.integers(1, 3), st.integers(0, 1), MOVING, RENORMS)
def test_strided_ghosts_are_ghosts_of_another_order(
    seed: int, size: int, count: int, missing: int, moving: Any, renorm: Any
) -> None:
    x, weights = (
        quarters(seed, size * count - missing),
        np.arange(size * count - missing, dtype="float32"),
    )
    order = np.concatenate([np.arange(len(x))[first::count] for first in range(count)])
    options = {"moving": moving, "renorm": renorm}
    y, state = train(x, statistics=Ghost(size, strided=True), sample_weight=weights, **options)
    x, weights = x[order], weights[order]
    check(train(x, statistics=Ghost(size), sample_weight=weights, **options), (y[order], state))


HIDDEN = st.sampled_from([0.0, 1e30, np.inf, np.nan])


@QUICK
@given(SEEDS, st.integers(0, 3), st.integers(1, 2), HIDDEN, MOVING, RENORMS)
def test_a_hidden_group_changes_nothing(
    seed: int, place: int, size: int, value: float, moving: Any, renorm: Any
) -> None:
    x, options = quarters(seed, 3 * size), {"moving": moving, "renorm": renorm}
    rows = np.r_[0 : place * size, [-1] * size, place * size : 3 * size]
    mask = rows >= 0
    more = np.where(mask[:, None, None], x[rows], np.float32(value))
    for ghost in (None, Ghost(size)):
        y, state = train(more, mask=mask, statistics=ghost, **options)
        check((y[mask], state), train(x, statistics=ghost, **options))


@QUICK
@given(SEEDS, st.lists(st.integers(1, 5), min_size=1, max_size=5), st.booleans())
def test_cumulative_is_the_mean_over_all_batches(seed: int, sizes: Any, unbiased: bool) -> None:
    batches = [quarters(seed + index, rows) for index, rows in enumerate(sizes)]
    state = started(0)
    for x in batches:
        _, state = train(x, state, moving=Cumulative(unbiased=unbiased))
    means = [x.mean((0, 1)) for x in batches]
    variances = [x.var((0, 1), ddof=int(unbiased)) for x in batches]
    assert_close(state["moving_mean"], np.mean(means, 0), 1e-5)
    assert_close(state["moving_variance"], np.mean(variances, 0), 1e-5)
    assert state["step"] == len(sizes)


@QUICK
@given(st.floats(-1e6, 1e6, width=32), st.floats(0.0, 0.9990234375), st.sampled_from([0.0, 7.0]))
def test_zero_debiased_of_a_constant_is_that_constant(
    value: float, momentum: float, initial: float
) -> None:
    state = started(0) | {"moving_mean": np.full(2, initial, "float32")}
    state["moving_variance"] = np.ones(2, "float32")
    for _ in range(4):
        _, state = train(np.full((2, 1, 2), value, "float32"), state, moving=ZeroDebiased(momentum))
        # The old value may leave its rounding error.
        assert_close(state["moving_mean"], np.full(2, value), 1e-6 if initial else 0)
        assert_close(state["moving_variance"], np.zeros(2), 1e-12)


def test_zero_debiasing_keeps_its_promise() -> None:
    draw = np.random.default_rng(0)
    layer, peer = BatchNormalization(moving=ZeroDebiased(0.99)), keras.layers.BatchNormalization()
    unseen, *batches = tensors([*draw.normal(3.0, 0.1, (101, 16_384, 1))], "float32")
    for x in batches:
        layer(x, training=True)
        peer(x, training=True)
        assert abs(to_numpy(layer(unseen)).mean()) < 0.05
    assert abs(to_numpy(peer(unseen)).mean() - 1.8) < 0.1


@pytest.mark.parametrize(
    ("step", "rmax", "dmax"),
    [(0, 1, 0), (5e3, 1, 0), (15e3, 11 / 7, 2.5), (25e3, 15 / 7, 5), (40e3, 3, 5), (50e3, 3, 5)],
)
def test_the_schedule_of_the_paper(step: float, rmax: float, dmax: float) -> None:
    paper: Any = Renorm.paper()
    assert_close(to_numpy(paper.rmax(step)), rmax, 1e-6)
    assert_close(to_numpy(paper.dmax(step)), dmax, 1e-6)
    assert paper.rmin is None


CLASSES = 4
LABELS = st.lists(st.integers(0, CLASSES - 1), min_size=6, max_size=6).map(
    lambda labels: np.array(labels, "int32")
)
SHARES = SEEDS.map(
    lambda seed: np.random.default_rng(seed).dirichlet(np.ones(CLASSES), 6).astype("float32")
)
CONDITIONS = LABELS | SHARES


def rows(seed: int) -> tuple[Array, Array]:
    """Tables of gamma and beta."""
    gamma, beta = np.random.default_rng(seed).integers(-8, 8, (2, CLASSES, 2)) / 4
    return gamma.astype("float32"), beta.astype("float32")


def trained(layer: Any, x: Array, gamma: Array, beta: Array, condition: Any = None) -> Any:
    """Trains a step; returns (y, state), and the gradients of sum(y * cos(x)) in gamma and beta."""
    layer.build(x.shape)
    values = started()
    for variable in layer.non_trainable_variables:
        variable.assign(values[variable.name])
    state = [variable.value for variable in layer.non_trainable_variables]
    x_, g = tensors([x, np.cos(x)])
    options = {} if condition is None else {"condition": tensors([condition])[0]}

    def forward(*weights: Any) -> Any:
        return layer.stateless_call(weights, state, x_, training=True, **options)

    weights = tensors([gamma, beta])
    y, new = forward(*weights)
    slopes = gradients(lambda *weights: ops.sum(forward(*weights)[0] * g), *weights)
    names = [variable.name for variable in layer.non_trainable_variables]
    after = dict(zip(names, map(to_numpy, new), strict=True))
    return (to_numpy(y), after), [to_numpy(gradient) for gradient in slopes]


@QUICK
@given(SEEDS, CONDITIONS, st.permutations(range(CLASSES)), MOVING, RENORMS, GHOSTS)
def test_the_order_of_the_classes_does_not_matter(
    seed: int, condition: Array, order: Any, moving: Any, renorm: Any, ghost: Any
) -> None:
    x, (gamma, beta) = quarters(seed, 6), rows(seed)
    options = {"moving": moving, "renorm": renorm or False, "statistics": ghost}
    layers = (ConditionalBatchNormalization(CLASSES, **options) for _ in range(2))
    expected, slopes = trained(next(layers), x, gamma, beta, condition)
    labels = condition.ndim == 1
    moved = np.argsort(order)[condition].astype("int32") if labels else condition[:, order]
    actual, moved_slopes = trained(next(layers), x, gamma[order], beta[order], moved)
    # A lookup is the same to the last bit; a sum over the classes has another order.
    check(actual, expected, 0 if labels else 1e-5)
    for value, slope in zip(moved_slopes, slopes, strict=True):
        assert_close(value, slope[order], 1e-5)


@QUICK
@given(SEEDS, CONDITIONS, MOVING, RENORMS, GHOSTS)
def test_classes_that_are_alike_are_none(
    seed: int, condition: Array, moving: Any, renorm: Any, ghost: Any
) -> None:
    x, (gamma, beta) = quarters(seed, 6), rows(seed)
    options = {"moving": moving, "renorm": renorm or False, "statistics": ghost}
    alike, same = (np.repeat(table[:1], CLASSES, 0) for table in (gamma, beta))
    layer = ConditionalBatchNormalization(CLASSES, **options)
    actual, slopes = trained(layer, x, alike, same, condition)
    expected, plain = trained(BatchNormalization(**options), x, gamma[0], beta[0])
    check(actual, expected)
    for value, slope in zip(slopes, plain, strict=True):
        assert_close(value.sum(0), slope, 1e-4)


@QUICK
@given(SEEDS, CONDITIONS, st.permutations(range(6)), MOVING, RENORMS)
def test_the_order_of_samples_with_conditions_does_not_matter(
    seed: int, condition: Array, order: Any, moving: Any, renorm: Any
) -> None:
    x, tables = quarters(seed, 6), rows(seed)
    options = {"moving": moving, "renorm": renorm or False}
    layers = (ConditionalBatchNormalization(CLASSES, **options) for _ in range(2))
    (y, state), slopes = trained(next(layers), x, *tables, condition)
    actual, moved_slopes = trained(next(layers), x[order], *tables, condition[order])
    check(actual, (y[order], state))
    for value, slope in zip(moved_slopes, slopes, strict=True):
        assert_close(value, slope, 1e-4)


def traced(function: Function, mode: str) -> Any:
    """Compiles the function once for all batch sizes, where the backend can do that."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec([None, 5, 3]), tf.TensorSpec([None, 5])]
        return tf.function(function, input_signature=signature, jit_compile=mode == "xla")
    if BACKEND == "torch":
        import torch

        torch.compiler.reset()
        return torch.compile(function, backend="aot_eager", dynamic=True, fullgraph=True)
    return compiled(function, mode)


@pytest.mark.parametrize("mode", {"torch": ("compile",)}.get(BACKEND, MODES[1:]))
@pytest.mark.parametrize(("strided", "weighted"), [(False, False), (True, True)])
def test_a_batch_of_any_size(mode: str, strided: bool, weighted: bool) -> None:
    state = {"moving_mean": np.zeros(3), "moving_variance": np.ones(3)}
    variables = dict(zip(state, tensors([*state.values()], "float32"), strict=True))

    def forward(x: Any, weights: Any) -> Any:
        own = weights if weighted else None
        ghost, moving = Ghost(4, strided), Exponential(0.9, unbiased=True)
        return batch_norm(
            x, variables, training=True, statistics=ghost, moving=moving, sample_weight=own
        )

    step = traced(forward, mode)
    for rows in (8, 10, 3, 0):
        draw = np.random.default_rng(rows)
        x, w = draw.normal(1.5, 2.0, (rows, 5, 3)), draw.uniform(0.0, 2.0, (rows, 5))
        options = {"weights": w if weighted else None, "ghost": (4, strided), "rate": 0.1}
        expected = oracle.step(x, state, **options, unbiased=True)
        y, new, dx = with_gradient(step, *tensors([x, w], "float32"))
        assert_close(to_numpy(y), expected.y, 1e-5)
        for name, value in expected.state.items():
            assert_close(to_numpy(new[name]), value, 1e-5)
        exact = oracle.step_gradients(x, np.cos(expected.y), state, **options)
        assert_close(to_numpy(dx), exact[0], 1e-5)
    assert BACKEND != "tensorflow" or step.experimental_get_tracing_count() == 1


def with_gradient(step: Function, x: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Returns the results of a step, and the gradient of sum(sin(y)) in x."""
    if BACKEND != "torch":
        loss = lambda x: ops.sum(ops.sin(step(x, weights)[0]))  # noqa: E731
        return *step(x, weights), gradients(loss, x)[0]
    y, new = step(x.requires_grad_(), weights)
    y.sin().sum().backward()  # compiled, it cannot be differentiated twice
    return y.detach(), new, x.grad
