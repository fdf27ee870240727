"""The kernel for JAX against float64 NumPy: eager, compiled and under JAX's transformations."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from keras import ops

from batchnorm import Ghost, Renorm, batch_norm
from batchnorm.kernels import choose, reference
from batchnorm.kernels.kernel import Call
from batchnorm.stages.affine import Affine
from batchnorm.stages.moments import Moments
from batchnorm.stages.plan import plan_of
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, compiled, gradients, precision, tensors, to_numpy
from tests.test_ranges import check_sums

if BACKEND != "jax":
    pytest.skip("the kernel of JAX", allow_module_level=True)

import jax
from jax import numpy as jnp

from batchnorm.kernels.jax import cpu as kernel

MODES = ("eager", "jit")
LARGE = (0.0, 1.0, 2.0, 1e2, 1e4, 1e6, -123456.7)
# One channel far from zero puts all of them on the slow path.
MIXED_MEANS = (0.0, 1e4)


def draw_arrays(
    shape: tuple[int, ...], axis: int = -1, mean: Any = 0.5, seed: int = 0
) -> list[Array]:
    """x, dy, gamma, beta, the moving mean and the moving variance, as float32 holds them."""
    random = np.random.default_rng(seed)
    channels = shape[axis]
    values = [random.normal(size=shape) + mean, random.normal(size=shape)]
    values += [random.normal(1, 0.3, channels), random.normal(size=channels)]
    values += [random.normal(size=channels), random.uniform(0.5, 2, channels)]
    return [value.astype("float32") for value in values]


def train(x: Any, *affine: Any, axis: int = -1, weights: Any = None) -> tuple[Any, Moments]:
    facts = plan_of(x.shape, axis, x.dtype.name)
    channels = x.shape[axis]
    prior = (jnp.zeros(channels), jnp.ones(channels))
    return kernel.train(facts, Call(x, Affine(*affine), 1e-3, prior, weights))


def step(mode: str, x: Any, dy: Any, *affine: Any, **options: Any) -> tuple[Any, ...]:
    """y, the moments, and the gradients of sum(y * dy)."""

    def run(x: Any, dy: Any, *affine: Any) -> tuple[Any, ...]:
        y, pull, moments = jax.vjp(lambda *a: train(*a, **options), x, *affine, has_aux=True)
        return y, moments, pull(dy.astype(y.dtype))

    result: tuple[Any, ...] = compiled(run, mode)(x, dy, *affine)
    return result


def check(mode: str, arrays: list[Array], axis: int = -1, tolerance: float = 1e-5) -> None:
    x, dy, gamma, beta = arrays[:4]
    y, moments, actual_gradients = step(mode, *tensors([x, dy, gamma, beta]), axis=axis)
    expected = oracle.batch_norm(x, gamma, beta, axis=axis)
    assert_close(to_numpy(y), expected.y, tolerance)
    assert_close(to_numpy(moments.mean), expected.mean, 1e-6)
    assert_close(to_numpy(moments.variance), expected.variance, 1e-5)
    for actual, exact in zip(
        actual_gradients, oracle.gradients(x, dy, gamma, axis=axis), strict=True
    ):
        assert_close(to_numpy(actual), exact, tolerance)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *(((9, 3), -1), ((9, 1), -1), ((2, 3), 0), ((7, 4, 3), 1), ((7, 4, 3), -1)),
        *(((4, 5, 6, 1), -1), ((4, 3, 5, 6), 1), ((4, 5, 6, 3), -1)),
        *(((2, 3, 4, 5, 6), -1), ((2, 3, 4, 5, 6), 1)),
    ],
)
def test_layouts(shape: tuple[int, ...], axis: int, mode: str) -> None:
    check(mode, draw_arrays(shape, axis), axis)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mean", [*LARGE, MIXED_MEANS], ids=str)
@pytest.mark.parametrize("shape", [(512, 2), (16, 32, 32, 2)])
def test_large_means(shape: tuple[int, ...], mean: Any, mode: str) -> None:
    check(mode, draw_arrays(shape, mean=mean))


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *(((16, 15, 17, 1), -1), ((16, 1, 15, 17), 1), ((30, 30, 3), -1), ((4095, 1), -1)),
        *(((4097, 1), -1), ((31, 3, 31), 1), ((8193, 1), -1), ((5000, 3, 2), 1)),
    ],
)
def test_where_xla_would_add_in_sequence(shape: tuple[int, ...], axis: int) -> None:
    """Below 4,096 elements without an axis above 32, and on both sides of our own bound."""
    check_sums(shape, (axis % len(shape),))


@pytest.mark.parametrize("kind", ["rows", "weights", "ghosts"])
def test_where_xla_would_add_in_sequence_what_is_not_plain(kind: str) -> None:
    shape = (16, 15, 17, 1)
    x, dy = (a + np.float32(1.9) for a in draw_arrays(shape, mean=0)[:2])
    state = {"moving_mean": np.zeros(1), "moving_variance": np.ones(1)}
    random = np.random.default_rng(2)
    rows, gamma = random.normal(size=(2, 16, 1)), draw_arrays(shape)[2:4]
    affine = rows.astype("float32") if kind == "rows" else gamma
    weights = random.uniform(0.2, 0.3, shape[:3]) if kind == "weights" else None
    slots: dict[str, Any] = {"statistics": Ghost(12)} if kind == "ghosts" else {}
    state_tensors = {name: jnp.asarray(value, "float32") for name, value in state.items()}

    def run(x: Any, dy: Any, weights: Any, *affine: Any) -> Any:
        call = lambda x, *a: batch_norm(  # noqa: E731
            x, state_tensors, *a, training=True, sample_weight=weights, **slots
        )
        y, pull, _ = jax.vjp(call, x, *affine, has_aux=True)
        return y, pull(dy)

    w = None if weights is None else jnp.asarray(weights, "float32")
    y, actual_gradients = jax.jit(run)(*tensors([x, dy]), w, *tensors([*affine]))
    options = {"weights": weights, "ghost": (12, False) if kind == "ghosts" else None}
    assert_close(to_numpy(y), oracle.step(x, state, *affine, **options).y, 1e-5)
    expected_gradients = oracle.step_gradients(x, dy, state, *affine, **options)
    for actual, exact in zip(actual_gradients, expected_gradients, strict=True):
        assert exact is not None
        scale = np.abs(exact).max() if exact.ndim > 1 else np.sqrt((dy**2).sum())
        assert_close(to_numpy(actual) / scale, exact / scale, 1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("index", [0, -1])
def test_an_outlier(index: int, mode: str) -> None:
    arrays = draw_arrays((16, 16, 16, 2))
    arrays[0][index, index] = 1e8
    check(mode, arrays)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.0, 0.1, 4096.1, -1e6])
def test_constants(value: float, mode: str) -> None:
    x = np.full((6, 4, 4, 2), value, "float32")
    y, moments, _ = step(mode, *tensors([x, *draw_arrays(x.shape)[1:4]]))
    assert_close(to_numpy(y), np.broadcast_to(draw_arrays(x.shape)[3], x.shape), 1e-5)
    assert_close(to_numpy(moments.variance), np.zeros(2), 1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_dtypes(dtype: str, mode: str) -> None:
    with precision(dtype):
        arrays = draw_arrays((6, 4, 5, 3), mean=20.0)
        x = ops.cast(ops.convert_to_tensor(arrays[0]), dtype)
        gamma, beta = tensors(arrays[2:4], "float64" if dtype == "float64" else "float32")
        y, moments = compiled(train, mode)(x, gamma, beta)
        exact = to_numpy(ops.cast(x, y.dtype))
        expected = oracle.batch_norm(exact, arrays[2], arrays[3])
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        assert_close(to_numpy(y), expected.y, tolerance)
        assert_close(to_numpy(moments.mean), expected.mean, tolerance)
        assert y.dtype == moments.variance.dtype == plan_of(x.shape, -1, dtype).moments_dtype
        if dtype != "int32":
            _, _, (dx, *_) = step(mode, x, ops.convert_to_tensor(arrays[1]), gamma, beta)
            exact_dx = oracle.gradients(exact, arrays[1], arrays[2]).dx
            assert dx.dtype == x.dtype
            # Its terms cancel: a sum in half precision would have a larger error.
            rounding = {"float16": 5e-4, "bfloat16": 4e-3, "float64": 1e-12}[dtype]
            assert_close(to_numpy(ops.cast(dx, y.dtype)), exact_dx, rounding)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mean", [0.5, 1e6, MIXED_MEANS + (0.0,)], ids=str)
@pytest.mark.parametrize(
    ("shape", "axis"), [((9, 3), -1), ((5, 4, 6, 3), -1), ((5, 3, 4, 6), 1), ((3, 2, 4, 2, 3), -1)]
)
def test_rows(shape: tuple[int, ...], axis: int, mean: Any, mode: str) -> None:
    """A scale and a shift for each sample."""
    mean = np.reshape(mean, [-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    x, dy = draw_arrays(shape, axis, mean)[:2]
    random = np.random.default_rng(3)
    rows = random.normal(size=(2, shape[0], shape[axis])).astype("float32")
    y, _, actual_gradients = step(mode, *tensors([x, dy, *rows]), axis=axis)
    state = {"moving_mean": np.zeros(shape[axis]), "moving_variance": np.ones(shape[axis])}
    assert_close(to_numpy(y), oracle.step(x, state, *rows, axis=axis).y, 1e-5)
    expected_gradients = oracle.step_gradients(x, dy, state, *rows, axis=axis)
    for actual, exact in zip(actual_gradients, expected_gradients, strict=True):
        assert exact is not None
        assert_close(to_numpy(actual), exact, 1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mean", [0.5, 1e6], ids=str)
@pytest.mark.parametrize("hidden", [0.0, 1e13, 1e30, np.inf, np.nan])
@pytest.mark.parametrize("sizes", [(6, 1, 1, 1), (6, 4, 5, 1), (1, 4, 1, 1)])
def test_weights(sizes: tuple[int, ...], hidden: float, mean: float, mode: str) -> None:
    x, dy, gamma, beta = draw_arrays((6, 4, 5, 3), mean=mean)[:4]
    weights = np.random.default_rng(4).integers(0, 3, sizes).astype("float32")
    weights[0, 0] = 0
    out = np.broadcast_to(weights == 0, x.shape)
    x[out] += np.float32(hidden)
    dy[out] = 0  # hidden outputs are normalized inputs, or zero
    y, moments, actual_gradients = step(
        mode, *tensors([x, dy, gamma, beta]), weights=jnp.asarray(weights)
    )
    position_weights = np.broadcast_to(weights, (*x.shape[:-1], 1))[..., 0]
    expected = oracle.batch_norm(x, gamma, beta, weights=position_weights)
    assert np.isfinite(to_numpy(y)).all() or hidden < np.inf
    assert_close(to_numpy(y)[~out], expected.y[~out], 1e-5)
    assert_close(to_numpy(moments.count), position_weights.sum(), 1e-6)
    assert_close(to_numpy(moments.mean), expected.mean, 1e-6)
    assert_close(to_numpy(moments.variance), expected.variance, 1e-5)
    expected_gradients = oracle.gradients(np.where(out, 0, x), dy, gamma, weights=position_weights)
    for actual, exact in zip(actual_gradients, expected_gradients, strict=True):
        exact = np.where(out, 0, exact) if exact.ndim > 1 else exact
        actual = np.where(out, 0, to_numpy(actual)) if exact.ndim > 1 else to_numpy(actual)
        assert_close(actual, exact, 1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_no_weight_is_the_prior(mode: str) -> None:
    x, _, gamma, beta, mean, variance = tensors(draw_arrays((4, 5, 3)))
    facts = plan_of(x.shape, -1, "float32")
    call = Call(x, Affine(gamma, beta), 1e-3, (mean, variance))
    run = compiled(lambda x, w: kernel.train(facts, call._replace(x=x, weights=w)), mode)
    y, moments = run(x, jnp.zeros((4, 1, 1)))
    expected = reference.infer(facts, x, mean, variance, Affine(gamma, beta), 1e-3)
    assert_close(to_numpy(y), to_numpy(expected), 1e-6)
    assert float(moments.count) == 0


def test_gradients_by_weights() -> None:
    x, dy, gamma, beta = tensors(draw_arrays((6, 4, 3), mean=1e4)[:4])
    weights = jnp.asarray(np.random.default_rng(5).uniform(0.5, 2, (6, 4, 1)).astype("float32"))
    prior, facts = (jnp.zeros(3), jnp.ones(3)), plan_of(x.shape, -1, "float32")

    def loss(module: Any, weights: Any) -> Any:
        y, _ = module.train(facts, Call(x, Affine(gamma, beta), 1e-3, prior, weights))
        return jnp.sum(y * dy)

    actual, expected = (
        jax.grad(loss, argnums=1)(module, weights) for module in (kernel, reference)
    )
    assert_close(to_numpy(actual), to_numpy(expected), 1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{"ghost": (3, False)}, {"ghost": (4, True)}, {}], ids=str)
@pytest.mark.parametrize("limits", [None, (0.5, 2.0, 1.0)])
def test_ghost_and_renorm(options: dict[str, Any], limits: Any, mode: str) -> None:
    x, dy, gamma, beta, mean, variance = draw_arrays((8, 4, 5, 3))
    state = {"moving_mean": mean, "moving_variance": variance}
    slots: dict[str, Any] = {}
    if limits:
        state |= {"moving_stddev": variance, "renorm_mean": mean, "renorm_stddev": variance}
        slots["renorm"] = Renorm(*limits)
        options = options | {"renorm": (*limits, 0.01)}
    if "ghost" in options:
        slots["statistics"] = Ghost(*options["ghost"])
    state_tensors = {name: jnp.asarray(value) for name, value in state.items()}

    def run(x: Any, dy: Any, *affine: Any) -> Any:
        call = lambda x, *a: batch_norm(x, state_tensors, *a, training=True, **slots)  # noqa: E731
        y, pull, new = jax.vjp(call, x, *affine, has_aux=True)
        return y, new, pull(dy)

    y, new, actual_gradients = compiled(run, mode)(*tensors([x, dy, gamma, beta]))
    expected = oracle.step(x, state, gamma, beta, **options)
    assert_close(to_numpy(y), expected.y, 1e-5)
    for name, value in new.items():
        assert_close(to_numpy(value), expected.state[name], 1e-5)
    expected_gradients = oracle.step_gradients(x, dy, state, gamma, beta, **options)
    for actual, exact in zip(actual_gradients, expected_gradients, strict=True):
        assert exact is not None
        assert_close(to_numpy(actual), exact, 1e-5)


def test_what_is_left_to_the_reference() -> None:
    for shape in ((0, 3), (None, 3), (4, 0, 3)):
        assert not kernel.supports(plan_of(shape, -1, "float32"))
    x, y = jnp.zeros((0, 4, 3)), plan_of((0, 4, 3), -1, "float32")
    assert choose(y) is reference
    assert choose(plan_of((4, 3), -1, "float32")) is kernel
    state = {"moving_mean": jnp.zeros(3), "moving_variance": jnp.ones(3)}
    assert batch_norm(x, state, training=True)[0].shape == x.shape


@pytest.mark.parametrize("mode", MODES)
def test_nan_is_seen_in_the_moments_and_overflow_too(mode: str) -> None:
    for bad in (np.nan, np.inf, 1e30):
        x = draw_arrays((8, 4, 3))[0]
        x[1, 2, 0] = bad
        _, moments = compiled(train, mode)(jnp.asarray(x), 1.0, 0.0)
        finite = np.isfinite([to_numpy(moments.mean), to_numpy(moments.variance)]).all(0)
        assert finite.tolist() == [False, True, True]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "expected"), [(1e20, 0.0), (1e30, np.nan)])
def test_what_overflows_is_as_in_the_reference(size: float, expected: float, mode: str) -> None:
    """A training that diverges shows it in its loss."""
    x = jnp.asarray(draw_arrays((8, 4, 3), mean=0)[0] * np.float32(size))
    prior = (jnp.zeros(3), jnp.ones(3))
    for module in (kernel, reference):
        run = functools.partial(module.train, plan_of(x.shape, -1, "float32"))
        y, _ = compiled(lambda x, run=run: run(Call(x, Affine(), 1e-3, prior)), mode)(x)
        assert_close(to_numpy(y), np.full(x.shape, expected), 0)


def scalar(dy: Any, weights: Any = None) -> Callable[..., Any]:
    # Its second derivatives do not vanish, as those of a sum by dy would in gamma.
    return lambda *a: jnp.sum(jnp.tanh(train(*a, weights=weights)[0]) * dy)


def plain(dy: Any, weights: Any = None) -> Callable[..., Any]:
    """Returns the same function, computed by the reference."""

    def loss(x: Any, *affine: Any) -> Any:
        facts, channels = plan_of(x.shape, -1, "float32"), x.shape[-1]
        prior = (jnp.zeros(channels), jnp.ones(channels))
        y, _ = reference.train(facts, Call(x, Affine(*affine), 1e-3, prior, weights))
        return jnp.sum(jnp.tanh(y) * dy)

    return loss


TRANSFORMED: dict[str, Callable[..., Any]] = {
    "jvp": lambda f, a, t: jax.jvp(f, a, t)[1],
    "linearize": lambda f, a, t: jax.linearize(f, *a)[1](*t),
    "grad": lambda f, a, t: jax.grad(f, (0, 1, 2))(*a),
    "jvp of grad": lambda f, a, t: jax.jvp(jax.grad(f, (0, 1, 2)), a, t)[1],
    "grad of jvp": lambda f, a, t: jax.grad(lambda *a: jax.jvp(f, a, t)[1], (0, 1, 2))(*a),
    "grad of grad": lambda f, a, t: jax.vjp(jax.grad(f, (0, 1, 2)), *a)[1](t),
    "third": lambda f, a, t: jax.jvp(lambda *b: jax.jvp(jax.grad(f, (0, 1, 2)), b, t)[1], a, t)[1],
    "checkpoint": lambda f, a, t: jax.grad(jax.checkpoint(f), (0, 1, 2))(*a),
}


@pytest.mark.parametrize(("mode", "mean"), [("eager", 0.5), ("jit", 30.0)])
@pytest.mark.parametrize("kind", ["plain", "rows", "weights"])
@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations(name: str, kind: str, mode: str, mean: float) -> None:
    """They agree with the reference, near zero and far from it."""
    x, dy, gamma, beta = tensors(draw_arrays((6, 4, 3), mean=mean)[:4])
    if kind == "rows":
        gamma, beta = (value * jnp.arange(1, 7)[:, None] / 3 for value in (gamma, beta))
    weights = jnp.arange(6.0)[:, None, None] if kind == "weights" else None
    arguments = (x, gamma, beta)
    random = np.random.default_rng(6)
    tangents = tuple(tensors([random.normal(size=a.shape) for a in arguments], "float32"))
    outputs, references = (
        compiled(functools.partial(TRANSFORMED[name], function, t=tangents), mode)(arguments)
        for function in (scalar(dy, weights), plain(dy, weights))
    )
    for actual, expected in zip(jax.tree.leaves(outputs), jax.tree.leaves(references), strict=True):
        assert_close(to_numpy(actual), to_numpy(expected), 1e-4 if name == "third" else 2e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weighted", [False, True])
def test_vmap_of_the_gradient(weighted: bool, mode: str) -> None:
    """Each example takes its own path, near zero or far from it."""
    means = np.reshape([0.0, 1e6, 1.0, -50.0], (4, 1, 1, 1))
    x, dy = (np.stack([v] * 4) for v in draw_arrays((6, 4, 3))[:2])
    x = (x + means).astype("float32")
    gamma, beta = draw_arrays((6, 4, 3))[2:4]
    sample_weights = np.arange(6.0, dtype="float32") if weighted else None
    weights = None if sample_weights is None else jnp.asarray(sample_weights)[:, None, None]

    def run(x: Any, dy: Any) -> Any:
        y, pull = jax.vjp(lambda x: train(x, gamma, beta, weights=weights)[0], x)
        return y, pull(dy)[0]

    y, dx = compiled(jax.vmap(run), mode)(x, dy)
    for index in range(4):
        expected = oracle.batch_norm(x[index], gamma, beta, weights=sample_weights)
        assert_close(to_numpy(y)[index], expected.y, 1e-5)
        expected_dx = oracle.gradients(x[index], dy[index], gamma, weights=sample_weights).dx
        assert_close(to_numpy(dx)[index], expected_dx, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["plain", "rows", "weights"])
def test_x_is_the_only_large_residual(kind: str, dtype: str) -> None:
    x, _, gamma, beta = tensors(draw_arrays((6, 8, 8, 3))[:4])
    x = x.astype(dtype)
    if kind == "rows":
        gamma, beta = (jnp.broadcast_to(value, (6, 3)) for value in (gamma, beta))
    weights = jnp.ones((6, 8, 8, 1)) if kind == "weights" else None
    _, pull = jax.vjp(lambda *a: train(*a, weights=weights)[0], x, gamma, beta)
    residuals = {id(leaf): leaf for leaf in jax.tree.leaves(pull) if leaf.size >= x.size}
    (only,) = residuals.values()
    if dtype == "float32":  # half precision saves a copy in the dtype of the arithmetic
        assert only.unsafe_buffer_pointer() == x.unsafe_buffer_pointer()


@pytest.mark.parametrize("kind", ["plain", "rows", "weights"])
def test_a_compiled_step_stores_nothing_as_large_as_x(kind: str) -> None:
    x, dy, gamma, beta = tensors(draw_arrays((16, 32, 32, 8))[:4])
    if kind == "rows":
        gamma, beta = (jnp.broadcast_to(value, (16, 8)) for value in (gamma, beta))
    weights = jnp.ones((16, 1, 1, 1)) if kind == "weights" else None

    def run(x: Any, dy: Any, gamma: Any, beta: Any, weights: Any) -> Any:
        y, pull = jax.vjp(lambda *a: train(*a, weights=weights)[0], x, gamma, beta)
        return y, pull(dy)

    analysis: Any = jax.jit(run).lower(x, dy, gamma, beta, weights).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < x.nbytes


def test_the_penalty_of_a_gradient_has_one() -> None:
    x, dy, gamma, beta = tensors(draw_arrays((6, 4, 3))[:4])
    penalty = lambda x: jnp.sum(gradients(scalar(dy), x, gamma, beta)[0] ** 2)  # noqa: E731
    expected = lambda x: jnp.sum(gradients(plain(dy), x, gamma, beta)[0] ** 2)  # noqa: E731
    assert_close(to_numpy(jax.grad(penalty)(x)), to_numpy(jax.grad(expected)(x)), 1e-5)
