"""Explanations: why a layer has no scope, and why a variable was left over."""

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from batchnorm.contrib.checkpoint.match import Matching
from batchnorm.contrib.checkpoint.model_layers import Target
from batchnorm.contrib.checkpoint.problems import join_names
from batchnorm.contrib.checkpoint.report import LeftOver
from batchnorm.contrib.checkpoint.scopes import Group, canonical
from batchnorm.contrib.checkpoint.variable_kinds import SHADOW, Contents

_MOST = 4  # scopes that an error names


Candidates = Mapping[Target, Sequence[Group]]


def unmatched(target: Target, matching: Matching, candidates: Candidates) -> str:
    """Explains why a layer has no scope, and names the scopes that it may be.

    Args:
        target: the layer.
        matching: of layers and scopes.
        candidates: the scopes that fit, for each layer without a scope.
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
    rivals = [
        rival.path
        for rival, groups in candidates.items()
        if rival is not target and fitting[0] in groups
    ]
    also = f" It also fits {join_names(rivals)}." if rivals else ""
    return f"{target}: {_list(fitting, matching)} of the checkpoint fits it.{also}{numbers}"


def left_over(
    contents: Contents, used: set[str], reasons: Mapping[str, str]
) -> tuple[LeftOver, ...]:
    """Lists the variables of a checkpoint that were not loaded, and why.

    Args:
        contents: of the checkpoint.
        used: the names of those that were loaded.
        reasons: by name, where matching has a special one.
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
    if kind.description == SHADOW and not contents.shadows:
        return f"moving average of {kind.owner}; shadows=True would take it"
    return kind.description + (
        f" of {kind.owner}" if kind.owner and kind.description != SHADOW else ""
    )


def _closest(target: Target, matching: Matching) -> str:
    closest = _closest_groups(target, matching)
    if not closest:
        only = (
            " The file has moving averages of variables that are not in it: shadows=True takes "
            "these."
            if not matching.contents.shadows
            and any(
                kind.description == SHADOW and kind.owner not in matching.contents.plain
                for kind in matching.contents.kinds.values()
            )
            else ""
        )
        return " There is none left." + only
    fit = matching.fit(target, closest[0])
    text = f" {fit.problems[0].text}" if fit.problems else ""
    return f" Closest: {_list(closest if fit.solvable else closest[:1], matching)}.{text}"


def _closest_groups(target: Target, matching: Matching) -> list[Group]:
    """Returns the free scopes that fit best; among equals the most similar names come first."""
    name = canonical(target.path)
    groups = [
        group for group in matching.free_groups() if group.normalization == target.normalization
    ]
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
        texts.append(f"{group.scope or 'variables without a scope'} ({join_names(shapes)})")
    more = f" and {len(groups) - _MOST} more" if len(groups) > _MOST else ""
    return ", ".join(texts) + more
