"""What is wrong where a checkpoint does not fit a model, and what remains where it does."""

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from batchnorm.contrib.checkpoint.kinds import SHADOW, Contents
from batchnorm.contrib.checkpoint.match import Matching
from batchnorm.contrib.checkpoint.problems import listed
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
    also = f" So does it {listed(others)}." if others else ""
    return f"{target}: {_list(fitting, matching)} of the checkpoint fits it.{also}{numbers}"


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
    if kind.parameter:
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
    fit = matching.fit(target, near[0])
    problem = "".join(f" {each.text}" for each in fit.problems[:1])
    return f" Closest: {_list(near if fit.solvable else near[:1], matching)}.{problem}"


def _near(target: Target, matching: Matching) -> list[Group]:
    """Free scopes: those that fit best first, then those of names that are alike."""
    name = canonical(target.path)
    groups = [group for group in matching.free() if group.normalization == target.normalization]
    close = {
        group: -SequenceMatcher(None, name, canonical(group.scope), autojunk=False).ratio()
        for group in groups
    }
    fits = {group: matching.fit(target, group) for group in groups}
    groups.sort(
        key=lambda group: (not fits[group].solvable, len(fits[group].problems), close[group])
    )
    return groups[:_MOST]


def _list(groups: Sequence[Group], matching: Matching) -> str:
    texts = []
    for group in groups[:_MOST]:
        shapes = (
            f"{leaf} {matching.contents.entries[matching.contents.actual(name)].shape}"
            for leaf, name in group.leaves.items()
        )
        texts.append(f"{group.scope or 'variables without a scope'} ({listed(shapes)})")
    more = f" and {len(groups) - _MOST} more" if len(groups) > _MOST else ""
    return ", ".join(texts) + more
