"""LeNet, trained as the settings say."""

import keras

from batchnorm.data import Dataset
from batchnorm.models.lenet import lenet
from batchnorm.train.normalization import NORMALIZATIONS
from batchnorm.train.settings import ClassifierSettings


def build(settings: ClassifierSettings, data: Dataset) -> keras.Model:
    """A LeNet for the images and the classes of a data set.

    Args:
        settings: name the normalization and the image size.
        data: what it will be trained on.

    Returns:
        The model, not yet compiled.
    """
    height, width, channels = data.train.images.shape[1:]
    return lenet(
        (height, width, channels),
        len(data.classes),
        settings.image_size,
        NORMALIZATIONS[settings.normalization],
    )
