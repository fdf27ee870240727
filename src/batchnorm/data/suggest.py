"""Suggestions for unknown names."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, names: Iterable[str]) -> str:
    """Returns a question that offers the name that resembles an unknown one.

    Args:
        name: the unknown name.
        names: the allowed ones.

    Returns:
        The end of a sentence: `"; did you mean 'cifar10'?"`, or `"."` where no name is close.

    Example:
        >>> suggest("Cifar-10", ["fashion-mnist", "cifar10"]), suggest("vgg", ["gan"])
        ("; did you mean 'cifar10'?", '.')
    """
    spellings = {allowed.lower(): allowed for allowed in names}
    lower = name.lower()
    # "mnist" is a part of "fashion-mnist", though the two differ in most letters.
    parts = [key for key in spellings if len(lower) > 2 and (lower in key or key in lower)]
    close = sorted(parts, key=len) or get_close_matches(lower[:100], spellings, n=1)
    return f"; did you mean {spellings[close[0]]!r}?" if close else "."
