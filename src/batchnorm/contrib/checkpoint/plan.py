"""What each variable of a model is loaded from, and why nothing is where it is not certain."""

from dataclasses import dataclass

from batchnorm.contrib.checkpoint import explain
from batchnorm.contrib.checkpoint.fit import Source
from batchnorm.contrib.checkpoint.kinds import Contents
from batchnorm.contrib.checkpoint.match import Matching
from batchnorm.contrib.checkpoint.mismatch import Problem
from batchnorm.contrib.checkpoint.names import Names, read_names
from batchnorm.contrib.checkpoint.scopes import groups
from batchnorm.contrib.checkpoint.targets import Target


@dataclass(frozen=True)
class Plan:
    """How a checkpoint is loaded.

    Attributes:
        matching: of layers and scopes.
        sources: of the variables, in the model's order.
        unused: why variables of the checkpoint are not used, by name.
        problems: what is wrong or not certain.
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
    named = read_names(names, targets, scopes, contents)
    matching = Matching(targets, scopes, contents, named)
    result = Plan(matching, [], {}, list(named.problems))
    candidates = matching.candidates()
    for target in targets:
        sources = {
            wanted: named.sources[wanted]
            for wanted in named.given(target)
            if wanted in named.sources
        }
        if target in matching.found:
            fit = matching.fit(target, *matching.found[target])
            sources |= {source.wanted: source for source in fit.sources}
            result.problems.extend(fit.problems)
            result.unused.update(fit.unused)
        elif target in candidates:
            text = explain.unmatched(target, matching, candidates)
            result.problems.append(Problem(text, kind="unmatched"))
        result.sources.extend(sources[wanted] for wanted in target.wanted if wanted in sources)
    return result
