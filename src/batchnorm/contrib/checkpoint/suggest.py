"""The entries of `names` that would load a checkpoint: `suggest`."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from batchnorm.contrib.checkpoint.fit import fits
from batchnorm.contrib.checkpoint.kinds import SHADOW
from batchnorm.contrib.checkpoint.match import Matching, automatic
from batchnorm.contrib.checkpoint.plan import Plan, plan
from batchnorm.contrib.checkpoint.roles import plays
from batchnorm.contrib.checkpoint.scopes import Group, canonical
from batchnorm.contrib.checkpoint.targets import Target, Wanted

_ALIKE = 0.8  # how much names must have in common to come before the order
_LEFT = 2  # layers that nothing fits, before the checkpoint is another model's
_SINGLE = 4  # variables of a kind that are left as they are, before they become a pattern
# What a layer can do without, because it starts with the value that does nothing.
_OPTIONAL = ("gamma", "beta", "bias", "moving_mean", "moving_variance")
Entries = dict[str, str | None]


def suggest(problem: Plan) -> tuple[Entries, bool]:
    """Finds names that solve as many problems of a plan as they can.

    Scopes are tried by shape first; among those of one shape by names that are alike, else in
    order, where numbers count as numbers.

    Args:
        problem: the plan that has problems.

    Returns:
        The entries, with those that were passed; and whether they leave no problem.
    """
    matching = problem.matching
    trial = matching.trial()
    for target, (group, how) in matching.found.items():
        if how != "names" and any(p.kind == "shape" for p in trial.fit(target, group).problems):
            del trial.found[target]
    trial.settle()
    for normalization in (False, True):
        while pairs := _next_pairs(trial, normalization):
            trial.found.update({target: (group, "suggested") for target, group in pairs})
        trial.settle()
    entries = dict(matching.named.accepted)
    for target, (group, how) in trial.found.items():
        if how == "suggested" or (how != "names" and _is_other(matching, target, group)):
            entries[target.path] = group.scope
        for each in trial.fit(target, group).problems:
            entries.update(each.names)
        entries.update(_averages(target, group, trial, entries))
        if all(wanted.path in entries for wanted in target.wanted):
            entries.pop(target.path, None)
    entries |= _variables(trial, entries)
    entries |= _left(problem, trial, entries)
    entries = _with_patterns(entries, trial)
    if entries == matching.named.accepted:
        return {}, False
    return entries, not plan(list(matching.targets), matching.contents, entries).problems


def _is_other(matching: Matching, target: Target, group: Group) -> bool:
    return target in matching.found and matching.found[target][0] is not group


def _next_pairs(trial: Matching, normalization: bool) -> list[tuple[Target, Group]]:
    """Layers of one shape that have no scope, and scopes for as many of them as there are."""
    usable = {
        target: _usable(trial, target)
        for target in trial.open()
        if target.normalization == normalization
    }
    for groups in usable.values():
        if groups:
            alike = [target for target, others in usable.items() if others == groups]
            return list(_aligned(alike, groups, trial))
    return []


def _usable(trial: Matching, target: Target) -> list[Group]:
    """The free scopes that a layer can be loaded from, those alone that fit best."""
    costs: dict[Group, tuple[int, bool, bool]] = {}
    for group in trial.free():
        if group.normalization == target.normalization:
            fit = trial.fit(target, group)
            if fit.solvable:
                elsewhere = trial.elsewhere(target, group)
                costs[group] = (len(fit.problems), fit.foreign, elsewhere)
    best = min(costs.values(), default=None)
    return [group for group, cost in costs.items() if cost == best]


def _aligned(
    targets: Sequence[Target], groups: Sequence[Group], trial: Matching
) -> Iterator[tuple[Target, Group]]:
    if all(map(automatic, targets)):  # Keras numbered them as they were made, not by depth
        targets = sorted(targets, key=lambda target: _natural(target.path))
    groups = sorted(groups, key=lambda group: _natural(group.scope))
    scores = sorted(
        (
            (-_likeness(target, group, trial), row, column)
            for row, target in enumerate(targets)
            for column, group in enumerate(groups)
        ),
    )
    rows, columns = set(range(len(targets))), set(range(len(groups)))
    for score, row, column in scores:
        if -score >= _ALIKE and row in rows and column in columns:
            yield targets[row], groups[column]
            rows.discard(row)
            columns.discard(column)
    for row, column in zip(sorted(rows), sorted(columns), strict=False):
        yield targets[row], groups[column]


def _likeness(target: Target, group: Group, trial: Matching) -> float:
    """How much a layer's name and a scope have in common; 0 for names that Keras gave."""
    if automatic(target):
        return 0.0
    ours, theirs = canonical(target.path), canonical(group.scope.removeprefix(trial.prefix))
    return SequenceMatcher(None, ours, theirs, autojunk=False).ratio()


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders conv_10 behind conv_9, and the shortcut of a block, which is made first, before it."""
    name = re.sub(r"(^|/)(?=[^/]*(?:shortcut|projection|downsample|skip))", r"\1 ", name)
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _averages(target: Target, group: Group, trial: Matching, entries: Entries) -> Entries:
    """Moving statistics that tf.train.ExponentialMovingAverage kept of operations in the scope."""
    orphans = [name for name in _orphans(trial) if name.startswith(f"{group.scope}/")]
    averages: Entries = {}
    for wanted in target.wanted:
        if wanted.path in entries and entries[wanted.path] is None:
            names = [
                name
                for name in orphans
                if plays(wanted.name, name) and fits(wanted, trial.contents.entries[name].shape)
            ]
            if len(names) == 1:
                averages[wanted.path] = names[0]
    return averages


def _orphans(trial: Matching) -> list[str]:
    """Moving averages of what is not in the file."""
    contents = trial.contents
    return [
        name
        for name, kind in contents.kinds.items()
        if kind.what == SHADOW and kind.owner not in contents.entries
    ]


def _variables(trial: Matching, entries: Entries) -> Entries:
    """Single variables for layers that no scope fits: code without layers has no scopes."""
    contents = trial.contents
    used = {
        name
        for target, (group, _) in trial.found.items()
        for source in trial.fit(target, group).sources
        for name in source.names
    } | {name for name in entries.values() if name is not None}
    pool = [name for name in contents.plain if name not in used]
    pool += [name for name in _orphans(trial) if name not in used]
    pool.sort(key=_natural)
    result: Entries = {}
    for target in trial.open():
        picked = _picked(target, trial, [name for name in pool if name not in result.values()])
        result |= picked
    return result


def _picked(target: Target, trial: Matching, pool: Sequence[str]) -> Entries:
    """A variable for each of a layer's; none at all where one is missing that it needs."""
    picked: Entries = {}
    given = trial.named.given(target)
    for wanted in target.wanted:
        if wanted in given:
            continue
        names = [
            name
            for name in pool
            if name not in picked.values()
            and fits(wanted, trial.contents.entries[trial.contents.actual(name)].shape)
            and (plays(wanted.name, name) or len(wanted.shape) > 1)
        ]
        if names:
            picked[wanted.path] = min(names, key=lambda name: _distance(target, wanted, name))
        elif wanted.name in _OPTIONAL:
            picked[wanted.path] = None
        else:
            return {}
    return picked if any(picked.values()) else {}


def _distance(target: Target, wanted: Wanted, name: str) -> tuple[bool, float]:
    """Orders variables: those of the right role first, then those of names that are alike."""
    if automatic(target):
        return not plays(wanted.name, name), 0.0
    matcher = SequenceMatcher(None, canonical(wanted.path), canonical(name), autojunk=False)
    return not plays(wanted.name, name), -matcher.ratio()


def _left(problem: Plan, trial: Matching, entries: Entries) -> Entries:
    """`None` for the few layers that nothing fits, such as the last one for other classes."""
    unfit = [
        target
        for target in trial.open()
        if target.path not in entries and not any(w.path in entries for w in target.wanted)
    ]
    few = len(unfit) <= _LEFT and problem.sources
    return {target.path: None for target in unfit} if few else {}


def _with_patterns(entries: Entries, trial: Matching) -> Entries:
    """One entry in place of many where all variables of a name are to be left."""
    paths: dict[str, list[str]] = {}
    for target in trial.targets:
        for wanted in target.wanted:
            paths.setdefault(wanted.name, []).append(wanted.path)
    for leaf, all_of_it in paths.items():
        left = [path for path in all_of_it if path in entries and entries[path] is None]
        if len(left) > _SINGLE and left == all_of_it:
            entries = {key: name for key, name in entries.items() if key not in left}
            entries[f"*/{leaf}"] = None
    return entries
