"""Suggests the entries of `names` that would load a checkpoint."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from batchnorm.contrib.checkpoint.assignment import fits
from batchnorm.contrib.checkpoint.match import Matching, has_automatic_name
from batchnorm.contrib.checkpoint.model_layers import ModelVariable, Target
from batchnorm.contrib.checkpoint.plan import Plan, plan
from batchnorm.contrib.checkpoint.roles import has_role
from batchnorm.contrib.checkpoint.scopes import Group, canonical
from batchnorm.contrib.checkpoint.variable_kinds import SHADOW

_ALIKE = 0.8  # similarity of names from which it counts more than the order
_UNMATCHED = 2  # layers that nothing fits, at most: with more the checkpoint is another model's
_SINGLE = 4  # unchanged variables of one name, at most: more become a pattern
# Variables that need no value, because they start with the one that changes nothing.
_OPTIONAL = ("gamma", "beta", "bias", "moving_mean", "moving_variance")
Entries = dict[str, str | None]


def suggest(draft: Plan) -> tuple[Entries, bool]:
    """Finds names that solve as many problems of a plan as they can.

    Scopes are tried by shape first; among those of one shape by similar names, else in order,
    where numbers in names are compared as numbers.

    Args:
        draft: a plan that has problems.

    Returns:
        The entries, with those that were passed; and whether they leave no problem.
    """
    matching = draft.matching
    trial = matching.trial()
    for target, (group, how) in matching.pairs.items():
        if how != "names" and any(p.kind == "shape" for p in trial.fit(target, group).problems):
            del trial.pairs[target]
    trial.settle()
    for normalization in (False, True):
        while pairs := _next_pairs(trial, normalization):
            trial.pairs.update({target: (group, "suggested") for target, group in pairs})
        trial.settle()
    entries = dict(matching.names.accepted)
    for target, (group, how) in trial.pairs.items():
        if how == "suggested" or (how != "names" and _is_other(matching, target, group)):
            entries[target.path] = group.scope
        for problem in trial.fit(target, group).problems:
            entries.update(problem.names)
        entries.update(_averages(target, group, trial, entries))
        if all(variable.path in entries for variable in target.variables):
            entries.pop(target.path, None)
    entries |= _variables(trial, entries)
    entries |= _without_scope(draft, trial, entries)
    entries = _with_patterns(entries, trial)
    if entries == matching.names.accepted:
        return {}, False
    return entries, not plan(list(matching.targets), matching.contents, entries).problems


def _is_other(matching: Matching, target: Target, group: Group) -> bool:
    return target in matching.pairs and matching.pairs[target][0] is not group


def _next_pairs(trial: Matching, normalization: bool) -> list[tuple[Target, Group]]:
    """Pairs layers of one shape that have no scope with scopes, as far as these suffice."""
    usable = {
        target: _usable(trial, target)
        for target in trial.open_targets()
        if target.normalization == normalization
    }
    for groups in usable.values():
        if groups:
            alike = [target for target, usable_groups in usable.items() if usable_groups == groups]
            return list(_aligned(alike, groups, trial))
    return []


def _usable(trial: Matching, target: Target) -> list[Group]:
    """Returns of the free scopes that a layer can be loaded from those that fit best."""
    costs: dict[Group, tuple[int, bool, bool]] = {}
    for group in trial.free_groups():
        if group.normalization == target.normalization:
            fit = trial.fit(target, group)
            if fit.solvable:
                elsewhere = trial.belongs_elsewhere(target, group)
                costs[group] = (len(fit.problems), fit.foreign, elsewhere)
    best = min(costs.values(), default=None)
    return [group for group, cost in costs.items() if cost == best]


def _aligned(
    targets: Sequence[Target], groups: Sequence[Group], trial: Matching
) -> Iterator[tuple[Target, Group]]:
    if all(map(has_automatic_name, targets)):  # Keras numbered them as they were made, not by depth
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
    """Returns the similarity of a layer's name and a scope, 0 to 1; 0 for a name by Keras."""
    if has_automatic_name(target):
        return 0.0
    scope = group.scope.removeprefix(trial.prefix)
    return SequenceMatcher(None, canonical(target.path), canonical(scope), autojunk=False).ratio()


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: conv_10 behind conv_9, and a block's shortcut, which is made first, before it."""
    name = re.sub(r"(^|/)(?=[^/]*(?:shortcut|projection|downsample|skip))", r"\1 ", name)
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _averages(target: Target, group: Group, trial: Matching, entries: Entries) -> Entries:
    """Finds moving statistics in tf.train.ExponentialMovingAverage's averages of operations."""
    orphans = [name for name in _orphans(trial) if name.startswith(f"{group.scope}/")]
    averages: Entries = {}
    for variable in target.variables:
        if variable.path in entries and entries[variable.path] is None:
            names = [
                name
                for name in orphans
                if has_role(variable.name, name)
                and fits(variable, trial.contents.entries[name].shape)
            ]
            if len(names) == 1:
                averages[variable.path] = names[0]
    return averages


def _orphans(trial: Matching) -> list[str]:
    """Returns the moving averages whose variables or operations are not in the file."""
    contents = trial.contents
    return [
        name
        for name, kind in contents.kinds.items()
        if kind.description == SHADOW and kind.owner not in contents.entries
    ]


def _variables(trial: Matching, entries: Entries) -> Entries:
    """Suggests single variables for layers that no scope fits: code without layers has none."""
    contents = trial.contents
    used = {
        name
        for target, (group, _) in trial.pairs.items()
        for source in trial.fit(target, group).sources
        for name in source.names
    } | {name for name in entries.values() if name is not None}
    pool = [name for name in contents.plain if name not in used]
    pool += [name for name in _orphans(trial) if name not in used]
    pool.sort(key=_natural)
    result: Entries = {}
    for target in trial.open_targets():
        free = [name for name in pool if name not in result.values()]
        result |= _layer_variables(target, trial, free)
    return result


def _layer_variables(target: Target, trial: Matching, pool: Sequence[str]) -> Entries:
    """Suggests a variable for each of a layer's; nothing if a necessary one is missing."""
    entries: Entries = {}
    named = trial.names.named_variables(target)
    for variable in target.variables:
        if variable in named:
            continue
        names = [
            name
            for name in pool
            if name not in entries.values()
            and fits(variable, trial.contents.entries[trial.contents.actual(name)].shape)
            and (has_role(variable.name, name) or len(variable.shape) > 1)
        ]
        if names:
            entries[variable.path] = min(names, key=lambda name: _distance(target, variable, name))
        elif variable.name in _OPTIONAL:
            entries[variable.path] = None
        else:
            return {}
    return entries if any(entries.values()) else {}


def _distance(target: Target, variable: ModelVariable, name: str) -> tuple[bool, float]:
    """Sort key: variables of the right role first, then those with similar names."""
    if has_automatic_name(target):
        return not has_role(variable.name, name), 0.0
    matcher = SequenceMatcher(None, canonical(variable.path), canonical(name), autojunk=False)
    return not has_role(variable.name, name), -matcher.ratio()


def _without_scope(draft: Plan, trial: Matching, entries: Entries) -> Entries:
    """Suggests `None` for a few layers that nothing fits, such as the last of other classes."""
    unfit = [
        target
        for target in trial.open_targets()
        if target.path not in entries and not any(w.path in entries for w in target.variables)
    ]
    few = len(unfit) <= _UNMATCHED and draft.sources
    return {target.path: None for target in unfit} if few else {}


def _with_patterns(entries: Entries, trial: Matching) -> Entries:
    """Replaces many entries by one pattern if they leave all variables of a name unchanged."""
    paths: dict[str, list[str]] = {}
    for target in trial.targets:
        for variable in target.variables:
            paths.setdefault(variable.name, []).append(variable.path)
    for leaf, leaf_paths in paths.items():
        unchanged = [path for path in leaf_paths if path in entries and entries[path] is None]
        if len(unchanged) > _SINGLE and unchanged == leaf_paths:
            entries = {key: name for key, name in entries.items() if key not in unchanged}
            entries[f"*/{leaf}"] = None
    return entries
