"""The normalization layers of a training, from expressions such as `ghost:32+renorm`."""

from collections.abc import Callable
from functools import partial

import keras

from batchnorm.layer import BatchNormalization
from batchnorm_app.errors import UserError
from batchnorm_app.runs.expressions import GRAMMAR, slots_of

Maker = Callable[..., keras.layers.Layer]


def normalization(expression: str) -> Maker | None:
    """Returns the constructor of the layers that an expression describes.

    Args:
        expression: of `batchnorm_app.runs.expressions.GRAMMAR`.

    Returns:
        A function of further options that creates a layer; `None` for no normalization.

    Raises:
        UserError: the expression cannot be parsed; the message shows the grammar.

    Example:
        >>> normalization("ghost:32")().statistics
        Ghost(size=32, strided=False)
    """
    if expression == "none":
        return None
    if expression == "keras":
        keras_layer: Maker = keras.layers.BatchNormalization
        return keras_layer
    try:
        slots = slots_of(expression)
    except ValueError as error:
        raise UserError(f"--normalization {expression}: {error} Allowed are\n{GRAMMAR}") from error
    return partial(BatchNormalization, **slots)
