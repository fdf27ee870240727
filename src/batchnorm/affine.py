"""Affine steps, the one rule that composes them, and where their scale and shift come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import keras
from keras import ops

from batchnorm.casting import cast, dtype_of, reshaped, tensor
from batchnorm.labels import picker
from batchnorm.slots import Slot

Tensor = Any


class Affine(NamedTuple):
    """The step `x * scale + shift`; numbers stand for themselves on every channel.

    Attributes:
        scale: `(C,)` per channel, `(N, C)` per sample, or a number.
        shift: likewise, in units of the result.
    """

    scale: Tensor = 1.0
    shift: Tensor = 0.0


def then(first: Affine, second: Affine) -> Affine:
    """The one step that does what two do in a row.

    (x * a + b) * c + e = x * (a * c) + (b * c + e)

    Args:
        first: `(a, b)`, done first.
        second: `(c, e)`, done to the result.

    Returns:
        `Affine(a * c, b * c + e)`.

    Example:
        >>> then(Affine(2.0, 3.0), Affine(10.0, 1.0))
        Affine(scale=20.0, shift=31.0)
    """
    (a, b), (c, e) = first, second
    return Affine(a * c, b * c + e)


def fitted(
    name: str, value: Tensor, shape: Sequence[int | None], axis: Sequence[int], dtype: str
) -> Tensor:
    """A scale or a shift as `Affine` has it.

    Args:
        name: what the caller calls it.
        value: a number; `(C,)`, per channel; `(N, C)`, per sample; or of the rank of the input and
            1 on all axes but the first and the channels'. For several channel axes the last alone.
        shape: of the input.
        axis: the channel axes, not negative.
        dtype: of the result.

    Returns:
        A number, a size for each channel axis, or samples and such sizes.

    Raises:
        ValueError: the shapes do not fit.
    """
    value = cast(tensor(value), dtype)
    given = tuple(value.shape)
    if not given or (len(axis) == len(given) == 1 and given[0] in (shape[axis[0]], None)):
        return value
    full = _full(given, shape, axis)
    # What may differ from sample to sample, and from channel to channel, is no 1.
    allowed = [size if place in (0, *axis) else 1 for place, size in enumerate(shape)]
    if not full or not all(map(_fits, full, allowed)):
        channels = tuple(shape[each] if each in axis else 1 for each in range(len(shape)))
        fits = (channels[axis[0]],) if len(axis) == 1 else channels
        samples = (shape[0], *fits[-1:]) if len(axis) == 1 else (shape[0], *channels[1:])
        raise ValueError(
            f"{name} of shape {given} does not fit an input of shape {tuple(shape)} with its "
            f"channels at axis {', '.join(map(str, axis))}: give a number, {fits} per channel"
            + (f", or {samples} per sample." if 0 not in axis else ".")
        )
    kept = [full[each] for each in axis]
    return reshaped(value, kept if full[0] == 1 or 0 in axis else (-1, *kept))


def _full(
    given: Sequence[int | None], shape: Sequence[int | None], axis: Sequence[int]
) -> list[int | None] | None:
    """The shape of a value with the rank of the input; `None` if it has no meaning."""
    places = range(len(shape))
    if len(axis) == 1:
        if len(given) == 1:  # (1,) for several channels is a mistake, not a shorthand
            fits = given[0] != 1 or shape[axis[0]] == 1
            return [given[0] if place == axis[0] else 1 for place in places] if fits else None
        if len(given) == 2 and axis[0] != 0:
            sizes = {0: given[0], axis[0]: given[1]}
            return [sizes.get(place, 1) for place in places]
    return list(given) if len(given) == len(shape) else None


def _fits(size: int | None, most: int | None) -> bool:
    return size is None or most is None or size == 1 or size == most


@runtime_checkable
class Conditional(Protocol):
    """What makes scale and shift of a condition that comes with each call.

    Attributes:
        replaces: arguments of the layer that have no meaning beside it.
    """

    replaces: ClassVar[tuple[str, ...]]

    def rows(self, condition_shape: Any) -> int | None:
        """How many rows gamma and beta have, from the condition's shape; `None` for neither."""

    def __call__(self, condition: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift `(N, C)`; `gamma` and `beta` are `(rows, C)`, or `None` for 1 and 0."""


_INITIALIZERS = ("beta_initializer", "gamma_initializer")


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True)
class Given(Slot):
    """Scale and shift are handed to each call, `layer(x, condition=(scale, shift))`.

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift

    The layer owns neither gamma nor beta. Each of the two is `(C,)`, per channel, `(N, C)`, per
    sample, or a number.

    Example:
        >>> Given()
        Given()
    """

    replaces: ClassVar[tuple[str, ...]] = (
        *("center", "scale", *_INITIALIZERS, "beta_regularizer", "gamma_regularizer"),
        *("beta_constraint", "gamma_constraint"),
    )

    def rows(self, condition_shape: Any) -> None:
        """The layer has no gamma and beta."""

    def __call__(self, condition: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """The condition itself.

        Raises:
            ValueError: it is no pair.
        """
        if not isinstance(condition, tuple | list) or len(condition) != 2:
            raise ValueError(
                "affine=Given() needs condition=(scale, shift) in each call, each a number, (C,) "
                f"or (N, C); received {condition!r}."
            )
        return condition[0], condition[1]


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True)
class PerClass(Slot):
    """One gamma and one beta per class, `layer(x, condition=labels)`.

    y = (x - mean) / sqrt(variance + epsilon) * gamma[labels] + beta[labels]

    The layer's gamma and beta are tables `(n, C)`, ones and zeros to begin with. Labels are `(N,)`
    or `(N, 1)`, integers in [0, n); or mixtures of classes, `(N, n)`, floating point, whose gamma
    and beta are `labels @ gamma` and `labels @ beta`.

    Args:
        classes: n, how many there are.

    Raises:
        ValueError: `classes` is no whole number from 1; in a call, labels of another shape or type,
            or outside [0, n). In compiled code such a label makes its sample NaN.

    Example:
        >>> PerClass(10)
        PerClass(classes=10)

    References:
        Dumoulin, Shlens, Kudlur 2017, "A learned representation for artistic style",
        arXiv:1610.07629, equation 5; De Vries et al. 2017, arXiv:1707.00683.
    """

    classes: int
    replaces: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Checks the number."""
        _check_positive("PerClass(classes)", self.classes, "How many classes are there?")

    def rows(self, condition_shape: Any) -> int:
        """A row per class."""
        return self.classes

    def __call__(self, condition: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the labels."""
        pick = picker(condition, self.classes)
        scale, shift = (None if of is None else pick(of) for of in (gamma, beta))
        return scale, shift


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True)
class FromEmbedding(Slot):
    """Scale and shift are linear in a vector, `layer(x, condition=vectors)`.

    y = (x - mean) / sqrt(variance + epsilon) * (offset + vectors @ gamma) + vectors @ beta

    The layer's gamma and beta are matrices `(D, C)`, the vectors are `(N, D)`: embeddings of
    classes, which layers can share, with or without a part of the latents (BigGAN), or the latents
    themselves (self-modulation).

    Args:
        units: D, the size of a vector; `None` to take it from the first call.
        offset: added to the scale; 1 begins near plain normalization.
        initializer: of both matrices, anything that `keras.initializers.get` takes.

    Raises:
        ValueError: `units` is no whole number from 1, `initializer` is none; in a call, vectors
            of another shape.

    Example:
        >>> FromEmbedding(128)
        FromEmbedding(units=128, offset=1.0, initializer='glorot_uniform')

    References:
        Brock, Donahue, Simonyan 2019, "Large scale GAN training", arXiv:1809.11096, appendix B;
        Chen et al. 2019, "On self modulation for generative adversarial networks",
        arXiv:1810.01365, equation 2.
    """

    units: int | None = None
    offset: float = 1.0
    initializer: Any = "glorot_uniform"
    replaces: ClassVar[tuple[str, ...]] = _INITIALIZERS

    def __post_init__(self) -> None:
        """Checks the size and the initializer."""
        if self.units is not None:
            _check_positive("FromEmbedding(units)", self.units, "None takes it from the vectors.")
        if keras.initializers.get(self.initializer) is None:
            raise ValueError("FromEmbedding(initializer) must say how the matrices begin.")

    def rows(self, condition_shape: Any) -> int:
        """A row for each number of a vector.

        Raises:
            ValueError: the condition is not `(N, D)`.
        """
        if condition_shape is None and self.units is not None:
            return self.units
        return _size(condition_shape, self.units)

    def __call__(self, condition: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors times the matrices."""
        condition = ops.convert_to_tensor(condition)
        if not keras.backend.is_float_dtype(dtype_of(condition)):
            raise ValueError(
                f"FromEmbedding needs vectors of a floating-point type, received {condition.dtype}."
                " For the numbers of classes make the layer with affine=PerClass(n)."
            )
        scale, shift = (None if of is None else _product(condition, of) for of in (gamma, beta))
        return (None if scale is None else self.offset + scale), shift


def _product(vectors: Tensor, matrix: Tensor) -> Tensor:
    matrix = tensor(matrix)
    units, *others = matrix.shape
    _size(vectors.shape, units)
    # Keras 3.15's matmul makes float32 of PyTorch's float64.
    product = cast(vectors, dtype_of(matrix)) @ reshaped(matrix, (units, -1))
    return reshaped(product, (-1, *others))


def _size(shape: Any, units: int | None) -> int:
    """The size of the vectors in a tensor of this shape, which is this one if that is known."""
    size = shape[1] if shape is not None and len(shape) == 2 else None
    if not isinstance(size, int) or units not in (None, size):
        raise ValueError(
            f"FromEmbedding needs condition=vectors of shape (N, {units or 'D'}) in each call; "
            f"received {'no tensor' if shape is None else f'shape {tuple(shape)}'}."
        )
    return size


def _check_positive(name: str, value: Any, mend: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number from 1; received {value!r}. {mend}")
