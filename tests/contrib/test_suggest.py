"""Suggestions of `load_checkpoint`: applied as written, they load the model correctly."""

import ast
import pickle
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

if keras.backend.backend() != "tensorflow":
    pytest.skip("names do not depend on the backend", allow_module_level=True)

from batchnorm import BatchNormalization, Cumulative
from batchnorm.contrib import CheckpointMismatch, load_checkpoint
from batchnorm.contrib.checkpoint.mismatch import Problem
from tests.contrib.checkpoints import conv, normalization, numbers, stack, values_of, weights, write
from tests.differentiate import Array


def mismatch(prefix: str, model: Any, names: Any = None) -> CheckpointMismatch:
    """Returns the error; the model must not have changed, and the text must be short."""
    before = values_of(model)
    with pytest.raises(CheckpointMismatch) as caught:
        load_checkpoint(prefix, model, names)
    for path, value in values_of(model).items():
        np.testing.assert_array_equal(value, before[path])
    lines = str(caught.value).splitlines()
    assert len(lines) <= 20 and max(map(len, lines)) < 3000, str(caught.value)
    return caught.value


def applied(prefix: str, model: Any, names: Any = None) -> dict[str, Array]:
    """Returns the variables of a model that is loaded by the names in the error's text."""
    error = mismatch(prefix, model, names)
    assert error.solved, error
    (written,) = re.findall(r"^names=(\{.*\})$", str(error), re.MULTILINE)
    entries = ast.literal_eval(written)
    assert entries == error.names
    load_checkpoint(prefix, model, entries)
    return values_of(model)


def same(values: dict[str, Array], file: dict[str, Any], pairs: dict[str, str]) -> None:
    for path, name in pairs.items():
        np.testing.assert_array_equal(values[path], file[name], err_msg=f"{path} of {name}")


SIZES = [(3, 3, 3, 4), (3, 3, 4, 4), (3, 3, 4, 4), (1, 1, 4, 6), (3, 3, 6, 6), (3, 3, 6, 6)]


def row(start: int, bias: bool = False) -> tuple[Any, list[str], list[str]]:
    """Builds a model of convolutions and other layers, named as Keras names a second model's."""
    rows: list[Any] = []
    for number, (window, _, _, filters) in enumerate(SIZES, start):
        name = f"conv2d_{number}"
        options: dict[str, Any] = {"padding": "same", "use_bias": bias}
        rows.append(layers.Conv2D(filters, window, name=name, **options))
        rows.append(BatchNormalization(name=f"batch_normalization_{number}", scale=False))
    model = stack(*rows)
    return model, [layer.name for layer in rows[::2]], [layer.name for layer in rows[1::2]]


@pytest.mark.parametrize("start", [3, 12])
@pytest.mark.parametrize("style", ["tf.layers", "contrib"])
def test_names_that_keras_numbered(tmp_path: Path, style: str, start: int) -> None:
    """By shape, then in order, in which 10 comes behind 9; a normalization beside its layer."""
    model, convolutions, normalizations = row(start)
    scopes = [f"net/conv2d_{number}" for number in range(7, 7 + len(SIZES))]
    if style == "tf.layers":
        norms = [f"net/batch_normalization_{number}" for number in range(7, 7 + len(SIZES))]
    else:
        norms = [f"{scope}/BatchNorm" for scope in scopes]
    file: dict[str, Any] = {}
    pairs: dict[str, str] = {}
    for scope, norm, size, layer, second in zip(
        scopes, norms, SIZES, convolutions, normalizations, strict=True
    ):
        file |= {f"{scope}/weights": numbers(*size) + len(file)}
        file |= {k: v + len(file) for k, v in normalization(norm, size[-1], "gamma").items()}
        pairs |= {f"{layer}/kernel": f"{scope}/weights"}
        pairs |= {f"{second}/{leaf}": f"{norm}/{leaf}" for leaf in ("beta", "moving_variance")}
    same(applied(write(tmp_path, file), model), file, pairs)


def test_numbers_that_are_the_same_for_other_layers(tmp_path: Path) -> None:
    """Keras made the branch first, TensorFlow 1 last."""
    one, two = numbers(1, 1, 3, 4), numbers(3, 3, 3, 4)
    file = {"conv2d/kernel": one, "conv2d_1/kernel": two}
    inputs = keras.Input((6, 6, 3))
    wide = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv2d")(inputs)
    model = keras.Model(inputs, wide + layers.Conv2D(4, 1, use_bias=False, name="conv2d_1")(inputs))
    values = applied(write(tmp_path, file), model)
    same(values, file, {"conv2d/kernel": "conv2d_1/kernel", "conv2d_1/kernel": "conv2d/kernel"})


def test_names_of_one_shape_that_are_alike_come_before_the_order(tmp_path: Path) -> None:
    file = weights("net/entry_conv", "net/middle_conv", "net/exit_conv")
    model = stack(conv("entry_convol"), conv("middle_convol"), conv("exit_convol"))
    pairs = {f"{e}_convol/kernel": f"net/{e}_conv/weights" for e in ("entry", "middle", "exit")}
    same(applied(write(tmp_path, file), model), file, pairs)


def test_the_shortcut_of_a_block_is_made_first(tmp_path: Path) -> None:
    file: dict[str, Any] = {}
    for block in range(1, 3):
        file |= weights(*(f"unit_{block}/{name}" for name in ("shortcut", "conv1", "conv2")))
    inputs = x = keras.Input((6, 6, 3))
    for block in range(2):
        first, second, third = (conv(f"conv2d_{3 * block + n}") for n in (4, 5, 6))
        x = first(x) + third(second(x))
    model = keras.Model(inputs, x)
    pairs = {}
    for block in range(2):
        for n, name in enumerate(("shortcut", "conv1", "conv2"), 4 + 3 * block):
            pairs[f"conv2d_{n}/kernel"] = f"unit_{block + 1}/{name}/weights"
    error = mismatch(write(tmp_path, file), model)
    suggested = {key: f"{scope}/weights" for key, scope in error.names.items()}
    assert {key.removesuffix("/kernel"): name for key, name in pairs.items()} == suggested


def test_a_shape_comes_before_a_name(tmp_path: Path) -> None:
    """The name that is most alike has another shape, and biases that say nothing then."""
    file = {"block/conv_a/weights": numbers(5, 5, 3, 3), "block/conv_a/biases": numbers(3)}
    file |= weights("x", "y")
    model = stack(conv("block_conv_aa"), conv("two"))
    error = mismatch(write(tmp_path, file), model)
    assert "use_bias=" not in str(error)
    assert error.names == {"block_conv_aa": "x", "two": "y"}
    load_checkpoint(tmp_path, model, error.names)
    text = str(mismatch(write(tmp_path, file | weights("block/conv_aa"), "b"), model))
    assert "several scopes of the checkpoint fit it: x (weights (3, 3, 3, 3))" in text


def test_use_bias_is_no_advice_where_a_shape_says_otherwise(tmp_path: Path) -> None:
    file = {"c/weights": numbers(5, 5, 3, 3), "c/biases": numbers(3), "d/weights": numbers(2, 2)}
    file |= {"e/weights": numbers(3, 3, 3, 3), "e/biases": numbers(7)}
    prefix = write(tmp_path, file)
    for name in ("c", "d", "e", "other"):
        assert "use_bias=" not in str(mismatch(prefix, stack(conv(name))))
    fitting = {"c/weights": numbers(3, 3, 3, 3), "c/biases": numbers(3)}
    prefix = write(tmp_path, fitting, "fits")
    assert "make it with use_bias=True" in str(mismatch(prefix, stack(conv("c"))))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_checkpoint_without_moving_statistics(tmp_path: Path, count: int) -> None:
    """Of one layer or of all; for many the suggestion is a pattern."""
    file: dict[str, Any] = {}
    for index in range(count):
        file |= weights(f"c{index}", value=index)
        file |= normalization(f"c{index}/x_bn", 3, "moving_mean", "moving_variance")
    prefix = write(tmp_path, file)
    rows = [(conv(f"c{i}"), BatchNormalization(name=f"c{i}_x_bn")) for i in range(count)]
    model = stack(*(layer for pair in rows for layer in pair))
    names = {f"c{i}_x_bn": f"c{i}/x_bn" for i in range(count)}
    error = mismatch(prefix, model, names)
    assert "c0/x_bn has no moving_mean and moving_variance. It has beta, gamma" in str(error)
    assert "training=True" in str(error)
    if count > 4:
        assert error.names == names | {"*/moving_mean": None, "*/moving_variance": None}
    else:
        assert error.names["c0_x_bn/moving_mean"] is None
    values = applied(prefix, model, names)
    same(values, file, {f"c{i}_x_bn/gamma": f"c{i}/x_bn/gamma" for i in range(count)})
    np.testing.assert_array_equal(values["c0_x_bn/moving_mean"], 0.0)


def test_a_normalization_in_its_layer_s_scope_without_moving_statistics(tmp_path: Path) -> None:
    file = weights("c") | normalization("c", 3, "moving_mean", "moving_variance")
    values = applied(write(tmp_path, file), stack(conv("c"), BatchNormalization(name="c_bn")))
    same(values, file, {"c/kernel": "c/weights", "c_bn/beta": "c/beta"})


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [("weight", "bias"), ("w", "b"), ("W", "biases"), ("filter", "bias"), ("conv_W", "conv_b")],
)
@pytest.mark.parametrize("layer", ["c", "conv2d_5"])
def test_weights_by_other_names(tmp_path: Path, layer: str, kernel: str, bias: str) -> None:
    shape = (3, 3, 3, 3)
    file = {f"c/{kernel}": numbers(*shape), f"c/{bias}": numbers(3)}
    values = applied(write(tmp_path, file), stack(conv(layer, use_bias=True)))
    same(values, file, {f"{layer}/kernel": f"c/{kernel}", f"{layer}/bias": f"c/{bias}"})


def test_variables_without_scopes(tmp_path: Path) -> None:
    """As the tutorials of TensorFlow 1 had them."""
    file: dict[str, Any] = {}
    for index in range(1, 4):
        shape = numbers(3, 3, 3, 3)
        file |= {f"W_conv{index}": shape + index, f"b_conv{index}": numbers(3) + index}
    file |= {"W_fc": numbers(3, 5), "b_fc": numbers(5), "global_step": np.int64(3)}
    names = ["conv1", "conv2", "conv3"]
    rows = [conv(name, use_bias=True) for name in names]
    model = stack(*rows, layers.GlobalAveragePooling2D(), layers.Dense(5, name="fc"))
    pairs = {f"{name}/kernel": f"W_{name}" for name in (*names, "fc")}
    pairs |= {f"{name}/bias": f"b_{name}" for name in (*names, "fc")}
    same(applied(write(tmp_path, file), model), file, pairs)


@pytest.mark.parametrize(
    ("scope", "leaves"),
    [
        ("bn", ("scale", "offset", "pop_mean", "pop_var")),
        ("bn", ("gamma", "beta", "running_mean", "running_var")),
        ("c", ("bn_gamma", "bn_beta", "bn_mean", "bn_variance")),
        (
            "bn",
            (
                "gamma",
                "beta",
                "moments/Squeeze/ExponentialMovingAverage",
                "moments/Squeeze_1/ExponentialMovingAverage",
            ),
        ),
    ],
)
def test_normalizations_that_people_wrote(
    tmp_path: Path, scope: str, leaves: tuple[str, ...]
) -> None:
    file = weights("c") | {f"{scope}/{leaf}": numbers(3) + i for i, leaf in enumerate(leaves)}
    model = stack(conv("c"), BatchNormalization(name="bn"))
    ours = ("gamma", "beta", "moving_mean", "moving_variance")
    pairs = {f"bn/{a}": f"{scope}/{b}" for a, b in zip(ours, leaves, strict=True)}
    same(applied(write(tmp_path, file), model), file, pairs | {"c/kernel": "c/weights"})


def test_other_classes(tmp_path: Path) -> None:
    """A layer of another shape is left as it is: the way to train it anew."""
    file = weights("c") | {"fc/weights": numbers(3, 1000), "fc/biases": numbers(1000)}
    pool = layers.GlobalAveragePooling2D()
    model = stack(conv("c"), pool, layers.Dense(5, name="fc"))
    prefix = write(tmp_path, file)
    assert mismatch(prefix, model).names == {"fc": None}
    same(applied(prefix, model), file, {"c/kernel": "c/weights"})


def test_what_was_passed_is_part_of_the_suggestion(tmp_path: Path) -> None:
    file = weights("x", "y", "z")
    prefix, model = write(tmp_path, file), stack(conv("one"), conv("two"), conv("three"))
    pairs = {"one/kernel": "z/weights", "two/kernel": "x/weights", "three/kernel": "y/weights"}
    same(applied(prefix, model, {"one": "z"}), file, pairs)
    same(applied(prefix, model, {"one/kernel": "z/weights:0"}.get), file, pairs)
    assert mismatch(prefix, model, {"one": "z", "ome": "x"}).names.keys() == {"one", "two", "three"}


def test_what_names_cannot_solve(tmp_path: Path) -> None:
    file = weights("x", "y") | normalization("bn", 3)
    model = stack(conv("one"), conv("two"), BatchNormalization(name="bn", scale=False))
    error = mismatch(write(tmp_path, file), model)
    assert not error.solved and "make it with scale=True" in str(error)
    assert "solve a part of it" in str(error)
    remaining = mismatch(str(tmp_path), model, error.names)
    assert "several scopes" not in str(remaining) and remaining.names == {}


def test_steps(tmp_path: Path) -> None:
    model = stack(BatchNormalization(name="bn", moving=Cumulative()))
    prefix = write(tmp_path, normalization("bn", 3))
    assert mismatch(prefix, model).names == {"bn/counter/step": None}
    assert applied(prefix, model)["bn/counter/step"] == 0


def test_a_checkpoint_of_another_model_is_short(tmp_path: Path) -> None:
    """Dozens of layers, of which none is there: once 38,879 characters."""
    file: dict[str, Any] = {}
    for index in range(40):
        file |= {f"tower/unit_{index}/block/conv/weights": np.zeros((1, 1, 2, 7), "float32")}
        file |= normalization(f"tower/unit_{index}/block/conv/BatchNorm", 7, "gamma")
    prefix = write(tmp_path, file)
    rows = [(conv(f"c{i}"), BatchNormalization(name=f"c{i}_bn")) for i in range(40)]
    model = stack(*(layer for pair in rows for layer in pair))
    error = mismatch(prefix, model)
    assert len(error.problems) == 80 and len(str(error)) < 8000
    assert "it may be that of another model" in str(error) and "--list" in str(error)
    assert re.search(r"- and \d+ more like these", str(error))


def test_many_names_are_told_by_the_error_s_attribute(tmp_path: Path) -> None:
    count = 30
    prefix = write(tmp_path, weights(*(f"s{i}" for i in range(count))))
    model = stack(*(conv(f"conv2d_{i + 4}") for i in range(count)))
    error = mismatch(prefix, model)
    assert error.solved and len(error.names) == count
    assert " and 25 more: the error's attribute `names` has all" in str(error)
    load_checkpoint(prefix, model, error.names)
    assert [value[0, 0, 0, 0] for value in values_of(model).values()] == [*range(1, count + 1)]


def test_long_names_and_many_variables(tmp_path: Path) -> None:
    file = {f"{'s' * 4000}/{i}/weights": numbers(2, 2) for i in range(3)}
    file |= {f"x/{'v' * 300}{i}": numbers(i) for i in range(40)}
    model = stack(conv("x"), conv("y", 4))
    for names in (None, {"x": "s" * 9000}, {"z" * 9000: "x"}):
        mismatch(write(tmp_path, file), model, names)


def test_a_text_has_20_lines_whatever_is_wrong() -> None:
    problems = [
        Problem(f"{kind} {'x' * 900} {index}", {}, str(kind))
        for kind in range(20)
        for index in range(50)
    ]
    for kinds in (1, 2, 5, 12, 20):
        for limit in (1, 3, 50):
            chosen = [p for p in problems if int(p.kind) < kinds and int(p.text[-2:]) < limit]
            names = {f"{'k' * 700}{index}": None for index in range(30)}
            text = str(CheckpointMismatch("prefix", chosen, names, False, "remark"))
            assert len(text.splitlines()) <= 20 and len(text) < 12_000
            assert chosen[0].text[:400] in text


def test_the_error_can_be_spelled_otherwise_and_pickled(tmp_path: Path) -> None:
    error = mismatch(write(tmp_path, weights("x", "y")), stack(conv("one"), conv("two")))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and copy.names == error.names
    told = error.message(lambda names: f"FILE.json: {names}")
    assert "FILE.json: {'one': 'x', 'two': 'y'}" in told and "names={" not in told


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"*/moving_meen": None}, "no variable of the model is like '*/moving_meen'"),
        ({"*/kernel": "x"}, "the pattern '*/kernel' can only have the value None"),
    ],
)
def test_patterns_that_say_nothing(tmp_path: Path, names: Any, words: str) -> None:
    assert words in str(mismatch(write(tmp_path, weights("x")), stack(conv("one")), names))
