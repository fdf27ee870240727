"""Penalties of weights, as contrib counted them: `l1_regularizer`, `l2_regularizer`."""

import math
from numbers import Real
from typing import Any

import keras
import tensorflow.compat.v1 as tf

Tensor = Any


def l1_regularizer(scale: float | Tensor, scope: str | None = None) -> "Penalty":
    """Makes the penalty of weights by their absolute values.

    loss = scale * sum(abs(w))

    Args:
        scale: at least 0, a number or a scalar tensor; with 0.0 the loss is `None`.
        scope: of the operations; "l1_regularizer" by default.

    Returns:
        A function from weights to the loss, for `weights_regularizer` and `tf.get_variable`. In
        Keras it is `keras.regularizers.L1(scale)`.

    Raises:
        ValueError: the scale is negative or not a number.

    Example:
        >>> import tensorflow.compat.v1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     session.run(l1_regularizer(0.5)(tf.constant([1.0, -3.0]))).item()
        2.0
    """
    return Penalty(scale, 0.0, scope or "l1_regularizer")


def l2_regularizer(scale: float | Tensor, scope: str | None = None) -> "Penalty":
    """Makes the penalty of weights by half their squares.

    loss = scale * sum(w**2) / 2

    Args:
        scale: at least 0, a number or a scalar tensor; with 0.0 the loss is `None`.
        scope: of the operations; "l2_regularizer" by default.

    Returns:
        A function from weights to the loss, for `weights_regularizer` and `tf.get_variable`. In
        Keras it is `keras.regularizers.L2(scale / 2)`: Keras does not halve the squares.

    Raises:
        ValueError: the scale is negative or not a number.

    Example:
        >>> import tensorflow.compat.v1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     session.run(l2_regularizer(0.5)(tf.constant([1.0, -3.0]))).item()
        2.5
    """
    return Penalty(0.0, scale, scope or "l2_regularizer")


def l1_l2_regularizer(
    scale_l1: float | Tensor = 1.0, scale_l2: float | Tensor = 1.0, scope: str | None = None
) -> "Penalty":
    """Makes the sum of `l1_regularizer` and `l2_regularizer`.

    loss = scale_l1 * sum(abs(w)) + scale_l2 * sum(w**2) / 2

    Args:
        scale_l1: at least 0, a number or a scalar tensor.
        scale_l2: likewise; where both are 0.0 the loss is `None`.
        scope: of the operations; "l1_l2_regularizer" by default.

    Returns:
        A function from weights to the loss. In Keras it is
        `keras.regularizers.L1L2(scale_l1, scale_l2 / 2)`.

    Raises:
        ValueError: a scale is negative or not a number.

    Example:
        >>> import tensorflow.compat.v1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     session.run(l1_l2_regularizer()(tf.constant([1.0, -3.0]))).item()
        9.0
    """
    return Penalty(scale_l1, scale_l2, scope or "l1_l2_regularizer")


class Penalty:
    """A function from weights to their loss.

    Args:
        l1: the factor of the sum of absolute values.
        l2: the factor of half the sum of squares.
        scope: of the operations.
    """

    def __init__(self, l1: float | Tensor, l2: float | Tensor, scope: str) -> None:
        self._l1, self._l2, self._scope = _scale(l1), _scale(l2), scope

    def __call__(self, weights: Tensor) -> Tensor | None:
        """Adds the loss to the graph; `None` where all scales are 0.

        Args:
            weights: of any shape.
        """
        weights = tf.convert_to_tensor(weights)
        sums = [(self._l1, _absolute), (self._l2, tf.nn.l2_loss)]
        terms = [(scale, function) for scale, function in sums if not _is_zero(scale)]
        if not terms:
            return None
        with tf.name_scope(self._scope) as name:
            losses = [
                # The loss itself has the scope's name, as contrib's had.
                tf.multiply(
                    _cast(scale, weights.dtype),
                    function(weights),
                    name=name if len(terms) == 1 else None,
                )
                for scale, function in terms
            ]
            return losses[0] if len(losses) == 1 else tf.add_n(losses, name=name)

    def to_keras(self) -> Any:
        """Makes Keras's regularizer of the same loss, for any backend.

        Raises:
            ValueError: a scale is a tensor, which a Keras layer cannot store.
        """
        if tf.is_tensor(self._l1) or tf.is_tensor(self._l2):
            raise ValueError(
                f"The scale of {self._scope} is a tensor of a graph; a Keras layer takes a number."
            )
        return keras.regularizers.L1L2(self._l1, self._l2 / 2)

    def __repr__(self) -> str:
        """Returns the scope and the scales."""
        return f"{self._scope} of l1={self._l1!r}, l2={self._l2!r}"


def _scale(value: Any) -> Any:
    if tf.is_tensor(value):
        return value
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not 0 <= float(value) < math.inf:
        raise ValueError(
            f"The scale of a regularizer must be a number of at least 0, or a scalar tensor; "
            f"received {value!r}."
        )
    return float(value)


def _absolute(weights: Tensor) -> Tensor:
    return tf.reduce_sum(tf.abs(weights))


def _cast(scale: Any, dtype: Any) -> Tensor:
    # tf.cast converts a Python number to float32 first.
    return tf.cast(scale, dtype) if tf.is_tensor(scale) else tf.constant(scale, dtype)


def _is_zero(scale: Any) -> bool:
    return not tf.is_tensor(scale) and scale == 0
