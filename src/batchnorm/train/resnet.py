"""A ResNet, trained as the settings say; see `batchnorm.train.classify.Recipe`."""

import keras

from batchnorm.data import Dataset
from batchnorm.models.resnet import resnet
from batchnorm.train.augment import Augmented
from batchnorm.train.batches import Shuffled
from batchnorm.train.normalization import normalization
from batchnorm.train.optimizer import learning_rates
from batchnorm.train.settings import ResNetSettings


def batches(settings: ResNetSettings, data: Dataset) -> Shuffled:
    """The training images, shuffled, and moved and flipped unless told otherwise."""
    kind = Augmented if settings.augment else Shuffled
    return kind(data.train, settings.batch_size, settings.seed)


def build(settings: ResNetSettings, data: Dataset) -> keras.Model:
    """A ResNet for the images and the classes of a data set."""
    height, width, channels = data.train.images.shape[1:]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        return resnet(
            (height, width, channels),
            len(data.classes),
            settings.depth,
            settings.block,
            normalization(settings.normalization),
        )
    finally:
        keras.config.set_dtype_policy(before)


def optimizer(
    settings: ResNetSettings, model: keras.Model, steps: int
) -> keras.optimizers.Optimizer:
    """Stochastic gradient descent with momentum, and a decay of the weights.

    Keras takes the decay off the weights beside the gradient's step (Loshchilov, Hutter 2019,
    arXiv:1711.05101, algorithm 1), without momentum: a penalty of `c / 2 * sum(kernel**2)`, as
    others have it, comes to `weight_decay = c / (1 - momentum)`.
    """
    rates = learning_rates(settings.schedule, settings.learning_rate, settings.epochs, steps)
    sgd = keras.optimizers.SGD(
        rates, momentum=settings.momentum, weight_decay=settings.weight_decay or None
    )
    if settings.decay == "kernels":
        spared = [each for each in model.trainable_variables if each.name != "kernel"]
        sgd.exclude_from_weight_decay(var_list=spared)
    return sgd
