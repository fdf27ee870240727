"""The layers of models of every kind, by the private names of the Keras that is installed."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from batchnorm import BatchNormalization, ZeroDebiased
from batchnorm.surgery.layers import layer_paths, layers, own_variables, preceding_layer


class Block(kl.Layer):
    """A layer with a weight of its own, and layers in attributes, a list and a dictionary."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = kl.Dense(3, name="dense")
        self.branches = [kl.Dense(3, name="left"), kl.Dense(3, name="right")]
        self.table = {"last": kl.ReLU(name="last")}

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.dense.build(shape)
        for branch in self.branches:
            branch.build((None, 3))

    def call(self, inputs: Any) -> Any:
        x = self.dense(inputs)
        return self.scale * self.table["last"](self.branches[0](x) + self.branches[1](x))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.block = Block(name="block")
        self.normalization = BatchNormalization(moving=ZeroDebiased(), name="normalization")
        self.head = kl.Dense(2, name="head")

    def build(self, shape: Any) -> None:
        self.block.build(shape)
        self.normalization.build((None, 3))
        self.head.build((None, 3))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.head(self.normalization(self.block(inputs), training=training))


def functional() -> Any:
    inputs = keras.Input((4,), name="inputs")
    x = kl.Dense(3, name="dense")(inputs)
    x = kl.ReLU(name="relu")(BatchNormalization(name="normalization")(x))
    return keras.Model(inputs, kl.Dense(2, name="head")(x), name="functional")


def subclassed() -> Any:
    model = Subclassed()
    model.build((None, 4))
    return model


def nested() -> Any:
    inner = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="dense")], name="inner")
    outer = keras.Sequential([inner, Block(name="block")], name="outer")
    inputs = keras.Input((4,), name="inputs")
    return keras.Model(inputs, kl.Dense(1, name="head")(outer(inputs)), name="nested")


def shared() -> tuple[Any, Any]:
    dense = kl.Dense(4, name="shared")
    first = keras.Sequential([keras.Input((4,)), dense], name="first")
    second = keras.Sequential([keras.Input((4,)), dense], name="second")
    inputs = keras.Input((4,), name="inputs")
    return keras.Model(inputs, first(inputs) + second(inputs), name="model"), dense


def paths(model: Any, closed: Any = ()) -> list[str]:
    return ["/".join(path) for _, path in layer_paths(model, closed)]


def names(model: Any) -> list[str]:
    return [layer.name for layer in layers(model)]


def test_the_layers_of_a_functional_model_are_in_its_order() -> None:
    model = functional()
    assert names(model)[:4] == ["functional", "inputs", "dense", "normalization"]
    assert paths(model, BatchNormalization) == [
        "",
        "inputs",
        "dense",
        "normalization",
        "relu",
        "head",
    ]


def test_the_layers_of_a_sequential_model_are_in_the_order_in_which_they_were_added() -> None:
    model = keras.Sequential(name="model")
    for name in ("c", "a", "b"):
        model.add(kl.Dense(2, name=name))
    assert names(model) == ["model", "c", "a", "b"]
    model.build((None, 4))
    assert [layer for layer in layers(model) if isinstance(layer, kl.Dense)] == model.layers


def test_the_layers_of_a_subclassed_model_are_those_of_attributes_lists_and_dictionaries() -> None:
    assert paths(subclassed(), BatchNormalization) == [
        "",
        "block",
        "block/dense",
        "block/left",
        "block/right",
        "block/last",
        "normalization",
        "head",
    ]


def test_the_paths_of_nested_models_name_the_models_on_the_way() -> None:
    listed = [path for path in paths(nested()) if "input" not in path.rpartition("/")[2]]
    assert listed == [
        "",
        "outer",
        "outer/inner",
        "outer/inner/dense",
        "outer/block",
        "outer/block/dense",
        "outer/block/left",
        "outer/block/right",
        "outer/block/last",
        "head",
    ]


def test_a_shared_layer_has_several_paths_and_is_listed_once() -> None:
    model, dense = shared()
    assert [path for layer, path in layer_paths(model) if layer is dense] == [
        ("first", "shared"),
        ("second", "shared"),
    ]
    assert sum(layer is dense for layer in layers(model)) == 1


@pytest.mark.parametrize("make", [functional, subclassed, nested, lambda: shared()[0]])
def test_the_layers_are_all_that_keras_knows(make: Callable[[], Any]) -> None:
    model = make()
    listed = layers(model)
    assert len(listed) == len({id(layer) for layer in listed})
    assert {id(layer) for layer in listed} == {id(layer) for layer in model._flatten_layers()}
    own = {id(variable) for layer in listed for variable in own_variables(layer)}
    assert own == {id(variable) for variable in model.weights}


def test_closed_layers_keep_what_is_in_them_to_themselves() -> None:
    model = subclassed()
    assert "block/dense" not in paths(model, (Block, BatchNormalization))
    inside = [path for path in paths(model) if path.startswith("normalization/")]
    assert inside  # the counter of steps
    assert set(paths(model)) - set(paths(model, BatchNormalization)) == set(inside)


def test_own_variables_are_those_of_no_layer_within() -> None:
    model = subclassed()
    assert own_variables(model) == []
    assert [variable.name for variable in own_variables(model.block)] == ["scale"]
    assert [variable.name for variable in own_variables(model.head)] == ["kernel", "bias"]


def test_the_preceding_layer_of_a_functional_model_is_that_of_its_graph() -> None:
    model = functional()
    by_name = {layer.name: layer for layer in layers(model)}
    assert preceding_layer(by_name["normalization"]) is by_name["dense"]
    assert preceding_layer(by_name["head"]) is by_name["relu"]
    assert preceding_layer(by_name["dense"]) is by_name["inputs"]


def test_what_precedes_can_be_an_operation_that_is_no_layer() -> None:
    inputs = keras.Input((4,))
    dense = kl.Dense(2)
    dense(keras.ops.relu(inputs))
    assert type(preceding_layer(dense)).__name__ == "Relu"


def test_nothing_precedes_where_no_graph_tells_it() -> None:
    x = keras.Input((4,))
    values, twice, merge, fresh = kl.Dense(2), kl.Dense(4), kl.Add(), kl.Dense(2)
    values(np.ones((2, 4), "float32"))
    twice(twice(x))
    merge([x, x])
    for layer in (values, twice, merge, fresh):
        assert preceding_layer(layer) is None


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("_flatten_layers", layers),
        ("_flatten_layers", own_variables),
        ("_inbound_nodes", preceding_layer),
        ("_keras_history", preceding_layer),
    ],
)
def test_a_keras_without_a_private_name_is_refused_by_that_name(
    monkeypatch: pytest.MonkeyPatch, name: str, read: Callable[[Any], Any]
) -> None:
    dense = kl.Dense(2, name="dense")
    inputs = keras.Input((4,))
    dense(inputs)
    if name == "_flatten_layers":
        monkeypatch.delattr(kl.Layer, name)
    else:
        del (inputs if name == "_keras_history" else dense).__dict__[name]
    with pytest.raises(RuntimeError, match=f"Keras {keras.__version__} has no {name}, by which"):
        read(dense)
