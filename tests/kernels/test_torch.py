"""PyTorch's kernel against the oracle, and what it leaves to the reference."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import Exponential, Ghost, Renorm, batch_norm
from batchnorm.kernels import choose, reference
from batchnorm.stages.plan import plan_of
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import to_numpy

if keras.backend.backend() != "torch":
    pytest.skip("the kernel of PyTorch", allow_module_level=True)

import torch
from torch.autograd import forward_ad

Array = Any
STATE = {"moving_mean": 0.25, "moving_variance": 1.5}
RENORM = STATE | {"moving_stddev": 1.2, "renorm_mean": 0.1, "renorm_stddev": 1.3}
LIMITS = Renorm(rmin=0.5, rmax=2.0, dmax=1.0, momentum=0.9)
PLAIN = {
    **{
        f"last {shape}": (shape, -1) for shape in ((6, 3), (5, 4, 3), (4, 3, 5, 2), (2, 3, 2, 3, 4))
    },
    **{f"first {shape}": (shape, 1) for shape in ((5, 3, 4), (4, 3, 5, 2), (2, 3, 2, 3, 4))},
    "axis 0": ((3, 5, 4), 0),
    "axis 0 of one": ((6,), 0),
    "axis 2 of 5": ((2, 3, 4, 5, 2), 2),
    "one value a channel": ((1, 7), -1),
    "one value a channel, first": ((1, 7, 1), 1),
    "one channel": ((6, 7, 7, 1), -1),
    "6 channels": ((32, 9, 9, 6), -1),
    "5 channels, a prime number of rows": ((1031, 5), -1),
    "70 channels": ((300, 7, 70), -1),
    "more than one piece": ((90, 40, 40, 16), -1),
    "more than one piece, first": ((90, 16, 40, 40), 1),
}
LARGE = (0.1, 3.5, 100.0, 1e6, -123456.7)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which the reference serves in the kernel's place."""

    def refused(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the reference was called")

    monkeypatch.setattr(reference, "train", refused)
    monkeypatch.setattr(reference, "infer", refused)


@pytest.fixture
def reference_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the reference's functions that were called, in order."""
    calls: list[str] = []
    for name in ("train", "infer"):

        def noted(*arguments: Any, name: str, function: Callable[..., Any], **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        function = getattr(reference, name)
        monkeypatch.setattr(reference, name, functools.partial(noted, name=name, function=function))
    return calls


def drawn(shape: tuple[int, ...], mean: float = 0.5, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(mean, 1, shape).astype("float32")


def check(
    x: Array | torch.Tensor,
    axis: int = -1,
    gamma: Array | None = None,
    beta: Array | None = None,
    dtype: str = "float32",
    tolerance: float = 1e-5,
    dy: Array | None = None,
    statistics: Ghost | None = None,
    renorm: Renorm | None = None,
    **weights: Array,
) -> None:
    """Output, state and gradients are the oracle's."""
    x = torch.as_tensor(x).to(getattr(torch, dtype))
    channels = x.shape[axis]
    gamma = drawn((channels,), 1.0, 1) if gamma is None else gamma
    beta = drawn((channels,), 0.0, 2) if beta is None else beta
    dy = drawn(tuple(x.shape), 0.1, 3) if dy is None else dy
    wide = "float64" if dtype == "float64" else "float32"
    state = {
        name: torch.full((channels,), value, dtype=getattr(torch, wide))
        for name, value in (STATE if renorm is None else RENORM).items()
    }
    leaves = [
        x.detach().requires_grad_(),
        *(torch.tensor(v, dtype=getattr(torch, wide)).requires_grad_() for v in (gamma, beta)),
    ]
    options: dict[str, Any] = {"axis": axis, "statistics": statistics, "renorm": renorm, **weights}
    moving = Exponential(0.9)
    y, new = batch_norm(leaves[0], state, *leaves[1:3], training=True, moving=moving, **options)
    actual_gradients = torch.autograd.grad(y, leaves, torch.tensor(dy).to(y.dtype))
    ghost = None if statistics is None else (statistics.size, statistics.strided)
    limits = None if renorm is None else (renorm.rmin, renorm.rmax, renorm.dmax, 0.1)
    exact: dict[str, Any] = {"axis": axis, "ghost": ghost, "renorm": limits, "rate": 0.1}
    exact["weights"] = next(iter(weights.values()), None)
    values = [to_numpy(value).astype("float64") for value in (leaves[0].double(), *leaves[1:])]
    initial_state = {name: to_numpy(value) for name, value in state.items()}
    step = oracle.step(values[0], initial_state, *values[1:], **exact)
    shown = np.isfinite(values[0])
    assert_close(np.where(shown, to_numpy(y), 0), np.where(shown, step.y, 0), tolerance)
    for name, value in step.state.items():
        assert_close(to_numpy(new[name]), value, tolerance)
    dy = np.where(shown, dy, 0)
    expected_gradients = oracle.step_gradients(values[0], dy, initial_state, *values[1:], **exact)
    # A sum is no more accurate than its terms, even where it cancels to 0.
    sizes = [1.0, *[max(1.0, 0.1 * float(np.abs(dy).sum()) / channels)] * 2]
    for actual, expected, size in zip(actual_gradients, expected_gradients, sizes, strict=True):
        assert expected is not None and actual.dtype in (x.dtype, getattr(torch, wide))
        size = max(size, float(np.abs(expected).max()))
        assert_close(to_numpy(actual.double()) / size, expected / size, tolerance)


def digits(x: Array, dy: Array) -> None:
    """Compares with the oracle: gradients relative to the sizes of their terms."""
    leaves = [torch.tensor(v).requires_grad_() for v in (x, drawn(x.shape[-1:], 1.0, 1))]
    leaves.append(torch.zeros(x.shape[-1]).requires_grad_())
    state = {"moving_mean": torch.zeros(x.shape[-1]), "moving_variance": torch.ones(x.shape[-1])}
    y, _ = batch_norm(leaves[0], state, *leaves[1:], training=True)
    actual_gradients = [to_numpy(v) for v in torch.autograd.grad(y, leaves, torch.tensor(dy))]
    gamma, axes = to_numpy(leaves[1]), tuple(range(x.ndim - 1))
    expected = oracle.batch_norm(x, gamma)
    assert_close(to_numpy(y), expected.y, 1e-5)
    exact = oracle.gradients(x, dy, gamma)
    # The terms of dx, which cancel where it is 0 but for rounding.
    parts = np.abs(dy).max(axes) * np.abs(gamma) / np.sqrt(expected.variance + 1e-3)
    size = np.maximum(np.abs(exact.dx).max(axes), 0.01 * parts)
    assert_close(actual_gradients[0] / size, exact.dx / size, 1e-5)
    dy = dy.astype("float64")
    for actual, right, terms in (
        (actual_gradients[1], exact.dgamma, dy * expected.y / gamma),
        (actual_gradients[2], exact.dbeta, dy),
    ):
        size = np.sqrt((terms**2).sum(axes)) + 1e-2 * np.abs(right)  # of a sum, its last digit
        assert_close(actual / size, right / size, 1e-5)


@pytest.mark.usefixtures("native")
class TestServed:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("name", PLAIN)
    def test_layouts(self, name: str, dtype: str) -> None:
        shape, axis = PLAIN[name]
        check(drawn(shape), axis, dtype=dtype, tolerance=1e-5 if dtype == "float32" else 1e-12)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision(self, dtype: str) -> None:
        check(drawn((32, 5, 5, 6)), dtype=dtype, tolerance=1e-3 if dtype == "float16" else 8e-3)

    @pytest.mark.parametrize("mean", LARGE)
    @pytest.mark.parametrize("name", ["last (4, 3, 5, 2)", "6 channels", "70 channels", "axis 0"])
    def test_large_means(self, name: str, mean: float) -> None:
        shape, axis = PLAIN[name]
        check(drawn(shape, mean), axis)

    @pytest.mark.parametrize("value", [0.09, 0.11, 4096.1, -1e6])
    @pytest.mark.parametrize("shape", [(8, 3), (64, 16, 16, 3), (3000, 40)])
    def test_constants(self, shape: tuple[int, ...], value: float) -> None:
        check(np.full(shape, value, "float32"))

    # 128 and 256 rows end a way to add, and so many rows of 4 channels a piece.
    @pytest.mark.parametrize("kind", ["relu", "2.9", "-123456.7", "tiny"])
    @pytest.mark.parametrize(
        "shape",
        [
            *((rows, 3) for rows in (127, 128, 129, 255, 256, 257, 4097)),
            *((257, 1), (64, 7, 7, 64), (4096, 40), (16, 15, 17, 1), (131_073, 4)),
        ],
    )
    def test_digits_around_thresholds(self, shape: tuple[int, ...], kind: str) -> None:
        x = drawn(shape, {"2.9": 2.9, "-123456.7": -123456.7}.get(kind, 0.0))
        x = {"relu": np.maximum(x, 0), "tiny": np.float32(1e-4) * (x + 3)}.get(kind, x)
        digits(x, drawn(shape, 0.0, 3))

    def test_one_mean_is_large(self) -> None:
        check(drawn((40, 9, 5)) + np.array([0, 1e6, 0, 0, 5], "float32"))

    @pytest.mark.parametrize("order", [(0, 3, 1, 2), (0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)])
    @pytest.mark.parametrize("axis", [1, -1])
    def test_orders_of_memory(self, order: tuple[int, ...], axis: int) -> None:
        x = torch.tensor(drawn((5, 4, 3, 6))).permute(order)
        check(x, axis)
        check(x[::2], axis)

    @pytest.mark.parametrize("axis", [1, -1])
    @pytest.mark.parametrize("mean", [0.5, 1e6])
    def test_weights(self, axis: int, mean: float) -> None:
        x, random = drawn((6, 5, 4, 5), mean), np.random.default_rng(5)
        check(x, axis, sample_weight=random.uniform(0.1, 2, 6).astype("float32"))
        inner = (5, 4) if axis == -1 else (4, 5)
        for shape in ((6, 1, 1), (6, *inner), (1, *inner), (6, inner[0], 1)):
            weights = random.integers(0, 3, shape).astype("float32")
            check(x, axis, sample_weight=weights)
        check(x[:, :, 0, 0], sample_weight=random.integers(0, 3, 6).astype("float32"))

    def test_hidden_values_that_are_not_finite(self) -> None:
        for value in (np.nan, np.inf, 1e30):
            for shape in ((5,), (5, 4)):
                mask, x = np.ones(shape, bool), drawn((5, 4, 3))
                mask[1], x[1] = False, value
                leaf = torch.tensor(x).requires_grad_()
                y = trained(leaf, mask=mask)
                expected = oracle.batch_norm(x, weights=mask)
                shown = np.broadcast_to(mask.reshape(5, -1, 1), x.shape)
                assert_close(to_numpy(y)[shown], expected.y[shown], 1e-5)
                dy = np.where(shown, drawn(x.shape, seed=1), 0).astype("float32")
                (dx,) = torch.autograd.grad(y, leaf, torch.tensor(dy))
                visible = np.where(shown, x, 0)
                exact = oracle.gradients(visible, dy, weights=mask).dx
                assert_close(to_numpy(dx)[shown], exact[shown], 1e-5)

    @pytest.mark.parametrize("axis", [1, 2, -1])
    @pytest.mark.parametrize("mean", [0.5, 1e6])
    def test_rows(self, axis: int, mean: float) -> None:
        x = drawn((6, 3, 4, 5), mean)
        rows = [drawn((6, x.shape[axis]), seed=seed) for seed in (1, 2)]
        check(x, axis, *rows)
        check(x, axis, None, rows[1])
        check(x, axis, rows[0], None, sample_weight=np.arange(6.0))
        check(x[:, 0, 0], -1, rows[0][:, :1] * np.ones((1, 5), "float32"), None)

    @pytest.mark.parametrize("axis", [1, -1])
    @pytest.mark.parametrize("mean", [0.5, 1e6])
    def test_renorm(self, axis: int, mean: float) -> None:
        check(drawn((6, 3, 4, 3), mean), axis, renorm=LIMITS)
        check(drawn((6, 3, 4, 3), mean), axis, drawn((6, 3)), renorm=LIMITS)

    @pytest.mark.parametrize("strided", [False, True])
    @pytest.mark.parametrize("size", [2, 4])
    @pytest.mark.parametrize("axis", [1, -1])
    @pytest.mark.parametrize("mean", [0.5, 1e6])
    def test_ghost(self, strided: bool, size: int, axis: int, mean: float) -> None:
        ghost, x = Ghost(size, strided), drawn((6, 3, 4, 3), mean)
        check(x, axis, statistics=ghost)
        check(x[:, :, 0, 0], -1, statistics=ghost)
        check(x, axis, drawn((6, 3)), statistics=ghost, renorm=LIMITS)
        weights = np.random.default_rng(5).integers(0, 3, (6, *np.delete(x.shape, [0, axis])))
        check(x, axis, drawn((6, 3)), statistics=ghost, sample_weight=weights)

    @pytest.mark.parametrize("channels", [1, 3, 8, 15])
    @pytest.mark.parametrize("positions", [7, 48, 49, 523, 600])
    @pytest.mark.parametrize("mean", [0.5, 1e6])
    def test_few_channels_of_samples(self, channels: int, positions: int, mean: float) -> None:
        x, random = drawn((6, positions, channels), mean), np.random.default_rng(5)
        rows = drawn((6, channels), 1.0, 1)
        check(x, -1, rows)
        check(x, -1, rows, statistics=Ghost(2), renorm=LIMITS)
        check(x, -1, rows, statistics=Ghost(4, True))
        check(x, sample_weight=random.integers(0, 3, 6) + 0.5)
        check(x, -1, rows, sample_weight=random.integers(0, 3, (6, positions)))
        check(x, statistics=Ghost(4), sample_weight=random.integers(0, 3, (6, positions)))

    def test_values_that_are_expanded(self) -> None:
        check(
            drawn((8, 3)), -1, np.broadcast_to(np.float32(2), 3), np.broadcast_to(np.float32(1), 3)
        )
        x = torch.tensor(drawn((8, 3)))
        state = {"moving_mean": torch.tensor(0.5), "moving_variance": torch.tensor(4.0)}
        expanded = {name: value.expand(3) for name, value in state.items()}
        y, _ = batch_norm(x, expanded, torch.tensor(3.0).expand(3), epsilon=0.0)
        assert_close(to_numpy(y), (to_numpy(x) - 0.5) / 2 * 3, 1e-6)

    @pytest.mark.parametrize("axis", [1, -1])
    @pytest.mark.parametrize("shape", [(6, 5, 4, 5), (64, 5, 9, 5)])
    def test_inference(self, shape: tuple[int, ...], axis: int) -> None:
        x, mean, variance = drawn(shape), drawn((5,)), 0.5 + drawn((5,)) ** 2
        state = {"moving_mean": torch.tensor(mean), "moving_variance": torch.tensor(variance)}
        for gamma in (drawn((5,)), drawn((shape[0], 5))):
            expected = oracle.step(x, state, gamma, axis=axis, training=False).y
            leaf = torch.tensor(x).requires_grad_()
            y = batch_norm(leaf, state, torch.tensor(gamma), axis=axis)[0]
            assert_close(to_numpy(y), expected, 1e-5)
            dx = torch.autograd.grad(y, leaf, torch.tensor(x))[0]
            exact = oracle.step_gradients(x, x, state, gamma, axis=axis, training=False)[0]
            assert_close(to_numpy(dx), exact, 1e-5)
            with torch.no_grad():
                y = batch_norm(leaf, state, torch.tensor(gamma), axis=axis)[0]
            assert_close(to_numpy(y), expected, 1e-5)

    @pytest.mark.parametrize("mean", [0.5, 1e6])
    @pytest.mark.parametrize("axis", [1, -1])
    @pytest.mark.parametrize("rows", [False, True])
    @pytest.mark.parametrize(
        "options",
        [{}, {"renorm": LIMITS}, {"statistics": Ghost(32)}, {"sample_weight": np.arange(64.0)}],
        ids=lambda options: "".join(options),
    )
    def test_only_x_is_kept(self, options: Any, axis: int, rows: bool, mean: float) -> None:
        x = torch.tensor(drawn((64, 6, 7, 6), mean)).requires_grad_()
        gamma = torch.ones((64, 6) if rows else 6).requires_grad_()
        state = {name: torch.full((6,), value) for name, value in RENORM.items()}
        saved: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            batch_norm(x, state, gamma, training=True, axis=axis, **options)
        small = x.nbytes // 16
        assert [key for key, size in saved.items() if size > small] == [x.data_ptr()]


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        *({}, {"renorm": LIMITS}, {"statistics": Ghost(2, True)}),
        *({"sample_weight": np.arange(5.0)}, {"sample_weight": np.ones((5, 2))}),
    ],
    ids=["plain", "renorm", "ghost", "samples", "elements"],
)
def test_second_derivatives(options: Any, axis: int, rows: bool) -> None:
    double = functools.partial(torch.tensor, dtype=torch.float64)
    x = double(drawn((5, 2, 2))).requires_grad_()
    affine = [
        double(drawn((5, 2) if rows else (2,), 1.0, seed)).requires_grad_() for seed in (1, 2)
    ]
    state = {name: torch.full((2,), value, dtype=torch.float64) for name, value in RENORM.items()}

    def y(x: torch.Tensor, *affine: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = batch_norm(x, state, *affine, training=True, axis=axis, **options)[0]
        return out

    def slope(x: torch.Tensor, *affine: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((y(x, *affine) ** 3).sum(), x, create_graph=True)[0]

    if "renorm" not in options:  # (r, d) are constants, but not for finite differences
        torch.autograd.gradcheck(y, (x, *affine))
        torch.autograd.gradgradcheck(slope, (x, *affine))
    # The scale may depend on x itself.
    of_x = functools.partial(y, x, x[:, :, 0] * affine[0], affine[1])
    first = torch.autograd.grad((of_x() ** 2).sum(), x, create_graph=True)[0]
    (plain,) = torch.autograd.grad((of_x() ** 2).sum(), x)
    assert_close(first.detach(), plain, 1e-12)


def fresh(shape: tuple[int, ...] = (3,)) -> dict[str, torch.Tensor]:
    return {"moving_mean": torch.zeros(shape), "moving_variance": torch.ones(shape)}


def trained(x: torch.Tensor, **options: Any) -> torch.Tensor:
    y: torch.Tensor = batch_norm(x, fresh(), training=True, **options)[0]
    return y


class TestLeft:
    """Calls that the kernel leaves to the reference."""

    x = torch.tensor(drawn((5, 4, 3)))

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
    @pytest.mark.parametrize(("axis", "shape"), [(-1, (3,)), ((1, 2), (1, 4, 3))], ids=str)
    def test_tracing(self, axis: Any, shape: tuple[int, ...], reference_calls: list[str]) -> None:
        def train(x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = batch_norm(x, fresh(shape), training=True, axis=axis)[0]
            return y

        traced = torch.jit.trace(train, self.x, check_trace=False)  # type: ignore[no-untyped-call]
        assert reference_calls == ["train"]
        other = drawn((7, 4, 3), 1e4)
        expected = oracle.batch_norm(other, axis=axis)
        assert_close(traced(torch.tensor(other)), expected.y, 1e-5)

    def test_compiling(self, reference_calls: list[str]) -> None:
        torch.compiler.reset()
        y = torch.compile(trained, backend="aot_eager", fullgraph=True)(self.x)
        assert_close(y, oracle.batch_norm(self.x).y, 1e-5)

    def test_functional_transformations(self, reference_calls: list[str]) -> None:
        y = torch.func.vmap(trained)(torch.stack([self.x, 2 * self.x]))
        assert_close(y[1], oracle.batch_norm(2 * self.x).y, 1e-5)
        dy = torch.tensor(drawn((5, 4, 3), seed=1))
        dx = torch.func.grad(lambda x: (trained(x) * dy).sum())(self.x)
        assert_close(dx, oracle.gradients(self.x, dy).dx, 1e-5)
        assert reference_calls == ["train"] * 2

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_forward_mode(self, reference_calls: list[str]) -> None:
        tangent, dy = torch.tensor(drawn((2, 5, 4, 3), seed=1))
        with torch.autograd.forward_ad.dual_level():
            y = trained(forward_ad.make_dual(self.x, tangent))  # type: ignore[no-untyped-call]
            slope = forward_ad.unpack_dual(y).tangent  # type: ignore[no-untyped-call]
        assert reference_calls == ["train"] and slope is not None
        expected = (oracle.gradients(self.x, dy).dx * to_numpy(tangent)).sum()
        assert_close((slope * dy).sum(), expected, 1e-5)

    def test_other_tensors(self, reference_calls: list[str]) -> None:
        class Own(torch.Tensor):
            pass

        y = trained(self.x.as_subclass(Own))
        assert isinstance(y, Own)
        assert_close(y.as_subclass(torch.Tensor), oracle.batch_norm(self.x).y, 1e-5)
        with keras.device("meta"):
            for training in (True, False):
                y = batch_norm(self.x, fresh(), training=training)[0]
                assert y.device.type == "meta" and y.shape == self.x.shape
        assert reference_calls == ["train", "train", "infer"]

    def test_an_empty_batch(self, reference_calls: list[str]) -> None:
        assert trained(self.x[:0]).shape == (0, 4, 3)
        assert reference_calls == ["train"]

    def test_values_that_are_not_finite(self, reference_calls: list[str]) -> None:
        x = drawn((40, 5, 3))
        x[3, 3, 1] = np.nan
        y, expected = to_numpy(trained(torch.tensor(x))), oracle.batch_norm(x).y
        assert np.isnan(y[..., 1]).all() and reference_calls == ["train"]
        assert_close(y[..., [0, 2]], expected[..., [0, 2]], 1e-5)

    def test_no_weight_at_all(self, reference_calls: list[str]) -> None:
        y = trained(self.x, mask=np.zeros(5, bool))
        assert_close(y, to_numpy(self.x) / np.sqrt(1.001), 1e-5)
        assert reference_calls == ["train"]

    def test_weights_of_channels_and_with_gradients(self, reference_calls: list[str]) -> None:
        weights = torch.ones(5).requires_grad_()
        mask = np.arange(60).reshape(5, 4, 3) % 7 > 0
        state = {"moving_mean": torch.zeros(4), "moving_variance": torch.ones(4)}
        y = batch_norm(self.x, state, training=True, axis=1, mask=mask[:, :, 0])[0]
        assert y.shape == self.x.shape
        (slope,) = torch.autograd.grad(trained(self.x, sample_weight=weights).pow(3).sum(), weights)
        assert float(slope.abs().max()) > 0.01
        assert reference_calls == ["train"] * 2

    def test_plans(self) -> None:
        assert choose(plan_of((5, 4, 3), (1, 2), "float32", "cpu", "eager")) is reference
        assert choose(plan_of((5, 4, 3), -1, "float32", "cpu", "compiled")) is reference
        assert choose(plan_of((5, 4, 3), -1, "float32", "cuda", "eager")) is reference
        assert choose(plan_of((5, 4, 3), -1, "float32", "cpu", "eager")) is not reference
