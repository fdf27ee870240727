"""The scopes of a checkpoint with their variables, and a canonical spelling of their names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from batchnorm.contrib.checkpoint.variable_kinds import DEBIAS, Contents

_WORD = r"(?:bn|batch_?norm(?:alization)?|norm(?:alization)?)"
_BEHIND = re.compile(rf"(?:(?P<base>.+?)_)??{_WORD}_?(?P<number>\d*)")
_BEFORE = re.compile(rf"{_WORD}_(?P<base>.*[a-z].*)")
_OTHER_NORMALIZATIONS = ("layer", "group", "instance", "spectral")


@dataclass(frozen=True, eq=False)
class Group:
    """The variables of a scope, from which a layer can be loaded.

    Attributes:
        scope: the name that they have in common.
        normalization: whether they are those of batch normalization.
        leaves: the variables' names, by their names within the scope.
    """

    scope: str
    normalization: bool
    leaves: dict[str, str] = field(default_factory=dict)


def groups(contents: Contents) -> list[Group]:
    """Groups the variables of a checkpoint by scope, batch normalization's apart from others.

    Args:
        contents: of the checkpoint.
    """
    result: dict[tuple[str, bool], Group] = {}
    scopes: dict[str, set[str]] = {}
    for name in contents.plain:
        scope, _, leaf = name.rpartition("/")
        scopes.setdefault(scope, set()).add(leaf)
    for name in contents.plain:
        scope, _, leaf = name.rpartition("/")
        key = (scope, _is_normalization(scope, leaf, scopes[scope]))
        result.setdefault(key, Group(*key)).leaves[leaf] = name
    for name, kind in contents.kinds.items():
        if kind.description == DEBIAS:
            scope, _, leaf = str(kind.owner).rpartition("/")
            if owner := result.get((scope, True)):
                owner.leaves[f"{leaf}/{name.rpartition('/')[2]}"] = name
    return list(result.values())


def _is_normalization(scope: str, leaf: str, leaves: set[str]) -> bool:
    if leaves & {"moving_mean", "moving_variance"}:
        return leaf in ("gamma", "beta") or leaf.startswith(("moving_", "renorm_"))
    if leaves & {"weights", "weight", "kernel"}:  # a layer and its normalization in one scope
        return leaf in ("gamma", "beta")
    base, _, last = canonical(scope).rpartition("/")
    return bool(re.fullmatch(r"norm\d*", last)) and not base.endswith(_OTHER_NORMALIZATIONS)


@cache
def canonical(path: str) -> str:
    """Returns a name in canonical spelling: without case, separators and synonyms.

    `conv1_bn`, `conv1/BatchNorm` and `Conv_1/batch_normalization` are all `conv1/norm`.

    Args:
        path: of a layer, or a scope.

    Example:
        >>> canonical("Block_1/convolution_2")
        'block1/conv2'
    """
    return "/".join(_part(part) for part in path.split("/"))


def _part(part: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", part).lower()
    words = "_".join(re.findall(r"[a-z0-9]+", spaced))
    if match := _BEHIND.fullmatch(words):
        base, number = match["base"], match["number"]
        return f"{_joined(base)}/norm{number}" if base else f"norm{number}"
    if match := _BEFORE.fullmatch(words):
        return f"{_joined(match['base'])}/norm"
    return _joined(words)


def _joined(words: str) -> str:
    words = re.sub(r"(^|_)convolution(?=_|\d|$)", r"\1conv", words)
    words = re.sub(r"(^|_)(?:fully_connected|fc)(?=_|\d|$)", r"\1dense", words)
    return words.replace("_", "")


def shared_prefix(scopes: Iterable[str]) -> str:
    """Returns the scope that contains all others, followed by "/", or "".

    Args:
        scopes: of the checkpoint.

    Example:
        >>> shared_prefix(["net/conv1", "net/conv1/BatchNorm"])
        'net/'
    """
    parts = [scope.split("/")[:-1] for scope in scopes]
    common = 0
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        common += 1
    return "/".join([*parts[0][:common], ""]) if common else ""
