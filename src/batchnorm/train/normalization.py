"""The normalizations that a model can be trained with, by name."""

from collections.abc import Callable

import keras

from batchnorm.layer import BatchNormalization

NORMALIZATIONS: dict[str, Callable[[], keras.layers.Layer] | None] = {
    "ours": BatchNormalization,
    "keras": keras.layers.BatchNormalization,
    "none": None,
}
