"""The argument `names` of `load_checkpoint`, and the entries that it refuses."""

from pathlib import Path
from typing import Any

import keras
import pytest

from batchnorm import BatchNormalization
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


def test_names_by_dictionary(tmp_path: Path) -> None:
    file = weights("x", "y") | {"y/biases": numbers(3)} | normalization("z", 3)
    prefix = write(tmp_path, file)
    model = stack(conv("one"), conv("two", use_bias=True), BatchNormalization(name="bn"))
    one_twice = {"one": "x", "two/kernel": "x/weights", "two/bias": "y/biases", "bn": "z"}
    report = load_checkpoint(prefix, model, one_twice)
    assert sources(report)["two/kernel"] == sources(report)["one/kernel"] == "x/weights"
    how = {entry.variable: entry.how for entry in report.loaded}
    assert how["one/kernel"] == how["bn/gamma"] == "names" and how["two/bias"] == "names"
    assert [entry.checkpoint for entry in report.left_over] == ["y/weights"]
    unchanged = load_checkpoint(prefix, model, {"one": None, "two": "y", "bn": "z"}).kept
    assert unchanged == ("one/kernel",)


@pytest.mark.parametrize(
    "names, words",
    [
        ({"ome": "x"}, "'ome' is neither a layer nor a variable of the model. Close: one"),
        ({"one": "xx"}, "'xx', for 'one', is not a scope of the checkpoint. Close: x"),
        ({"one": "x/weights"}, "It is a variable: write 'one/' and its name"),
        ({"one": "z"}, "'z', for 'one', has beta, gamma, moving_mean, moving_variance, which one"),
        (
            {"one/kernel": "x"},
            "'x', for 'one/kernel', is not a variable of the checkpoint. It is a s",
        ),
        ({"one/kernel": "x/weihgts"}, "Close: x/weights"),
        ({"one/kernel": "z/beta"}, "one/kernel has shape (3, 3, 3, 3), but z/beta in the checkpoi"),
        ({"one": 3}, "names['one'] must be a name or None, received 3"),
        ("x", "names must be a dictionary"),
        (lambda path: "z/alpha" if path == "one/kernel" else None, "Close: z/"),
    ],
)
def test_names_that_name_nothing(tmp_path: Path, names: Any, words: str) -> None:
    prefix = write(tmp_path, weights("x") | normalization("z", 3))
    refused(prefix, stack(conv("one"), BatchNormalization(name="bn")), words, names=names)


def test_a_short_name_for_several_layers(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((6, 6, 3)), conv("c")], name="left")
    twin = keras.Sequential([keras.Input((6, 6, 3)), conv("c")], name="right")
    model, prefix = stack(inner, twin), write(tmp_path, weights("x", "y"))
    refused(prefix, model, "'c' may be any of left/c, right/c; write the whole", names={"c": "x"})
    load_checkpoint(prefix, model, {"left/c": "x", "right/c": "y"})


def test_names_by_function(tmp_path: Path) -> None:
    prefix = write(tmp_path, weights("x", "y") | normalization("x/BatchNorm", 3, "gamma"))
    model = stack(conv("one"), BatchNormalization(name="bn", scale=False), conv("two"))
    table = {"one/kernel": "x/weights:0", "bn/beta": "x/BatchNorm/beta"}
    report = load_checkpoint(prefix, model, table.get)
    how = {entry.variable: entry.how for entry in report.loaded}
    assert how["bn/beta"] == "names" and how["bn/moving_mean"] == "name"
    assert how["two/kernel"] == "shape" and not report.left_over


def test_what_is_beside_a_named_variable_is_not_forgotten(tmp_path: Path) -> None:
    prefix = write(tmp_path, weights("x") | {"x/biases": numbers(3)})
    names = {"one/kernel": "x/weights"}
    refused(prefix, stack(conv("one")), "one: make it with use_bias=True", names=names)


@pytest.mark.parametrize(
    "names, words",
    [
        ({5: "y"}, "names: 5 must be the name of a layer"),
        ({"fc": 5}, "names['fc'] must be a name or None, received 5"),
        (lambda path: 5, "names('fc/kernel') must be a name or None, received 5"),
    ],
)
def test_names_that_are_none(tmp_path: Path, names: Any, words: str) -> None:
    prefix = write(tmp_path, {"y/weights": numbers(3, 2)})
    model = stack(keras.layers.Dense(2, use_bias=False, name="fc"), shape=(3,))
    refused(prefix, model, words, names=names)
