"""The blocks of pre-activation residual networks: normalization and activation come first."""

import math
from typing import Any

import keras
from keras import ops

from batchnorm.blocks.block import Block, Normalization, Shape, Tensor, positive_integer
from batchnorm.layer import BatchNormalization


class _PreactivationBlock(Block):
    """Normalization, leaky ReLU and convolution, repeated, and a shortcut past them."""

    # For each convolution the size of its kernel, and the divisor of its filters.
    layout: tuple[tuple[int, int], ...]

    def __init__(
        self,
        filters: int,
        stride: int = 1,
        activate_before_residual: bool = False,
        relu_leakiness: float = 0.1,
        normalization: Normalization = BatchNormalization,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, normalization, kernel_initializer or first_kernels(), **kwargs)
        self.stride = positive_integer("stride", stride)
        self.activate_before_residual = bool(activate_before_residual)
        self.relu_leakiness = leakiness(relu_leakiness)
        if filters % (part := max(part for _, part in self.layout)):
            raise ValueError(
                f"filters must be a multiple of {part}, because the block works on 1/{part} of "
                f"them; received {filters}."
            )

    def build(self, inputs_shape: Shape, condition_shape: Any = None) -> None:
        """Makes normalizations and convolutions, in the order of their use."""
        self.normalizations: list[Any] = []
        self.convolutions: list[Any] = []
        shape = tuple(inputs_shape)
        for number, (size, part) in enumerate(self.layout, 1):
            name, stride = str(number), self.stride if number == 1 else 1
            self.normalizations.append(self.new_normalization(name, shape, condition_shape))
            self.convolutions.append(
                self.new_convolution(name, shape, self.filters // part, size, stride)
            )
            shape = self.convolutions[-1].compute_output_shape(shape)
        self.convolution_skip = None
        if inputs_shape[-1] != self.filters or self.stride > 1:
            self.convolution_skip = self.new_convolution(
                "skip", inputs_shape, self.filters, 1, self.stride
            )

    def call(self, inputs: Tensor, condition: Any = None, training: bool | None = None) -> Tensor:
        """Applies the block; see the class."""
        skip = x = inputs
        for normalization, convolution in zip(self.normalizations, self.convolutions, strict=True):
            x = self.normalize(normalization, x, condition, training)
            x = ops.leaky_relu(x, self.relu_leakiness)
            if self.activate_before_residual and convolution is self.convolutions[0]:
                skip = x
            x = convolution(x)
        return x + (skip if self.convolution_skip is None else self.convolution_skip(skip))

    def compute_output_shape(self, inputs_shape: Shape) -> tuple[int | None, ...]:
        """Returns the inputs' shape with the block's filters, and sides divided by the stride."""
        batch, *sides, _ = inputs_shape
        small = (None if side is None else math.ceil(side / self.stride) for side in sides)
        return (batch, *small, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "stride": self.stride,
            "activate_before_residual": self.activate_before_residual,
            "relu_leakiness": self.relu_leakiness,
        }


@keras.saving.register_keras_serializable(package="batchnorm")
class BasicBlock(_PreactivationBlock):
    """Two 3x3 convolutions behind a normalization and a leaky ReLU each, and a shortcut past them.

    Normalization, leaky ReLU, 3x3 convolution with the stride, normalization, leaky ReLU, 3x3
    convolution; added to the inputs, which go through a 1x1 convolution with the stride where
    filters or size change. No convolution has a bias.

    Args:
        filters: of both convolutions.
        stride: of the first convolution, and of the shortcut.
        activate_before_residual: whether the shortcut starts behind the first normalization and
            leaky ReLU, as in the first block of a network, or before them.
        relu_leakiness: the slope of the leaky ReLU below 0, from 0, a ReLU, to 1.
        normalization: a layer to copy, or a function that makes one, such as a class; `None`
            leaves the normalizations out. A conditional one gets the block's condition.
        kernel_initializer: of the convolutions; `None` for
            `VarianceScaling(2.0, "fan_out", "untruncated_normal")`, as in He et al. 2015.
        **kwargs: those of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `(N, H, W, C)`.
        condition: for conditional normalizations, as `BatchNormalization` has it.
        training: as for `BatchNormalization`.

    Returns:
        `(N, ceil(H / stride), ceil(W / stride), filters)`.

    Raises:
        ValueError: a number is out of range; a condition is missing, or is not taken.

    Example:
        >>> import numpy as np
        >>> block = BasicBlock(8, stride=2)
        >>> tuple(block(np.ones((2, 4, 4, 3), "float32"), training=True).shape)
        (2, 2, 2, 8)

    References:
        He, Zhang, Ren, Sun 2016, "Identity mappings in deep residual networks",
        arXiv:1603.05027, figure 1b and section 3; the slope is that of TensorFlow's research
        ResNet.
    """

    layout = ((3, 1), (3, 1))


@keras.saving.register_keras_serializable(package="batchnorm")
class BottleneckBlock(_PreactivationBlock):
    """Convolutions 1x1 to a quarter of the filters, 3x3, 1x1 to all of them, and a shortcut.

    Normalization, leaky ReLU, 1x1 convolution to `filters / 4` with the stride, normalization,
    leaky ReLU, 3x3 convolution to as many, normalization, leaky ReLU, 1x1 convolution to
    `filters`; added to the inputs, which go through a 1x1 convolution with the stride where
    filters or size change. No convolution has a bias.

    Args:
        filters: of the last convolution; a multiple of 4.
        stride: of the first convolution, and of the shortcut.
        activate_before_residual: as for `BasicBlock`.
        relu_leakiness: as for `BasicBlock`.
        normalization: as for `BasicBlock`.
        kernel_initializer: as for `BasicBlock`.
        **kwargs: those of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `(N, H, W, C)`.
        condition: for conditional normalizations, as `BatchNormalization` has it.
        training: as for `BatchNormalization`.

    Returns:
        `(N, ceil(H / stride), ceil(W / stride), filters)`.

    Raises:
        ValueError: a number is out of range, or `filters` is not a multiple of 4; a condition
            is missing, or is not taken.

    Example:
        >>> import numpy as np
        >>> block = BottleneckBlock(8, stride=2)
        >>> tuple(block(np.ones((2, 4, 4, 3), "float32"), training=True).shape)
        (2, 2, 2, 8)

    References:
        He, Zhang, Ren, Sun 2016, arXiv:1603.05027, figure 1b; the bottleneck is that of
        arXiv:1512.03385, section 4.1, with the stride where TensorFlow's research ResNet has it.
    """

    layout = ((1, 4), (3, 4), (1, 1))


def leakiness(value: float) -> float:
    """Returns the slope of a leaky ReLU; raises unless it is from 0 to 1.

    Raises:
        ValueError: the slope is out of range.
    """
    if not 0 <= value <= 1:
        raise ValueError(
            f"relu_leakiness must be from 0, for a ReLU, to 1, for none; received {value!r}."
        )
    return float(value)


def first_kernels() -> keras.initializers.Initializer:
    """Makes He et al.'s initializer, 2015, equation 14: variance 2 / (size * size * filters)."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
