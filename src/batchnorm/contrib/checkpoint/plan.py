"""The plan of a load: a source for each variable of a model, or a problem."""

from dataclasses import dataclass

from batchnorm.contrib.checkpoint import explain
from batchnorm.contrib.checkpoint.assignment import Source
from batchnorm.contrib.checkpoint.match import Matching
from batchnorm.contrib.checkpoint.mismatch import Problem
from batchnorm.contrib.checkpoint.model_layers import Target
from batchnorm.contrib.checkpoint.names_argument import Names, read_names
from batchnorm.contrib.checkpoint.scopes import groups
from batchnorm.contrib.checkpoint.variable_kinds import Contents


@dataclass(frozen=True)
class Plan:
    """The sources of a model's variables, and the problems.

    Attributes:
        matching: of layers and scopes.
        sources: of the variables, in the model's order.
        unused: why variables of the checkpoint are not used, by name.
        problems: errors, and layers whose scope is not certain.
    """

    matching: Matching
    sources: list[Source]
    unused: dict[str, str]
    problems: list[Problem]


def plan(targets: list[Target], contents: Contents, names: Names) -> Plan:
    """Finds a source for each variable of a model.

    Args:
        targets: the model's layers.
        contents: of the checkpoint.
        names: of `load_checkpoint`.

    Raises:
        ValueError: `names` is neither a dictionary, a function nor `None`.
    """
    scopes = groups(contents)
    resolved = read_names(names, targets, scopes, contents)
    matching = Matching(targets, scopes, contents, resolved)
    result = Plan(matching, [], {}, list(resolved.problems))
    candidates = matching.candidates()
    for target in targets:
        sources = {
            variable: resolved.sources[variable]
            for variable in target.variables
            if variable in resolved.sources
        }
        if target in matching.pairs:
            fit = matching.fit(target, *matching.pairs[target])
            sources |= {source.variable: source for source in fit.sources}
            result.problems.extend(fit.problems)
            result.unused.update(fit.unused)
        elif target in candidates:
            text = explain.unmatched(target, matching, candidates)
            result.problems.append(Problem(text, kind="unmatched"))
        result.sources.extend(
            sources[variable] for variable in target.variables if variable in sources
        )
    return result
