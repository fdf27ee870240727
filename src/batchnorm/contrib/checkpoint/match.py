"""Which scope of a checkpoint each layer is loaded from."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from batchnorm.contrib.checkpoint.fit import Fit, fit
from batchnorm.contrib.checkpoint.kinds import Contents
from batchnorm.contrib.checkpoint.names import Named
from batchnorm.contrib.checkpoint.scopes import Group, canonical, shared_prefix
from batchnorm.contrib.checkpoint.targets import Target


class Matching:
    """Layers and scopes that belong together: by names, by name, by shape.

    Args:
        targets: the model's layers.
        groups: the checkpoint's scopes.
        contents: of the checkpoint.
        named: what the user says.

    Attributes:
        found: the scope of each layer that has one, and how it was found.
        prefix: the scope that all others lie in, with a "/" behind it, or "".
    """

    def __init__(
        self, targets: Sequence[Target], groups: Sequence[Group], contents: Contents, named: Named
    ) -> None:
        self.targets, self.groups, self.contents, self.named = targets, groups, contents, named
        self.found: dict[Target, tuple[Group, str]] = {
            target: (group, "names") for target, group in named.groups.items()
        }
        self._fits: dict[tuple[Target, Group, str], Fit] = {}
        self._elsewhere = {name for source in named.sources.values() for name in source.names}
        self.prefix = shared_prefix(group.scope for group in groups)
        self._beside_named()
        self.barred = self._barred()
        self._by_name(lambda path: path)
        self._by_name(canonical)
        # Keras's names have no slashes: block_conv1 is what was block/conv1.
        self._by_name(lambda path: canonical(path.replace("/", "_")))
        self.settle()

    def settle(self) -> None:
        """Finds what follows from what is known: by the graph, then by shape, and again."""
        while self._by_graph() or self._by_shape():
            pass

    def trial(self) -> "Matching":
        """A copy, in which scopes can be tried."""
        copied = copy.copy(self)
        copied.found = dict(self.found)
        return copied

    def open(self) -> list[Target]:
        """The layers that still need a scope."""
        return [
            target
            for target in self.targets
            if target not in self.found and len(self.named.given(target)) < len(target.wanted)
        ]

    def free(self) -> list[Group]:
        """The scopes that no layer has."""
        used = {group for group, _ in self.found.values()}
        return [
            group
            for group in self.groups
            if group not in used and not self._elsewhere.issuperset(group.leaves.values())
        ]

    def fit(self, target: Target, group: Group, how: str = "shape") -> Fit:
        """How a scope fits a layer, beside what is said by names."""
        key = (target, group, how)
        if key not in self._fits:
            given = self.named.given(target)
            self._fits[key] = fit(target, group, self.contents, how, given, self._elsewhere)
        return self._fits[key]

    def fitting(self, target: Target) -> list[Group]:
        """The free scopes whose variables are just those of the layer."""
        groups = [each for each in self.free() if each.normalization == target.normalization]
        return [
            group
            for group in groups
            if self._just(target, group) and not self.elsewhere(target, group)
        ]

    def candidates(self) -> dict[Target, list[Group]]:
        """`fitting`, of all layers that need a scope."""
        return {target: self.fitting(target) for target in self.open()}

    def _just(self, target: Target, group: Group) -> bool:
        """Whether a scope has the variables of a layer and no others."""
        result = self.fit(target, group)
        return not result.problems and not result.foreign

    def _take(self, pairs: Iterable[tuple[Target, Group]], how: str) -> bool:
        """Keeps those pairs neither side of which is in another one."""
        pairs = list(pairs)
        layers = Counter(target for target, _ in pairs)
        scopes = Counter(group for _, group in pairs)
        sure = [pair for pair in pairs if layers[pair[0]] == scopes[pair[1]] == 1]
        self.found.update({target: (group, how) for target, group in sure})
        return bool(sure)

    def _beside_named(self) -> None:
        """Where names say a part of a layer's variables, the others are beside these."""
        for target in self.targets:
            sources = [self.named.sources.get(wanted) for wanted in target.wanted]
            names = {name for source in sources if source for name in source.names}
            groups = [
                each
                for each in self.groups
                if each.normalization == target.normalization and names & set(each.leaves.values())
            ]
            if target not in self.found and len(groups) == 1:
                self.found[target] = (groups[0], "name")

    def _names(self, target: Target) -> set[str]:
        """What the layer's scope may be called."""
        for path, scope in self.named.prefixes.items():
            for alias in target.aliases:
                if alias.startswith(f"{path}/"):
                    return {scope + alias[len(path) :]}
        return set(target.aliases)

    def _scopes(self, group: Group) -> set[str]:
        return {group.scope, group.scope.removeprefix(self.prefix)}

    def _by_name(self, spelling: Callable[[str], str]) -> None:
        free = [(group, set(map(spelling, self._scopes(group)))) for group in self.free()]
        self._take(
            (
                (target, group)
                for target in self.open()
                if target not in self.barred
                for names in [set(map(spelling, self._names(target)))]
                for group, scopes in free
                if group.normalization == target.normalization and names & scopes
            ),
            "name",
        )

    def _barred(self) -> set[Target]:
        """Layers with a number that Keras gave them, where the checkpoint's numbers are others.

        Keras counts on from model to model, so that conv2d_1 may be what is conv2d in the file.
        """
        families: dict[tuple[str, bool], dict[Target, str]] = {}
        for target in self.open():
            if automatic(target):
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
        """A normalization behind a layer whose scope is known has its scope within this one."""
        scopes = {target.layer: group.scope for target, (group, _) in self.found.items()}
        free = [group for group in self.free() if group.normalization]
        return self._take(
            (
                (target, group)
                for target in self.open()
                if target.normalization and (before := scopes.get(target.follows)) is not None
                for group in free
                if canonical(group.scope) in (canonical(before), f"{canonical(before)}/norm")
            ),
            "name",
        )

    def _by_shape(self) -> bool:
        fitting = self.candidates()
        return self._take(
            ((target, group) for target, groups in fitting.items() for group in groups), "shape"
        )

    def elsewhere(self, target: Target, group: Group) -> bool:
        """Whether a normalization's scope lies in that of a layer which it does not follow.

        In a model without a graph nobody knows what it follows, and shapes alone do not tell.
        """
        return target.normalization and any(
            other.layer is not target.follows and canonical(group.scope) == f"{scope}/norm"
            for other, (found, _) in self.found.items()
            for scope in [canonical(found.scope)]
        )


def automatic(target: Target) -> bool:
    """Whether a layer has the name that Keras gives it: conv2d, conv2d_1, ..."""
    kind = type(target.layer).__name__.lower()
    name: str = target.layer.name.replace("_", "").rstrip("0123456789")
    return name == kind
