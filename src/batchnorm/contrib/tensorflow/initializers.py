"""Initial weights that keep the variance from layer to layer, as contrib drew them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any
Initializer = Callable[..., Tensor]

MODES = ("FAN_IN", "FAN_OUT", "FAN_AVG")


def variance_scaling_initializer(
    factor: float = 2.0,
    mode: str = "FAN_IN",
    uniform: bool = False,
    seed: int | None = None,
    dtype: Any = tf.float32,
) -> Initializer:
    """Makes an initializer whose variance is `factor` over the number of connections.

    with n for fan_in, fan_out or their mean
    uniform: in [-limit, limit),  limit = sqrt(3 * factor / n)
    normal: deviation = sqrt(1.3 * factor / n), drawn anew beyond two deviations

    The 1.3 compensates for the cut-off tails: the variance is 1.006 factor / n. For a kernel of
    shape `(*window, C, units)` fan_in is C and fan_out is units, each times the size of the window.

    Args:
        factor: the variance times n: 2 for layers with ReLU.
        mode: the choice of n: FAN_IN, FAN_OUT or FAN_AVG.
        uniform: the distribution: uniform or normal.
        seed: of the random numbers, beside `tf.set_random_seed`.
        dtype: floating point; of the values, where the caller names none.

    Returns:
        The initializer, for `tf.get_variable`. For a part of a partitioned variable n is that of
        the full variable.

    Raises:
        TypeError: `mode` is none of these; `dtype` is not floating point.

    Example:
        >>> import tensorflow.compat.v1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     values = session.run(variance_scaling_initializer(uniform=True)([600, 10]))
        >>> bool(abs(values).max() <= 0.1)  # sqrt(3 * 2 / 600)
        True

    References:
        He, Zhang, Ren, Sun 2015, arXiv:1502.01852, equation 10, is the default.
    """
    if mode not in MODES:
        raise TypeError(f"mode must be one of {', '.join(MODES)}; received {mode!r}.")
    default = _floating(dtype)

    def initializer(
        shape: Sequence[int], dtype: Any = default, partition_info: Any = None
    ) -> Tensor:
        dtype = _floating(dtype)
        full_shape = shape if partition_info is None else partition_info.full_shape
        fan_in, fan_out = _fans([int(size) for size in full_shape])
        n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "FAN_AVG": (fan_in + fan_out) / 2}[mode]
        if uniform:
            limit = math.sqrt(3 * factor / n)
            return tf.random_uniform(shape, -limit, limit, dtype, seed=seed)
        deviation = math.sqrt(1.3 * factor / n)
        return tf.truncated_normal(shape, 0.0, deviation, dtype, seed=seed)

    return initializer


def xavier_initializer(
    uniform: bool = True, seed: int | None = None, dtype: Any = tf.float32
) -> Initializer:
    """Makes an initializer that roughly keeps the variance of outputs and of gradients.

    uniform: in [-limit, limit),  limit = sqrt(6 / (fan_in + fan_out))
    normal: deviation = sqrt(2.6 / (fan_in + fan_out)), drawn anew beyond two deviations

    It is `variance_scaling_initializer` with factor 1 and FAN_AVG.

    Args:
        uniform: the distribution: uniform or normal.
        seed: of the random numbers, beside `tf.set_random_seed`.
        dtype: floating point; of the values, where the caller names none.

    Returns:
        The initializer, for `tf.get_variable`.

    Raises:
        TypeError: `dtype` is not floating point.

    Example:
        >>> import tensorflow.compat.v1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     values = session.run(xavier_initializer()([500, 100]))
        >>> bool(abs(values).max() <= 0.1)  # sqrt(6 / 600)
        True

    References:
        Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural
        networks", equation 16.
    """
    return variance_scaling_initializer(1.0, "FAN_AVG", uniform, seed, dtype)


def _floating(dtype: Any) -> Any:
    """Returns the dtype; raises unless it is floating point."""
    dtype = tf.as_dtype(dtype)
    if not dtype.is_floating:
        raise TypeError(
            f"dtype must be floating point, such as tf.float32; received {dtype.name}, of which "
            "these initializers draw no values."
        )
    return dtype


def _fans(shape: Sequence[int]) -> tuple[float, float]:
    """Returns the connections into and out of a unit; at least 1, also of an empty shape."""
    if len(shape) < 2:
        fan = max(math.prod(shape), 1)
        return fan, fan
    window = math.prod(shape[:-2])
    return max(window * shape[-2], 1), max(window * shape[-1], 1)
