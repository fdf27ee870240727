"""The layer under PyTorch's transformations: all rows of the table in docs/layer.md."""

import copy
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import (
    BatchNormalization,
    Cumulative,
    FromEmbedding,
    Ghost,
    Given,
    PerClass,
    Renorm,
    SpectralNormalization,
    ZeroDebiased,
    batch_norm,
)
from batchnorm.slots.old_renorm import OldRenorm
from batchnorm.slots.schedule import Ramp
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import to_numpy

if keras.backend.backend() != "torch":
    pytest.skip("transformations of PyTorch", allow_module_level=True)

import torch
from torch.func import grad, jacrev, jvp, vmap

# PyTorch 2.13 itself warns: its compiler uses torch.jit.script, and makes an autograd.Function.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Options = dict[str, Any]
Tensor = torch.Tensor

SHAPE = (10, 4, 3)
RENORM = Renorm(rmin=0.0, momentum=0.5)
HIDDEN = {"mask": torch.zeros(10)}
FIRST_GROUP = {"mask": torch.arange(10) >= 4}
WEIGHTS = {"sample_weight": torch.linspace(0, 2, 10)}
LABELS = {"condition": torch.arange(10) % 3}
VECTORS = {"condition": torch.linspace(-1, 1, 20).reshape(10, 2)}
PAIR = {"condition": (torch.linspace(0.5, 1.5, 30).reshape(10, 3), torch.ones(3))}
RAMPS = Renorm(rmax=Ramp(1.0, 3.0, 0, 4), dmax=Ramp(0.0, 5.0, 0, 4), momentum=0.5)
# A layer's arguments, and those of its calls.
SLOTS: dict[str, tuple[Options, Options]] = {
    "plain": ({}, {}),
    "weights": ({}, WEIGHTS),
    "hidden": ({}, HIDDEN),
    "renorm": ({"renorm": RENORM}, {}),
    "renorm, weights": ({"renorm": RENORM}, WEIGHTS),
    "renorm, hidden": ({"renorm": RENORM}, HIDDEN),
    "old renorm": ({"renorm": OldRenorm(rmax=3.0, dmax=1.0, momentum=0.5)}, {}),
    "renorm by steps": ({"renorm": RAMPS, "momentum": Ramp(0.5, 0.9, 0, 3)}, {}),
    "ghost, hidden group": ({"statistics": Ghost(4)}, FIRST_GROUP),
    "strided ghost, renorm": ({"statistics": Ghost(4, True), "renorm": RENORM}, WEIGHTS),
    "zero-debiased": ({"moving": ZeroDebiased(0.5), "renorm": RENORM}, {}),
    "cumulative": ({"moving": Cumulative()}, WEIGHTS),
    "labels": ({"affine": PerClass(3), "renorm": RENORM}, LABELS),
    "vectors": ({"affine": FromEmbedding(2), "renorm": RENORM}, VECTORS),
    "given": ({"affine": Given(), "renorm": RENORM}, PAIR),
    "axes": ({"axis": (1, 2), "renorm": RENORM}, {}),
    "float64": ({"renorm": RENORM, "dtype": "float64"}, {}),
}
needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="Inductor needs a C++ compiler"
)


def drawn(seed: int, shape: tuple[int, ...] = SHAPE, mean: float = 0.0) -> Tensor:
    values = np.random.default_rng(seed).normal(mean, 1, shape)
    return torch.tensor(values.astype("float32"))


def layer_of(options: Options, call: Options) -> Any:
    """A layer whose state and parameters differ from each other and from their start."""
    layer = BatchNormalization(name="layer", **options)
    condition = call.get("condition")
    layer.build(SHAPE, None if condition is None or type(condition) is tuple else condition.shape)
    for seed, variable in enumerate(layer.weights):
        if variable.dtype != "int32":
            variable.assign(np.random.default_rng(seed).uniform(0.5, 2, variable.shape))
    return layer


def gradients(layer: Any, ys: list[Tensor], x: Tensor) -> list[Tensor]:
    """Returns the gradients of the sum of the outputs in x and the parameters."""
    loss = torch.stack([(y * drawn(7 + place)).sum() for place, y in enumerate(ys)]).sum()
    leaves = [x, *(variable.value for variable in layer.trainable_variables)]
    return list(torch.autograd.grad(loss, leaves))


def check_calls(
    name: str,
    wrap: Callable[[Any], Any] = lambda function: function,
    modes: tuple[bool, ...] = (False, True, True),
) -> None:
    """An inference call, two training calls and a later one, then one backward pass.

    The gradients equal those of calls that are followed by one backward pass each.
    """
    options, call = SLOTS[name]
    x = drawn(0, mean=1.0).requires_grad_()
    layer = layer_of(options, call)
    expected: list[Any] = []
    for place, training in enumerate(modes):
        y = layer(x * (place + 1), training=training, **call)
        loss = (y * drawn(7 + place)).sum()
        leaves = [x, *(variable.value for variable in layer.trainable_variables)]
        expected.append([y.detach(), *torch.autograd.grad(loss, leaves)])
    state = [variable.value.clone() for variable in layer.non_trainable_variables]

    layer = layer_of(options, call)

    def run_calls(x: Tensor) -> list[Tensor]:
        return [layer(x * (n + 1), training=mode, **call) for n, mode in enumerate(modes)]

    ys = wrap(run_calls)(x)
    for variable, value in zip(layer.non_trainable_variables, state, strict=True):
        assert_close(variable.value, value, 1e-5)
    layer(x.detach() * 7 + 1, training=True, **call)
    for y, (alone, *_) in zip(ys, expected, strict=True):
        assert_close(y.detach(), alone, 2e-5)
    sums = [sum(parts) for parts in zip(*(results[1:] for results in expected), strict=True)]
    for actual, right in zip(gradients(layer, ys, x), sums, strict=True):
        size = float(right.abs().max()) + 1e-30
        assert_close(actual / size, right / size, 2e-5)


class TestCalls:
    """No call changes the tensors that an earlier one saved for its backward pass."""

    @pytest.mark.parametrize("name", SLOTS)
    def test_eager(self, name: str) -> None:
        check_calls(name)

    def test_a_layer_that_is_shared_and_kept_in_inference(self) -> None:
        layer = layer_of({}, {})
        x = drawn(0).requires_grad_()
        first, frozen = layer(x), layer(layer(x))
        for _ in range(3):
            layer(drawn(1), training=True)
        (dx,) = torch.autograd.grad((first + frozen).sum(), x)
        fresh = layer_of({}, {})
        (expected,) = torch.autograd.grad((fresh(x) + fresh(fresh(x))).sum(), x)
        assert_close(dx, expected, 1e-6)

    def test_inference_without_gradients_copies_nothing(self) -> None:
        layer = layer_of({}, {})
        with torch.no_grad(), torch.autograd.profiler.profile() as profile:
            layer(drawn(0))
        assert "aten::clone" not in {event.key for event in profile.key_averages()}
        with torch.autograd.profiler.profile() as profile:
            layer(drawn(0))
        assert "aten::clone" in {event.key for event in profile.key_averages()}


class TestCompile:
    """torch.compile: y, gradients and state are those of eager code."""

    # Inductor's partition into a forward and a backward graph, without its minutes of compilation.
    def test_the_partition_of_inductor(self) -> None:
        torch.compiler.reset()
        partition = functools.partial(torch.compile, backend="aot_eager_decomp_partition")
        check_calls("renorm", partition, modes=(True,))

    @pytest.mark.slow
    @pytest.mark.filterwarnings("default")
    @needs_a_compiler
    @pytest.mark.parametrize("name", SLOTS)
    def test_inductor(self, name: str) -> None:
        torch.compiler.reset()
        check_calls(name, torch.compile)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("default")
    @needs_a_compiler
    def test_spectral_normalization(self) -> None:
        check_spectral("inductor")

    @pytest.mark.slow
    @pytest.mark.filterwarnings("default")
    @needs_a_compiler
    @pytest.mark.parametrize("mean", [0.0, 2.9, 1e6])
    @pytest.mark.parametrize("shape", [(257, 3), (4096, 2), (64, 7, 7, 3), (16, 15, 17, 1)])
    def test_inductor_keeps_the_digits(self, shape: tuple[int, ...], mean: float) -> None:
        torch.compiler.reset()
        layer = BatchNormalization()
        layer.build(shape)
        x = drawn(0, shape, mean)
        x = (x.relu() if mean == 0 else x).requires_grad_()
        dy = drawn(1, shape)
        y = torch.compile(lambda x: layer(x, training=True))(x)
        (dx,) = torch.autograd.grad((y * dy).sum(), x)
        assert_close(y.detach(), oracle.batch_norm(x.detach()).y, 1e-5)
        exact = oracle.gradients(x.detach(), dy).dx
        size = np.abs(exact).max(tuple(range(len(shape) - 1)))
        assert_close(to_numpy(dx) / size, exact / size, 1e-5)


def check_spectral(backend: str) -> None:
    torch.compiler.reset()
    x, dy = drawn(0, (5, 4)), drawn(1, (5, 3))
    slopes = []
    for compiled in (False, True):
        dense = keras.layers.Dense(3)
        layer: Any = SpectralNormalization(dense)
        layer.build((5, 4))
        dense.kernel.assign(drawn(2, (4, 3)))
        layer.u.assign(np.eye(3)[0])
        call = functools.partial(layer, training=True)
        y = (torch.compile(call, backend=backend) if compiled else call)(x)
        layer(x, training=True)
        (slope,) = torch.autograd.grad((y * dy).sum(), dense.kernel.value)
        slopes.append(slope)
    assert_close(slopes[1], slopes[0], 1e-5)


def values(layer: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The trainable and the other variables' values, for `stateless_call`."""
    trainable = [variable.value for variable in layer.trainable_variables]
    return trainable, [variable.value for variable in layer.non_trainable_variables]


class TestFunctional:
    """torch.func."""

    CASES = ("weights", "hidden", "renorm, weights", "ghost, hidden group", "labels", "vectors")

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("name", CASES)
    def test_gradients(self, name: str, training: bool) -> None:
        options, call = SLOTS[name]
        layer = layer_of(options, call)
        trainable, state = values(layer)
        x, dy = drawn(0), drawn(1)

        def output(x: Tensor, *trainable: Tensor) -> Tensor:
            y: Tensor = layer.stateless_call(trainable, state, x, training=training, **call)[0]
            return y

        def loss(x: Tensor, *trainable: Tensor) -> Tensor:
            return (output(x, *trainable) ** 2 * dy).sum()

        leaf = x.clone().requires_grad_()
        right = torch.autograd.grad(loss(leaf, *trainable), [leaf, *trainable])
        every = tuple(range(len(right)))
        for actual, expected in zip(grad(loss, every)(x, *trainable), right, strict=True):
            assert_close(actual.detach(), expected, 2e-5)
        tangents = tuple(drawn(3 + n, tuple(v.shape)) for n, v in enumerate((x, *trainable)))
        along = sum((a * b).sum() for a, b in zip(right, tangents, strict=True))
        slope = jvp(loss, (x, *trainable), tangents)[1].detach()
        assert_close(slope / 100, along / 100, 2e-5)
        rows = jacrev(lambda x: (output(x, *trainable) ** 2 * dy).sum((1, 2)))(x)
        assert_close(rows.sum(0).detach(), right[0], 2e-5)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
    def test_vmap_over_masks(self, dtype: torch.dtype) -> None:
        x, state = drawn(0), {"moving_mean": torch.zeros(3), "moving_variance": torch.ones(3)}
        masks = (drawn(1, (4, 10)) > 0).to(dtype)
        call = lambda mask: batch_norm(x, state, training=True, mask=mask)  # noqa: E731
        ys, states = vmap(call)(masks)
        for place, mask in enumerate(masks):
            expected = oracle.batch_norm(x, None, None, 0.0, 1.0, weights=mask)
            assert_close(ys[place], expected.y, 1e-5)
            assert_close(states["moving_mean"][place], expected.moving_mean * np.ones(3), 1e-5)

    def test_negative_weights_give_nan(self) -> None:
        x, state = drawn(0), {"moving_mean": torch.zeros(3), "moving_variance": torch.ones(3)}
        weights = torch.stack([torch.ones(10), -torch.ones(10)])
        call = lambda w: batch_norm(x, state, training=True, sample_weight=w)[0]  # noqa: E731
        assert torch.isnan(vmap(call)(weights)).all((1, 2, 3)).tolist() == [False, True]

    @pytest.mark.parametrize("mixed", [False, True])
    def test_vmap_over_labels(self, mixed: bool) -> None:
        layer = layer_of({"affine": PerClass(3)}, LABELS)
        trainable, state = values(layer)
        labels = torch.stack([LABELS["condition"], LABELS["condition"].flip(0)])
        conditions = torch.eye(3)[labels] if mixed else labels

        def call(condition: Tensor) -> Tensor:
            options = {"condition": condition, "training": True}
            y: Tensor = layer.stateless_call(trainable, state, drawn(0), **options)[0]
            return y

        for actual, condition in zip(vmap(call)(conditions), conditions, strict=True):
            assert_close(actual.detach(), call(condition).detach(), 1e-5)

    def test_labels_out_of_range_give_nan(self) -> None:
        layer = layer_of({"affine": PerClass(3)}, LABELS)
        labels = torch.stack([LABELS["condition"], LABELS["condition"] - 1])
        y = vmap(lambda condition: layer(drawn(0), condition=condition))(labels)
        assert torch.isnan(y[1]).all((1, 2)).tolist() == (labels[1] < 0).tolist()
        assert not torch.isnan(y[0]).any()

    def test_assigning_is_refused_by_pytorch(self) -> None:
        layer = layer_of({}, {})
        with pytest.raises(RuntimeError, match="mutate a captured Tensor"):
            grad(lambda x: layer(x, training=True).sum())(drawn(0))


class Module(torch.nn.Module):
    """A layer with a training mode, for torch.export."""

    def __init__(self, layer: Any, training: bool) -> None:
        super().__init__()
        self.layer, self.mode = layer, training

    def forward(self, x: Tensor, call: Options) -> Tensor:
        y: Tensor = self.layer(x, training=self.mode, **call)
        return y


def check_export(name: str, training: bool, strict: bool) -> None:
    """Compares the program with the layer at other batch sizes, also with an incomplete ghost."""
    options, call = SLOTS[name]
    # A range makes PyTorch require a program that is valid for all of it.
    samples = torch.export.Dim("samples", min=2, max=64)

    def batch(value: Tensor) -> dict[int, Any]:
        return {0: samples} if len(value) == 10 else {}

    shapes = {
        key: tuple(map(batch, value)) if isinstance(value, tuple) else batch(value)
        for key, value in call.items()
    }
    exported, layer = layer_of(options, call), layer_of(options, call)
    x = drawn(0)
    program = torch.export.export(
        *(Module(exported, training), (x, call)), dynamic_shapes=(batch(x), shapes), strict=strict
    ).module()

    def cut(value: Any, size: int) -> Any:
        if isinstance(value, tuple):
            return tuple(cut(part, size) for part in value)
        return torch.cat([value, value])[:size] if len(value) == 10 else value

    for size in (16, 3, 7, 4):
        x = drawn(size, (size, *SHAPE[1:]), mean=1.0)
        arguments = {key: cut(value, size) for key, value in call.items()}
        y = program(x, arguments)
        assert_close(y.detach(), layer(x, training=training, **arguments).detach(), 2e-5)
    if training:  # the program has the exported layer's variables, by their shapes
        states = [
            sorted((v.detach().double().flatten().tolist() for v in module.parameters()), key=str)
            for module in (program, layer)
        ]
        for actual, expected in zip(*states, strict=True):
            assert_close(actual, expected, 2e-5)


class TestExport:
    """torch.export of calls with a batch of any size."""

    @pytest.mark.filterwarnings("default")
    @pytest.mark.parametrize("name", ["plain", "strided ghost, renorm"])
    def test_training(self, name: str) -> None:
        check_export(name, training=True, strict=False)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("default")
    @pytest.mark.parametrize("strict", [False, True])
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("name", [name for name in SLOTS if name != "float64"])
    def test_every_slot(self, name: str, training: bool, strict: bool) -> None:
        check_export(name, training, strict)

    @pytest.mark.filterwarnings("default")
    def test_inference_reads_the_state_where_it_is(self) -> None:
        program = torch.export.export(Module(layer_of({}, {}), False), (drawn(0), {}))
        names = {str(node.target) for node in program.graph.nodes}
        assert not {name for name in names if "cat" in name or "clone" in name or "copy" in name}


class TestAutocast:
    """torch.autocast: a float32 layer computes in float32, forward and backward."""

    @pytest.mark.parametrize("within", [False, True])
    @pytest.mark.parametrize("name", ["mixtures", "vectors", "weights"])
    def test_products(self, name: str, within: bool) -> None:
        self.check(name, within, compiled=False)

    def test_compiled_products(self) -> None:
        self.check("mixtures", within=True, compiled=True)

    def check(self, name: str, within: bool, compiled: bool) -> None:
        if name == "mixtures":
            options: Options = {"affine": PerClass(3)}
            call: Options = {"condition": torch.softmax(drawn(5, (10, 3)), -1)}
        else:
            options, call = SLOTS[name]
        layer, x = layer_of(options, call), drawn(0).requires_grad_()
        expected = layer(x, **call)
        right = gradients(layer, [expected], x)
        function: Callable[[Tensor], Tensor] = functools.partial(layer, **call)
        if compiled:
            torch.compiler.reset()
            function = torch.compile(function, backend="aot_eager")
        with torch.autocast("cpu", torch.bfloat16):
            y = function(x)
            actual_gradients = gradients(layer, [y], x) if within else []
        actual_gradients = actual_gradients or gradients(layer, [y], x)
        assert y.dtype == torch.float32
        assert_close(y.detach(), expected.detach(), 1e-6)
        for actual, exact in zip(actual_gradients, right, strict=True):
            assert_close(actual, exact, 1e-5)

    def test_products_can_be_transformed(self) -> None:
        from batchnorm.stages.product import product

        a, b = (drawn(n, s).double().requires_grad_() for n, s in enumerate(((4, 3), (3, 2))))
        with torch.autocast("cpu"):
            torch.autograd.gradcheck(product, (a, b), check_forward_ad=True)
            torch.autograd.gradgradcheck(product, (a, b))
            products = vmap(product, (0, None))(torch.stack([a, 2 * a]), b)
        assert_close(products[1].detach(), 2 * (a @ b).detach(), 1e-12)

    def test_the_dtype_is_that_of_keras(self) -> None:
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            x = drawn(0).to(dtype)
            with torch.autocast("cpu"):
                expected = keras.layers.BatchNormalization()(x, training=True)
                assert BatchNormalization()(x, training=True).dtype == expected.dtype


class TestElsewhere:
    """Gradients of gradients, forward mode, checkpoints, replicas and torch.jit."""

    @pytest.mark.parametrize("name", ["weights", "labels"])
    def test_gradients_of_gradients(self, name: str) -> None:
        options, call = SLOTS[name]
        options = {key: value for key, value in options.items() if key != "renorm"}
        layer = layer_of({**options, "dtype": "float64"}, call)
        x = drawn(0).double().requires_grad_()
        function = lambda x: layer(x, training=True, **call)[:2]  # noqa: E731
        torch.autograd.gradgradcheck(function, x, fast_mode=True)

    def test_forward_mode(self) -> None:
        from torch.autograd import forward_ad

        layer, x, tangent = layer_of({}, WEIGHTS), drawn(0).requires_grad_(), drawn(1)
        (dx,) = torch.autograd.grad((layer(x, training=True, **WEIGHTS) * drawn(2)).sum(), x)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x.detach(), tangent)  # type: ignore[no-untyped-call]
            y = layer(dual, training=True, **WEIGHTS)
            slope = forward_ad.unpack_dual(y).tangent  # type: ignore[no-untyped-call]
        assert_close((slope * drawn(2)).sum().detach(), (dx * tangent).sum(), 1e-5)

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_a_checkpoint_is_two_calls(self, reentrant: bool) -> None:
        from torch.utils.checkpoint import checkpoint

        layer, twin = layer_of({}, {}), layer_of({}, {})
        x = drawn(0).requires_grad_()
        y = checkpoint(lambda x: layer(x, training=True).tanh(), x, use_reentrant=reentrant)
        (y * drawn(1)).sum().backward()
        once = twin(x, training=True)
        (expected,) = torch.autograd.grad((once.tanh() * drawn(1)).sum(), x)
        assert_close(to_numpy(x.grad), expected, 1e-5)
        twin(x, training=True)
        assert_close(layer.moving_mean.value, twin.moving_mean.value, 1e-6)

    @pytest.mark.slow
    def test_distributed_data_parallel(self, tmp_path: Path) -> None:
        from torch import distributed

        layer, x = layer_of({}, {}), drawn(0).requires_grad_()
        twin = copy.deepcopy(layer)
        distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
        try:
            parallel = torch.nn.parallel.DistributedDataParallel(layer)
            parallel(drawn(1), training=False)
            (parallel(x, training=True) * drawn(2)).sum().backward()
        finally:
            distributed.destroy_process_group()
        (twin(x, training=True) * drawn(2)).sum().backward()
        assert_close(layer.gamma.value.grad, twin.gamma.value.grad, 1e-5)
        assert_close(layer.moving_mean.value, twin.moving_mean.value, 1e-6)

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    @pytest.mark.parametrize("name", ["plain", "labels"])
    def test_a_trace(self, name: str) -> None:
        options, call = SLOTS[name]

        class Inference(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer_of(options, call)

            def forward(self, x: Tensor, condition: Tensor) -> Any:
                return self.layer(x, **({"condition": condition} if call else {}))

        module, labels = Inference(), LABELS["condition"]
        traced = torch.jit.trace(module, (drawn(0), labels))  # type: ignore[no-untyped-call]
        x, other = drawn(1, (6, 4, 3)), labels[:6].flip(0)
        assert_close(traced(x, other).detach(), module(x, other).detach(), 1e-6)
        if call:
            wrong = traced(x, other - 1).detach()
            assert torch.isnan(wrong).all((1, 2)).tolist() == (other == 0).tolist()
