"""The variables, operations, collections and losses that `contrib.batch_norm` adds to a graph."""

from typing import Any

import keras
import numpy as np
import pytest

from tests.compare import assert_close

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm.contrib import batch_norm
from tests.contrib.graphs import initialize, names, session, updates, value

MOVING = ["moving_mean", "moving_variance"]
RENORM = ["moving_stddev", "renorm_mean", "renorm_stddev"]
X = np.random.default_rng(0).normal(1.5, 2.0, (6, 3)).astype("float32")


def added(scope: str, *own: str) -> list[str]:
    return [f"{scope}/{name}" for name in own]


def test_the_names_of_scopes() -> None:
    with session():
        x = tf.constant(X)
        batch_norm(x)
        batch_norm(x, is_training=False)
        batch_norm(x, scope="own")
        with tf.variable_scope("outer"):
            batch_norm(x)
            batch_norm(x)
            with tf.variable_scope("inner"):
                y = batch_norm(x)
        with tf.variable_scope("taken") as scope:
            pass
        batch_norm(x, scope=scope)
        scopes = ["BatchNorm", "BatchNorm_1", "own", "outer/BatchNorm", "outer/BatchNorm_1"]
        scopes += ["outer/inner/BatchNorm", "taken"]
        assert names() == [name for scope in scopes for name in added(scope, "beta", *MOVING)]
        assert y.op.name.startswith("outer/inner/BatchNorm/")
        assert y.shape.as_list() == [6, 3]


@pytest.mark.parametrize(
    ("arguments", "own"),
    [
        ({}, ["beta", *MOVING]),
        ({"scale": True}, ["beta", "gamma", *MOVING]),
        ({"center": False}, MOVING),
        ({"renorm": True}, ["beta", *MOVING, *RENORM]),
        ({"renorm": True, "is_training": False}, ["beta", *MOVING, *RENORM]),
        ({"batch_weights": np.ones(6)}, ["beta", *MOVING]),
        ({"updates_collections": None}, ["beta", *MOVING]),
    ],
    ids=str,
)
def test_the_variables(arguments: dict[str, Any], own: list[str]) -> None:
    with session():
        batch_norm(tf.constant(X), **arguments)
        expected = added("BatchNorm", *own)
        assert sorted(names()) == sorted(names("model_variables")) == sorted(expected)
        affine = [name for name in expected if name[-4:] in ("beta", "amma")]
        assert sorted(names("trainable_variables")) == sorted(affine)
        assert {variable.shape.as_list()[0] for variable in tf.global_variables()} == {3}
        assert {variable.dtype.base_dtype for variable in tf.global_variables()} == {tf.float32}


@pytest.mark.parametrize(("fused", "model"), [(None, False), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_the_variables_of_zero_debias(fused: bool | None, model: bool, nested: bool) -> None:
    with session():
        with tf.variable_scope("a" if nested else tf.get_variable_scope()):
            batch_norm(tf.constant(X), zero_debias_moving_mean=True, fused=fused)
        scope = "a/BatchNorm" if nested else "BatchNorm"
        own = added(f"{scope}/{scope}/moving_mean", "biased", "local_step")
        assert sorted(names()) == sorted([*added(scope, "beta", *MOVING), *own])
        assert set(own) <= set(names("model_variables")) or not model
        assert not set(own) & set(names("trainable_variables"))
        assert bool(set(own) & set(names("model_variables"))) == model


def test_zero_debias_after_a_use_that_did_not_train() -> None:
    with session() as opened:
        flags = (False, True, False)
        ys = [
            batch_norm(
                tf.constant(X),
                is_training=training,
                zero_debias_moving_mean=True,
                scope="a",
                reuse=tf.AUTO_REUSE if place == 0 else True,
                epsilon=0.0,
            )
            for place, training in enumerate(flags)
        ]
        assert len(names()) == 5 and len(updates()) == 2
        initialize()
        opened.run(updates())
        assert_close(value("a/moving_mean"), X.mean(0), 1e-5)
        assert_close(opened.run(ys[1]), (X - X.mean(0)) / X.std(0), 1e-5)
        assert_close(opened.run(ys[0]), opened.run(ys[2]), 0.0)


@pytest.mark.parametrize("how", ["argument", "auto", "scope", "outer"])
def test_reuse(how: str) -> None:
    with session() as opened:
        x = tf.constant(X)
        arguments: dict[str, Any] = {"scope": "a", "scale": True, "renorm": True}
        if how == "outer":
            for _ in range(2):
                with tf.variable_scope("outer", reuse=tf.AUTO_REUSE):
                    batch_norm(x, **arguments)
        else:
            batch_norm(x, **arguments, reuse=tf.AUTO_REUSE if how == "auto" else None)
            if how == "scope":
                tf.get_variable_scope().reuse_variables()
            reuse = {"argument": True, "auto": tf.AUTO_REUSE, "scope": None}[how]
            batch_norm(x, **arguments, reuse=reuse)
        assert len(names()) == len(set(names())) == 7 == len(names("model_variables"))
        assert len(names("trainable_variables")) == 2
        assert len(updates()) == 4
        initialize()
        opened.run(updates())  # each adds its own
        moving = value("outer/a/moving_mean" if how == "outer" else "a/moving_mean")
        assert_close(moving, 0.002 * X.mean(0), 1e-5)


def test_reuse_of_nothing() -> None:
    with session(), pytest.raises(ValueError, match="a/beta does not exist"):
        batch_norm(tf.constant(X), scope="a", reuse=True)
    with session(), pytest.raises(ValueError, match="reuse=True cannot be used without"):
        batch_norm(tf.constant(X), reuse=True)
    with session():
        batch_norm(tf.constant(X), scope="a")
        with pytest.raises(ValueError, match="already exists"):
            batch_norm(tf.constant(X), scope="a")


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize(
    ("collections", "held"),
    [
        ("mine", {"mine": ["beta", "gamma", *MOVING]}),
        (["mine", "yours"], dict.fromkeys(("mine", "yours"), ["beta", "gamma", *MOVING])),
        ({"beta": "mine", "moving_mean": ["mine", "yours"]}, {"mine": ["beta", "moving_mean"]}),
        ({"gamma": ["yours"], "other": ["mine"]}, {"yours": ["gamma"], "mine": []}),
        (None, {"mine": []}),
    ],
    ids=str,
)
def test_variables_collections(collections: Any, held: dict[str, list[str]], reused: bool) -> None:
    with session():
        for use in (None, collections, collections) if reused else (collections,):
            batch_norm(
                tf.constant(X),
                scale=True,
                scope="a",
                reuse=tf.AUTO_REUSE,
                variables_collections=use,
            )
        for collection, own in held.items():
            assert names(collection) == added("a", *own)
        assert len(names()) == 4


def test_outputs_collections() -> None:
    with session():
        y = batch_norm(tf.constant(X), outputs_collections="mine", activation_fn=tf.nn.relu)
        with tf.variable_scope("outer"):
            z = batch_norm(tf.constant(X), outputs_collections=["mine", "yours"])
        other = batch_norm(tf.constant(X), outputs_collections=None)
        assert [member is y or member is z for member in tf.get_collection("mine")] == [True, True]
        assert tf.get_collection("yours") == [z]
        assert y.op.type == "Relu"
        assert (y.aliases, z.aliases) == (["BatchNorm"], ["outer/BatchNorm"])
        assert not hasattr(other, "aliases")


@pytest.mark.parametrize("weights", [None, np.ones(6, "float32")], ids=["plain", "weights"])
def test_regularizers(weights: Any) -> None:
    with session() as opened:
        for _ in range(2):
            batch_norm(
                tf.constant(X),
                scale=True,
                scope="a",
                reuse=tf.AUTO_REUSE,
                batch_weights=weights,
                param_initializers={
                    "beta": tf.constant_initializer([1.0, 2.0, 3.0]),
                    "gamma": tf.constant_initializer(2.0),
                },
                param_regularizers={
                    "beta": tf.reduce_sum,
                    "gamma": lambda gamma: tf.reduce_sum(gamma**2),
                },
            )
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        assert len(losses) == 2  # a variable that is reused has its own already
        initialize()
        assert sorted(opened.run(losses)) == [6.0, 12.0]
        assert opened.run(tf.losses.get_regularization_loss()) == 18.0


def test_initializers() -> None:
    options: dict[str, Any] = {
        "beta": 1.0,
        "gamma": [2.0, 3.0, 4.0],
        "moving_mean": -1.0,
        "moving_variance": 9.0,
    }
    with session() as opened:
        batch_norm(
            tf.constant(X),
            scale=True,
            renorm=True,
            param_initializers={k: tf.constant_initializer(v) for k, v in options.items()},
        )
        initialize()
        read = {
            variable.op.name[10:]: opened.run(variable).tolist()
            for variable in tf.global_variables()
        }
    ones = {"moving_stddev": 3.0, "renorm_mean": -1.0, "renorm_stddev": 3.0}
    full = {**options, **ones}
    assert read == {name: np.broadcast_to(value, 3).tolist() for name, value in full.items()}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"batch_weights": np.ones(6)},
        {"renorm": True},
        {"zero_debias_moving_mean": True},
        {"renorm": True, "zero_debias_moving_mean": True, "batch_weights": np.ones(6)},
    ],
    ids=["plain", "weights", "renorm", "zero-debias", "all"],
)
def test_two_update_operations(more: dict[str, Any]) -> None:
    with session() as opened:
        batch_norm(tf.constant(X), is_training=False, **more)
        assert updates() == []
        flag = tf.placeholder_with_default(True, [])
        batch_norm(tf.constant(X), is_training=flag, decay=0.5, scope="a", **more)
        assert len(updates()) == 2
        assert {update.op.name.split("/")[0] for update in updates()} == {"a"}
        batch_norm(tf.constant(X), **more, updates_collections="mine")
        assert (len(updates()), len(tf.get_collection("mine"))) == (2, 2)
        batch_norm(tf.constant(X), **more, updates_collections=["mine", "yours"])
        assert len(tf.get_collection("mine")) == 4
        assert tf.get_collection("mine")[2:] == tf.get_collection("yours")
        initialize()
        before = opened.run(tf.global_variables("a/"))
        # Either of the two changes the moving mean with all that it is made of, once.
        opened.run(updates())
        after = dict(zip(names(), opened.run(tf.global_variables()), strict=True))
        share = 1.0 if "zero_debias_moving_mean" in more else 0.5
        assert_close(after["a/moving_mean"], share * X.mean(0), 1e-5)
        opened.run(updates(), {flag: False})
        again = dict(zip(names(), opened.run(tf.global_variables()), strict=True))
        assert all((again[name] == after[name]).all() for name in after)
        assert len(before) == len([name for name in names() if name.startswith("a/")])


@pytest.mark.parametrize(
    ("shape", "more", "count"),
    [
        ((6, 3), {}, 2),  # contrib's own fused way
        ((6, 3), {"fused": False}, 0),  # tf.layers
        ((6, 2, 3), {}, 0),
        ((6, 2, 2, 3), {}, 0),
        ((6, 2, 2, 3), {"renorm": True}, 0),
        ((6, 2, 2, 3), {"updates_collections": ["update_ops"]}, 2),
        ((6, 2, 2, 3), {"zero_debias_moving_mean": True}, 2),
        ((6, 2, 2, 3), {"batch_weights": np.ones(6)}, 2),
    ],
    ids=str,
)
def test_not_trainable(shape: tuple[int, ...], more: dict[str, Any], count: int) -> None:
    with session() as opened:
        x = tf.random.stateless_normal(shape, (1, 2), 5.0, 3.0)
        y = batch_norm(x, trainable=False, scale=True, **more)
        assert len(updates()) == count
        assert names("trainable_variables") == []
        assert len(names("model_variables")) >= 4
        initialize()
        axes = tuple(range(len(shape) - 1))
        if "renorm" not in more:
            assert_close(opened.run(y).mean(axes), np.zeros(3), 1e-5)  # by the batch


def test_y_waits_where_there_is_no_collection() -> None:
    with session() as opened:
        flag = tf.placeholder(tf.bool, [])
        y = batch_norm(
            tf.constant(X), is_training=flag, decay=0.0, updates_collections=None, fused=False
        )
        loss = tf.reduce_sum(y**2)
        assert updates() == []
        initialize()
        opened.run(loss, {flag: False})
        moving = ("BatchNorm/moving_mean", "BatchNorm/moving_variance")
        assert [value(name).tolist() for name in moving] == [[0] * 3, [1] * 3]
        opened.run(loss, {flag: True})
        mean, variance = map(value, moving)
        assert_close(mean, X.mean(0), 1e-6)
        assert_close(variance, X.var(0), 1e-6)


def test_a_training_step_of_the_usual_kind() -> None:
    with session() as opened:
        y = batch_norm(tf.constant(X), decay=0.5, scale=True, fused=False)
        target = tf.constant(np.roll(X, 1, axis=0))
        loss = tf.reduce_mean((y - target) ** 2)
        with tf.control_dependencies(updates()):
            train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        initialize()
        first = opened.run(loss)
        for step in range(1, 4):
            opened.run(train)
            assert_close(value("BatchNorm/moving_mean"), (1 - 0.5**step) * X.mean(0), 1e-5)
        assert opened.run(loss) < 0.9 * first


@pytest.mark.parametrize("fed", [False, True])
def test_partitioners_cut_gamma_and_beta_alone(fed: bool) -> None:
    x = np.random.default_rng(1).normal(1.5, 2.0, (6, 4)).astype("float32")
    with session() as opened:
        flag = tf.placeholder_with_default(True, []) if fed else True
        with tf.variable_scope("a", partitioner=tf.fixed_size_partitioner(2)):
            y = batch_norm(
                tf.constant(x),
                is_training=flag,
                scale=True,
                decay=0.5,
                renorm=True,
                zero_debias_moving_mean=True,
                variables_collections=["mine"],
                param_initializers={"gamma": tf.constant_initializer(2.0)},
                renorm_clipping={"rmax": 1.0, "rmin": 1.0, "dmax": 0.0},
            )
        parts = [f"a/BatchNorm/{name}/part_{k}" for name in ("beta", "gamma") for k in (0, 1)]
        assert sorted(names("trainable_variables")) == parts
        expected = {f"a/BatchNorm/{name}" for name in (*MOVING, *RENORM)}
        own = {f"a/BatchNorm/a/BatchNorm/moving_mean/{k}" for k in ("biased", "local_step")}
        assert set(names()) == {*parts, *expected, *own}
        assert sorted(names("mine")) == sorted([*parts, *expected])
        gradients = tf.gradients(y, tf.trainable_variables(), tf.constant(x))
        initialize()
        actual, sums, _ = opened.run([y, gradients, updates()])
        assert_close(value("a/BatchNorm/moving_mean"), x.mean(0), 1e-5)
    normalized = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3)
    assert_close(actual, 2 * normalized, 1e-5)
    assert_close(np.concatenate(sums[:2]), x.sum(0), 1e-5)
    assert_close(np.concatenate(sums[2:]), (normalized * x).sum(0), 1e-5)
