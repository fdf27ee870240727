"""Gradients of gradients, and each backend's transformations of functions."""

import shutil
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization, batch_norm
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, MODES, Array, compiled, gradients, tensors, to_numpy

SHAPE = (6, 4, 3)


def draw_arrays(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[Any, ...]:
    random = np.random.default_rng(seed)
    channels = shape[-1]
    return tuple(
        tensors(
            [
                random.normal(1, 2, shape),
                random.normal(size=shape),
                random.normal(1, 0.3, channels),
                random.normal(size=channels),
            ],
            "float32",
        )
    )


def normalize(x: Any, gamma: Any, beta: Any) -> Any:
    state = {"moving_mean": ops.zeros(3), "moving_variance": ops.ones(3)}
    return batch_norm(x, state, gamma, beta, training=True)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_of_a_gradient_penalty(mode: str) -> None:
    x, dy, gamma, beta = draw_arrays()

    def loss(x: Any, gamma: Any, beta: Any) -> Any:
        return ops.sum(normalize(x, gamma, beta)[0] * dy)

    def penalty(x: Any, gamma: Any, beta: Any) -> Any:
        return ops.sum(gradients(loss, x, gamma, beta)[0] ** 2)

    actual_gradients = gradients(compiled(penalty, mode), x, gamma, beta)
    exact = [to_numpy(value).astype("float64") for value in (x, dy, gamma)]

    def exact_penalty(x: Array, gamma: Array) -> float:
        return float(np.sum(oracle.gradients(x, exact[1], gamma).dx ** 2))

    for seed in range(3):
        random = np.random.default_rng(seed)
        direction, along = random.normal(size=SHAPE), random.normal(size=3)
        slopes = (
            oracle.finite_difference(
                lambda x: exact_penalty(x, exact[2]), exact[0], direction, 1e-5
            ),
            oracle.finite_difference(lambda g: exact_penalty(exact[0], g), exact[2], along, 1e-5),
        )
        assert_close(np.sum(to_numpy(actual_gradients[0]) * direction), slopes[0], 1e-4)
        assert_close(np.sum(to_numpy(actual_gradients[1]) * along), slopes[1], 1e-4)
    assert_close(to_numpy(actual_gradients[2]), np.zeros(3), 0)


@pytest.mark.skipif(BACKEND != "jax", reason="vmap and jvp are transformations of JAX")
class TestJax:
    def test_jvp_agrees_with_the_gradient(self) -> None:
        import jax

        x, dy, gamma, beta = draw_arrays()
        tangents = draw_arrays(1)
        _, forward = jax.jvp(
            lambda *a: ops.sum(normalize(*a)[0] * dy), (x, gamma, beta), tangents[:1] + tangents[2:]
        )
        exact = oracle.gradients(to_numpy(x), to_numpy(dy), to_numpy(gamma))
        pairs = zip(exact, tangents[:1] + tangents[2:], strict=True)
        assert_close(to_numpy(forward), sum(np.sum(g * to_numpy(t)) for g, t in pairs), 1e-5)

    def test_jvp_of_a_gradient(self) -> None:
        import jax

        x, dy, gamma, beta = draw_arrays()
        tangent = draw_arrays(1)[0]
        gradient = jax.grad(lambda x: ops.sum(normalize(x, gamma, beta)[0] * dy))
        _, forward = jax.jvp(gradient, (x,), (tangent,))
        _, pull = jax.vjp(gradient, x)
        # The Hessian is symmetric: forward over reverse is reverse over reverse.
        assert_close(to_numpy(forward), to_numpy(pull(tangent)[0]), 1e-5)

    def test_vmap_normalizes_each_alone(self) -> None:
        import jax

        x, _, gamma, beta = draw_arrays(0, (5, *SHAPE))
        y, state = jax.jit(jax.vmap(normalize, in_axes=(0, None, None)))(x, gamma, beta)
        for index in range(5):
            expected = oracle.batch_norm(to_numpy(x)[index], to_numpy(gamma), to_numpy(beta))
            assert_close(to_numpy(y)[index], expected.y, 1e-5)
            assert_close(to_numpy(state["moving_mean"])[index], expected.moving_mean, 1e-5)

    def test_vmap_of_the_gradient(self) -> None:
        import jax

        x, dy, gamma, beta = draw_arrays(0, (5, *SHAPE))
        loss = lambda x, dy: ops.sum(normalize(x, gamma, beta)[0] * dy)  # noqa: E731
        actual = jax.vmap(jax.grad(loss))(x, dy)
        for index in range(5):
            expected = oracle.gradients(*(to_numpy(v) for v in (x[index], dy[index], gamma)))
            assert_close(to_numpy(actual)[index], expected.dx, 1e-5)

    def test_what_backward_needs_is_one_array_like_x(self) -> None:
        import jax

        x, _, gamma, beta = draw_arrays()
        _, pull = jax.vjp(lambda x: normalize(x, gamma, beta)[0], x)
        saved = [leaf for leaf in jax.tree.leaves(pull) if leaf.size >= x.size]
        assert len({id(leaf) for leaf in saved}) == 1


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile and its saved tensors")
class TestTorch:
    @pytest.mark.parametrize("training", [True, False])
    def test_compile_with_a_dynamic_batch(self, training: bool) -> None:
        import torch

        layer = BatchNormalization(momentum=0.5)
        layer.build((None, 4, 3))
        torch.compiler.reset()
        function = torch.compile(
            lambda x: layer(x, training=training), backend="aot_eager", dynamic=True
        )
        mean, variance = np.zeros(3), np.ones(3)
        for rows in (6, 7, 8, 1):
            x = np.random.default_rng(rows).normal(1, 2, (rows, 4, 3)).astype("float32")
            expected = oracle.batch_norm(
                x, None, None, mean, variance, momentum=0.5, training=training
            )
            assert_close(to_numpy(function(torch.tensor(x))), expected.y, 1e-5)
            mean, variance = expected.moving_mean, expected.moving_variance
            assert_close(to_numpy(layer.moving_mean), mean, 1e-5)
            assert_close(to_numpy(layer.moving_variance), variance, 1e-5)

    @pytest.mark.parametrize("mean", [0.0, 1e6])
    def test_compile_is_one_graph_with_gradients(self, mean: float) -> None:
        x, dy, gamma, beta = draw_arrays()
        x = x + mean
        loss = compiled(lambda x, g, b: ops.sum(normalize(x, g, b)[0] * dy), "compile")
        exact = oracle.gradients(*(to_numpy(value) for value in (x, dy, gamma)))
        for actual, expected in zip(gradients(loss, x, gamma, beta), exact, strict=True):
            assert_close(to_numpy(actual), expected, 1e-5)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("default")
    @pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
    @pytest.mark.parametrize("mean", [0.0, 1e6, -123456.7])
    @pytest.mark.parametrize("shape", [(8192, 3), (65_521, 3), (16, 31, 29, 3), (8, 16_000, 3)])
    def test_inductor_keeps_the_digits(self, shape: tuple[int, ...], mean: float) -> None:
        import torch

        x = np.random.default_rng(0).normal(mean, 1, shape).astype("float32")
        torch.compiler.reset()
        state = {"moving_mean": torch.zeros(3), "moving_variance": torch.ones(3)}
        function = torch.compile(lambda x: batch_norm(x, state, training=True)[0])
        assert_close(to_numpy(function(torch.tensor(x))), oracle.batch_norm(x).y, 1e-5)

    @pytest.mark.parametrize("mask", [None, [True, True, False, True, True, True]])
    def test_a_custom_loop_hands_the_state_on(self, mask: Any) -> None:
        import torch

        x, dy, gamma, beta = draw_arrays()
        state: Any = {"moving_mean": torch.zeros(3), "moving_variance": torch.ones(3)}
        for _ in range(3):
            leaf = x.clone().requires_grad_()
            y, state = batch_norm(leaf * 2, state, gamma, beta, training=True, mask=mask)
            (y * dy).sum().backward()
            assert not state["moving_mean"].requires_grad

    def test_what_backward_needs_is_one_array_like_x(self) -> None:
        import torch

        x, _, gamma, beta = draw_arrays()
        saved: dict[int, int] = {}

        def pack(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y, _ = normalize(x.requires_grad_(), gamma, beta)
        assert sum(size >= x.nbytes for size in saved.values()) == 1
        assert y.requires_grad


@pytest.mark.skipif(BACKEND != "tensorflow", reason="jit_compile of a Keras model on TensorFlow")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_learns_the_statistics(jit_compile: bool) -> None:
    check_fit(jit_compile)


def test_fit_learns_the_statistics_by_default() -> None:
    check_fit("auto")


def check_fit(jit_compile: bool | str) -> None:
    x = np.random.default_rng(0).normal(3.0, 0.1, (64, 5)).astype("float32")
    model = keras.Sequential([keras.Input((5,)), BatchNormalization(momentum=0.0)])
    model.compile("sgd", "mse", jit_compile=jit_compile)
    model.fit(x, x, batch_size=64, epochs=1, shuffle=False, verbose=0)
    assert_close(to_numpy(model.layers[-1].moving_mean), x.mean(0), 1e-5)
    assert_close(to_numpy(model.layers[-1].moving_variance), x.var(0), 1e-5)
    assert model.evaluate(x, x, verbose=0) < 16
