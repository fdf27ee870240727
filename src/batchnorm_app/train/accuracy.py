"""Accuracy in inference mode and in training mode; a gap between them is a symptom."""

from typing import Any

import keras
import numpy as np

from batchnorm.data import Split
from batchnorm_app.train.batches import Batches, pad_to_whole_batches


def accuracy(
    model: keras.Model, split: Split, batch_size: int, training: bool = False, seed: int = 0
) -> float:
    """Returns the share of images whose largest logit is that of their label.

    Args:
        model: from images to logits `(N, classes)`; its variables keep their values.
        split: images and labels.
        batch_size: images in a batch.
        training: call the model in training mode, where batch normalization takes each batch's
            own statistics. Layers such as dropout are in training mode too.
        seed: of the order of the images; sorted images would make batches of a single class.

    Returns:
        A number from 0 to 1, over every image once.
    """
    count = len(split.labels)
    order = np.random.default_rng(seed).permutation(count)
    rows = pad_to_whole_batches(order, batch_size)
    batches = Batches(Split(split.images[rows], split.labels[rows]), batch_size)
    # Copies, because PyTorch and JAX may return a view of memory that they write to again.
    before = [np.array(keras.ops.convert_to_numpy(value)) for value in model.variables]
    try:
        logits = _FixedMode(model, training).predict(batches, verbose=0)
    finally:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
    return float(np.mean(logits[:count].argmax(-1) == split.labels[order]))


class _FixedMode(keras.Model):
    """A model with a fixed `training`, because `predict` always passes False."""

    def __init__(self, model: keras.Model, training: bool) -> None:
        super().__init__(name="fixed_mode")
        self.model = model
        self.mode = training  # `training` is an attribute of PyTorch's modules

    def call(self, images: Any) -> Any:
        return self.model(images, training=self.mode)
