"""LeNet, trained as the settings say; see `batchnorm.train.classify.Recipe`."""

import keras

from batchnorm.data import Dataset
from batchnorm.models.lenet import lenet
from batchnorm.train.batches import Shuffled
from batchnorm.train.normalization import normalization
from batchnorm.train.optimizer import OPTIMIZERS, learning_rates
from batchnorm.train.settings import LeNetSettings


def batches(settings: LeNetSettings, data: Dataset) -> Shuffled:
    """The training images as they are, shuffled."""
    return Shuffled(data.train, settings.batch_size, settings.seed)


def build(settings: LeNetSettings, data: Dataset) -> keras.Model:
    """A LeNet for the images and the classes of a data set."""
    height, width, channels = data.train.images.shape[1:]
    return lenet(
        (height, width, channels),
        len(data.classes),
        settings.image_size,
        normalization(settings.normalization),
    )


def optimizer(
    settings: LeNetSettings, model: keras.Model, steps: int
) -> keras.optimizers.Optimizer:
    """The optimizer that was named."""
    rates = learning_rates(settings.schedule, settings.learning_rate, settings.epochs, steps)
    return OPTIMIZERS[settings.optimizer](rates)
