"""`batch_norm` against records of tf.contrib's own, step by step, with its variables."""

from typing import Any

import keras
import numpy as np
import pytest

from tests.compare import assert_close
from tests.differentiate import Array
from tests.golden import FOLDER, Case, adjustment, cases, momentum

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm.contrib import batch_norm

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the golden numbers are not here: {FOLDER} is absent"
)

SLIM = {id: case for id, case in cases().items() if id.startswith("slim/")}
# As in tests/test_golden.py: half precision rounds y and dx, the rest is float32 beside it.
TOLERANCE = {"float32": 2e-5, "float16": 2e-5, "float64": 1e-12}
HALF = 2.0**-10


def arguments(case: Case) -> dict[str, Any]:
    """Returns the arguments of the recorded call, except those that contrib ignored."""
    kwargs: dict[str, Any] = case.record["kwargs"] | {"decay": momentum(case)}
    if kwargs.get("updates_collections") == "UPDATE_OPS":
        kwargs["updates_collections"] = tf.GraphKeys.UPDATE_OPS
    if "activation_fn" in kwargs:
        kwargs["activation_fn"] = getattr(tf.nn, kwargs["activation_fn"])
    if "batch_weights" in kwargs:
        kwargs["batch_weights"] = case.arrays["bw"]
    if case.record["id"].endswith("_ignored"):  # the adjustment, beside which it could not fuse
        del kwargs["adjustment"]
        kwargs["fused"] = False
    if "adjustment" in kwargs:
        kwargs["adjustment"] = adjustment(case)
    return kwargs


def collection(kwargs: dict[str, Any]) -> str | None:
    name = kwargs.get("updates_collections", tf.GraphKeys.UPDATE_OPS)
    return None if name is None else str(name)


def replay(case: Case, **changed: Any) -> None:
    """Builds a graph with the case's arguments, runs its steps, and compares everything."""
    options, kwargs = case.record, arguments(case) | changed
    flags = options["training"]
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(options["dtype"], options["shape"])
        fed = tf.placeholder(tf.bool, [])
        training = fed if options["is_training_placeholder"] else flags[0]
        y = batch_norm(x, is_training=training, **kwargs)
        updates = tf.get_collection(collection(kwargs)) if collection(kwargs) else []
        assert len(updates) == options["n_update_ops"]
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        check_variables(case, variables)
        wide = tf.float64 if options["dtype"] == "float64" else tf.float32
        loss = tf.reduce_sum(tf.cast(y, wide) * tf.cast(case.arrays["g"], wide))
        sought = {"dx": x}
        sought |= {f"d{name.rpartition('/')[2]}": v for name, v in variables.items()}
        sought = {name: sought[name] for name in options["gradients"]}
        fetches = {"y": y, **dict(zip(sought, tf.gradients(loss, [*sought.values()]), strict=True))}
        session.run(tf.global_variables_initializer())
        for t, flag in enumerate(flags):
            for name, variable in variables.items():
                if t == 0 or variable in tf.trainable_variables():  # by the original's optimizer
                    variable.load(row(case, name, t), session)
            feed = {x: case.arrays["x"][t], fed: flag}
            actual, _ = session.run([fetches, updates], feed)
            check_step(case, t, actual, session.run(variables))


def row(case: Case, name: str, t: int) -> Array:
    """Returns a variable before step t."""
    value: Array = case.variables[name.rpartition("/")[2]][t]
    return value


def check_variables(case: Case, variables: dict[str, Any]) -> None:
    """Compares names, shapes, dtypes and collections with the original's."""
    assert set(variables) == set(case.record["variables"])
    trained, model = tf.trainable_variables(), tf.model_variables()
    for name, expected in case.record["variables"].items():
        variable = variables[name]
        assert variable.shape.as_list() == expected["shape"]
        assert variable.dtype.base_dtype == expected["dtype"]
        assert any(variable is member for member in trained) == expected["trainable"]
        assert any(variable is member for member in model) == expected["model_variable"]


def check_step(case: Case, t: int, actual: dict[str, Array], state: dict[str, Array]) -> None:
    dtype = case.record["dtype"]
    for name, value in actual.items():
        rounded = dtype == "float16" and name in ("y", "dx")
        assert value.dtype == case.arrays[name].dtype
        assert_close(value, case.arrays[name][t], HALF if rounded else TOLERANCE[dtype])
    for name, value in state.items():
        if "beta" not in name and "gamma" not in name:
            assert_close(value, row(case, name, t + 1), TOLERANCE[dtype])


@pytest.mark.parametrize("id", SLIM)
def test_replay(id: str) -> None:
    replay(SLIM[id])


def test_every_case_is_replayed() -> None:
    assert len(SLIM) == 104


@pytest.mark.parametrize(
    "id, changed",
    [
        ("slim/train_r4_fusedTrue", {"fused": False}),
        ("slim/train_r3_fusedNone", {"decay": 0.8}),
        ("slim/bw_r4_None", {"batch_weights": np.ones(4, "float32")}),
    ],
)
def test_a_replay_can_fail(id: str, changed: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="above the tolerance"):
        replay(SLIM[id], **changed)
