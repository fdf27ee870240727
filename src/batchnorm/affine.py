"""Affine steps, and the one rule that composes them."""

from typing import Any, NamedTuple

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
