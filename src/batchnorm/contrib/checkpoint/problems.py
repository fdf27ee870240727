"""Problems of a layer with a scope: what is missing, what has no place, and what solves it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from batchnorm.contrib.checkpoint.kinds import Contents
from batchnorm.contrib.checkpoint.mismatch import Problem
from batchnorm.contrib.checkpoint.scopes import Group
from batchnorm.contrib.checkpoint.targets import Target, Wanted

# What a layer is to be made with where the checkpoint has a variable, and where it has none.
_ARGUMENTS = {"gamma": "scale", "beta": "center", "bias": "use_bias", "biases": "use_bias"}
_SHOWN = 6  # variables that a text names


def missing(
    target: Target,
    absent: Sequence[Wanted],
    renamed: Mapping[Wanted, str],
    group: Group,
    contents: Contents,
) -> Iterator[Problem]:
    """Tells which variables of a layer have no source in a scope.

    Args:
        target: the layer.
        absent: these variables.
        renamed: those of the checkpoint that they may be.
        group: the scope.
        contents: of the checkpoint.
    """
    statistics = [w for w in absent if _is_statistics(target, w) and w not in renamed]
    for wanted in absent:
        if wanted in renamed:
            yield _other_name(wanted, renamed[wanted], group)
        elif argument := _ARGUMENTS.get(wanted.name):
            yield _without(target, wanted, argument, group)
        elif wanted.name == "step":
            yield _steps(target, wanted, group, contents)
        elif wanted not in statistics:
            yield Problem(
                f"{wanted.path} {wanted.shape} is not in the checkpoint: {group.scope} has no "
                f"{wanted.name}. It has {listed(sorted(group.leaves))}.",
                kind="missing",
            )
    if statistics:
        yield _no_statistics(statistics, group)


def extra(target: Target, leaf: str, name: str, contents: Contents) -> Problem:
    """Tells that a layer has no place for a variable of its scope.

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


def listed(names: Iterable[str], most: int = _SHOWN) -> str:
    """Joins names by commas, and counts those beyond a few.

    Args:
        names: in order.
        most: that are shown.

    Example:
        >>> listed("abcd", 2)
        'a, b and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _may_be_bias(target: Target, shape: tuple[int, ...]) -> bool:
    """Whether a layer could have a bias of this shape, as far as its kernel tells."""
    kernels = [wanted.shape for wanted in target.wanted if wanted.name.endswith("kernel")]
    sizes = {size for kernel in kernels for size in (*kernel[-2:], _product(kernel[-2:]))}
    return not kernels or (len(shape) == 1 and shape[0] in sizes)


def _product(sizes: tuple[int, ...]) -> int:
    return sizes[0] * sizes[-1] if len(sizes) == 2 else sizes[0]


def _is_statistics(target: Target, wanted: Wanted) -> bool:
    return target.normalization and wanted.name.startswith(("moving_", "renorm_"))


def _other_name(wanted: Wanted, name: str, group: Group) -> Problem:
    leaf = name.removeprefix(f"{group.scope}/")
    return Problem(
        f"{wanted.path} {wanted.shape} is not in the checkpoint by its name; "
        f"{group.scope or 'the checkpoint'} has {leaf} of this shape.",
        {wanted.path: name},
        "renamed",
    )


def _without(target: Target, wanted: Wanted, argument: str, group: Group) -> Problem:
    default = " It is what tf.contrib's batch_norm does by default." if argument == "scale" else ""
    return Problem(
        f"{wanted.path} {wanted.shape} is not in the checkpoint: {group.scope} has no "
        f"{wanted.name}. Make the layer {target.path} with {argument}=False, or leave what it "
        f"has.{default}",
        {wanted.path: None},
        f"no {wanted.name}",
    )


def _steps(target: Target, wanted: Wanted, group: Group, contents: Contents) -> Problem:
    counts = [name for name in contents.entries if name.rpartition("/")[2] == "global_step"]
    return Problem(
        f"{wanted.path} is not in the checkpoint, which counts no steps for {group.scope}. Name a "
        f"variable that does, leave it at 0, or make the layer {target.path} without what needs "
        "it, such as moving=ZeroDebiased(), moving=Cumulative(), OldRenorm() or a schedule.",
        {wanted.path: counts[0] if counts else None},
        "step",
    )


def _no_statistics(absent: Sequence[Wanted], group: Group) -> Problem:
    layer = absent[0].path.rpartition("/")[0]
    names = " and ".join(wanted.name for wanted in absent)
    return Problem(
        f"{layer}: {group.scope} has no {names}. It has {listed(sorted(group.leaves))}. A model "
        "that always normalized by the batch, or a Saver of trainable variables alone, left none: "
        "leave what the layer has, and call the model with training=True on batches of data, "
        "which records them.",
        {wanted.path: None for wanted in absent},
        "statistics",
    )
