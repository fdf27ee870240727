"""Affine steps, and the one rule that composes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

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
    value = ops.cast(ops.convert_to_tensor(value), dtype)
    given = tuple(value.shape)
    if not given:
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
    if len(given) == len(kept) == 1:
        return value
    return ops.reshape(value, kept if full[0] == 1 or 0 in axis else (-1, *kept))


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
