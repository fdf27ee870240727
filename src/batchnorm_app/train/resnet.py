"""The recipe of a ResNet; see `batchnorm_app.train.classifier.Recipe`."""

import keras

from batchnorm.data import Dataset
from batchnorm.models.resnet import resnet
from batchnorm_app.runs.settings import ResNetSettings
from batchnorm_app.train.augment import Augmented
from batchnorm_app.train.batches import Shuffled
from batchnorm_app.train.normalization import normalization
from batchnorm_app.train.optimizer import learning_rates


def batches(settings: ResNetSettings, data: Dataset) -> Shuffled:
    """Returns the training images, shuffled, and augmented if the settings say so."""
    batches_class = Augmented if settings.augment else Shuffled
    return batches_class(data.train, settings.batch_size, settings.seed)


def build(settings: ResNetSettings, data: Dataset) -> keras.Model:
    """Returns a ResNet for the images and the classes of a data set."""
    height, width, channels = data.train.images.shape[1:]
    policy = keras.config.dtype_policy()
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
        keras.config.set_dtype_policy(policy)


def optimizer(
    settings: ResNetSettings, model: keras.Model, steps: int
) -> keras.optimizers.Optimizer:
    """Returns stochastic gradient descent with momentum and weight decay.

    Keras's decay is decoupled from the gradient's step (Loshchilov, Hutter 2019, arXiv:1711.05101,
    algorithm 1), without momentum: `weight_decay = c / (1 - momentum)` corresponds to a penalty of
    `c / 2 * sum(kernel**2)`.
    """
    rates = learning_rates(settings.schedule, settings.learning_rate, settings.epochs, steps)
    sgd = keras.optimizers.SGD(
        rates, momentum=settings.momentum, weight_decay=settings.weight_decay or None
    )
    if settings.decay == "kernels":
        excluded = [variable for variable in model.trainable_variables if variable.name != "kernel"]
        sgd.exclude_from_weight_decay(var_list=excluded)
    return sgd
