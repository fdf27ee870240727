"""`contrib.batch_norm` used more than once: its variables follow all of the uses."""

import itertools
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.compare import assert_close
from tests.process import output_of

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from batchnorm.contrib import batch_norm
from tests.contrib.graphs import initialize, session, updates, value

X = np.random.default_rng(0).normal(1.5, 2.0, (6, 3)).astype("float32")
RATE, STEPS, EPSILON = 0.25, 3, 0.001


def outcomes(start: Any, batches: Any) -> list[tuple[Any, Any, int]]:
    """Returns the possible averages after two uses in a step, in any order or in parallel.

    The average, and what the last one to look had seen of it: all, or the first step alone; and
    how many steps that were.
    """
    states = []
    for one, other in itertools.permutations(batches):
        first = start + RATE * (one - start)
        for seen in (start, first):
            full = first + RATE * (other - seen)
            states += [(full, full, 2), (full, first, 1)]
    return states


def all_close(*pairs: Any) -> bool:
    return all(np.allclose(actual, expected, 1e-5, 1e-6) for actual, expected in pairs)


def test_two_uses_in_a_step_with_zero_debias() -> None:
    with session() as opened:
        for use in range(2):
            batch_norm(
                tf.constant(X * (use + 1)),
                decay=1 - RATE,
                zero_debias_moving_mean=True,
                scope="a",
                reuse=bool(use),
            )
        initialize()
        biased = np.zeros(3)
        for step in range(STEPS):
            opened.run(updates())
            expected = outcomes(biased, [X.mean(0), 2 * X.mean(0)])
            biased, mean = value("a/a/moving_mean/biased"), value("a/moving_mean")
            assert value("a/a/moving_mean/local_step") == 2 * (step + 1)
            assert any(
                all_close((biased, full), (mean, seen / (1 - (1 - RATE) ** (2 * step + count))))
                for full, seen, count in expected
            )


def test_two_uses_in_a_step_with_renorm() -> None:
    with session() as opened:
        for use in range(2):
            batch_norm(
                tf.constant(X * (use + 1)), decay=1 - RATE, renorm=True, scope="a", reuse=bool(use)
            )
        initialize()
        stddev = np.ones(3)
        for _ in range(STEPS):
            opened.run(updates())
            deviations = [np.sqrt((use * X).var(0) + EPSILON) for use in (1, 2)]
            expected = outcomes(stddev, deviations)
            stddev, variance = value("a/moving_stddev"), value("a/moving_variance")
            assert any(
                all_close((stddev, full), (variance, seen**2 - EPSILON))
                for full, seen, _ in expected
            )


@pytest.mark.parametrize("options", [{}, {"zero_debias_moving_mean": True}, {"renorm": True}])
def test_one_after_the_other(options: dict[str, Any]) -> None:
    """The second use, of what the first has made, follows it."""
    with session() as opened:
        y = tf.constant(X)
        for use in range(2):
            y = batch_norm(
                y,
                decay=1 - RATE,
                updates_collections=None,
                renorm_clipping={"rmax": 1.0, "dmax": 0.0},
                scope="a",
                reuse=bool(use),
                **options,
            )
            y = y + 1.0
        initialize()
        opened.run(y)
        mean = ((1 - RATE) * RATE * X.mean(0) + RATE * 1.0) / (
            1 - (1 - RATE) ** 2 if "zero_debias_moving_mean" in options else 1.0
        )
        assert_close(value("a/moving_mean"), mean, 1e-6)


def test_in_a_loop() -> None:
    with session() as opened:
        batch_norm(tf.constant(X), scope="a", is_training=False)

        def body(i: Any, y: Any) -> Any:
            with tf.variable_scope(tf.get_variable_scope(), reuse=True):
                y = batch_norm(y, decay=1 - RATE, updates_collections=None, scope="a")
            return i + 1, y + 1.0

        _, y = tf.while_loop(lambda i, y: i < 2, body, [0, tf.constant(X)])
        initialize()
        opened.run(y)
        assert_close(value("a/moving_mean"), (1 - RATE) * RATE * X.mean(0) + RATE, 1e-6)


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"renorm": True, "renorm_decay": np.array(1)}])
def test_averages_that_stay(options: dict[str, Any]) -> None:
    with session() as opened:
        batch_norm(tf.constant(X), scope="a", **options)
        initialize()
        opened.run(updates())
        name = "moving" if "decay" in options else "renorm"
        assert_close(value(f"a/{name}_mean"), np.zeros(3), 0)


REPLICAS = """
import json, tempfile
import numpy as np
import tensorflow.compat.v1 as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from batchnorm.contrib import batch_norm

x = np.random.default_rng(0).normal(1.5, 2.0, (6, 3)).astype("float32")
strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])

def use():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    options = {"zero_debias_moving_mean": True, "decay": 0.5, "updates_collections": None}
    inputs = tf.constant(x) + 10.0 * tf.cast(replica, tf.float32)
    return tf.reduce_mean(batch_norm(inputs, scope="a", **options))

with tf.Graph().as_default(), strategy.scope(), tf.Session() as session:
    outputs = strategy.experimental_local_results(strategy.run(use))
    session.run(tf.global_variables_initializer())
    session.run(outputs)
    saved = tf.train.load_checkpoint(tf.train.Saver().save(session, tempfile.mkdtemp() + "/model"))
names = ["a/moving_mean", "a/a/moving_mean/biased", "a/a/moving_mean/local_step"]
print(json.dumps([saved.get_tensor(name).tolist() for name in names]))
"""


def test_replicas_are_averaged(tmp_path: Path) -> None:
    printed = output_of(REPLICAS, folder=tmp_path)
    mean, biased, step = json.loads(printed.splitlines()[-1])
    assert_close(mean, X.mean(0, np.float64) + 5.0, 1e-6)
    assert_close(biased, (X.mean(0, np.float64) + 5.0) / 2, 1e-6)
    assert step == 1
