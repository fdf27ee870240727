"""Sums across replicas, for statistics of the whole batch where each replica has a part."""

import keras

from batchnorm.statistics import Total


def total() -> Total | None:
    """What adds a tensor up across replicas here; `None` where there is one replica.

    Raises:
        ValueError: the backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "synchronized=True works on TensorFlow's distribution strategies; the backend is "
            f"{keras.backend.backend()}. On one replica leave it out: it changes nothing there."
        )
    from batchnorm.replicas import tensorflow

    return tensorflow.total()
