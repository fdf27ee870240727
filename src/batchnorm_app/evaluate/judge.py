"""A classifier of real images that judges generated ones."""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.data import Split
from batchnorm.layer import BatchNormalization
from batchnorm.models.classifier import FEATURES, classifier
from batchnorm_app.train.batches import Batches, Shuffled, ShuffleEachEpoch, pad_to_whole_batches

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float64]


def train_judge(
    split: Split,
    classes: int,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 0.003,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Trains `batchnorm.models.classifier` by Adam, whose rate falls to 0 along half a cosine.

    Neither reads nor advances a global random generator, so that it may run within another
    training. The weights are a function of the arguments, bit for bit if the backend's operations
    are deterministic; see `batchnorm_app.train.loop.make_repeatable`.

    Args:
        split: images and labels to learn from.
        classes: number of classes.
        epochs: passes over the images; 5 are enough for Fashion-MNIST.
        batch_size: images in a batch.
        learning_rate: of the first step.
        seed: of the initial weights and of the order of the images.
        callbacks: Keras callbacks, such as one that shows the progress.

    Returns:
        The classifier, from images `(N, H, W, C)` to logits `(N, classes)`, compiled.

    Raises:
        ValueError: a label lies outside `[0, classes)`, or `epochs` is less than 1.
        UserError: there are fewer images than fill a batch.

    Example:
        >>> from batchnorm.data import load
        >>> from batchnorm_app.train.accuracy import accuracy
        >>> data = load("fashion-mnist-sample")
        >>> judge = train_judge(data.train, 10, epochs=1)
        >>> accuracy(judge, data.test, 500) > 0.7
        True
    """
    if epochs < 1:
        raise ValueError(f"received epochs={epochs}: a judge needs at least 1 epoch of training.")
    invalid = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
    if invalid.size:
        raise ValueError(
            f"received the label {split.labels[invalid[0]]} at place {invalid[0]}; for "
            f"classes={classes}, labels are from 0 to {classes - 1}."
        )
    height, width, channels = split.images.shape[1:]
    model = classifier((height, width, channels), classes, normalization=_normalization, seed=seed)
    batches = Shuffled(split, batch_size, seed)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, len(batches) * epochs)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    # Shuffled permutes the images itself; Keras would use Python's global generator.
    order = ShuffleEachEpoch(batches)
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[order, *callbacks])
    return model


def features(judge: keras.Model, images: Images, batch_size: int = 500) -> Features:
    """Returns the outputs of a judge's layer `"features"`, in inference mode.

    Args:
        judge: from `train_judge`, or another functional model with a layer of that name.
        images: `(N, H, W, C)`.
        batch_size: images in a batch.

    Returns:
        `(N, D)`; `D` is 128 for a judge of the default width.

    Raises:
        ValueError: there are no images.

    Example:
        >>> from batchnorm.data import load
        >>> from batchnorm.models.classifier import classifier
        >>> features(classifier(), load("fashion-mnist-sample").test.images).shape
        (1000, 128)
    """
    return outputs(keras.Model(judge.input, judge.get_layer(FEATURES).output), images, batch_size)


def predictions(judge: keras.Model, images: Images, batch_size: int = 500) -> npt.NDArray[np.int64]:
    """Returns the class that a judge assigns to each image, in inference mode.

    Args:
        judge: from images to logits `(N, classes)`.
        images: `(N, H, W, C)`.
        batch_size: images in a batch.

    Returns:
        Labels, `(N,)`.

    Raises:
        ValueError: there are no images.

    Example:
        >>> from batchnorm.data import load
        >>> from batchnorm.models.classifier import classifier
        >>> predictions(classifier(), load("fashion-mnist-sample").test.images).shape
        (1000,)
    """
    labels: npt.NDArray[np.int64] = outputs(judge, images, batch_size).argmax(-1)
    return labels


def outputs(model: keras.Model, images: Images, batch_size: int = 500) -> Features:
    """Returns a model's outputs for images, in inference mode.

    Args:
        model: from images to `(N, D)`.
        images: `(N, H, W, C)`.
        batch_size: images in a batch.

    Returns:
        `(N, D)`, in the order of the images.

    Raises:
        ValueError: there are no images.

    Example:
        >>> from batchnorm.data import load
        >>> from batchnorm.models.lenet import lenet
        >>> outputs(lenet(), load("fashion-mnist-sample").test.images).shape
        (1000, 10)
    """
    count = len(images)
    if count == 0:
        raise ValueError("received no images; at least one is needed.")
    batch_size = min(batch_size, count)
    rows = pad_to_whole_batches(np.arange(count), batch_size)
    unlabelled = Split(images[rows], np.zeros(len(rows), np.int64))
    values: Features = model.predict(Batches(unlabelled, batch_size), verbose=0)
    return values[:count].astype(np.float64)


def _normalization() -> BatchNormalization:
    # With Keras's default of 0.99 the initial values would still show after a short training.
    return BatchNormalization(momentum=0.9)
