"""Problems of a layer with a scope: missing and extra variables, and their solutions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from batchnorm.contrib.checkpoint.mismatch import Problem
from batchnorm.contrib.checkpoint.model_layers import ModelVariable, Target
from batchnorm.contrib.checkpoint.scopes import Group
from batchnorm.contrib.checkpoint.variable_kinds import Contents

# The argument of a layer that decides whether it has the variable.
_ARGUMENTS = {"gamma": "scale", "beta": "center", "bias": "use_bias", "biases": "use_bias"}
_SHOWN = 6  # variables that a text names


def missing_variables(
    target: Target,
    absent: Sequence[ModelVariable],
    renamed: Mapping[ModelVariable, str],
    group: Group,
    contents: Contents,
) -> Iterator[Problem]:
    """Yields the problems of the variables of a layer that have no source in a scope.

    Args:
        target: the layer.
        absent: these variables.
        renamed: the variables of the checkpoint that they may be under another name.
        group: the scope.
        contents: of the checkpoint.
    """
    statistics = [w for w in absent if _is_statistics(target, w) and w not in renamed]
    for variable in absent:
        if variable in renamed:
            yield _other_name(variable, renamed[variable], group)
        elif argument := _ARGUMENTS.get(variable.name):
            yield _without(target, variable, argument, group)
        elif variable.name == "step":
            yield _steps(target, variable, group, contents)
        elif variable not in statistics:
            yield Problem(
                f"{variable.path} {variable.shape} is not in the checkpoint: {group.scope} has no "
                f"{variable.name}. It has {join_names(sorted(group.leaves))}.",
                kind="missing",
            )
    if statistics:
        yield _no_statistics(statistics, group)


def extra_variable(target: Target, leaf: str, name: str, contents: Contents) -> Problem:
    """Returns the problem of a variable of the scope that the layer does not have.

    Args:
        target: the layer.
        leaf: the variable's name within the scope.
        name: in the checkpoint.
        contents: of the checkpoint.
    """
    shape = contents.entries[contents.actual(name)].shape
    argument = _ARGUMENTS.get(leaf)
    if argument == "use_bias" and not _may_be_bias(target, shape):
        argument = None
    hint = f": make it with {argument}=True" if argument else ", which is of another kind"
    return Problem(
        f"{name} {shape} of the checkpoint has no place in the layer {target.path}{hint}.",
        kind="extra",
    )


def join_names(names: Iterable[str], most: int = _SHOWN) -> str:
    """Joins names by commas, and counts those beyond the first few.

    Args:
        names: in order.
        most: how many are shown.

    Example:
        >>> join_names("abcd", 2)
        'a, b and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _may_be_bias(target: Target, shape: tuple[int, ...]) -> bool:
    """Returns whether a layer could have a bias of this shape, as far as its kernel tells."""
    kernels = [variable.shape for variable in target.variables if variable.name.endswith("kernel")]
    sizes = {size for kernel in kernels for size in (*kernel[-2:], _product(kernel[-2:]))}
    return not kernels or (len(shape) == 1 and shape[0] in sizes)


def _product(sizes: tuple[int, ...]) -> int:
    return sizes[0] * sizes[-1] if len(sizes) == 2 else sizes[0]


def _is_statistics(target: Target, variable: ModelVariable) -> bool:
    return target.normalization and variable.name.startswith(("moving_", "renorm_"))


def _other_name(variable: ModelVariable, name: str, group: Group) -> Problem:
    leaf = name.removeprefix(f"{group.scope}/")
    return Problem(
        f"{variable.path} {variable.shape} is not in the checkpoint by its name; "
        f"{group.scope or 'the checkpoint'} has {leaf} of this shape.",
        {variable.path: name},
        "renamed",
    )


def _without(target: Target, variable: ModelVariable, argument: str, group: Group) -> Problem:
    default = " It is what tf.contrib's batch_norm does by default." if argument == "scale" else ""
    return Problem(
        f"{variable.path} {variable.shape} is not in the checkpoint: {group.scope} has no "
        f"{variable.name}. Make the layer {target.path} with {argument}=False, or leave what it "
        f"has.{default}",
        {variable.path: None},
        f"no {variable.name}",
    )


def _steps(target: Target, variable: ModelVariable, group: Group, contents: Contents) -> Problem:
    counts = [name for name in contents.entries if name.rpartition("/")[2] == "global_step"]
    return Problem(
        f"{variable.path} is not in the checkpoint, which counts no steps for {group.scope}. Name "
        f"a variable that does, leave it at 0, or make the layer {target.path} without what needs "
        "it, such as moving=ZeroDebiased(), moving=Cumulative(), OldRenorm() or a schedule.",
        {variable.path: counts[0] if counts else None},
        "step",
    )


def _no_statistics(absent: Sequence[ModelVariable], group: Group) -> Problem:
    layer = absent[0].path.rpartition("/")[0]
    names = " and ".join(variable.name for variable in absent)
    return Problem(
        f"{layer}: {group.scope} has no {names}. It has {join_names(sorted(group.leaves))}. A "
        "model that always normalized by the batch, or a Saver of trainable variables alone, left "
        "none: leave what the layer has, and call the model with training=True on batches of data, "
        "which records them.",
        {variable.path: None for variable in absent},
        "statistics",
    )
