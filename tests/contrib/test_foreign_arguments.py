"""Hints for arguments by their names in tf.layers, Keras and other libraries."""

import inspect
from typing import Any

import keras
import pytest

from batchnorm.contrib.foreign_arguments import COUNTERPARTS, hint
from batchnorm.contrib.layer_from_arguments import REFUSED, layer_from_arguments

pytestmark = pytest.mark.no_backend

LAYERS = {
    "batch_norm": keras.layers.BatchNormalization,
    "conv2d": keras.layers.Conv2D,
    "fully_connected": keras.layers.Dense,
}


def contrib() -> Any:
    pytest.importorskip("tensorflow")
    import batchnorm.contrib.tensorflow

    return batchnorm.contrib.tensorflow


def arguments(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", LAYERS)
def test_every_argument_of_keras_s_layer_has_an_answer(name: str) -> None:
    ours = arguments(getattr(contrib(), name))
    keras_s = {*arguments(LAYERS[name].__init__), "name"}
    if name == "batch_norm":
        keras_s |= {*arguments(LAYERS[name].call)}
    missing = {
        argument
        for argument in keras_s - {"self", "kwargs", *ours}
        if "It takes" in hint(argument, ours) or "Did you mean" in hint(argument, ours)
    }
    assert missing - {"lora_rank", "lora_alpha", "quantization_config"} == set()


def test_counterparts_are_arguments_of_some_function() -> None:
    functions = [getattr(contrib(), name) for name in LAYERS]
    real = {argument for function in functions for argument in arguments(function)}
    for name, counterpart in COUNTERPARTS.items():
        assert name not in real and set(counterpart.arguments) <= real, name
        assert counterpart.arguments or counterpart.note, name


@pytest.mark.parametrize(
    ("function", "passed", "words"),
    [
        ("batch_norm", {"training": True}, "It is called 'is_training'"),
        ("batch_norm", {"momentum": 0.9}, "called 'decay' here. PyTorch's momentum is 1 - decay"),
        ("batch_norm", {"axis": 1}, "called 'data_format' here"),
        ("batch_norm", {"eps": 1e-5}, "called 'epsilon' here"),
        ("batch_norm", {"name": "bn"}, "called 'scope' here"),
        ("batch_norm", {"phase_train": True}, "called 'is_training' here"),
        (
            "batch_norm",
            {"gamma_initializer": "ones"},
            "called 'param_initializers' here.*dictionary",
        ),
        ("batch_norm", {"virtual_batch_size": 8}, r"Ghost\(size, strided=True\)"),
        ("batch_norm", {"is_trainning": True}, "Did you mean 'is_training'"),
        ("batch_norm", {"qqq": True}, "It takes inputs, decay, center"),
        ("conv2d", {"filters": 8}, "called 'num_outputs' here"),
        ("conv2d", {"strides": 2}, "called 'stride' here"),
        ("conv2d", {"use_bias": False}, "called 'biases_initializer' here. None is no biases"),
        ("fully_connected", {"units": 8}, "called 'num_outputs' here"),
        ("fully_connected", {"strides": 2}, "It takes inputs, num_outputs"),
    ],
)
def test_a_call_says_the_name_that_is_used_here(function: str, passed: Any, words: str) -> None:
    with pytest.raises(
        TypeError, match=f"^{getattr(contrib(), function).__name__} has no argument.*{words}"
    ):
        getattr(contrib(), function)(None, **passed)
    with pytest.raises(TypeError, match=words):
        with contrib().arg_scope([getattr(contrib(), function)], **passed):
            pytest.fail("within the scope")


def test_layer_from_arguments_answers_to_keras_s_names() -> None:
    ours = {*arguments(layer_from_arguments), *REFUSED}
    for name in (
        set(arguments(keras.layers.BatchNormalization.__init__)) - ours - {"self", "kwargs"}
    ):
        passed: dict[str, Any] = {name: 1}
        with pytest.raises(ValueError, match=f"no argument '{name}'") as caught:
            layer_from_arguments(**passed)
        assert "It takes" not in str(caught.value) and "Did you mean" not in str(caught.value)
