"""Checkpoints: ours, and those of TensorFlow 1.13 and 2.15 with their own batch norms."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.compare import assert_close
from tests.golden import FOLDER

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm.contrib import batch_norm
from tests.contrib.graphs import Layer, session

CHECKPOINTS = FOLDER / "tf1_checkpoints"
EXPECTED = ("x", "infer_conv2", "infer_logits", "train_logits")
KINDS = ("plain", "noscale", "zerodebias", "renorm", "adam_ema")
old = pytest.mark.skipif(
    not CHECKPOINTS.is_dir(), reason=f"the old checkpoints are not here: {CHECKPOINTS} is absent"
)


@pytest.mark.parametrize("more", [{}, {"renorm": True, "zero_debias_moving_mean": True}], ids=str)
def test_save_and_restore(more: dict[str, Any], tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (6, 3)).astype("float32")
    seen = []
    for restored in (False, True):
        with session() as opened:
            flag = tf.placeholder(tf.bool, [])
            layer = Layer((6, 3), is_training=flag, decay=0.5, scale=True, scope="a", **more)
            saver = tf.train.Saver()
            if restored:
                saver.restore(opened, str(tmp_path / "model"))
            else:
                layer.load(gamma=[1.0, 2.0, 3.0], beta=[4.0, 5.0, 6.0])
                for factor in (1.0, 2.0, 3.0):
                    layer.run(x * factor, {flag: True})
                saver.save(opened, str(tmp_path / "model"))
            before = layer.state()
            ys = [layer.run(x, {flag: training}) for training in (False, True, False)]
            seen.append((before, ys, layer.state()))
    (before, ys, after), (before_too, ys_too, after_too) = seen
    for name in before:
        assert_close(before_too[name], before[name], 0.0)
        assert_close(after_too[name], after[name], 1e-6)
        # What is saved differs from how a new layer begins, and from what comes after.
        assert name in ("gamma", "beta") or (before[name] != after[name]).all()
    assert_close(ys_too, ys, 1e-6)
    assert abs(ys[0] - ys[2]).max() > 0.1


def description(maker: str, kind: str) -> dict[str, Any]:
    lines = json.loads((CHECKPOINTS / maker / "index.json").read_text())["checkpoints"]
    matches: list[dict[str, Any]] = [line for line in lines if line["id"] == f"{maker}/{kind}"]
    return matches[0]


def network(x: Any, training: bool, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """Builds the network that index.json describes: the second block and the logits."""
    for scope, shape, stride in (("conv1", [3, 3, 3, 4], 1), ("conv2", [3, 3, 4, 5], 2)):
        with tf.variable_scope(scope):
            x = tf.nn.conv2d(x, tf.get_variable("weights", shape), [1, stride, stride, 1], "SAME")
            x = batch_norm(x, is_training=training, activation_fn=tf.nn.relu, **arguments)
    with tf.variable_scope("logits"):
        weights, biases = tf.get_variable("weights", [5, 3]), tf.get_variable("biases", [3])
        return x, tf.reduce_mean(x, [1, 2]) @ weights + biases


def expected_names(line: dict[str, Any], training: bool) -> set[str]:
    """Returns the variables of a checkpoint that the network has."""
    other = {"global_step", "beta1_power", "beta2_power", "Adam", "Adam_1"}
    other |= {"ExponentialMovingAverage"}
    if not training:
        other |= {"biased", "local_step"}
    if line["id"] == "tf113/renorm":  # which were others until TensorFlow 1.13
        other |= {"renorm_mean", "renorm_stddev", "renorm_mean_weight", "renorm_stddev_weight"}
    return {name for name in line["variables"] if name.rpartition("/")[2] not in other}


RUNS = [
    (maker, kind, training)
    for maker in ("tf113", "tf215")
    for kind in KINDS
    for training in (False, True)
    if (maker, kind, training) != ("tf113", "renorm", True)
]


@old
@pytest.mark.parametrize(("maker", "kind", "training"), RUNS)
def test_old_checkpoints(maker: str, kind: str, training: bool) -> None:
    line = description(maker, kind)
    with np.load(CHECKPOINTS / maker / "expected.npz") as arrays:
        expected = {name: arrays[f"{maker}/{kind}/{name}"] for name in EXPECTED}
    arguments = dict(line["bn_kwargs"])
    if (maker, kind) == ("tf113", "renorm"):
        arguments = {name: arguments[name] for name in ("decay", "epsilon", "scale")}
    with session() as opened:
        tensors = network(tf.constant(expected["x"]), training, arguments)
        shapes = {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}
        assert shapes == {name: line["variables"][name] for name in expected_names(line, training)}
        tf.train.Saver().restore(opened, str(CHECKPOINTS / line["path"]))
        conv2, logits = opened.run(tensors)
    assert_close(logits, expected["train_logits" if training else "infer_logits"], 1e-5)
    if not training:
        assert_close(conv2, expected["infer_conv2"], 1e-5)
    # Renorm within its limits trains on what it infers.
    other = np.abs(logits - expected["infer_logits" if training else "train_logits"]).max()
    assert kind == "renorm" or other > 1e-3


@old
@pytest.mark.parametrize("maker", ["tf113", "tf215"])
def test_training_goes_on_from_an_old_zero_debias(maker: str) -> None:
    line = description(maker, "zerodebias")
    with np.load(CHECKPOINTS / maker / "expected.npz") as arrays:
        x = arrays[f"{line['id']}/x"]
    with session() as opened:
        network(tf.constant(x), True, line["bn_kwargs"])
        tf.train.Saver().restore(opened, str(CHECKPOINTS / line["path"]))
        held = {variable.op.name: variable for variable in tf.global_variables()}
        before = opened.run(held)
        opened.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        after = opened.run(held)
        conv = tf.nn.conv2d(x, held["conv1/weights"], [1, 1, 1, 1], "SAME")
        mean = opened.run(tf.reduce_mean(conv, [0, 1, 2]))
    own = "conv1/BatchNorm/conv1/BatchNorm/moving_mean"
    biased = 0.9 * before[f"{own}/biased"] + 0.1 * mean
    assert before[f"{own}/local_step"] == 6 and after[f"{own}/local_step"] == 7
    assert_close(after[f"{own}/biased"], biased, 1e-6)
    assert_close(after["conv1/BatchNorm/moving_mean"], biased / (1 - 0.9**7), 1e-6)
