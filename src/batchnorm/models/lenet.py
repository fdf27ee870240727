"""LeNet with batch normalization after every hidden layer."""

from collections.abc import Callable, Iterator

import keras

from batchnorm.layer import BatchNormalization

Normalization = Callable[[], keras.layers.Layer]

SMALLEST = 16  # a smaller image is empty after the second pooling


def lenet(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    image_size: int | None = None,
    normalization: Normalization | None = BatchNormalization,
) -> keras.Model:
    """Builds LeNet-5 with a normalization between each hidden layer and its sigmoid.

    Convolution 6x5x5, pooling, convolution 16x5x5, pooling, dense 120, dense 84, dense `classes`.
    The last layer gives logits: a sigmoid there, as tutorials have it, squeezes the scores into
    (0, 1) before the softmax of the cross-entropy, so that no class can ever reach a probability
    above e / (e + classes - 1), 0.23 for ten classes.

    Args:
        image_shape: `(height, width, channels)` of the images, whose pixels are 0 to 255.
        classes: the number of classes.
        image_size: the side in pixels of the network's input. An image is enlarged by the largest
            integer factor that fits and zero-padded to the rest (28 to 32 is padding, 28 to 224 a
            factor of 8); to a smaller side it is resized. Default: the size of the images.
        normalization: called once for each normalization layer; `None` leaves them out.

    Returns:
        A functional `keras.Model` from `(N, *image_shape)` to logits `(N, classes)`.

    Raises:
        ValueError: the network's input would have a side of fewer than 16 pixels.

    Example:
        >>> lenet().output_shape
        (None, 10)

    References:
        LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document
        recognition", section II.B (LeNet-5); batch normalization before the nonlinearity as in
        Ioffe and Szegedy 2015, section 3.2.
    """
    height, width = (image_size, image_size) if image_size else image_shape[:2]
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"LeNet needs images of at least {SMALLEST}x{SMALLEST} pixels; received "
            f"{height}x{width}. Enlarge them with image_size={SMALLEST} or more."
        )
    inputs = x = keras.Input(image_shape, name="image")
    for layer in _prepare(image_shape[0], image_shape[1], height, width):
        x = layer(x)
    for name, filters in (("1", 6), ("2", 16)):
        x = keras.layers.Conv2D(filters, 5, name=f"convolution_{name}")(x)
        x = _activate(x, name, normalization)
        x = keras.layers.MaxPooling2D(2, name=f"pooling_{name}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for name, units in (("3", 120), ("4", 84)):
        x = keras.layers.Dense(units, name=f"dense_{name}")(x)
        x = _activate(x, name, normalization)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name="lenet")


def _activate(
    x: keras.KerasTensor, name: str, normalization: Normalization | None
) -> keras.KerasTensor:
    if normalization is not None:
        layer = normalization()
        layer.name = f"normalization_{name}"
        x = layer(x)
    return keras.layers.Activation("sigmoid", name=f"sigmoid_{name}")(x)


def _prepare(
    height: int, width: int, new_height: int, new_width: int
) -> Iterator[keras.layers.Layer]:
    yield keras.layers.Rescaling(1 / 255, name="rescaling")
    factor = min(new_height // height, new_width // width)
    if factor == 0:
        yield keras.layers.Resizing(new_height, new_width, antialias=True, name="resizing")
        return
    if factor > 1:
        yield keras.layers.Resizing(height * factor, width * factor, name="resizing")
    bottom, right = new_height - height * factor, new_width - width * factor
    if bottom or right:
        padding = ((bottom // 2, bottom - bottom // 2), (right // 2, right - right // 2))
        yield keras.layers.ZeroPadding2D(padding, name="padding")
