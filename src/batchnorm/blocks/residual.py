"""Residual blocks of two convolutions that can double the image: those of generators."""

from typing import Any

import keras

from batchnorm.blocks.block import Block, Normalization, Shape, Tensor
from batchnorm.layer import BatchNormalization
from batchnorm.recipes import ConditionalBatchNormalization


@keras.saving.register_keras_serializable(package="batchnorm")
class ResidualBlock(Block):
    """Two 3x3 convolutions, with a normalization and an activation each, and a shortcut past them.

    Convolution, normalization, activation, twice; added to the inputs, which go through a 1x1
    convolution, a normalization and an activation where the filters change. In pre-activation
    order: normalization, activation, convolution, twice; the shortcut then is the convolution
    alone, which it also has if the block upsamples.

    Args:
        filters: of all convolutions.
        normalization: a layer to copy, or a function that makes one, such as a class; `None`
            leaves the normalizations out. A conditional one gets the block's condition.
        upsample: whether to double height and width, by nearest neighbours, before the first
            convolution and on the shortcut.
        preactivation: whether normalization and activation come before each convolution.
        activation: anything that `keras.activations.get` takes; `None` for leaky ReLU with slope
            0.2, and ReLU in pre-activation order.
        use_bias: whether the convolutions have a bias.
        kernel_initializer: of the convolutions.
        **kwargs: those of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `(N, H, W, C)`.
        condition: for conditional normalizations, as `BatchNormalization` has it.
        training: as for `BatchNormalization`.

    Returns:
        `(N, H, W, filters)`, or `(N, 2 H, 2 W, filters)`.

    Raises:
        ValueError: `filters` is not a positive integer; a condition is missing, or is not taken.

    Example:
        >>> import numpy as np
        >>> block = ResidualBlock(8, upsample=True)
        >>> tuple(block(np.ones((2, 4, 4, 3), "float32"), training=True).shape)
        (2, 8, 8, 8)

    References:
        He, Zhang, Ren, Sun 2016, arXiv:1512.03385 and, for the pre-activation order,
        arXiv:1603.05027; Miyato and Koyama 2018, arXiv:1802.05637, figure 14, for generators.
    """

    def __init__(
        self,
        filters: int,
        normalization: Normalization = BatchNormalization,
        upsample: bool = False,
        preactivation: bool = False,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, normalization, kernel_initializer, **kwargs)
        self.upsample, self.preactivation = upsample, preactivation
        default = "relu" if preactivation else "leaky_relu"  # Keras's slope is 0.2
        self.activation = keras.activations.get(activation or default)
        self.use_bias = use_bias

    def build(self, inputs_shape: Shape, condition_shape: Any = None) -> None:
        """Makes convolutions and normalizations."""
        channels, filters = inputs_shape[-1], self.filters
        large = self._output_size(inputs_shape)
        before, between = (
            ((*inputs_shape[:-1], channels), (*large[:-1], filters))
            if self.preactivation
            else ((*large[:-1], filters),) * 2
        )
        self.upsampling = (
            keras.layers.UpSampling2D(dtype=self.dtype_policy, name="upsampling")
            if self.upsample
            else None
        )
        self.convolution_1 = self._convolution("1", 3, (*large[:-1], channels))
        self.normalization_1 = self.new_normalization("1", before, condition_shape)
        self.convolution_2 = self._convolution("2", 3, between)
        self.normalization_2 = self.new_normalization("2", between, condition_shape)
        self.convolution_skip = self.normalization_skip = None
        if channels != filters or (self.preactivation and self.upsample):
            self.convolution_skip = self._convolution("skip", 1, inputs_shape)
            if not self.preactivation:
                shape = (*inputs_shape[:-1], filters)
                self.normalization_skip = self.new_normalization("skip", shape, condition_shape)

    def call(self, inputs: Tensor, condition: Any = None, training: bool | None = None) -> Tensor:
        """Applies the block; see the class."""
        x = inputs
        if self.preactivation:
            x = self._activate(self.normalization_1, x, condition, training)
            x = self.convolution_1(self._upsample(x))
            x = self._activate(self.normalization_2, x, condition, training)
            return self.convolution_2(x) + self._skip(inputs, condition, training)
        x = self.convolution_1(self._upsample(x))
        x = self._activate(self.normalization_1, x, condition, training)
        x = self.convolution_2(x)
        x = self._activate(self.normalization_2, x, condition, training)
        return x + self._skip(inputs, condition, training)

    def compute_output_shape(self, inputs_shape: Shape) -> tuple[int | None, ...]:
        """Returns the inputs' shape with the block's filters and size."""
        return (*self._output_size(inputs_shape)[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "upsample": self.upsample,
            "preactivation": self.preactivation,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }

    def _skip(self, x: Tensor, condition: Any, training: bool | None) -> Tensor:
        # Before the upsampling these layers cost a quarter, and their results are the same.
        if self.convolution_skip is not None:
            x = self.convolution_skip(x)
            if not self.preactivation:
                x = self._activate(self.normalization_skip, x, condition, training)
        return self._upsample(x)

    def _activate(self, layer: Any, x: Tensor, condition: Any, training: bool | None) -> Tensor:
        return self.activation(self.normalize(layer, x, condition, training))

    def _upsample(self, x: Tensor) -> Tensor:
        return x if self.upsampling is None else self.upsampling(x)

    def _output_size(self, shape: Shape) -> Shape:
        factor = 2 if self.upsample else 1
        sides = (None if side is None else side * factor for side in shape[1:3])
        return (shape[0], *sides, shape[-1])

    def _convolution(self, name: str, size: int, shape: Shape) -> keras.layers.Layer:
        return self.new_convolution(name, shape, self.filters, size, bias=self.use_bias)


@keras.saving.register_keras_serializable(package="batchnorm")
class ConditionalResidualBlock(ResidualBlock):
    """A residual block whose normalizations have one gamma and one beta per class.

    `ResidualBlock` with `ConditionalBatchNormalization(classes)`: `block(x, labels)`.

    Args:
        filters: of all convolutions.
        classes: n, the number of classes.
        **options: those of `ResidualBlock`, but `normalization`.

    Raises:
        ValueError: as for `ResidualBlock` and `PerClass`.

    Example:
        >>> import numpy as np
        >>> block = ConditionalResidualBlock(8, 10)
        >>> tuple(block(np.ones((2, 4, 4, 3), "float32"), np.array([3, 9]), training=True).shape)
        (2, 4, 4, 8)

    References:
        Miyato and Koyama 2018, "cGANs with projection discriminator", arXiv:1802.05637.
    """

    def __init__(self, filters: int, classes: int, **options: Any) -> None:
        self.classes = classes
        super().__init__(filters, lambda: ConditionalBatchNormalization(classes), **options)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        del config["normalization"]
        return {**config, "classes": self.classes}
