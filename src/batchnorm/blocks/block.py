"""The base class of the blocks: convolutions, and any normalization between them."""

from collections.abc import Sequence
from typing import Any

import keras

from batchnorm.slots.representation import layer_text

Tensor = Any
Shape = Sequence[int | None]
Normalization = Any  # a keras.layers.Layer, a function that makes one, or None; Keras has no types


class Block(keras.layers.Layer):
    """A layer of convolutions and normalizations.

    Args:
        filters: of its outputs.
        normalization: a layer to copy, or a function that makes one, such as a class; `None`
            leaves the normalizations out.
        kernel_initializer: of the convolutions.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        ValueError: `filters` is not a positive integer.
    """

    def __init__(
        self,
        filters: int,
        normalization: Normalization | dict[str, Any],
        kernel_initializer: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = positive_integer("filters", filters)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.normalization = configuration_of(normalization, self.dtype_policy)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "normalization": self.normalization,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    def __repr__(self) -> str:
        """Returns Keras's text, and the filters and the normalization."""
        shown: dict[str, Any] = {"filters": self.filters}
        if self.normalization is None:
            return layer_text(self, {**shown, "normalization": None})
        config = self.normalization["config"]
        slots = ("classes", "statistics", "moving", "renorm", "adjustment", "affine", "activation")
        used = {name: config[name] for name in slots if config.get(name)}
        normalization = {"class_name": self.normalization["class_name"], "config": used}
        return layer_text(self, {**shown, "normalization": normalization})

    def new_convolution(
        self, name: str, shape: Shape, filters: int, size: int, stride: int = 1, bias: bool = False
    ) -> keras.layers.Layer:
        """Makes and builds a convolution of this block.

        Args:
            name: the end of its name, after `convolution_`.
            shape: of its inputs.
            filters: of its outputs.
            size: of its kernel.
            stride: of the convolution.
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
        """Makes and builds a normalization of this block; `None` if it has none.

        Args:
            name: the end of its name, after `normalization_`.
            shape: of its inputs.
            condition_shape: of the block's condition.
        """
        if self.normalization is None:
            return None
        layer = from_configuration(self.normalization, f"normalization_{name}")
        if getattr(layer, "affine", None) is not None:
            layer.build(shape, condition_shape)
        else:
            layer.build(shape)
        return layer

    def normalize(self, layer: Any, x: Tensor, condition: Any, training: bool | None) -> Tensor:
        """Calls a normalization, with the condition if it is conditional.

        Args:
            layer: of `new_normalization`.
            x: its inputs.
            condition: of the block's call.
            training: of the block's call.

        Raises:
            ValueError: there is a condition, but the normalization takes none.
        """
        if getattr(layer, "affine", None) is not None:
            return layer(x, condition=condition, training=training)
        if condition is not None:
            raise ValueError(
                f"{self.name} was called with a condition, but has no conditional normalization: "
                "make it with normalization=ConditionalBatchNormalization(n), or leave the "
                "condition out."
            )
        return x if layer is None else layer(x, training=training)


def configuration_of(
    normalization: Normalization | dict[str, Any], dtype: Any = None
) -> dict[str, Any] | None:
    """Returns the configuration of a normalization, from which copies are made.

    Args:
        normalization: a layer, a function that makes one, `None`, or the configuration itself.
        dtype: the policy of a layer that a function makes; `None` for Keras's.
    """
    if normalization is None or isinstance(normalization, dict):
        return normalization
    is_layer = isinstance(normalization, keras.layers.Layer)
    layer = normalization if is_layer else normalization()
    configuration: dict[str, Any] = keras.saving.serialize_keras_object(layer)
    if not is_layer and dtype is not None:
        configuration["config"]["dtype"] = keras.saving.serialize_keras_object(dtype)
    return configuration


def from_configuration(configuration: dict[str, Any], name: str) -> keras.layers.Layer:
    """Makes a layer from its configuration.

    Args:
        configuration: of `configuration_of`.
        name: of the layer.
    """
    config = {**configuration["config"], "name": name}
    return keras.saving.deserialize_keras_object({**configuration, "config": config})


def positive_integer(name: str, value: Any) -> int:
    """Returns a positive integer; raises for any other value.

    Raises:
        ValueError: the value is not a positive integer.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer; received {value!r}.")
    return value
