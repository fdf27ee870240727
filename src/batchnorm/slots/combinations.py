"""Unsupported combinations of slots and arguments, with reasons; all others are supported."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple

Arguments = Mapping[str, Any]


class Refused(NamedTuple):
    """One line of the table.

    Attributes:
        combination: the arguments, as a user writes them.
        reason: why they are refused together, and what to do instead.
        applies: tells whether they were passed, from the arguments by name and the names of those
            that are not at their defaults.
    """

    combination: str
    reason: str
    applies: Callable[[Arguments, Set[str]], bool]


# Arguments that a slot's value replaces, and that are therefore refused beside it. The values of
# `affine` name their own.
_SLOTS = ("moving", "renorm", "affine")
_REPLACED = {
    "moving": ("momentum",),
    "renorm": ("renorm_clipping", "renorm_momentum"),
}

REFUSED = (
    Refused(
        "`moving=...` and `momentum=`",
        "the momentum is that of the object, `moving=Exponential(0.9)`",
        lambda arguments, changed: not changed.isdisjoint(replaced(arguments, "moving")),
    ),
    Refused(
        "`renorm=Renorm(...)` and `renorm_clipping=` or `renorm_momentum=`",
        "limits and momentum are those of the object, `renorm=Renorm(rmax=3, momentum=0.9)`",
        lambda arguments, changed: not changed.isdisjoint(replaced(arguments, "renorm")),
    ),
    Refused(
        "`renorm=...` and `moving=Pooled()`",
        "renorm's moving deviation follows the batches at a rate, and Pooled has none: choose "
        "Exponential, ZeroDebiased or Cumulative",
        lambda arguments, changed: (
            bool(arguments["renorm"])
            and arguments["moving"] is not None
            and not hasattr(arguments["moving"], "rates")
        ),
    ),
    Refused(
        "`affine=Given()` and `center=`, `scale=` or any `gamma_...=`, `beta_...=`",
        "they describe a gamma and a beta, and the layer then has none: each call is handed "
        "`condition=(scale, shift)`, 1 and 0 for what is not wanted",
        lambda arguments, changed: (
            "scale" in replaced(arguments, "affine")
            and not changed.isdisjoint(replaced(arguments, "affine"))
        ),
    ),
    Refused(
        "`affine=FromEmbedding(...)` and `gamma_initializer=` or `beta_initializer=`",
        "they say how a gamma and a beta begin, and here the two are matrices: "
        "`affine=FromEmbedding(initializer=...)` says how these do",
        lambda arguments, changed: not changed.isdisjoint(replaced(arguments, "affine")),
    ),
    Refused(
        "`affine=PerClass(...)` or `FromEmbedding(...)` and `axis=0`",
        "each entry of axis 0 has a condition, and those entries then are channels and not samples",
        lambda arguments, changed: (
            arguments["affine"] is not None
            and "scale" not in replaced(arguments, "affine")
            and 0 in _axes(arguments)
        ),
    ),
    Refused(
        "`statistics=Ghost(...)` and `synchronized=True`",
        "the one measures over less than a batch, the other over those of all replicas; choose one",
        lambda arguments, changed: (
            arguments["statistics"] is not None and arguments["synchronized"]
        ),
    ),
    Refused(
        "`statistics=Ghost(...)` and `axis=0`",
        "a ghost batch is a part of axis 0, whose entries then are channels and not samples",
        lambda arguments, changed: arguments["statistics"] is not None and 0 in _axes(arguments),
    ),
)


def check(arguments: Arguments, changed: Set[str]) -> None:
    """Raises if arguments cannot be combined.

    Args:
        arguments: the arguments of a layer's constructor, by name.
        changed: the names of those that are not at their defaults.

    Raises:
        ValueError: with the line of the table that applies.
    """
    for line in REFUSED:
        if line.applies(arguments, changed):
            raise ValueError(f"{line.combination} cannot be combined: {line.reason}.")


def replaced(arguments: Arguments, *slots: str) -> tuple[str, ...]:
    """Returns the arguments that the values of slots replace.

    Args:
        arguments: the values by name; `None`, `True` and `False` replace nothing.
        *slots: which to look at; all if there is none.
    """
    used = [slot for slot in slots or _SLOTS if not isinstance(arguments[slot], bool | None)]
    return tuple(name for slot in used for name in _REPLACED.get(slot) or arguments[slot].replaces)


def _axes(arguments: Arguments) -> Sequence[int]:
    return arguments["axis"] if isinstance(arguments["axis"], Sequence) else (arguments["axis"],)
