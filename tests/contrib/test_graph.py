"""Edge cases of graph code: refused inputs, old behaviours of TensorFlow, several threads."""

import json
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests import oracle
from tests.compare import assert_close
from tests.process import output_of

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm.contrib import batch_norm
from tests.contrib.graphs import Layer, session

X = np.random.default_rng(0).normal(1.5, 2.0, (6, 3)).astype("float32")


def test_eager_code_is_refused() -> None:
    with pytest.raises(RuntimeError, match="this code runs eagerly.*tf.Graph.*as_default"):
        batch_norm(X)


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with session(), pytest.raises(RuntimeError, match="with jax.*KERAS_BACKEND"):
        batch_norm(X)


def constant(value: Any) -> Any:
    """Returns a function that makes the tensor, once there is a graph."""
    return lambda: tf.constant(value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"data_format": "NHCW"}, "NCHW or NHWC.*'NHCW'"),
        ({"data_format": None}, "NCHW or NHWC.*None"),
        ({"is_training": "yes"}, "is_training must be.*'yes'"),
        ({"is_training": 2}, "is_training must be.*2"),
        ({"is_training": 1.0}, "is_training must be.*1.0"),
        ({"is_training": None}, "is_training must be.*None"),
        ({"is_training": constant(1.0)}, "is_training must be.*float32"),
        ({"is_training": constant([True])}, r"is_training must be.*\(1,\)"),
        ({"decay": 1.1}, r"decay must be a number in \[0, 1\].*1\.1"),
        ({"decay": -0.1}, r"\[0, 1\].*-0\.1"),
        ({"decay": "0.9"}, r"\[0, 1\].*'0\.9'"),
        # batch_norm(x, is_training) gives the flag to decay, and 1 would keep all.
        ({"decay": True}, "decay must be a number.*True.*is_training=..."),
        ({"decay": np.bool_(False)}, "decay must be a number.*False.*is_training=..."),
        ({"decay": constant(True)}, "decay must be a number.*bool.*is_training=..."),
        ({"renorm": True, "renorm_decay": True}, "renorm_decay must be a number.*True"),
        ({"epsilon": -0.001}, "epsilon.*-0.001"),
        ({"batch_weights": np.ones(5)}, r"\(5,\) does not fit.*\(6, 3\)"),
        ({"batch_weights": np.ones((6, 3))}, r"\(6, 3\) does not fit.*\(6, 3\)"),
        ({"batch_weights": [1, 1, 1, -2, 1, 1]}, "must not be negative.*-2"),
        ({"renorm": True, "renorm_clipping": {"rmix": 1.0}}, "rmix.*rmin, rmax, dmax"),
        ({"renorm": True, "renorm_clipping": {"rmax": 0.5}}, "rmax.*at least 1.*0.5"),
        ({"renorm": True, "renorm_clipping": {"rmin": 1.5}}, "rmin.*1.5"),
        ({"renorm": True, "renorm_clipping": {"dmax": -1.0}}, "dmax.*-1.0"),
        ({"renorm": True, "renorm_decay": 1.5}, r"renorm_decay must.*\[0, 1\].*1\.5"),
        ({"adjustment": lambda shape: 1.0}, "must return a pair"),
        ({"adjustment": lambda shape: (1.0, 0.0, 0.0)}, "must return a pair"),
        ({"adjustment": lambda shape: (np.ones(2), 0.0)}, r"\(2,\) does not fit"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], words: str) -> None:
    tensors = ("is_training", "batch_weights", "decay")
    with session(), pytest.raises(ValueError, match=words):
        options = {k: v() if k in tensors and callable(v) else v for k, v in arguments.items()}
        batch_norm(tf.constant(X), **options)


@pytest.mark.parametrize(
    ("dtype", "shape", "data_format", "words"),
    [
        ("float32", None, "NHWC", "undefined rank"),
        ("float32", [], "NHWC", "rank 0"),
        ("float32", [3], "NHWC", "rank 1"),
        ("float32", [3], "NCHW", "rank 1"),
        ("float32", [3, None], "NHWC", r"\(3, None\).*undefined number of channels, axis -1"),
        ("float32", [3, None, 2], "NCHW", "undefined number of channels, axis 1"),
        ("complex64", [3, 2], "NHWC", "complex64"),
    ],
)
def test_inputs_that_are_refused(dtype: str, shape: Any, data_format: str, words: str) -> None:
    with session(), pytest.raises(ValueError, match=words):
        batch_norm(tf.placeholder(dtype, shape), data_format=data_format)


@pytest.mark.parametrize("name", ["decay", "batch_weights"])
def test_messages_name_the_argument(name: str) -> None:
    options: dict[str, Any] = {"decay": 2.0, "batch_weights": np.ones(5)}
    with session(), pytest.raises(ValueError, match=f"^{name}"):
        batch_norm(tf.constant(X), **{name: options[name]})


def test_weights_whose_rank_is_not_known() -> None:
    weights = np.array([1, 0, 2, 1, 1, 0])
    with session():
        fed = tf.placeholder(tf.float32)
        y = Layer((6, 3), batch_weights=fed).run(X, {fed: weights})
    assert_close(y, oracle.batch_norm(X, weights=weights).y, 1e-5)


def test_weights_that_a_session_finds_negative() -> None:
    with session():
        weights = tf.placeholder(tf.float32, [6])
        layer = Layer((6, 3), batch_weights=weights, renorm=True)
        before = layer.state()
        assert np.isnan(layer.run(X, {weights: [1, 1, -1, 1, 1, 1]})).all()
        assert all((layer.state()[name] == before[name]).all() for name in before)


def test_runs_that_interleave_lose_nothing() -> None:
    """Half of the runs infer; those that train go from one value of each variable to the next."""
    with session() as opened:
        flag = tf.placeholder(tf.bool, [])
        layer = Layer(
            (6, 3), is_training=flag, updates_collections=None, decay=0.5, renorm=True, fused=False
        )
        layer.load(moving_mean=np.full(3, 64.0))
        before = layer.state()
        failed: list[BaseException] = []

        def infer() -> None:
            try:
                for _ in range(100):
                    opened.run(layer.y, {layer.x: X, flag: False})
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=infer) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            layer.run(X, {flag: True})
        for thread in threads:
            thread.join()
        state = layer.state()
    assert not failed
    assert_close(state["moving_mean"], X.mean(0) + (before["moving_mean"] - X.mean(0)) / 16, 1e-5)


def test_steps_are_added_and_not_written() -> None:
    """A write by another run between the read and the write of a step is not lost."""
    with session() as opened:
        layer = Layer((6, 3), decay=0.5, fused=False, updates_collections="mine")
        mean = layer.variables["moving_mean"]
        types = {"AssignAddVariableOp", "AssignSubVariableOp"}
        graph = tf.get_default_graph()
        kinds = {
            operation.type
            for operation in graph.get_operations()
            if "AssignMovingAvg" in operation.name
        }
        assert kinds & types and "AssignVariableOp" not in kinds
        step = mean.assign_add(tf.ones(3))
        before = layer.state()["moving_mean"]
        threads = [
            threading.Thread(target=lambda: [opened.run(step) for _ in range(50)]) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for _ in range(3):
            opened.run(layer.updates, {layer.x: X * np.nan})  # a step of zero
        for thread in threads:
            thread.join()
        assert_close(layer.state()["moving_mean"], before + 100.0, 1e-6)


OLD = """
import json, sys
import numpy as np
import tensorflow.compat.v1 as tf
getattr(tf, sys.argv[1])()
from batchnorm.contrib import batch_norm

x = np.random.default_rng(0).normal(3.0, 2.0, (6, 2, 3)).astype("float32")
weights = np.array([1, 0, 2, 1, 3, 1], "float32")
dimension = type(tf.TensorShape([1])[0]).__name__
with tf.Graph().as_default(), tf.Session() as session:
    inputs, flag = tf.placeholder(tf.float32, [None, None, 3]), tf.placeholder(tf.bool, [])
    w, rmax = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [])
    dmax = tf.placeholder(tf.float32, [])
    training = tf.get_variable("flag", initializer=False, trainable=False)
    common = {"decay": 0.5, "epsilon": 0.25, "is_training": flag}
    clipping = {"rmax": rmax, "dmax": dmax}
    layers = {
        "debiased": {"zero_debias_moving_mean": True},
        "renorm": {"renorm": True, "renorm_clipping": clipping, "renorm_decay": 0.75},
        "weighted": {"batch_weights": w, "scale": True, "updates_collections": None},
        "variable": {"is_training": training, "scale": True, "fused": True},
    }
    ys = {name: batch_norm(inputs, scope=name, **common | own) for name, own in layers.items()}
    kinds = sorted({type(each).__name__ for each in tf.global_variables()})
    shapes = {name: str(y.shape) for name, y in ys.items()}
    gradients = {name: tf.gradients(tf.reduce_sum(y**3), inputs)[0] for name, y in ys.items()}
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    session.run(tf.global_variables_initializer())
    steps = []
    for step, trains in enumerate((True, True, False, True)):
        session.run(training.assign(trains))
        feed = {inputs: x * (step + 1), flag: trains, w: weights, rmax: 1.5, dmax: 0.25 * step}
        got = session.run([ys, gradients, updates], feed)
        state = session.run({each.op.name: each for each in tf.global_variables()[1:]})
        steps.append([got[0], got[1], state])
    try:
        batch_norm(inputs, renorm=True, adjustment=lambda shape: 1.0)
        refused = False
    except ValueError:
        refused = True
after = type(tf.TensorShape([1])[0]).__name__
result = {"dimension": [dimension, after], "kinds": kinds, "refused": refused, "shapes": shapes}
print(json.dumps(result | {"steps": steps}, default=lambda array: array.tolist()))
"""


@pytest.mark.parametrize(
    ("switch", "dimension", "kind"),
    [
        ("disable_v2_behavior", "Dimension", "RefVariable"),
        ("disable_resource_variables", "int", "RefVariable"),
    ],
)
def test_old_behaviours(switch: str, dimension: str, kind: str, tmp_path: Path) -> None:
    report = json.loads(output_of(OLD, switch, folder=tmp_path))
    # Also after an error, the last thing that is tried.
    assert report["dimension"] == [dimension, dimension] and report["refused"]
    assert report["kinds"] == [kind]
    x = np.random.default_rng(0).normal(3.0, 2.0, (6, 2, 3)).astype("float32")
    weights = {"weighted": np.array([1, 0, 2, 1, 3, 1])}
    start = {"moving_mean": np.zeros(3), "moving_variance": np.ones(3)}
    states: dict[str, Any] = dict.fromkeys(("debiased", "renorm", "weighted", "variable"), start)
    states["renorm"] = start | {"moving_stddev": np.ones(3), "renorm_mean": np.zeros(3)}
    states["renorm"]["renorm_stddev"] = np.ones(3)
    biased, t = np.zeros(3), 0
    for step, (ys, gradients, variables) in enumerate(report["steps"]):
        training, batch = step != 2, x * np.float32(step + 1)
        for name, state in states.items():
            options: dict[str, Any] = {
                "training": training,
                "epsilon": 0.25,
                "weights": weights.get(name),
            }
            options["renorm"] = (None, 1.5, 0.25 * step, 0.25) if name == "renorm" else None
            y, states[name] = oracle.step(batch, state, **options, rate=0.5)
            dx = oracle.step_gradients(batch, 3 * y**2, state, **options)[0]
            if name == "debiased":
                t += training
                if training:
                    biased = 0.5 * biased + 0.5 * batch.mean((0, 1))
                states[name]["moving_mean"] = biased / (1 - 0.5**t)
                own = variables["debiased/debiased/moving_mean/biased"]
                assert_close(own, biased, 1e-5)
                assert variables["debiased/debiased/moving_mean/local_step"] == t
            assert_close(ys[name], y, 1e-5)
            assert_close(gradients[name], dx, 1e-4)
            for last, value in states[name].items():
                assert_close(variables[f"{name}/{last}"], value, 1e-5)
    assert set(report["shapes"].values()) == {
        "(?, ?, 3)" if dimension == "Dimension" else "(None, None, 3)"
    }


LARGE = """
import json, sys
import numpy as np
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
from batchnorm.contrib import batch_norm

shape = json.loads(sys.argv[1])
x = np.random.default_rng(0).normal(1.5, 2.0, shape).astype("float32")
inputs = tf.placeholder(tf.float32, [None, *shape[1:]])
y = batch_norm(inputs, scale=True, is_training=True)
(dx,) = tf.gradients(tf.reduce_sum(y**3), inputs)
(second,) = tf.gradients(tf.reduce_sum(dx**2), inputs)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    ys, dxs, seconds = session.run([y, dx, second], {inputs: x})
np.savez("found.npz", y=ys, dx=dxs, finite=np.isfinite(seconds).all())
"""


@pytest.mark.parametrize("shape", [(40, 32, 32, 6), (20, 32, 32, 64)])
def test_large_inputs_of_old_behaviours(shape: tuple[int, ...], tmp_path: Path) -> None:
    output_of(LARGE, json.dumps(shape), folder=tmp_path)
    values = np.load(tmp_path / "found.npz")
    x = np.random.default_rng(0).normal(1.5, 2.0, shape).astype("float32")
    expected = oracle.batch_norm(x)
    assert_close(values["y"], expected.y, 1e-5)
    assert_close(values["dx"], oracle.gradients(x, 3 * expected.y**2).dx, 1e-4)
    assert values["finite"]
