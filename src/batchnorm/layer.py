"""`BatchNormalization`: Keras's layer with every stage replaced; it keeps state and config."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from batchnorm import kernels
from batchnorm.functional import batch_norm
from batchnorm.moving import Exponential, Moving
from batchnorm.renorm import Renorm

Tensor = Any

_MOMENTUM = 0.99


@keras.saving.register_keras_serializable(package="batchnorm")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization, with Keras's arguments, weights and files.

    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    with the batch's mean and (biased) variance where `training=True`, and the moving ones
    elsewhere and where `trainable=False`. All arguments that are not listed are those of
    `keras.layers.BatchNormalization`, with the same defaults.

    Args:
        axis: the channel axis: -1 for channels last, 1 for channels first.
        momentum: what a step keeps of the moving statistics, in [0, 1); not used beside `moving`.
        epsilon: added to the variance under the root, in units of the input squared; at least 0.
        moving: how the moving statistics follow the batches'; `None` is `Exponential(momentum)`.
        **kwargs: those of `keras.layers.Layer`, such as `name` and `dtype`. Weights and moving
            statistics are never half precision: with `dtype="float16"` they are float32.

    Call arguments:
        inputs: `(N, ..., C)`, or with the channels at `axis`; any rank.
        training: whether to use and to record the statistics of this batch.
        mask: elements that count in the statistics: boolean or 0 and 1, of any shape that
            broadcasts against the inputs without their channel axis: `(N,)`, `(N, ...)`.
            Masks that Keras propagates are taken.

    Returns:
        y, shaped like the inputs, in the layer's compute dtype.

    Raises:
        ValueError: an argument is out of range; `synchronized=True` without TensorFlow; inputs
            without a static number of channels, complex ones, or a mask that does not fit.

    Example:
        >>> import keras, numpy as np
        >>> layer = BatchNormalization(epsilon=0.0)
        >>> y = layer(np.array([[1.0], [3.0]]), training=True)
        >>> keras.ops.convert_to_numpy(y).tolist()
        [[-1.0], [1.0]]

    References:
        Ioffe and Szegedy 2015, arXiv:1502.03167, Algorithms 1 and 2; with `renorm=True`
        Ioffe 2017, arXiv:1702.03275, Algorithm 1.
    """

    dtype_policy: keras.DTypePolicy

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        momentum: float = _MOMENTUM,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        moving: Moving | None = None,
        **kwargs: Any,
    ) -> None:
        if renorm:
            Renorm.from_clipping(renorm_clipping, renorm_momentum)  # refuses what is out of range
        super().__init__(
            axis=_single(axis),
            momentum=momentum,
            epsilon=_not_negative(epsilon),
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            renorm=renorm,
            renorm_clipping=renorm_clipping,
            renorm_momentum=renorm_momentum,
            synchronized=synchronized,
            **kwargs,
        )
        self.moving = _slot(moving, momentum)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes gamma, beta, moving_mean and moving_variance, each `(C,)`, in this order."""
        plan = kernels.plan(len(input_shape), self.axis, self.compute_dtype)
        if input_shape[plan.axis] is None:
            raise ValueError(
                f"BatchNormalization needs to know the number of channels, axis {self.axis} of "
                f"{tuple(input_shape)}: give that axis a size in keras.Input, or choose another."
            )
        policy = self.dtype_policy
        if policy.variable_dtype in ("float16", "bfloat16"):
            self.dtype_policy = f"mixed_{policy.variable_dtype}"
        try:
            super().build(input_shape)
        finally:
            self.dtype_policy = policy

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Normalizes the inputs; see the class."""
        names = ("moving_mean", "moving_variance", *(Renorm.STATE if self.renorm else ()))
        training = bool(training and self.trainable)
        if self.compute_dtype == "float64" and keras.backend.is_int_dtype(inputs.dtype):
            inputs = ops.cast(inputs, "float64")  # Keras casts floats alone
        y, state = batch_norm(
            inputs,
            {name: getattr(self, name) for name in names},
            self.gamma,
            self.beta,
            training=training,
            axis=self.axis,
            epsilon=self.epsilon,
            moving=self.moving or Exponential(self.momentum),
            renorm=Renorm.from_clipping(self.renorm_clipping, self.renorm_momentum)
            if self.renorm
            else None,
            mask=mask,
            synchronized=self.synchronized,
        )
        if training:
            for name in names:
                getattr(self, name).assign(state[name])
        return ops.cast(y, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Keras's configuration, and the slots that are used."""
        config: dict[str, Any] = super().get_config()
        if self.moving is not None:
            config["moving"] = keras.saving.serialize_keras_object(self.moving)
            config["momentum"] = _MOMENTUM  # it is not used, and the two together are refused
        return config


def _single(axis: int | Sequence[int]) -> int:
    """The one axis: tf.keras saved it as a list of one."""
    if isinstance(axis, Sequence):
        if len(axis) != 1:
            raise ValueError(f"axis must be one axis, received {axis}: -1 is channels last.")
        return axis[0]
    return axis


def _not_negative(epsilon: float) -> float:
    if not epsilon >= 0:
        raise ValueError(
            f"epsilon must be at least 0, received {epsilon}. It is added to the variance under "
            "a root; 1e-3 is the default."
        )
    return epsilon


def _slot(value: Any, momentum: float) -> Moving | None:
    """The value of `moving=`, which may come as its configuration from a file."""
    Exponential(momentum)  # refuses what is out of range
    moving = keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
    if moving is None:
        return None
    if isinstance(moving, type) or not (isinstance(moving, Moving) and callable(moving.rate)):
        raise ValueError(
            f"moving must be an object like Exponential(0.9), or None; received {value!r}."
        )
    if momentum != _MOMENTUM:
        raise ValueError(
            f"Both momentum={momentum} and moving={moving} were given: put the momentum into "
            f"moving, as in moving=Exponential({momentum})."
        )
    return moving
