"""A class-conditional GAN: a generator of conditional blocks, a discriminator with projection."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from batchnorm.blocks import ResidualBlock
from batchnorm.blocks.block import positive_integer
from batchnorm.layer import BatchNormalization
from batchnorm.slots.condition import PerClass
from batchnorm.spectral import SpectralNormalization

Tensor = Any
ImageShape = tuple[int, int, int]
Maker = Callable[..., keras.layers.Layer]

LATENT_SIZE = 64
SMALLEST = 4  # the least side of the image that a generator begins with
# A spectrally normalized convolution halves the scale of its inputs or more: behind two of them the
# block's output would be small beside its shortcut.
GAIN = 2.0


def generator(
    image_shape: ImageShape = (28, 28, 1),
    classes: int = 10,
    width: int = 16,
    latent_size: int = LATENT_SIZE,
    conditional: bool = True,
    normalization: Maker | None = BatchNormalization,
) -> keras.Model:
    """Builds a model from latents and a class to an image, of residual blocks that double its size.

    A dense layer makes a small image of latents and class, 7x7 for 28x28 and 4x4 for 32x32; each
    block doubles its sides and halves its channels, down to `width`; then normalization, ReLU,
    convolution, tanh.

    The blocks' normalizations have one gamma and one beta per class. They start from random
    numbers around 1 and 0: if all classes started alike, the first hundreds of steps would go by
    until they differ.

    Args:
        image_shape: `(height, width, channels)`; the sides are halved as long as both are even and
            the smaller one stays at 4 or more.
        classes: n, the number of classes.
        width: channels at the full size.
        latent_size: numbers in the latent vector of an image, which are standard normal.
        conditional: whether the class enters the normalizations, or the dense layer alone.
        normalization: makes a normalization layer from options of `BatchNormalization`; `None`
            leaves the normalizations out, if the generator is not conditional.

    Returns:
        A functional `keras.Model` from `[latents (N, latent_size), labels (N, n)]`, one-hot or
        mixtures of classes, to images `(N, height, width, channels)` from -1 to 1.

    Raises:
        ValueError: a size is below 1, or the sides cannot be halved once; `conditional` without a
            normalization.

    Example:
        >>> import numpy as np
        >>> model = generator(width=4, latent_size=8)
        >>> tuple(model([np.zeros((2, 8), "float32"), np.eye(10, dtype="float32")[:2]]).shape)
        (2, 28, 28, 1)

    References:
        Miyato and Koyama 2018, "cGANs with projection discriminator", arXiv:1802.05637,
        figure 14 and appendix A; Miyato et al. 2018, arXiv:1802.05957, table 4.
    """
    _check(image_shape, classes=classes, width=width, latent_size=latent_size)
    size, doublings = _start(image_shape)
    latents = keras.Input((latent_size,), name="latents")
    labels = keras.Input((classes,), name="labels")
    filters = width * 2**doublings
    x = keras.layers.Concatenate(name="both")([latents, labels])
    x = keras.layers.Dense(size[0] * size[1] * filters, name="dense")(x)
    x = keras.layers.Reshape((*size, filters), name="start")(x)
    for number in range(doublings):
        filters //= 2
        block = ResidualBlock(
            filters,
            _conditional(classes, normalization) if conditional else normalization,
            upsample=True,
            preactivation=True,
            name=f"block_{number + 1}",
        )
        x = block(x, labels) if conditional else block(x)
    if normalization is not None:
        x = normalization(name="normalization")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Conv2D(image_shape[-1], 3, padding="same", activation="tanh", name="image")(x)
    return keras.Model([latents, labels], x, name="generator")


def discriminator(
    image_shape: ImageShape = (28, 28, 1), classes: int = 10, width: int = 16
) -> keras.Model:
    """Builds a model from an image and a class to a score, positive for real images of that class.

    Three residual blocks of spectrally normalized convolutions, the first two of which halve the
    image, with `width`, twice and four times as many channels; ReLU, sum over the image, h. The
    score is `w @ h + b + labels @ V @ h`: how real the image is, and how typical of that class.

    It has no batch normalization, so real and generated images share no statistics. Unlike in the
    paper, neither w nor V is normalized, and the outputs of 3x3 convolutions are doubled: a narrow
    network with the paper's bounds separates the classes too late for a training of minutes.

    Args:
        image_shape: as for `generator`.
        classes: n, the number of classes.
        width: channels of the first block.

    Returns:
        A functional `keras.Model` from `[images, labels (N, n)]`, images from -1 to 1, to
        `(N,)`.

    Raises:
        ValueError: as for `generator`.

    Example:
        >>> discriminator(width=4).output_shape
        (None,)

    References:
        Miyato and Koyama 2018, arXiv:1802.05637, equation 3 and figure 14; Miyato et al. 2018,
        "Spectral normalization for generative adversarial networks", arXiv:1802.05957.
    """
    _check(image_shape, classes=classes, width=width)
    image = keras.Input(image_shape, name="image")
    labels = keras.Input((classes,), name="labels")
    x = image
    for number, halves in enumerate((True, True, False)):
        x = _block(x, width * 2**number, halves, f"block_{number + 1}")
    h = ops.sum(ops.relu(x), axis=(1, 2))
    score = keras.layers.Dense(1, name="score")(h)
    row = keras.layers.Dense(h.shape[-1], use_bias=False, name="projection")(labels)
    score = ops.squeeze(score, -1) + ops.sum(h * row, axis=-1)
    return keras.Model([image, labels], score, name="discriminator")


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Computes the hinge loss of scores: above 1 is right for real images, below -1 for made ones.

    loss = mean(maximum(0, 1 - real)) + mean(maximum(0, 1 + made))

    Args:
        real: scores of real images, `(N,)`.
        made: scores of generated images, `(N,)`.

    Returns:
        A scalar.

    Example:
        >>> float(discriminator_loss(ops.ones(2), ops.zeros(2)))
        1.0

    References:
        Miyato et al. 2018, arXiv:1802.05957, equation 16.
    """
    return ops.mean(ops.relu(1.0 - real)) + ops.mean(ops.relu(1.0 + made))


def generator_loss(made: Tensor) -> Tensor:
    """Computes the generator's loss, which falls as the scores of its images rise.

    loss = -mean(made)

    Args:
        made: scores of generated images, `(N,)`.

    Returns:
        A scalar.

    Example:
        >>> float(generator_loss(ops.ones(2)))
        -1.0

    References:
        Miyato et al. 2018, arXiv:1802.05957, equation 17.
    """
    return -ops.mean(made)


def _conditional(classes: int, normalization: Maker | None) -> keras.layers.Layer:
    """Makes a conditional normalization whose classes differ from the start."""
    if normalization is None:
        raise ValueError("A conditional generator needs a normalization; received None.")
    return normalization(
        affine=PerClass(classes),
        gamma_initializer=keras.initializers.RandomNormal(mean=1.0, stddev=0.2),
        beta_initializer=keras.initializers.RandomNormal(stddev=1.0),
    )


def _block(x: Tensor, filters: int, halves: bool, name: str) -> Tensor:
    """Applies a residual block; the first one takes an image, and begins without a ReLU."""

    def convolution(size: int, number: str) -> keras.layers.Layer:
        layer = keras.layers.Conv2D(filters, size, padding="same")
        return SpectralNormalization(layer, name=f"{name}_convolution_{number}")

    y = x if name == "block_1" else ops.relu(x)
    y = GAIN * convolution(3, "1")(y)
    y = GAIN * convolution(3, "2")(ops.relu(y))
    if halves:
        y, x = (keras.layers.AveragePooling2D(2)(value) for value in (y, x))
    if x.shape[-1] != filters:
        x = convolution(1, "skip")(x)
    return x + y


def _start(image_shape: ImageShape) -> tuple[tuple[int, int], int]:
    """Returns the sides that a generator begins with, and how often it doubles them."""
    height, width = image_shape[:2]
    doublings = 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * SMALLEST:
        height, width, doublings = height // 2, width // 2, doublings + 1
    return (height, width), doublings


def _check(image_shape: ImageShape, **sizes: int) -> None:
    for name, size in sizes.items():
        positive_integer(name, size)
    if _start(image_shape)[1] == 0:
        raise ValueError(
            f"Images of {image_shape[0]}x{image_shape[1]} cannot be halved: the blocks double "
            f"their sides, so both must be even, and at least {2 * SMALLEST}. Resize the images."
        )
