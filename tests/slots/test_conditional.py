"""Conditional layers in models: fitted, frozen, shared, in pure functions."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import (
    BatchNormalization,
    ConditionalBatchNormalization,
    Cumulative,
    FromEmbedding,
    Ghost,
    Given,
    batch_norm,
)
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, MODES, Array, compiled, gradients, tensors, to_numpy

CLASSES, CHANNELS = 4, 3


def drawn() -> tuple[Array, Array, Array]:
    """Inputs, labels of which 2 does not occur, and targets."""
    draw = np.random.default_rng(0)
    x = draw.normal(3.0, 2.0, (8, 5, CHANNELS)).astype("float32")
    target = draw.normal(size=x.shape).astype("float32")
    return x, np.array([0, 1, 3, 1, 3, 3, 0, 1], "int32"), target


def ours() -> keras.Model:
    inputs, labels = keras.Input((5, CHANNELS)), keras.Input((), dtype="int32")
    return keras.Model(
        [inputs, labels],
        ConditionalBatchNormalization(CLASSES, momentum=0.5)(inputs, labels),
    )


def by_hand() -> keras.Model:
    """The same model from other layers: a plain one, and dense layers of one-hot rows."""
    inputs, rows = keras.Input((5, CHANNELS)), keras.Input((CLASSES,))
    y = keras.layers.BatchNormalization(center=False, scale=False, momentum=0.5)(inputs)
    joins = {"gamma": keras.layers.Multiply(), "beta": keras.layers.Add()}
    for (name, join), start in zip(joins.items(), ("ones", "zeros"), strict=True):
        dense = keras.layers.Dense(CHANNELS, use_bias=False, kernel_initializer=start, name=name)
        y = join([y, keras.layers.Reshape((1, CHANNELS))(dense(rows))])
    return keras.Model([inputs, rows], y)


def fitted(model: keras.Model, condition: Array) -> dict[str, Array]:
    """The weights by name after two steps of Adam."""
    x, _, target = drawn()
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit([x, condition], target, batch_size=4, epochs=1, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 2
    paths = {variable.path.removesuffix("/kernel"): variable for variable in model.variables}
    return {path.split("/")[-1]: to_numpy(variable) for path, variable in paths.items()}


def test_fit() -> None:
    _, labels, _ = drawn()
    result = fitted(ours(), labels)
    expected = fitted(by_hand(), np.eye(CLASSES, dtype="float32")[labels])
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(result[name], value, 1e-5)
    # A class that does not occur learns nothing, and the others do.
    moved = [abs(result["gamma"] - 1.0), abs(result["beta"])]
    for item in moved:
        assert (item[2] == 0).all() and (item[[0, 1, 3]] > 1e-3).all()


def test_a_fitted_model_predicts() -> None:
    model, (x, labels, _) = ours(), drawn()
    fitted(model, labels)
    gamma, beta, mean, variance = map(to_numpy, model.variables)
    expected = (x - mean) / np.sqrt(variance + 1e-3) * gamma[labels, None] + beta[labels, None]
    assert_close(model.predict([x, labels], batch_size=3, verbose=0), expected, 1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["labels", "mixtures", "vectors"])
def test_a_stateless_call(kind: str, mode: str) -> None:
    """It is what `fit` on JAX compiles: the layer's variables stay, the new values come out."""
    x, labels, target = drawn()
    draw, moving = np.random.default_rng(1), Cumulative()
    layer: Any = ConditionalBatchNormalization(CLASSES, moving=moving)
    condition = draw.dirichlet(np.ones(CLASSES), 8).astype("float32")
    if kind == "vectors":
        layer = BatchNormalization(affine=FromEmbedding(), moving=moving)
    elif kind == "labels":
        condition = labels
    layer.build(x.shape, condition.shape)
    for variable in layer.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    weights, state = layer.trainable_variables, layer.non_trainable_variables
    values = [[variable.value for variable in item] for item in (weights, state)]
    before = [to_numpy(variable) for variable in layer.variables]
    x_, condition_, target_ = tensors([x, condition, target])

    def step(weights: list[Any], state: list[Any], x: Any, condition: Any) -> Any:
        def loss(*weights: Any) -> Any:
            return ops.sum(forward(weights)[0] * target_)

        def forward(weights: Any) -> Any:
            return layer.stateless_call(weights, state, x, condition=condition, training=True)

        return *forward(weights), gradients(loss, *weights)

    y, new, result = compiled(step, mode)(*values, x_, condition_)
    for variable, value in zip(layer.variables, before, strict=True):
        assert_close(to_numpy(variable), value, 0)
    gamma, beta = map(to_numpy, weights)
    parts = np.eye(CLASSES)[labels] if kind == "labels" else condition
    normal = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-3)
    scale = (1.0 if kind == "vectors" else 0.0) + parts @ gamma
    assert_close(to_numpy(y), normal * scale[:, None] + (parts @ beta)[:, None], 1e-5)
    sums = [(target * normal).sum(1), target.sum(1)]
    for actual, expected in zip(result, sums, strict=True):
        assert_close(to_numpy(actual), parts.T @ expected, 1e-5)
    assert_close(to_numpy(new[0]), x.mean((0, 1)), 1e-5)
    assert_close(to_numpy(new[1]), x.var((0, 1)), 1e-5)
    assert int(new[2]) == 1
    y = layer(x_, condition=condition_, training=True)
    for variable, value in zip(state, new, strict=True):
        assert_close(to_numpy(variable), to_numpy(value), 1e-6)


def test_frozen() -> None:
    x, labels, target = drawn()
    model = ours()
    (layer,) = (item for item in model.layers if isinstance(item, BatchNormalization))
    layer.trainable = False
    before = model.get_weights()
    y = model([x, labels], training=True)
    assert_close(to_numpy(y), to_numpy(model([x, labels])), 0)
    for value, old in zip(model.get_weights(), before, strict=True):
        assert_close(value, old, 0)
    assert not model.trainable_variables


def test_layers_share_an_embedding() -> None:
    """As in BigGAN: one table of vectors, and matrices of each layer's own."""
    inputs, labels = keras.Input((5, CHANNELS)), keras.Input((), dtype="int32")
    vectors = keras.layers.Embedding(CLASSES, 6)(labels)
    slot = FromEmbedding()
    y = BatchNormalization(affine=slot)(inputs, condition=vectors)
    y = BatchNormalization(affine=slot)(keras.layers.ReLU()(y), condition=vectors)
    model = keras.Model([inputs, labels], y)
    x, numbers, target = drawn()
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit([x, numbers], target, batch_size=4, epochs=1, shuffle=False, verbose=0)
    assert len(before) == 1 + 2 * 4
    old_embeddings = before[0]
    for value, old in zip(model.get_weights(), before, strict=True):
        assert np.abs(value - old).max() > 1e-3
    (row,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Embedding))
    # Two layers have a gradient for the vectors of the classes that occur.
    moved = np.abs(to_numpy(row.embeddings) - old_embeddings).max(-1)
    assert (moved > 1e-3).tolist() == [True, True, False, True]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "axis"), [((6, 4, 5, 3), -1), ((6, 3, 4), 1)])
def test_second_derivatives_of_maps(shape: tuple[int, ...], axis: int, training: bool) -> None:
    """The gradient in x is linear in the scale: its derivatives there are those of any scale."""
    draw = np.random.default_rng(0)
    x, dy, v, scale, other = draw.normal(1.5, 2.0, (5, *shape)).astype("float32")
    state = {name: np.full(3, start) for name, start in (("mean", 0.5), ("variance", 4.0))}
    state = {f"moving_{name}": value.astype("float32") for name, value in state.items()}

    x_, dy_, v_, scale_ = tensors([x, dy, v, scale])

    def loss(x: Any, scale: Any) -> Any:
        y, _ = batch_norm(x, state, scale, training=training, axis=axis, statistics=Ghost(4))
        return ops.sum(y * dy_)

    def along(scale: Any, x: Any) -> Any:
        return ops.sum(gradients(lambda x: loss(x, scale), x)[0] * v_)

    mode = "jit" if BACKEND == "jax" else "eager"
    result = to_numpy(
        compiled(lambda s, x: gradients(lambda s: along(s, x), s)[0], mode)(scale_, x_)
    )
    for gamma in (scale, other):
        options: dict[str, Any] = {"axis": axis, "training": training, "ghost": (4, False)}
        dx = oracle.step_gradients(x, dy, state, gamma, **options)[0]
        assert_close((result * gamma.astype("float64")).sum(), (dx * v).sum(), 1e-4)


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile is PyTorch's")
@pytest.mark.parametrize("kind", ["spectral", "maps"])
def test_torch_compile(kind: str) -> None:
    """Spectral normalization in the layer; and a map with a number beside it."""
    x, _, _ = drawn()
    slot = FromEmbedding(3, bias=True, spectral_normalization=True)
    layer = BatchNormalization(affine=slot if kind == "spectral" else Given())
    condition: Any = tensors([x])[0], 0.5
    if kind == "spectral":
        condition = tensors([np.random.default_rng(1).normal(size=(8, 3)).astype("float32")])[0]
    layer.build(x.shape, (8, 3))
    before = layer.get_weights()

    def train(x: Any) -> Any:
        return layer(x, condition=condition, training=True)

    y = to_numpy(train(*tensors([x])))
    after = layer.get_weights()
    layer.set_weights(before)
    assert_close(to_numpy(compiled(train, "compile")(*tensors([x]))), y, 1e-5)
    for value, expected in zip(layer.get_weights(), after, strict=True):
        assert_close(value, expected, 1e-5)
