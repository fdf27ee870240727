"""The name that was probably meant by one that is unknown."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, names: Iterable[str]) -> str:
    """Returns a question that offers the name that resembles an unknown one.

    Args:
        name: The unknown name.
        names: The known ones.

    Returns:
        The end of a sentence: `"; did you mean 'cifar10'?"`, or `"."` where no name is close.

    Example:
        >>> suggest("Cifar-10", ["fashion-mnist", "cifar10"]), suggest("vgg", ["gan"])
        ("; did you mean 'cifar10'?", '.')
    """
    known = {each.lower(): each for each in names}
    lower = name.lower()
    # "mnist" is meant by part of "fashion-mnist", though the two differ in most letters.
    parts = [each for each in known if len(lower) > 2 and (lower in each or each in lower)]
    close = sorted(parts, key=len) or get_close_matches(lower[:100], known, n=1)
    return f"; did you mean {known[close[0]]!r}?" if close else "."
