"""The recipe of LeNet; see `batchnorm_app.train.classifier.Recipe`."""

import keras

from batchnorm.data import Dataset
from batchnorm.models.lenet import lenet
from batchnorm_app.runs.settings import LeNetSettings
from batchnorm_app.train.batches import Shuffled
from batchnorm_app.train.normalization import normalization
from batchnorm_app.train.optimizer import OPTIMIZERS, learning_rates


def batches(settings: LeNetSettings, data: Dataset) -> Shuffled:
    """Returns the training images, shuffled but not augmented."""
    return Shuffled(data.train, settings.batch_size, settings.seed)


def build(settings: LeNetSettings, data: Dataset) -> keras.Model:
    """Returns a LeNet for the images and the classes of a data set."""
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
    """Returns the optimizer that the settings name."""
    rates = learning_rates(settings.schedule, settings.learning_rate, settings.epochs, steps)
    return OPTIMIZERS[settings.optimizer](rates)
