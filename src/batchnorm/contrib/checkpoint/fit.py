"""Which variable of a scope goes to which variable of a layer, and what has no place."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras

from batchnorm.contrib.checkpoint import convert, problems
from batchnorm.contrib.checkpoint.kinds import PARAMETERS, Contents
from batchnorm.contrib.checkpoint.mismatch import Problem
from batchnorm.contrib.checkpoint.roles import plays
from batchnorm.contrib.checkpoint.saver_file import Array
from batchnorm.contrib.checkpoint.scopes import Group
from batchnorm.contrib.checkpoint.targets import Target, Wanted

# Where TensorFlow 1's names differ from Keras's: those of contrib, then those of tf.layers.
_NAMES = {
    "kernel": ("weights", "kernel"),
    "bias": ("biases", "bias"),
    "depthwise_kernel": ("depthwise_weights", "depthwise_kernel"),
    "pointwise_kernel": ("pointwise_weights", "pointwise_kernel"),
}
_DEPTHWISE = ("depthwise_weights", "depthwise_kernel", "weights", "kernel")
_RENORM = ("renorm_mean", "renorm_stddev")


def _itself(value: Array) -> Array:
    return value


@dataclass(frozen=True, eq=False)
class Source:
    """What a variable is loaded from.

    Attributes:
        wanted: the variable.
        names: of the checkpoint's variables that its value is made of.
        how: as in `Loaded`.
        value: makes it of theirs.
        also: names of others that `value` takes, for what is not in these.
    """

    wanted: Wanted
    names: tuple[str, ...]
    how: str
    value: Callable[..., Array] = _itself
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """How a scope fits a layer.

    Attributes:
        sources: of the layer's variables, as far as there are any.
        problems: why it does not fit.
        unused: why variables of the scope are not used, by name.
        foreign: whether some of these are unknown to such layers.
    """

    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    foreign: bool = False

    @property
    def solvable(self) -> bool:
        """Whether names can solve all problems, and the layer gets anything from the scope."""
        solved = [name for problem in self.problems for name in problem.names.values()]
        some = bool(self.sources) or any(name is not None for name in solved)
        return some and all(problem.names for problem in self.problems)


def fit(
    target: Target,
    group: Group,
    contents: Contents,
    how: str,
    given: Collection[Wanted] = (),
    elsewhere: Collection[str] = (),
) -> Fit:
    """Finds a source for each variable of a layer in a scope.

    Args:
        target: the layer.
        group: the scope.
        contents: of the checkpoint.
        how: the scope was found.
        given: variables of the layer that have their values from elsewhere.
        elsewhere: variables of the checkpoint that names give to variables of the model.
    """
    result = Fit()
    missing = []
    for wanted in target.wanted:
        if wanted in given:
            continue
        source = _source(target, wanted, group, how)
        if source is None:
            missing.append(wanted)
            continue
        result.sources.append(source)
        if problem := misshapen(source, contents):
            result.problems.append(problem)
    used = {name for source in result.sources for name in source.names}
    left = {leaf: name for leaf, name in group.leaves.items() if name not in used}
    if not result.problems:  # else it is another layer's, and what else differs tells nothing
        renamed = _renamed(missing, {n for n in left.values() if n not in elsewhere}, contents)
        left = {leaf: name for leaf, name in left.items() if name not in renamed.values()}
        result.problems.extend(problems.missing(target, missing, renamed, group, contents))
    taken = {leaf for each in given for leaf in leaves(target, each)}
    another_shape = any(problem.kind == "shape" for problem in result.problems)
    for leaf, name in left.items():
        if leaf in taken or name in elsewhere:
            result.unused[name] = f"names gives {target.path} another value"
        elif leaf in PARAMETERS and not another_shape:
            result.problems.append(problems.extra(target, leaf, name, contents))
        else:
            result.unused[name] = _why(target, leaf)
    foreign = any("/" not in leaf and not leaf.startswith(("moving", "renorm")) for leaf in left)
    return Fit(result.sources, result.problems, result.unused, foreign)


def leaves(target: Target, wanted: Wanted) -> tuple[str, ...]:
    """What a variable of a layer may be called within its scope."""
    depthwise = ("DepthwiseConv1D", "DepthwiseConv2D")
    if wanted.name == "kernel" and isinstance(
        target.layer, tuple(getattr(keras.layers, name) for name in depthwise)
    ):
        return _DEPTHWISE
    return _NAMES.get(wanted.name, (wanted.name,))


def named(target: Target, wanted: Wanted, name: str, contents: Contents, how: str) -> Source:
    """The source of a variable that is loaded from this one, converted if need be.

    Args:
        target: the variable's layer.
        wanted: the variable.
        name: in the checkpoint.
        contents: of the checkpoint.
        how: the name was found.
    """
    weight = f"{name}_weight"
    if wanted.name in _RENORM and weight in contents.entries:
        return Source(wanted, (name, weight), _sum(wanted.name), convert.debiased)
    if wanted.name == "step" and name.endswith(("renorm_mean_weight", "renorm_stddev_weight")):
        return Source(wanted, (name,), _STEPS, partial(convert.steps, target.layer))
    if wanted.name == "step":
        return Source(wanted, (name,), how, convert.whole)
    return Source(wanted, (name,), how)


def misshapen(source: Source, contents: Contents) -> Problem | None:
    """What is wrong with the shape of a source; `None` if nothing is."""
    shape = contents.entries[contents.actual(source.names[0])].shape
    if fits(source.wanted, shape):
        return None
    return Problem(
        f"{source.wanted.path} has shape {source.wanted.shape}, but {source.names[0]} in the "
        f"checkpoint {shape}.",
        kind="shape",
    )


def fits(wanted: Wanted, shape: tuple[int, ...]) -> bool:
    """Whether a value of this shape can be the variable's.

    With virtual batches TensorFlow 1 kept ones for all axes in batch normalization's variables; and
    a convolution with a window of 1 is a dense layer at each place.
    """
    if not wanted.squeezes:
        return shape == wanted.shape
    if len(wanted.shape) > 1 and wanted.name == "kernel":
        return shape == (1,) * (len(shape) - len(wanted.shape)) + wanted.shape
    ours, theirs = ([size for size in each if size != 1] for each in (wanted.shape, shape))
    return ours == theirs


_STEPS = "converted: log(1 - weight) / log(momentum)"


def _sum(name: str) -> str:
    return f"converted: {name} / {name}_weight"


def _renamed(
    missing: Collection[Wanted], names: Collection[str], contents: Contents
) -> dict[Wanted, str]:
    """The variables of a scope that missing ones may be by shape, one each, and by their names."""
    pairs = {
        wanted: [
            name for name in names if fits(wanted, contents.entries[contents.actual(name)].shape)
        ]
        for wanted in missing
    }
    result: dict[Wanted, str] = {}
    for wanted, fitting in pairs.items():
        likely = [name for name in fitting if plays(wanted.name, name)]
        if not likely and len(wanted.shape) > 1:  # a kernel's shape is proof enough
            likely = fitting
        if len(likely) == 1 and likely[0] not in result.values():
            result[wanted] = likely[0]
    return result


def _source(target: Target, wanted: Wanted, group: Group, how: str) -> Source | None:
    for leaf in leaves(target, wanted):
        if leaf in group.leaves and f"{leaf}_weight" not in group.leaves:
            value = convert.whole if wanted.name == "step" else _itself
            return Source(wanted, (group.leaves[leaf],), how, value)
    return _converted(target, wanted, group) if target.normalization else None


def _converted(target: Target, wanted: Wanted, group: Group) -> Source | None:
    """What batch normalization kept in another form."""
    name, at = wanted.name, group.leaves
    moving = tuple(at[each] for each in ("moving_mean", "moving_variance") if each in at)
    if len(moving) < 2:
        return None
    epsilon = target.layer.epsilon if name.endswith("stddev") else -1.0
    if name in _RENORM and f"{name}_weight" in at and name in at:
        value: Any = partial(convert.started, stddev=epsilon)
        return Source(wanted, (at[name], at[f"{name}_weight"]), _sum(name), value, moving)
    if name in (*_RENORM, "moving_stddev"):
        if name == "renorm_mean":
            return Source(wanted, moving[:1], "converted: moving_mean")
        value = partial(convert.deviation, epsilon=epsilon)
        return Source(wanted, moving[1:], "converted: sqrt(moving_variance + epsilon)", value)
    if name == "step":
        weights = tuple(at[f"{each}_weight"] for each in _RENORM if f"{each}_weight" in at)
        if weights and target.layer.renorm:
            return Source(wanted, weights, _STEPS, partial(convert.steps, target.layer))
        if count := at.get("moving_mean/local_step"):
            return Source(wanted, (count,), "converted: local_step", convert.whole)
    return None


def _why(target: Target, leaf: str) -> str:
    if leaf.endswith("/biased"):
        return f"zero-debias: it follows from {leaf.removesuffix('/biased')}"
    if leaf.endswith("/local_step"):
        return "zero-debias: the layer counts no steps, as moving=ZeroDebiased(...) does"
    if leaf.startswith("renorm_") or leaf == "moving_stddev":
        if getattr(target.layer, "renorm", False):
            return "renorm: the layer's kind of it has no such variable"
        return "renorm: the layer has none, as one with renorm=True has"
    return f"the layer {target.path} has no such variable"
