"""What the argument `names` of `load_checkpoint` says, checked against model and checkpoint."""

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from batchnorm.contrib.checkpoint.fit import Source, misshapen, named
from batchnorm.contrib.checkpoint.kinds import Contents
from batchnorm.contrib.checkpoint.mismatch import Problem
from batchnorm.contrib.checkpoint.problems import listed
from batchnorm.contrib.checkpoint.scopes import Group
from batchnorm.contrib.checkpoint.targets import Target, Wanted

Names = Mapping[str, str | None] | Callable[[str], str | None] | None


@dataclass
class Named:
    """What is said about variables and layers.

    Attributes:
        sources: of single variables.
        groups: the scopes of layers.
        prefixes: the scopes of layers that layers with variables lie in, by their path.
        kept: variables that are to keep their values.
        problems: what cannot be done.
        accepted: what was said without a problem, as a dictionary.
    """

    sources: dict[Wanted, Source] = field(default_factory=dict)
    groups: dict[Target, Group] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    kept: set[Wanted] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    accepted: dict[str, str | None] = field(default_factory=dict)

    def given(self, target: Target) -> list[Wanted]:
        """The variables of a layer about which nothing is left to find out."""
        done = self.sources.keys() | self.kept
        return [wanted for wanted in target.wanted if wanted in done]


def read_names(
    names: Names, targets: Sequence[Target], groups: Sequence[Group], contents: Contents
) -> Named:
    """Resolves names into variables, layers and scopes.

    Args:
        names: of `load_checkpoint`.
        targets: the model's layers.
        groups: the checkpoint's scopes.
        contents: of the checkpoint.

    Raises:
        ValueError: `names` is neither a dictionary, a function nor `None`.
    """
    reader = _Reader(targets, groups, contents)
    if names is None:
        return reader.found
    if callable(names):
        for target in targets:
            for wanted in target.wanted:
                name = names(wanted.path)
                if name is not None and reader.is_name(f"names({wanted.path!r})", name):
                    reader.variable(target, wanted, wanted.path, name)
                    if wanted in reader.found.sources:
                        reader.found.accepted[wanted.path] = name
        return reader.found
    if not isinstance(names, Mapping):
        raise ValueError(
            "names must be a dictionary from layers or variables of the model to scopes or "
            "variables of the checkpoint, a function from a variable's path, or None; received "
            f"{reprlib.repr(names)}."
        )
    for key, name in names.items():
        before = len(reader.found.problems)
        reader.entry(key, name)
        if len(reader.found.problems) == before:
            reader.found.accepted[key] = name
    return reader.found


class _Reader:
    def __init__(
        self, targets: Sequence[Target], groups: Sequence[Group], contents: Contents
    ) -> None:
        self.targets, self.groups, self.contents = targets, groups, contents
        self.found = Named()

    def entry(self, key: str, name: str | None) -> None:
        """One of a dictionary's."""
        if not isinstance(key, str):
            self._problem(f"names: {key!r} must be the name of a layer or of a variable.")
            return
        if name is not None and not self.is_name(f"names[{key!r}]", name):
            return
        variables, layers = self._variables(key), self._layers(key)
        if "*" in key and not variables and not layers:
            self._pattern(key, name)
            return
        inside = [each for each in self.targets if any(_below(key, a) for a in each.aliases)]
        paths = [wanted.path for _, wanted in variables] or [each.path for each in layers]
        if len(paths) > 1:
            shown = listed(paths)
            self._problem(f"names: {key!r} may be any of {shown}; write the whole path.")
        elif not paths and not inside:
            known = [wanted.path for each in self.targets for wanted in each.wanted]
            known += [alias for each in self.targets for alias in each.aliases]
            self._problem(
                f"names: {key!r} is neither a layer nor a variable of the model.", key, known
            )
        elif name is None:
            kept = variables or [(each, w) for each in layers or inside for w in each.wanted]
            self.found.kept.update(wanted for _, wanted in kept)
        elif variables:
            self.variable(*variables[0], key, name)
        elif layers:
            self._layer(layers[0], key, name)
        else:
            self._prefix(key, name)

    def _pattern(self, key: str, name: str | None) -> None:
        """Of variables that are to keep their values."""
        matching = [
            wanted
            for target in self.targets
            for wanted in target.wanted
            if any(map(partial(fnmatchcase, pat=key), self._paths(target, wanted)))
        ]
        if name is not None:
            self._problem(f"names: the pattern {key!r} can only have the value None.")
        elif not matching:
            self._problem(f"names: no variable of the model is like {key!r}.")
        self.found.kept.update(matching)

    def is_name(self, where: str, name: Any) -> bool:
        """Whether a value is a name; if not, that is a problem."""
        if not isinstance(name, str):
            self._problem(f"{where} must be a name or None, received {name!r}.")
        return isinstance(name, str)

    def _variables(self, key: str) -> list[tuple[Target, Wanted]]:
        return [
            (target, wanted)
            for target in self.targets
            for wanted in target.wanted
            if key in self._paths(target, wanted)
        ]

    @staticmethod
    def _paths(target: Target, wanted: Wanted) -> tuple[str, ...]:
        return wanted.path, f"{target.path}/{wanted.name}", wanted.variable.path

    def _layers(self, key: str) -> list[Target]:
        return [target for target in self.targets if key in target.aliases] or [
            target for target in self.targets if target.layer.name == key
        ]

    def variable(self, target: Target, wanted: Wanted, key: str, name: str) -> None:
        """A variable of the model, and one of the checkpoint."""
        name = name.removesuffix(":0")  # a tensor's name, as TensorFlow 1 prints it
        if name not in self.contents.plain and name not in self.contents.entries:
            scope = any(_below(name, each) for each in self.contents.plain)
            is_scope = " It is a scope; name a variable in it." if scope else ""
            known = self.contents.plain.keys() | self.contents.entries.keys()
            self._problem(
                f"names: {name!r}, for {key!r}, is no variable of the checkpoint.{is_scope}",
                name,
                known,
            )
            return
        source = named(target, wanted, name, self.contents, "names")
        self.found.sources[wanted] = source
        if problem := misshapen(source, self.contents):
            self.found.problems.append(problem)
            del self.found.sources[wanted]

    def _layer(self, target: Target, key: str, name: str) -> None:
        scopes = [each for each in self.groups if each.scope == name.rstrip("/")]
        fitting = [each for each in scopes if each.normalization == target.normalization]
        if fitting:
            self.found.groups[target] = fitting[0]
            return
        if scopes:
            has = listed(sorted(scopes[0].leaves))
            self._problem(f"names: {name!r}, for {key!r}, has {has}, which {target} cannot take.")
            return
        is_variable = name in self.contents.entries
        hint = f" It is a variable: write {key + '/'!r} and its name." if is_variable else ""
        known = [each.scope for each in self.groups if each.normalization == target.normalization]
        self._problem(
            f"names: {name!r}, for {key!r}, is no scope of the checkpoint.{hint}", name, known
        )

    def _prefix(self, key: str, name: str) -> None:
        if any(_below(name, each.scope) or each.scope == name for each in self.groups):
            self.found.prefixes[key] = name
            return
        known = {"/".join(each.scope.split("/")[:n]) for each in self.groups for n in range(1, 9)}
        self._problem(f"names: {name!r}, for {key!r}, is no scope of the checkpoint.", name, known)

    def _problem(self, text: str, wrong: str = "", known: Iterable[str] = ()) -> None:
        close = get_close_matches(wrong, sorted(set(known)), n=3, cutoff=0.4)
        text += f" Close: {', '.join(close)}." if close else ""
        self.found.problems.append(Problem(text, kind="names"))


def _below(path: str, other: str) -> bool:
    return other.startswith(f"{path}/")
