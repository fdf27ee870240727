"""tf_slim's own tests of these functions, with ours in place of theirs."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import keras
import pytest

from tests.process import output_of

pytestmark = [
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="graph code is TensorFlow's"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("tf_slim") is None, reason="tf_slim is not installed"
    ),
]

# They are for graphs, and the switch to these is the process's. tf_slim 1.1 cannot be imported
# where TensorFlow has Keras 3, for want of a base class of a layer that is not tested here.
PROGRAM = """
import json, types, unittest
import keras
import tensorflow.compat.v1 as tf
tf.layers = types.SimpleNamespace(Layer=keras.layers.Layer)
from tf_slim.layers import layers, layers_test
from batchnorm import contrib
layers.batch_norm, layers.fully_connected = contrib.batch_norm, contrib.fully_connected
layers.convolution, layers.convolution2d = contrib.convolution, contrib.conv2d
layers_test.layers_lib.convolution2d = contrib.conv2d
layers_test.setUpModule()
cases = layers_test.BatchNormTest, layers_test.ConvolutionTest, layers_test.FCTest
load = unittest.defaultTestLoader.loadTestsFromTestCase
result = unittest.TestResult()
tests = [test for case in cases for test in load(case) if "test_session" not in test.id()]
names = [".".join(test.id().split(".")[-2:]) for test in tests]
for test in tests:
    test.run(result)
wrong = {test.id(): text for test, text in result.failures + result.errors + result.skipped}
print(json.dumps({name: wrong.get(test.id()) for name, test in zip(names, tests)}))
"""
# Their operations of regularizers were named after the variables of tf.layers, which contrib then
# renamed; and the error about a wrong rank has other words.
OTHER = {
    "ConvolutionTest.testCreateConvWithWD",
    "ConvolutionTest.testInvalidShape",
    "FCTest.testCreateFCWithBD",
    "FCTest.testCreateFCWithWD",
}


@cache
def outcomes() -> dict[str, str | None]:
    """Returns the failure of each test, by class and name."""
    outcomes: dict[str, str | None] = json.loads(
        output_of(PROGRAM, folder=Path.cwd()).splitlines()[-1]
    )
    return outcomes


def test_all_66_of_batch_norm_pass() -> None:
    wrong = {name: text for name, text in outcomes().items() if name.startswith("BatchNormTest")}
    assert len(wrong) == 66
    assert not any(wrong.values()), wrong


def test_those_of_the_layers_that_it_normalizes() -> None:
    wrong = {n: text for n, text in outcomes().items() if not n.startswith("BatchNormTest")}
    assert len(wrong) == 46
    assert {name for name, text in wrong.items() if text} == OTHER, wrong
