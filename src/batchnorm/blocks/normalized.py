"""What the blocks have in common: convolutions, and any normalization between them."""

from collections.abc import Sequence
from typing import Any

import keras

from batchnorm.representation import layer_text

Tensor = Any
Shape = Sequence[int | None]
Normalization = Any  # a keras.layers.Layer, a function that makes one, or None; Keras has no types


class Normalized(keras.layers.Layer):
    """A layer of convolutions and normalizations.

    Args:
        filters: of its outputs.
        normalization: a layer, of which it makes copies; or what makes one, such as a class;
            `None` for none.
        kernel_initializer: of the convolutions.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        ValueError: `filters` is not a whole number from 1.
    """

    def __init__(
        self,
        filters: int,
        normalization: Normalization | dict[str, Any],
        kernel_initializer: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = whole("filters", filters)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.normalization = described(normalization, self.dtype_policy)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "normalization": self.normalization,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    def __repr__(self) -> str:
        """Keras's, and the filters and the normalization."""
        shown: dict[str, Any] = {"filters": self.filters}
        if self.normalization is None:
            return layer_text(self, {**shown, "normalization": None})
        config = self.normalization["config"]
        slots = ("classes", "statistics", "moving", "renorm", "adjustment", "affine", "activation")
        own = {name: config[name] for name in slots if config.get(name)}
        normalization = {"class_name": self.normalization["class_name"], "config": own}
        return layer_text(self, {**shown, "normalization": normalization})

    def new_convolution(
        self, name: str, shape: Shape, filters: int, size: int, stride: int = 1, bias: bool = False
    ) -> keras.layers.Layer:
        """A convolution of this layer's, built.

        Args:
            name: behind `convolution_`.
            shape: of its inputs.
            filters: of its outputs.
            size: of its kernel.
            stride: likewise.
            bias: whether it has one.
        """
        layer = keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same",
            use_bias=bias,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=f"convolution_{name}",
        )
        layer.build(shape)
        return layer

    def new_normalization(self, name: str, shape: Shape, condition_shape: Any) -> Any:
        """A normalization of this layer's, built; `None` where there is none.

        Args:
            name: behind `normalization_`.
            shape: of its inputs.
            condition_shape: of the block's condition.
        """
        if self.normalization is None:
            return None
        layer = made(self.normalization, f"normalization_{name}")
        if getattr(layer, "affine", None) is not None:
            layer.build(shape, condition_shape)
        else:
            layer.build(shape)
        return layer

    def normalize(self, layer: Any, x: Tensor, condition: Any, training: bool | None) -> Tensor:
        """Calls a normalization as it wants to be called.

        Args:
            layer: of `new_normalization`.
            x: its inputs.
            condition: of the block's call.
            training: likewise.

        Raises:
            ValueError: there is a condition, and nothing asks for it.
        """
        if getattr(layer, "affine", None) is not None:
            return layer(x, condition=condition, training=training)
        if condition is not None:
            raise ValueError(
                f"A condition was given to {self.name}, whose normalization depends on none: make "
                "it with normalization=ConditionalBatchNormalization(n), or leave it out."
            )
        return x if layer is None else layer(x, training=training)


def described(
    normalization: Normalization | dict[str, Any], dtype: Any = None
) -> dict[str, Any] | None:
    """A normalization as its configuration, which copies are made from.

    Args:
        normalization: a layer, what makes one, `None`, or the configuration itself.
        dtype: the policy of a layer that is made; `None` for Keras's.
    """
    if normalization is None or isinstance(normalization, dict):
        return normalization
    own = isinstance(normalization, keras.layers.Layer)
    layer = normalization if own else normalization()
    configuration: dict[str, Any] = keras.saving.serialize_keras_object(layer)
    if not own and dtype is not None:
        configuration["config"]["dtype"] = keras.saving.serialize_keras_object(dtype)
    return configuration


def made(configuration: dict[str, Any], name: str) -> keras.layers.Layer:
    """A layer from its configuration.

    Args:
        configuration: of `described`.
        name: of the layer.
    """
    config = {**configuration["config"], "name": name}
    return keras.saving.deserialize_keras_object({**configuration, "config": config})


def whole(name: str, value: Any) -> int:
    """A number, if it is whole and at least 1.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number from 1; received {value!r}.")
    return value
