"""Trains LeNet with TensorFlow 1 code on today's TensorFlow: one import is new.

    python examples/tf1_lenet.py --output /tmp/tf1_lenet
    batchnorm import-tf1 /tmp/tf1_lenet --model lenet --output lenet.keras

It has a graph, a queue of batches, placeholders, update operations before the training operation
and a Saver; `tf.contrib.layers` has become `batchnorm.contrib`. It trains on the sample of
Fashion-MNIST that comes with the package, prints the test accuracy in inference mode after each
epoch, and continues from the last checkpoint if there is one.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from batchnorm import contrib as layers
from batchnorm import data

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.ERROR)

BATCH = 50
Tensor = Any


def lenet(images: Tensor, is_training: Tensor) -> Tensor:
    """Builds the logits `(N, 10)` of images `(N, 28, 28, 1)` with pixels from 0 to 255."""
    normalization = {"decay": 0.99, "scale": True, "is_training": is_training}
    with (
        layers.arg_scope([layers.batch_norm], activation_fn=tf.nn.sigmoid, **normalization),
        layers.arg_scope([layers.conv2d, layers.fully_connected], activation_fn=None),
    ):
        x = images / 255.0
        for name, filters in (("1", 6), ("2", 16)):
            x = layers.conv2d(x, filters, 5, padding="VALID", scope=f"convolution_{name}")
            x = layers.batch_norm(x, scope=f"normalization_{name}")
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.reshape(x, [-1, 4 * 4 * 16])
        for name, units in (("3", 120), ("4", 84)):
            x = layers.fully_connected(x, units, scope=f"dense_{name}")
            x = layers.batch_norm(x, scope=f"normalization_{name}")
        return layers.fully_connected(x, 10, scope="logits")


def train(folder: Path, epochs: int, seed: int) -> None:
    """Trains; after each epoch it saves a checkpoint and prints the accuracy on test images."""
    fashion = data.load("fashion-mnist-sample")
    tf.set_random_seed(seed)
    one = tf.train.slice_input_producer(
        [fashion.train.images, fashion.train.labels.astype("int32")], seed=seed
    )
    queued, queued_labels = tf.train.batch(one, BATCH, capacity=10 * BATCH)
    images = tf.placeholder_with_default(tf.cast(queued, tf.float32), [None, 28, 28, 1])
    labels = tf.placeholder_with_default(queued_labels, [None])
    is_training = tf.placeholder_with_default(False, [])

    logits = lenet(images, is_training)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    right = tf.equal(tf.argmax(logits, 1, output_type=tf.int32), labels)
    accuracy = tf.reduce_mean(tf.cast(right, tf.float32))
    step = tf.train.get_or_create_global_step()
    steps = epochs * len(fashion.train.labels) // BATCH
    rate = tf.train.cosine_decay(1e-2, step, steps)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer(rate).minimize(loss, step)

    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        if last := tf.train.latest_checkpoint(folder):
            saver.restore(session, last)
        coordinator = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(session, coordinator)
        for done in range(session.run(step), steps):
            session.run(train_op, {is_training: True})
            if (done + 1) % (steps // epochs) == 0:
                saver.save(session, str(folder / "model.ckpt"), step)
                test = {images: fashion.test.images, labels: fashion.test.labels}
                print(f"step {done + 1}: test accuracy {session.run(accuracy, test):.3f}")
        coordinator.request_stop()
        coordinator.join(threads)


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="folder of the checkpoints")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.output or Path(tempfile.mkdtemp(prefix="tf1_lenet_"))
    folder.mkdir(parents=True, exist_ok=True)
    train(folder, arguments.epochs, arguments.seed)
    print(f"checkpoints: {folder}")


if __name__ == "__main__":
    main()
