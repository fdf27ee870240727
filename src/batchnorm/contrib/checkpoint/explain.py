"""What is wrong where a checkpoint does not fit a model, and what remains where it does."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from batchnorm.contrib.checkpoint.kinds import SHADOW, VARIABLE, Contents
from batchnorm.contrib.checkpoint.match import Matching
from batchnorm.contrib.checkpoint.report import LeftOver
from batchnorm.contrib.checkpoint.scopes import Group, canonical
from batchnorm.contrib.checkpoint.targets import Target

_MOST = 4  # scopes that an error names


Candidates = Mapping[Target, Sequence[Group]]


def unmatched(target: Target, matching: Matching, candidates: Candidates) -> str:
    """Why a layer has no scope, and which scopes it may be.

    Args:
        target: the layer.
        matching: of the others.
        candidates: the scopes that fit, of all such layers.
    """
    numbers = (
        " Keras numbered its name, and the checkpoint has other numbers: that name tells nothing."
        if target in matching.barred
        else ""
    )
    fitting = candidates[target]
    if not fitting:
        return f"{target}: no free scope of the checkpoint fits it.{numbers}" + _closest(
            target, matching
        )
    if len(fitting) > 1:
        return f"{target}: several scopes of the checkpoint fit it: {_list(fitting, matching)}." + (
            numbers
        )
    others = [
        each.path
        for each, groups in candidates.items()
        if each is not target and fitting[0] in groups
    ]
    also = f" So does it {', '.join(others)}." if others else ""
    return f"{target}: {_list(fitting, matching)} of the checkpoint fits it.{also}{numbers}"


def advice(matching: Matching, candidates: Candidates) -> str:
    """How to say what could not be found out; `candidates` as for `unmatched`."""
    if not candidates:
        return ""
    entries: list[str] = []
    shown: set[Group] = set()
    for target, groups in list(candidates.items())[:_MOST]:
        fitting = [each for each in groups or _near(target, matching) if each not in shown]
        shown.update(fitting[:1])
        entries.append(f"{target.path!r}: {fitting[0].scope if fitting else 'SCOPE'!r}")
    more = ", ..." if len(candidates) > _MOST else ""
    return (
        "\nSay which scope a layer takes, if these are the right ones: "
        f"names={{{', '.join(entries)}{more}}}; None in place of a scope leaves the layer as it is."
    )


def left_over(
    contents: Contents, used: set[str], reasons: Mapping[str, str]
) -> tuple[LeftOver, ...]:
    """The variables of a checkpoint that were not loaded, and why.

    Args:
        contents: of the checkpoint.
        used: the names of those that were.
        reasons: by name, where there is a special one.
    """
    return tuple(
        LeftOver(name, entry.shape, reasons.get(name) or _reason(name, contents, used))
        for name, entry in contents.entries.items()
        if name not in used
    )


def _reason(name: str, contents: Contents, used: set[str]) -> str:
    kind = contents.kinds[name]
    if kind.what == VARIABLE:
        if contents.shadows and contents.shadow(name) in used:
            return "its moving average was loaded instead"
        return "no layer takes it, by name or by shape"
    if kind.what == SHADOW and not contents.shadows:
        return f"moving average of {kind.owner}; shadows=True would take it"
    return kind.what + (f" of {kind.owner}" if kind.owner and kind.what != SHADOW else "")


def _closest(target: Target, matching: Matching) -> str:
    near = _near(target, matching)
    if not near:
        only = (
            " The file has moving averages of variables that are not in it: shadows=True takes "
            "these."
            if not matching.contents.shadows
            and any(
                kind.what == SHADOW and kind.owner not in matching.contents.plain
                for kind in matching.contents.kinds.values()
            )
            else ""
        )
        return " There is none left." + only
    problem = matching.fit(target, near[0]).problems[:1]
    return f" Closest in name: {_list(near, matching)}." + "".join(f" {each}" for each in problem)


def _near(target: Target, matching: Matching) -> list[Group]:
    free = {
        f"{canonical(group.scope)} {number}": group
        for number, group in enumerate(matching.free())
        if group.normalization == target.normalization
    }
    name = canonical(target.path)
    close = get_close_matches(f"{name} 0", free, n=_MOST, cutoff=0.0)
    return [free[each] for each in close]


def _list(groups: Sequence[Group], matching: Matching) -> str:
    texts = []
    for group in groups[:_MOST]:
        shapes = (
            f"{leaf} {matching.contents.entries[matching.contents.actual(name)].shape}"
            for leaf, name in group.leaves.items()
        )
        texts.append(f"{group.scope} ({', '.join(shapes)})")
    more = f" and {len(groups) - _MOST} more" if len(groups) > _MOST else ""
    return ", ".join(texts) + more
