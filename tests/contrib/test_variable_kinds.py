"""The descriptions of a checkpoint's variables."""

import pytest

from batchnorm.contrib.checkpoint.saver_file import Entry
from batchnorm.contrib.checkpoint.variable_kinds import Kind, kinds

pytestmark = pytest.mark.no_backend

VARIABLES = {
    "net/conv1/weights": "kernel",
    "net/conv1/biases": "bias",
    "net/conv2/kernel": "kernel",
    "net/conv2/weight": "kernel",
    "net/dw/depthwise_weights": "depthwise kernel",
    "net/dw/pointwise_weights": "pointwise kernel",
    "net/lstm/recurrent_kernel": "recurrent kernel",
    "net/embedding/embeddings": "embeddings",
    "net/conv1/BatchNorm/gamma": "gamma",
    "net/conv1/BatchNorm/beta": "beta",
    "net/conv1/BatchNorm/moving_mean": "moving_mean",
    "net/conv1/BatchNorm/moving_variance": "moving_variance",
    "net/conv1/BatchNorm/renorm_mean_weight": "renorm_mean_weight",
    "net/conv1/prelu/alpha": "slopes",
    "net/W_conv": "variable",
    "Variable_1": "variable",
}
NO_PARAMETERS = {
    "net/conv1/weights/Adam": "optimizer slot",
    "net/conv1/weights/Momentum": "optimizer slot",
    "net/conv1/weights/ExponentialMovingAverage": "moving average of a variable",
    "net/conv1/BatchNorm/net/conv1/BatchNorm/moving_mean/local_step": "zero-debias",
    "beta1_power": "optimizer state",
    "global_step": "global step",
}


def test_roles() -> None:
    entries = {name: Entry((3, 3), "float32") for name in VARIABLES}
    entries |= {name: Entry((), "float32") for name in NO_PARAMETERS}
    kinds_by_name = kinds(entries)
    assert {name: kinds_by_name[name].description for name in entries} == VARIABLES | NO_PARAMETERS
    assert {name for name in entries if kinds_by_name[name].parameter} == set(VARIABLES)
    assert kinds_by_name["net/conv1/weights/Adam"].owner == "net/conv1/weights"


@pytest.mark.parametrize("name", ["net/conv1/weights", "gamma"])
def test_what_is_no_number_is_no_kernel(name: str) -> None:
    assert kinds({name: Entry((), "string")})[name] == Kind("string, no numbers")
