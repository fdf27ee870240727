"""Steps on TensorFlow: tapes and a graph."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from batchnorm_app.train.steps import Tensor, Variables


class Steps:
    """See `batchnorm_app.train.steps.Steps`."""

    def __init__(self, variables: Variables) -> None:
        pass

    def minimize(self, loss: Callable[[], Tensor], optimizer: Any, variables: Variables) -> Tensor:
        """See `batchnorm_app.train.steps.Steps`."""
        values = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            value = loss()
        optimizer.apply(tape.gradient(value, values), variables)
        return value

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """See `batchnorm_app.train.steps.Steps`."""
        return tf.function(step)  # type: ignore[no-any-return]
