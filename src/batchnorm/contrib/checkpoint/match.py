"""Matches the layers of a model with the scopes of a checkpoint."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from batchnorm.contrib.checkpoint.assignment import Fit, fit
from batchnorm.contrib.checkpoint.model_layers import Target
from batchnorm.contrib.checkpoint.names_argument import ResolvedNames
from batchnorm.contrib.checkpoint.scopes import Group, canonical, shared_prefix
from batchnorm.contrib.checkpoint.variable_kinds import Contents


class Matching:
    """Layers and the scopes that they are loaded from: by `names`, by name, by graph, by shape.

    Args:
        targets: the model's layers.
        groups: the checkpoint's scopes.
        contents: of the checkpoint.
        names: the argument `names`, resolved.

    Attributes:
        pairs: for each layer that has a scope, the scope and how it was matched.
        prefix: the scope that all others lie in, with a "/" behind it, or "".
        barred: layers that are not matched by name, because Keras's numbers differ.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        groups: Sequence[Group],
        contents: Contents,
        names: ResolvedNames,
    ) -> None:
        self.targets, self.groups, self.contents, self.names = targets, groups, contents, names
        self.pairs: dict[Target, tuple[Group, str]] = {
            target: (group, "names") for target, group in names.groups.items()
        }
        self._fits: dict[tuple[Target, Group, str], Fit] = {}
        self._elsewhere = {name for source in names.sources.values() for name in source.names}
        self.prefix = shared_prefix(group.scope for group in groups)
        self._by_named_variables()
        self.barred = self._barred()
        self._by_name(lambda path: path)
        self._by_name(canonical)
        # Keras's names have no slashes: block_conv1 stands for block/conv1.
        self._by_name(lambda path: canonical(path.replace("/", "_")))
        self.settle()

    def settle(self) -> None:
        """Matches by the graph, then by shape, until neither matches anything more."""
        while self._by_graph() or self._by_shape():
            pass

    def trial(self) -> "Matching":
        """Returns a copy in which other pairs can be tried."""
        trial = copy.copy(self)
        trial.pairs = dict(self.pairs)
        return trial

    def open_targets(self) -> list[Target]:
        """Returns the layers that still need a scope."""
        return [
            target
            for target in self.targets
            if target not in self.pairs
            and len(self.names.named_variables(target)) < len(target.variables)
        ]

    def free_groups(self) -> list[Group]:
        """Returns the scopes that no layer has."""
        used = {group for group, _ in self.pairs.values()}
        return [
            group
            for group in self.groups
            if group not in used and not self._elsewhere.issuperset(group.leaves.values())
        ]

    def fit(self, target: Target, group: Group, how: str = "shape") -> Fit:
        """Assigns a scope to a layer, apart from the variables that `names` tells."""
        key = (target, group, how)
        if key not in self._fits:
            named = self.names.named_variables(target)
            self._fits[key] = fit(target, group, self.contents, how, named, self._elsewhere)
        return self._fits[key]

    def fitting_groups(self, target: Target) -> list[Group]:
        """Returns the free scopes whose variables are just those of the layer."""
        return [
            group
            for group in self.free_groups()
            if group.normalization == target.normalization
            and self._fits_exactly(target, group)
            and not self.belongs_elsewhere(target, group)
        ]

    def candidates(self) -> dict[Target, list[Group]]:
        """Returns the fitting free scopes of each layer that needs one."""
        return {target: self.fitting_groups(target) for target in self.open_targets()}

    def _fits_exactly(self, target: Target, group: Group) -> bool:
        """Returns whether a scope has the variables of a layer and no others."""
        result = self.fit(target, group)
        return not result.problems and not result.foreign

    def _add_unambiguous(self, pairs: Iterable[tuple[Target, Group]], how: str) -> bool:
        """Adds those pairs whose layer and scope are in no other pair; returns whether any was."""
        pairs = list(pairs)
        layers = Counter(target for target, _ in pairs)
        scopes = Counter(group for _, group in pairs)
        unambiguous = [pair for pair in pairs if layers[pair[0]] == scopes[pair[1]] == 1]
        self.pairs.update({target: (group, how) for target, group in unambiguous})
        return bool(unambiguous)

    def _by_named_variables(self) -> None:
        """Matches layers a part of whose variables `names` tells with the scope of these."""
        for target in self.targets:
            sources = [self.names.sources.get(variable) for variable in target.variables]
            names = {name for source in sources if source for name in source.names}
            groups = [
                group
                for group in self.groups
                if group.normalization == target.normalization
                and names & set(group.leaves.values())
            ]
            if target not in self.pairs and len(groups) == 1:
                self.pairs[target] = (groups[0], "name")

    def _scope_names(self, target: Target) -> set[str]:
        """Returns the names that the layer's scope may have."""
        for path, scope in self.names.prefixes.items():
            for alias in target.aliases:
                if alias.startswith(f"{path}/"):
                    return {scope + alias[len(path) :]}
        return set(target.aliases)

    def _scopes(self, group: Group) -> set[str]:
        return {group.scope, group.scope.removeprefix(self.prefix)}

    def _by_name(self, spelling: Callable[[str], str]) -> None:
        free = [(group, set(map(spelling, self._scopes(group)))) for group in self.free_groups()]
        self._add_unambiguous(
            (
                (target, group)
                for target in self.open_targets()
                if target not in self.barred
                for names in [set(map(spelling, self._scope_names(target)))]
                for group, scopes in free
                if group.normalization == target.normalization and names & scopes
            ),
            "name",
        )

    def _barred(self) -> set[Target]:
        """Returns the layers with numbers from Keras, where the checkpoint has other numbers.

        Keras counts on from model to model, so that conv2d_1 may be called conv2d in the file.
        """
        families: dict[tuple[str, bool], dict[Target, str]] = {}
        for target in self.open_targets():
            if has_automatic_name(target):
                name = canonical(target.path)
                key = (name.rstrip("0123456789"), target.normalization)
                families.setdefault(key, {})[target] = name
        barred: set[Target] = set()
        for (base, normalization), members in families.items():
            scopes = {
                name
                for group in self.groups
                if group.normalization == normalization
                for name in map(canonical, self._scopes(group))
                if name.rstrip("0123456789") == base
            }
            if scopes and scopes != set(members.values()):
                barred.update(members)
        return barred

    def _by_graph(self) -> bool:
        """Matches a normalization with the scope within that of the layer which it follows."""
        scopes = {target.layer: group.scope for target, (group, _) in self.pairs.items()}
        free = [group for group in self.free_groups() if group.normalization]
        return self._add_unambiguous(
            (
                (target, group)
                for target in self.open_targets()
                if target.normalization and (before := scopes.get(target.follows)) is not None
                for group in free
                if canonical(group.scope) in (canonical(before), f"{canonical(before)}/norm")
            ),
            "name",
        )

    def _by_shape(self) -> bool:
        fitting = self.candidates()
        return self._add_unambiguous(
            ((target, group) for target, groups in fitting.items() for group in groups), "shape"
        )

    def belongs_elsewhere(self, target: Target, group: Group) -> bool:
        """Returns whether a normalization's scope lies in that of a layer which it does not follow.

        A model without a graph does not tell what it follows, and shapes alone do not either.
        """
        return target.normalization and any(
            other.layer is not target.follows
            and canonical(group.scope) == f"{canonical(scope.scope)}/norm"
            for other, (scope, _) in self.pairs.items()
        )


def has_automatic_name(target: Target) -> bool:
    """Returns whether a layer has a name that Keras gave it: conv2d, conv2d_1, ..."""
    kind = type(target.layer).__name__.lower()
    name: str = target.layer.name.replace("_", "").rstrip("0123456789")
    return name == kind
