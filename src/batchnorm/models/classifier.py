"""A small classifier, cheap on a CPU and accurate enough to judge generated images."""

from collections.abc import Callable

import keras
import numpy as np

from batchnorm.layer import BatchNormalization

Normalization = Callable[[], keras.layers.Layer]

FEATURES = "features"  # the layer whose outputs represent an image


def classifier(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    width: int = 32,
    normalization: Normalization = BatchNormalization,
    seed: int | None = None,
) -> keras.Model:
    """Builds three convolutions and a dense layer, each with a normalization before its ReLU.

    Convolutions 3x3 of `width`, twice and four times as many channels, each of which halves the
    image by its stride instead of a pooling; dense `4 * width`, the features; dense `classes`. At
    the default width, an image of 28x28x1 takes 2.4 million multiplications and one of 32x32x3
    2.8 million.

    Args:
        image_shape: `(height, width, channels)` of the images, whose pixels are 0 to 255.
        classes: the number of classes.
        width: channels of the first convolution.
        normalization: called once for each normalization layer.
        seed: of the initial weights, which then depend on nothing else; `None` for weights that
            depend on `keras.utils.set_random_seed`, as those of other models do.

    Returns:
        A functional `keras.Model` from `(N, *image_shape)` to logits `(N, classes)`. Its layer
        `"features"` gives `(N, 4 * width)` non-negative numbers.

    Raises:
        ValueError: a size is not positive.

    Example:
        >>> model = classifier()
        >>> model.output_shape, model.get_layer("features").output.shape
        ((None, 10), (None, 128))

    References:
        Springenberg, Dosovitskiy, Brox, Riedmiller 2015, "Striving for simplicity: the all
        convolutional net", section 2 (strides in place of pooling); batch normalization before
        the nonlinearity and without a bias as in Ioffe and Szegedy 2015, section 3.2; initial
        weights as in He, Zhang, Ren, Sun 2015, "Delving deep into rectifiers", section 2.2.
    """
    if min(*image_shape, classes, width) < 1:
        raise ValueError(
            f"received image_shape={image_shape}, classes={classes}, width={width}; every one of "
            "these numbers must be at least 1."
        )
    seeds = [None] * 5 if seed is None else np.random.SeedSequence(seed).generate_state(5).tolist()
    initializers = [keras.initializers.HeNormal(value) for value in seeds[:4]]
    inputs = keras.Input(image_shape, name="image")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(inputs)
    widths = (width, 2 * width, 4 * width)
    for name, channels, initializer in zip("123", widths, initializers[:3], strict=True):
        # No bias here or in dense_4: the normalization would subtract it again.
        x = keras.layers.Conv2D(
            channels,
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer=initializer,
            name=f"convolution_{name}",
        )(x)
        x = keras.layers.ReLU(name=f"relu_{name}")(_normalize(x, name, normalization))
    x = keras.layers.Flatten(name="flatten")(x)
    dense = {"use_bias": False, "kernel_initializer": initializers[3]}
    x = keras.layers.Dense(4 * width, **dense, name="dense_4")(x)
    x = keras.layers.ReLU(name=FEATURES)(_normalize(x, "4", normalization))
    last = keras.initializers.GlorotUniform(seeds[4])
    logits = keras.layers.Dense(classes, kernel_initializer=last, name="logits")(x)
    return keras.Model(inputs, logits, name="classifier")


def _normalize(x: keras.KerasTensor, name: str, normalization: Normalization) -> keras.KerasTensor:
    layer = normalization()
    layer.name = f"normalization_{name}"
    return layer(x)
