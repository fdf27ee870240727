"""Affine steps, the one rule that composes them, and which scales and shifts fit an input."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from batchnorm.stages.tensors import cast, reshaped, tensor

Tensor = Any


class Affine(NamedTuple):
    """The step `x * scale + shift`; numbers stand for themselves on every channel.

    Attributes:
        scale: `(C,)` per channel, `(N, C)` per sample, a map of the input's rank, or a number.
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
        value: a number; `(C,)`, per channel; `(N, C)`, per sample; or a map, of the rank of the
            input and 1 on any axes along which it is the same. For several channel axes a number
            or a map.
        shape: of the input.
        axis: the channel axes, not negative.
        dtype: of the result.

    Returns:
        A number, a size for each channel axis, samples and such sizes, or a map.

    Raises:
        ValueError: the shapes do not fit.
    """
    value = cast(tensor(value, dtype), dtype)
    own_shape = tuple(value.shape)
    if not own_shape or (
        len(axis) == len(own_shape) == 1 and own_shape[0] in (shape[axis[0]], None)
    ):
        return value
    full = _full(own_shape, shape, axis)
    if not full or not all(map(_fits, full, shape)):
        raise ValueError(_misfit(name, own_shape, shape, axis))
    sizes = [full[dim] for dim in axis]
    if any(size != 1 for dim, size in enumerate(full) if dim not in (0, *axis)):
        return value
    if full[0] == 1 or 0 in axis:
        return reshaped(value, sizes)
    return value if len(own_shape) == 1 + len(sizes) else reshaped(value, (-1, *sizes))


def _misfit(
    name: str, received: Sequence[Any], shape: Sequence[int | None], axis: Sequence[int]
) -> str:
    """The message for a value that does not fit, with the shapes that would."""
    channels = tuple(shape[dim] if dim in axis else 1 for dim in range(len(shape)))
    per_channel = (channels[axis[0]],) if len(axis) == 1 else channels
    samples = (shape[0], *per_channel[-1:]) if len(axis) == 1 else (shape[0], *channels[1:])
    per_sample = "" if 0 in axis else f" {samples} per sample,"
    return (
        f"{name} of shape {tuple(received)} does not fit an input of shape {tuple(shape)} with its "
        f"channels at axis {', '.join(map(str, axis))}: give a number, {per_channel} per channel,"
        f"{per_sample} or a map, {tuple(shape)}, with 1 on axes along which it is the same."
    )


def _full(
    own_shape: Sequence[int | None], shape: Sequence[int | None], axis: Sequence[int]
) -> list[int | None] | None:
    """The shape of a value with the rank of the input; `None` if it has no meaning."""
    places = range(len(shape))
    if len(axis) == 1:
        if len(own_shape) == 1:  # (1,) for several channels is a mistake, not a shorthand
            fits = own_shape[0] != 1 or shape[axis[0]] == 1
            return [own_shape[0] if place == axis[0] else 1 for place in places] if fits else None
        if len(own_shape) == 2 and axis[0] != 0:
            sizes = {0: own_shape[0], axis[0]: own_shape[1]}
            return [sizes.get(place, 1) for place in places]
    return list(own_shape) if len(own_shape) == len(shape) else None


def _fits(size: int | None, most: int | None) -> bool:
    return size is None or most is None or size == 1 or size == most
