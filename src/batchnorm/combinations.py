"""Which slots and arguments have no meaning together, and why; all others may be combined."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple

Arguments = Mapping[str, Any]


class Refused(NamedTuple):
    """One line of the table.

    Attributes:
        given: the arguments, as a user writes them.
        why: why they have no meaning together, and what to do instead.
        applies: whether they were given, from the arguments by name and the names of those that
            are not at their defaults.
    """

    given: str
    why: str
    applies: Callable[[Arguments, Set[str]], bool]


# What a slot's value says itself, so that the argument is refused beside it. What fills `affine`
# names them.
_SLOTS = ("moving", "renorm", "affine")
_REPLACED = {
    "moving": ("momentum",),
    "renorm": ("renorm_clipping", "renorm_momentum"),
}

REFUSED = (
    Refused(
        "`moving=...` and `momentum=`",
        "the momentum is that of the object, `moving=Exponential(0.9)`",
        lambda given, changed: not changed.isdisjoint(replaced(given, "moving")),
    ),
    Refused(
        "`renorm=Renorm(...)` and `renorm_clipping=` or `renorm_momentum=`",
        "limits and momentum are those of the object, `renorm=Renorm(rmax=3, momentum=0.9)`",
        lambda given, changed: not changed.isdisjoint(replaced(given, "renorm")),
    ),
    Refused(
        "`affine=Given()` and `center=`, `scale=` or any `gamma_...=`, `beta_...=`",
        "they describe a gamma and a beta, and the layer then has none: each call is handed "
        "`condition=(scale, shift)`, 1 and 0 for what is not wanted",
        lambda given, changed: (
            "scale" in replaced(given, "affine")
            and not changed.isdisjoint(replaced(given, "affine"))
        ),
    ),
    Refused(
        "`affine=FromEmbedding(...)` and `gamma_initializer=` or `beta_initializer=`",
        "they say how a gamma and a beta begin, and here the two are matrices: "
        "`affine=FromEmbedding(initializer=...)` says how these do",
        lambda given, changed: not changed.isdisjoint(replaced(given, "affine")),
    ),
    Refused(
        "`affine=PerClass(...)` or `FromEmbedding(...)` and `axis=0`",
        "each entry of axis 0 has a condition, and those entries then are channels and not samples",
        lambda given, changed: (
            given["affine"] is not None
            and "scale" not in replaced(given, "affine")
            and 0 in _axes(given)
        ),
    ),
    Refused(
        "`statistics=Ghost(...)` and `synchronized=True`",
        "the one measures over less than a batch, the other over those of all replicas; choose one",
        lambda given, changed: given["statistics"] is not None and given["synchronized"],
    ),
    Refused(
        "`statistics=Ghost(...)` and `axis=0`",
        "a ghost batch is a part of axis 0, whose entries then are channels and not samples",
        lambda given, changed: given["statistics"] is not None and 0 in _axes(given),
    ),
)


def check(given: Arguments, changed: Set[str]) -> None:
    """Refuses arguments that have no meaning together.

    Args:
        given: the arguments of a layer's constructor, by name.
        changed: the names of those that are not at their defaults.

    Raises:
        ValueError: with the line of the table that applies.
    """
    for line in REFUSED:
        if line.applies(given, changed):
            raise ValueError(f"{line.given} have no meaning together: {line.why}.")


def replaced(given: Arguments, *slots: str) -> tuple[str, ...]:
    """The arguments that the values of slots replace.

    Args:
        given: the values by name; `None`, `True` and `False` replace nothing.
        *slots: which to look at; all if there is none.
    """
    used = [slot for slot in slots or _SLOTS if not isinstance(given[slot], bool | None)]
    return tuple(name for slot in used for name in _REPLACED.get(slot) or given[slot].replaces)


def _axes(given: Arguments) -> Sequence[int]:
    return given["axis"] if isinstance(given["axis"], Sequence) else (given["axis"],)
