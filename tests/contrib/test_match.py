"""The matching of layers and scopes, and the errors where no scope is certain."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from batchnorm import BasicBlock, BatchNormalization
from batchnorm.contrib.checkpoint import assignment, match
from batchnorm.contrib.checkpoint.scopes import canonical
from batchnorm.contrib.load_checkpoint import load_checkpoint
from tests.contrib.checkpoints import (
    conv,
    normalization,
    numbers,
    refused,
    sources,
    stack,
    weights,
    write,
)
from tests.differentiate import to_numpy


@pytest.mark.parametrize(
    "name",
    "conv1_bn conv1/bn conv1/BatchNorm Conv_1/batch_norm conv1BatchNorm conv1_batch_normalization "
    "conv-1/norm convolution_1/batch_normalization bn_conv1 conv1/batchnorm".split(),
)
def test_names_that_mean_the_same(name: str) -> None:
    assert canonical(name) == "conv1/norm"


def test_names_that_do_not() -> None:
    names = "conv1 conv2_bn conv1/norm_1 conv11 layer_norm bn1 bn2 fc1 logits a/conv1".split()
    assert len({canonical(name) for name in names}) == len(names)
    assert canonical("BatchNorm_1") == canonical("bn1") == "norm1"
    assert canonical("fully_connected_1") == canonical("dense_1") == "dense1"


def test_literal_names_come_before_those_that_mean_the_same(tmp_path: Path) -> None:
    prefix = write(tmp_path, weights("c_1", "c1"))
    model = stack(conv("c1"), conv("c_1"))
    assert sources(load_checkpoint(prefix, model)) == {
        "c1/kernel": "c1/weights",
        "c_1/kernel": "c_1/weights",
    }


@pytest.mark.parametrize("around", ["", "net/", "tower/Net_1/"])
@pytest.mark.parametrize("bn", ["conv1_bn", "conv1/bn", "other"])
def test_a_normalization_by_its_name_or_by_what_it_follows(
    tmp_path: Path, around: str, bn: str
) -> None:
    """The second has the same shapes, so that nothing is found by shape."""
    names = [f"{around}{name}" for name in ("conv1", "conv2")]
    file = weights(*names) | normalization(f"{names[0]}/BatchNorm", 3)
    file |= normalization(f"{names[1]}/BatchNorm", 3)
    kinds = (layers.BatchNormalization, BatchNormalization)
    inputs = keras.Input((6, 6, 3))
    x = kinds[0](name=bn.replace("/", "_"))(conv("conv1")(inputs))
    x = kinds[1](name="conv2_bn" if bn != "other" else "one_more")(conv("conv2")(x))
    report = load_checkpoint(write(tmp_path, file), model := keras.Model(inputs, x))
    assert {entry.how for entry in report.loaded} == {"name"}
    np.testing.assert_array_equal(
        to_numpy(model.layers[2].beta), file[f"{names[0]}/BatchNorm/beta"]
    )


def test_slashes_that_became_underscores(tmp_path: Path) -> None:
    """As in the names that `layer_from_arguments` makes of scopes."""
    scopes = ["net/block_1/conv_1", "net/block_1/conv_2", "net/block_2/conv_1"]
    file = weights(*scopes) | normalization("net/block_1/conv_2/BatchNorm", 3)
    prefix = write(tmp_path, file)
    for around in ("", "net_"):
        rows = [conv(around + scope[4:].replace("/", "_")) for scope in scopes]
        model = stack(*rows, BatchNormalization(name=f"{around}block_1_conv_2_BatchNorm"))
        actual = sources(load_checkpoint(prefix, model))
        for scope, layer in zip(scopes, rows, strict=True):
            assert actual[f"{layer.name}/kernel"] == f"{scope}/weights"


def test_every_kind_of_layer(tmp_path: Path) -> None:
    model = stack(
        layers.SeparableConv2D(4, 3, name="separable"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Conv2DTranspose(5, 2, name="transposed"),
        layers.Reshape((-1, 5)),
        layers.Conv1D(2, 3, name="line"),
        layers.LSTM(3, name="lstm"),
        layers.LayerNormalization(name="layer_norm"),
        layers.Dense(2, name="fc"),
    )
    leaves = {
        "separable/depthwise_weights": (3, 3, 3, 1),
        "separable/pointwise_weights": (1, 1, 3, 4),
        "separable/biases": (4,),
        "depthwise/depthwise_weights": (3, 3, 4, 1),
        "depthwise/biases": (4,),
        "transposed/kernel": (2, 2, 5, 4),
        "transposed/bias": (5,),
        "line/weights": (3, 5, 2),
        "line/biases": (2,),
        "lstm/lstm_cell/kernel": (2, 12),
        "lstm/lstm_cell/recurrent_kernel": (3, 12),
        "lstm/lstm_cell/bias": (12,),
        "layer_norm/gamma": (3,),
        "layer_norm/beta": (3,),
        "fc/weights": (3, 2),
        "fc/biases": (2,),
    }
    file = {name: numbers(*shape) for name, shape in leaves.items()}
    report = load_checkpoint(write(tmp_path, file), model)
    assert list(sources(report).values()) == list(file)
    for variable, value in zip(model.weights, file.values(), strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)


def test_layers_within_layers(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((6, 6, 3)), conv("c"), BatchNormalization(name="bn")])
    twin = keras.models.clone_model(inner)
    inner.name, twin.name = "left", "right"
    model = stack(inner, twin, BasicBlock(3, name="block"))
    file = weights("left/c", "right/c", "block/convolution_1", "block/conv2")
    for scope in ("left/c", "right/c", "block/norm_1", "block/bn2"):
        file |= normalization(f"{scope}/BatchNorm" if "/c" in scope else scope, 3)
    report = load_checkpoint(write(tmp_path, file), model)
    assert not report.left_over and {entry.how for entry in report.loaded} == {"name"}
    assert len({entry.variable for entry in report.loaded}) == len(report.loaded) == len(file)
    kernels = [to_numpy(part.layers[0].kernel)[0, 0, 0, 0] for part in (inner, twin)]
    assert kernels == [1, 2]
    again = {"left": "right", "right": "left"}
    load_checkpoint(tmp_path, model, again)
    kernels = [to_numpy(part.layers[0].kernel)[0, 0, 0, 0] for part in (inner, twin)]
    assert kernels == [2, 1]


def test_by_shape_where_only_one_is_possible(tmp_path: Path) -> None:
    file = {"x/weights": numbers(3, 3, 3, 4), "y/weights": numbers(3, 3, 4, 4)}
    file |= {"z/weights": numbers(3, 3, 4, 4), "z/biases": numbers(4)}
    model = stack(conv("one", 4), conv("two", 4), conv("three", 4, use_bias=True))
    report = load_checkpoint(write(tmp_path, file), model)
    assert list(sources(report).values()) == list(file)
    assert {entry.how for entry in report.loaded} == {"shape"}


def test_a_shape_that_fits_again_and_again_is_no_proof(tmp_path: Path) -> None:
    prefix = write(tmp_path, weights("x", "y"))
    text = refused(prefix, stack(conv("one"), conv("two")), "several scopes", "x (weights (3, 3, 3")
    assert text.count("several scopes of the checkpoint fit it") == 2
    assert "names={'one': 'x', 'two': 'y'}" in text
    refused(prefix, stack(conv("one")), "one (kernel (3, 3, 3, 3)): several scopes")
    prefix = write(tmp_path, weights("x"))
    refused(prefix, stack(conv("one"), conv("two")), "It also fits two.", "It also fits one.")


def test_a_scope_within_one_that_the_layer_does_not_follow(tmp_path: Path) -> None:
    file = weights("a", "b") | normalization("b/BatchNorm", 3)
    model = stack(conv("a"), BatchNormalization(name="n"), conv("b"))
    refused(write(tmp_path, file), model, "n (gamma (3,)", "no free scope", "b/BatchNorm (beta (3")


class WithoutGraph(keras.Model):
    """Two convolutions, the second of them normalized, in a model without a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv("conv1"), conv("conv2")
        self.normalization = BatchNormalization(name="q")

    def call(self, x: Any) -> Any:
        return self.normalization(self.second(self.first(x)))


def test_a_scope_within_one_that_the_layer_may_not_follow(tmp_path: Path) -> None:
    prefix = write(tmp_path, weights("conv1", "conv2") | normalization("conv1/BatchNorm", 3))
    model = WithoutGraph()
    model(np.zeros((1, 6, 6, 3), "float32"))
    refused(prefix, model, "conv1/BatchNorm", "names={'q'")
    report = load_checkpoint(prefix, model, {"q": "conv1/BatchNorm"})
    assert "conv1/BatchNorm/gamma" in sources(report).values()


def test_a_dense_layer_from_a_convolution_with_a_window_of_1(tmp_path: Path) -> None:
    kernel = numbers(1, 1, 4, 2)
    prefix = write(tmp_path, {"logits/weights": kernel})
    model = stack(layers.Dense(2, use_bias=False, name="logits"), shape=(4,))
    (loaded,) = load_checkpoint(prefix, model).loaded
    assert loaded.note == "reshaped from (1, 1, 4, 2)"
    np.testing.assert_array_equal(to_numpy(model.weights[0]), kernel[0, 0])
    wide = stack(layers.Dense(4, use_bias=False, name="logits"), shape=(2,))
    refused(prefix, wide, "(2, 4)", "(1, 1, 4, 2)")  # as many numbers, in another order


def test_a_normalization_that_follows_two_layers(tmp_path: Path) -> None:
    file = weights("a", "b") | normalization("a/BatchNorm", 3) | normalization("b/BatchNorm", 3)
    shared, inputs = BatchNormalization(name="n"), keras.Input((6, 6, 3))
    model = keras.Model(inputs, shared(conv("b")(shared(conv("a")(inputs)))))
    refused(write(tmp_path, file), model, "n (gamma (3,)", "a/BatchNorm", "b/BatchNorm")


def test_batch_normalization_in_the_scope_of_its_layer(tmp_path: Path) -> None:
    file = weights("a") | normalization("a", 3) | weights("b") | normalization("b", 3)
    model = stack(conv("a"), BatchNormalization(name="n"), conv("b"), BatchNormalization(name="o"))
    actual = sources(load_checkpoint(write(tmp_path, file), model))
    assert actual["n/gamma"] == "a/gamma" and actual["o/moving_mean"] == "b/moving_mean"


def test_numbers_that_keras_gave(tmp_path: Path) -> None:
    """From the second model of a session on they mean nothing."""
    prefix = write(tmp_path, weights("conv2d", "conv2d_1", "conv2d_2"))
    same = stack(conv("conv2d"), conv("conv2d_1"), conv("conv2d_2"))
    assert list(sources(load_checkpoint(prefix, same)).values())[1] == "conv2d_1/weights"
    shifted = stack(conv("conv2d_1"), conv("conv2d_2"), conv("conv2d_3"))
    refused(prefix, shifted, "Keras numbered its name, and the checkpoint has other numbers")


@pytest.mark.parametrize(
    "checkpoint, options, words",
    [
        (normalization("bn", 3, "gamma"), {}, "Make the layer bn with scale=False"),
        (normalization("bn", 3), {"scale": False}, "bn/gamma (3,) of the checkpoint has no place"),
        (normalization("bn", 3, "beta"), {}, "bn with center=False"),
        (normalization("bn", 3), {"center": False}, "bn: make it with center=True"),
        (normalization("bn", 3, "moving_mean"), {}, "bn has no moving_mean. It has beta, gamma"),
        (normalization("bn", 4), {}, "bn/gamma has shape (3,), but bn/gamma in the checkpoint (4"),
    ],
)
def test_a_normalization_that_is_another(
    tmp_path: Path, checkpoint: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    prefix = write(tmp_path, checkpoint)
    for kind in (layers.BatchNormalization, BatchNormalization):
        refused(prefix, stack(kind(name="bn", **options)), words)


def test_biases(tmp_path: Path) -> None:
    without, with_bias = weights("c"), weights("c") | {"c/biases": numbers(3)}
    prefix = write(tmp_path, without)
    refused(prefix, stack(conv("c", use_bias=True)), "c with use_bias=False", "'c/bias': None")
    model = stack(conv("c", use_bias=True))
    assert load_checkpoint(prefix, model, {"c/bias": None}).kept == ("c/bias",)
    refused(write(tmp_path, with_bias), stack(conv("c")), "c: make it with use_bias=True")


def test_a_name_with_a_wrong_shape_is_an_error_though_another_scope_fits(tmp_path: Path) -> None:
    file = {"c/weights": numbers(5, 5, 3, 3)} | weights("d")
    words = "c/kernel has shape (3, 3, 3, 3), but c/weights in the checkpoint (5, 5, 3, 3)"
    refused(write(tmp_path, file), stack(conv("c")), words)


def test_all_problems_at_once(tmp_path: Path) -> None:
    file = weights("a") | {"b/weights": numbers(5, 5, 3, 3), "i/weights": np.ones((2, 2), "int32")}
    inputs = keras.Input((6, 6, 3))
    image = conv("c", 7)(conv("b")(conv("a")(inputs)))
    ints = layers.Dense(2, use_bias=False, name="i")(vector := keras.Input((2,)))
    model = keras.Model([inputs, vector], [image, ints])
    text = refused(
        write(tmp_path, file),
        model,
        "does not fit the model, which stays as it was",
        "b/kernel has shape",
        "c (kernel (3, 3, 3, 7))",
        "i/kernel is float32, but i/weights in the checkpoint int32",
        "'nowhere', for 'a', is not a scope",
        "names={'b': None, 'c': None}",
        names={"a": "nowhere"},
    )
    assert text.count("\n- ") >= 4


def test_models_that_nothing_can_be_loaded_into(tmp_path: Path) -> None:
    prefix = write(tmp_path, weights("x"))
    with pytest.raises(ValueError, match="c has no variables yet: call model.build"):
        load_checkpoint(prefix, keras.Sequential([conv("c")]))
    with pytest.raises(ValueError, match="no variables yet"):
        load_checkpoint(prefix, stack(layers.ReLU()))
    with pytest.raises(ValueError, match="model must be a Keras model"):
        load_checkpoint(prefix, "model.keras")


def test_moving_averages_alone(tmp_path: Path) -> None:
    shadow = {f"{name}/ExponentialMovingAverage": v for name, v in weights("c").items()}
    prefix = write(tmp_path, shadow)
    refused(prefix, stack(conv("c")), "shadows=True takes these")
    model = stack(conv("c"))
    assert load_checkpoint(prefix, model, shadows=True).loaded[0].note == "moving average"
    refused(write(tmp_path, weights("c")), model, "no moving averages of var", shadows=True)


def test_optimizers_and_odd_variables(tmp_path: Path) -> None:
    file = weights("c") | {"c/weights/Adam_1": numbers(2), "t/c/weights/Momentum": numbers(2)}
    file |= {"train/beta2_power_1": np.float32(1), "training/Adam/iterations": np.int64(3)}
    file |= {"c/weights/MyOwn": numbers(3, 3, 3, 3), "global_step": np.int64(6)}
    report = load_checkpoint(write(tmp_path, file), stack(conv("c")))
    assert {entry.checkpoint: entry.why for entry in report.left_over} == {
        "c/weights/Adam_1": "optimizer slot of c/weights",
        "c/weights/MyOwn": "optimizer slot of c/weights",
        "t/c/weights/Momentum": "optimizer slot of c/weights",
        "train/beta2_power_1": "optimizer state",
        "training/Adam/iterations": "optimizer state",
        "global_step": "global step",
    }


@pytest.mark.parametrize("damage", ["shapes", "places", "graph"])
def test_a_damaged_rule_would_be_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """The tests above fail where a shape, a place or what a layer follows is not looked at."""
    if damage == "shapes":
        monkeypatch.setattr(assignment, "shape_problem", lambda *_: None)
        failing: Any = test_a_name_with_a_wrong_shape_is_an_error_though_another_scope_fits
        arguments: tuple[Any, ...] = ()
    elif damage == "places":
        monkeypatch.setattr(assignment, "PARAMETERS", frozenset())
        failing, arguments = test_biases, ()
    else:
        monkeypatch.setattr(match.Matching, "_by_graph", lambda self: False)
        failing = test_a_normalization_by_its_name_or_by_what_it_follows
        arguments = ("", "other")
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        failing(tmp_path, *arguments)
