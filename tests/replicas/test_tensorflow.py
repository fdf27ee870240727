"""Statistics over all replicas of a strategy are those of the whole batch."""

import subprocess
import sys

import keras
import pytest

from batchnorm import BatchNormalization

TENSORFLOW = keras.backend.backend() == "tensorflow"

# Logical devices can only be made before TensorFlow starts, so this has its own process.
PROGRAM = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from batchnorm import BatchNormalization, ZeroDebiased
from tests import oracle
from tests.compare import assert_close

mean, uneven = {mean}, {uneven}
random = np.random.default_rng(0)
parts = [random.normal(mean, 1, (4, 3, 2)), random.normal(mean + 5, 2, (2 if uneven else 4, 3, 2))]
parts = [part.astype("float32") for part in parts]
x = np.concatenate(parts)
dy = random.normal(size=x.shape).astype("float32")
dys = [dy[:4], dy[4:]]

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = BatchNormalization(moving=ZeroDebiased(0.5), synchronized=True)
    layer.build((None, 3, 2))
values = strategy.experimental_distribute_values_from_function

@tf.function
def step(x, dy):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(y * dy)
    return y, tape.gradient(loss, x)

each = lambda arrays: values(lambda context: tf.constant(arrays[context.replica_id_in_sync_group]))
results = strategy.run(step, (each(parts), each(dys)))
y, dx = (strategy.experimental_local_results(result) for result in results)
expected = oracle.batch_norm(x, momentum=0.0)
assert_close(np.concatenate(y), expected.y, 1e-5)
assert_close(np.concatenate(dx), oracle.gradients(x, dy).dx, 1e-5)
for replica in strategy.experimental_local_results(layer.moving_variance.value):
    assert_close(replica, expected.moving_variance, 1e-5)
for replica in strategy.experimental_local_results(layer.counter.step.value):
    assert int(replica) == 1
print("same as the whole batch")
"""


@pytest.mark.skipif(not TENSORFLOW, reason="strategies are TensorFlow's")
@pytest.mark.parametrize("mean", [0.0, 1e6])
@pytest.mark.parametrize("uneven", [False, True])
def test_two_replicas_measure_as_one(mean: float, uneven: bool) -> None:
    program = PROGRAM.format(mean=mean, uneven=uneven)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("same as the whole batch\n"), done.stderr


@pytest.mark.skipif(not TENSORFLOW, reason="other backends refuse it")
def test_one_replica_is_as_without() -> None:
    x = keras.random.normal((8, 3), seed=0)
    plain, synchronized = BatchNormalization(), BatchNormalization(synchronized=True)
    assert (plain(x, training=True) == synchronized(x, training=True)).numpy().all()


@pytest.mark.skipif(TENSORFLOW, reason="TensorFlow can")
def test_other_backends_refuse() -> None:
    with pytest.raises(ValueError, match="synchronized=True is only supported"):
        BatchNormalization(synchronized=True)
