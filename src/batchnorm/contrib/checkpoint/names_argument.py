"""Resolves the argument `names` of `load_checkpoint` against model and checkpoint."""

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from batchnorm.contrib.checkpoint.assignment import Source, named_source, shape_problem
from batchnorm.contrib.checkpoint.mismatch import Problem
from batchnorm.contrib.checkpoint.model_layers import ModelVariable, Target
from batchnorm.contrib.checkpoint.problems import join_names
from batchnorm.contrib.checkpoint.scopes import Group
from batchnorm.contrib.checkpoint.variable_kinds import Contents

Names = Mapping[str, str | None] | Callable[[str], str | None] | None


@dataclass
class ResolvedNames:
    """The sources and scopes that `names` assigns to variables and layers.

    Attributes:
        sources: of single variables.
        groups: the scopes of layers.
        prefixes: the scopes of layers that layers with variables lie in, by their path.
        unchanged: variables that keep their values.
        problems: entries that cannot be resolved.
        accepted: the entries without a problem, as a dictionary.
    """

    sources: dict[ModelVariable, Source] = field(default_factory=dict)
    groups: dict[Target, Group] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    unchanged: set[ModelVariable] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    accepted: dict[str, str | None] = field(default_factory=dict)

    def named_variables(self, target: Target) -> list[ModelVariable]:
        """Returns the variables of a layer that need no matching."""
        named = self.sources.keys() | self.unchanged
        return [variable for variable in target.variables if variable in named]


def read_names(
    names: Names, targets: Sequence[Target], groups: Sequence[Group], contents: Contents
) -> ResolvedNames:
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
        return reader.result
    if callable(names):
        for target in targets:
            for variable in target.variables:
                name = names(variable.path)
                if name is not None and reader.is_name(f"names({variable.path!r})", name):
                    reader.pair_variable(target, variable, variable.path, name)
                    if variable in reader.result.sources:
                        reader.result.accepted[variable.path] = name
        return reader.result
    if not isinstance(names, Mapping):
        raise ValueError(
            "names must be a dictionary from layers or variables of the model to scopes or "
            "variables of the checkpoint, a function from a variable's path, or None; received "
            f"{reprlib.repr(names)}."
        )
    for key, name in names.items():
        before = len(reader.result.problems)
        reader.read_entry(key, name)
        if len(reader.result.problems) == before:
            reader.result.accepted[key] = name
    return reader.result


class _Reader:
    def __init__(
        self, targets: Sequence[Target], groups: Sequence[Group], contents: Contents
    ) -> None:
        self.targets, self.groups, self.contents = targets, groups, contents
        self.result = ResolvedNames()

    def read_entry(self, key: str, name: str | None) -> None:
        """Resolves an entry of a dictionary."""
        if not isinstance(key, str):
            self._problem(f"names: {key!r} must be the name of a layer or of a variable.")
            return
        if name is not None and not self.is_name(f"names[{key!r}]", name):
            return
        variables, layers = self._variables(key), self._layers(key)
        if "*" in key and not variables and not layers:
            self._read_pattern(key, name)
            return
        inside = [
            target
            for target in self.targets
            if any(_is_below(key, alias) for alias in target.aliases)
        ]
        paths = [variable.path for _, variable in variables] or [layer.path for layer in layers]
        if len(paths) > 1:
            shown = join_names(paths)
            self._problem(f"names: {key!r} may be any of {shown}; write the whole path.")
        elif not paths and not inside:
            self._problem(
                f"names: {key!r} is neither a layer nor a variable of the model.",
                key,
                self._model_names(),
            )
        elif name is None:
            self.result.unchanged.update(variable for _, variable in variables)
            if not variables:
                for target in layers or inside:
                    self.result.unchanged.update(target.variables)
        elif variables:
            self.pair_variable(*variables[0], key, name)
        elif layers:
            self._pair_layer(layers[0], key, name)
        else:
            self._pair_prefix(key, name)

    def _read_pattern(self, key: str, name: str | None) -> None:
        """Resolves a pattern of variables that keep their values."""
        matching = [
            variable
            for target in self.targets
            for variable in target.variables
            if any(map(partial(fnmatchcase, pat=key), self._paths(target, variable)))
        ]
        if name is not None:
            self._problem(f"names: the pattern {key!r} can only have the value None.")
        elif not matching:
            self._problem(f"names: no variable of the model is like {key!r}.")
        self.result.unchanged.update(matching)

    def is_name(self, where: str, name: Any) -> bool:
        """Returns whether a value is a name; adds a problem if not."""
        if not isinstance(name, str):
            self._problem(f"{where} must be a name or None, received {name!r}.")
        return isinstance(name, str)

    def _model_names(self) -> set[str]:
        """Returns the names of all layers and variables of the model."""
        paths = {variable.path for target in self.targets for variable in target.variables}
        return paths.union(*(target.aliases for target in self.targets))

    def _variables(self, key: str) -> list[tuple[Target, ModelVariable]]:
        return [
            (target, variable)
            for target in self.targets
            for variable in target.variables
            if key in self._paths(target, variable)
        ]

    @staticmethod
    def _paths(target: Target, variable: ModelVariable) -> tuple[str, ...]:
        return variable.path, f"{target.path}/{variable.name}", variable.keras_variable.path

    def _layers(self, key: str) -> list[Target]:
        return [target for target in self.targets if key in target.aliases] or [
            target for target in self.targets if target.layer.name == key
        ]

    def pair_variable(self, target: Target, variable: ModelVariable, key: str, name: str) -> None:
        """Assigns a variable of the checkpoint to one of the model."""
        name = name.removesuffix(":0")  # a tensor's name, as TensorFlow 1 prints it
        if name not in self.contents.plain and name not in self.contents.entries:
            is_scope = any(_is_below(name, plain) for plain in self.contents.plain)
            hint = " It is a scope; name a variable in it." if is_scope else ""
            self._problem(
                f"names: {name!r}, for {key!r}, is not a variable of the checkpoint.{hint}",
                name,
                self.contents.plain.keys() | self.contents.entries.keys(),
            )
            return
        source = named_source(target, variable, name, self.contents, "names")
        self.result.sources[variable] = source
        if problem := shape_problem(source, self.contents):
            self.result.problems.append(problem)
            del self.result.sources[variable]

    def _pair_layer(self, target: Target, key: str, name: str) -> None:
        groups = [group for group in self.groups if group.scope == name.rstrip("/")]
        candidates = [group for group in self.groups if group.normalization == target.normalization]
        if fitting := [group for group in groups if group in candidates]:
            self.result.groups[target] = fitting[0]
            return
        if groups:
            leaves = join_names(sorted(groups[0].leaves))
            self._problem(
                f"names: {name!r}, for {key!r}, has {leaves}, which {target} cannot take."
            )
            return
        is_variable = name in self.contents.entries
        hint = f" It is a variable: write {key + '/'!r} and its name." if is_variable else ""
        self._problem(
            f"names: {name!r}, for {key!r}, is not a scope of the checkpoint.{hint}",
            name,
            [group.scope for group in candidates],
        )

    def _pair_prefix(self, key: str, name: str) -> None:
        scopes = [group.scope for group in self.groups]
        if any(_is_below(name, scope) or scope == name for scope in scopes):
            self.result.prefixes[key] = name
            return
        self._problem(
            f"names: {name!r}, for {key!r}, is not a scope of the checkpoint.",
            name,
            ("/".join(scope.split("/")[:depth]) for scope in scopes for depth in range(1, 9)),
        )

    def _problem(self, text: str, wrong: str = "", allowed: Iterable[str] = ()) -> None:
        """Adds a problem, and the allowed names that are close to a wrong one."""
        close = get_close_matches(wrong, sorted(set(allowed)), n=3, cutoff=0.4)
        text += f" Close: {', '.join(close)}." if close else ""
        self.result.problems.append(Problem(text, kind="names"))


def _is_below(path: str, other: str) -> bool:
    return other.startswith(f"{path}/")
