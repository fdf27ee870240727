"""Accuracy as the model will be used, and as it was trained: the gap between them is a symptom."""

from typing import Any

import keras
import numpy as np

from batchnorm.data import Split
from batchnorm.train.batches import Batches, filled


def accuracy(
    model: keras.Model, split: Split, batch_size: int, training: bool = False, seed: int = 0
) -> float:
    """The share of images whose largest logit is that of their label.

    Args:
        model: from images to logits `(N, classes)`; every variable is afterwards as it was.
        split: images and labels.
        batch_size: images in a batch.
        training: call the model in training mode, where batch normalization takes each batch's
            own statistics. Layers such as dropout are in training mode too.
        seed: shuffles the images into batches, which would else be of one class where the images
            are sorted.

    Returns:
        A number from 0 to 1, over every image once.
    """
    count = len(split.labels)
    order = np.random.default_rng(seed).permutation(count)
    rows = filled(order, batch_size)
    batches = Batches(Split(split.images[rows], split.labels[rows]), batch_size)
    # Copies: what PyTorch and JAX hand out may be a view of memory that they write to again.
    before = [np.array(keras.ops.convert_to_numpy(value)) for value in model.variables]
    try:
        logits = _InMode(model, training).predict(batches, verbose=0)
    finally:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
    return float(np.mean(logits[:count].argmax(-1) == split.labels[order]))


class _InMode(keras.Model):
    """The model with `training` fixed: `predict` compiles it, but says that it does not train."""

    def __init__(self, model: keras.Model, training: bool) -> None:
        super().__init__(name="in_mode")
        self.model = model
        self.mode = training

    def call(self, images: Any) -> Any:
        return self.model(images, training=self.mode)
