"""Sums across replicas, for statistics of the whole batch where each replica has a part."""

import keras

from batchnorm.stages.moments import Replicas


def current() -> Replicas | None:
    """Returns the replicas of this call; `None` where there is one.

    Raises:
        ValueError: the backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "synchronized=True works on TensorFlow's distribution strategies; the backend is "
            f"{keras.backend.backend()}. On one replica leave it out: it changes nothing there."
        )
    from batchnorm.replicas import tensorflow

    return tensorflow.current()
