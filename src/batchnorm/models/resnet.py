"""The pre-activation residual network of CIFAR-10, of basic blocks or of bottlenecks."""

import keras

from batchnorm.blocks import BasicBlock, BottleneckBlock
from batchnorm.blocks.block import Normalization, configuration_of, from_configuration
from batchnorm.blocks.preactivation import first_kernels, leakiness
from batchnorm.layer import BatchNormalization

STEM = 16  # filters of the first convolution
STRIDES = (1, 2, 2)  # of the three stages
SMALLEST = 4  # the side that can be halved twice
# For each kind: layers of a block, filters of the first stage, and the class of the block.
_KINDS = {"basic": (2, 16, BasicBlock), "bottleneck": (3, 64, BottleneckBlock)}
BLOCKS = tuple(_KINDS)
_BOTTLENECK_FROM = 164  # depths that fit both kinds are bottlenecks from here, as in He et al.


def resnet(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    depth: int = 20,
    block: str | None = None,
    normalization: Normalization = BatchNormalization,
    relu_leakiness: float = 0.1,
) -> keras.Model:
    """Builds a pre-activation ResNet for small images, by its depth.

    Each image is standardized to mean 0 and deviation 1. A 3x3 convolution to 16 filters; three
    stages of n blocks each, the second and third of which halve the image, with 16, 32 and 64
    filters for basic blocks and 64, 128 and 256 for bottlenecks; normalization, leaky ReLU, mean
    over the image, dense `classes`, which gives logits. The first block activates before its
    shortcut begins.

    Args:
        image_shape: `(height, width, channels)` of the images, whose pixels are 0 to 255.
        classes: the number of classes.
        depth: layers with weights on the longest path: 6n + 2 for basic blocks (20, 32, 44, 56,
            110), 9n + 2 for bottlenecks (29, 47, 110, 164).
        block: "basic" or "bottleneck"; `None` for the kind that fits the depth; if both fit, basic
            blocks below 164 layers and bottlenecks from there, as in the paper.
        normalization: a layer to copy, or a function that makes one, such as a class; `None` leaves
            the normalizations out.
        relu_leakiness: the slope of the leaky ReLUs below 0, in [0, 1].

    Returns:
        A functional `keras.Model` from `(N, *image_shape)` to logits `(N, classes)`.

    Raises:
        ValueError: no such network has this depth, a side of the images is below 4 pixels, or a
            number is out of range.

    Example:
        >>> resnet(depth=20).count_params()
        273658

    References:
        He, Zhang, Ren, Sun 2016, "Identity mappings in deep residual networks", arXiv:1603.05027,
        and arXiv:1512.03385, section 4.2, for the stages; the leaky ReLU, the projections of 1x1
        and the standardized images are those of TensorFlow's research ResNet.
    """
    block, count = _blocks(depth, block)
    _, filters, new_block = _KINDS[block]
    if min(image_shape[:2]) < SMALLEST:
        raise ValueError(
            f"A ResNet halves its images twice, which needs at least {SMALLEST}x{SMALLEST} pixels; "
            f"received {image_shape[0]}x{image_shape[1]}. Enlarge them, or take another model."
        )
    normalization = configuration_of(normalization)
    inputs = keras.Input(image_shape, name="image")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(inputs)
    # Epsilon is a quarter of a grey level, squared: the variance of a constant image may round to
    # below 0.
    x = keras.layers.LayerNormalization(
        axis=(1, 2, 3), epsilon=1e-6, center=False, scale=False, name="standardization"
    )(x)
    x = keras.layers.Conv2D(
        STEM,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=first_kernels(),
        name="convolution",
    )(x)
    for stage, stride in enumerate(STRIDES):
        for number in range(count):
            x = new_block(
                filters * 2**stage,
                stride if number == 0 else 1,
                activate_before_residual=stage == number == 0,
                relu_leakiness=relu_leakiness,
                normalization=normalization,
                name=f"stage_{stage + 1}_block_{number + 1}",
            )(x)
    if normalization is not None:
        x = from_configuration(normalization, "normalization")(x)
    x = keras.layers.LeakyReLU(leakiness(relu_leakiness), name="leaky_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    # Float32 also in mixed precision, because a softmax follows.
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=f"resnet_{depth}")


def _blocks(depth: int, block: str | None) -> tuple[str, int]:
    """Returns the kind of the blocks, and their number in a stage.

    Raises:
        ValueError: no such network has this depth.
    """
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise ValueError(f"depth must be an integer, such as 20; received {depth!r}.")
    if block is not None and block not in _KINDS:
        raise ValueError(f"block must be one of {', '.join(BLOCKS)}, or None; received {block!r}.")
    allowed = [block] if block else BLOCKS if depth < _BOTTLENECK_FROM else BLOCKS[::-1]
    for kind in allowed:
        count, rest = divmod(depth - 2, 3 * _KINDS[kind][0])
        if rest == 0 and count > 0:
            return kind, count
    steps = {kind: 3 * _KINDS[kind][0] for kind in allowed}
    depths = {2 + step * n for step in steps.values() for n in range(1, max(depth, 0) // step + 3)}
    below, above = [d for d in depths if d < depth], [d for d in depths if d > depth]
    nearest = " and ".join(str(d) for d in ([max(below)] if below else []) + [min(above)])
    kinds = " or ".join(f"{kind} blocks ({step}n + 2)" for kind, step in steps.items())
    raise ValueError(f"No ResNet of {kinds} has {depth} layers. Nearest: {nearest}.")
