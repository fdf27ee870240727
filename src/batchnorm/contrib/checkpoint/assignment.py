"""Assigns the variables of a scope to those of a layer, and reports those without a place."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras

from batchnorm.contrib.checkpoint import convert, problems
from batchnorm.contrib.checkpoint.mismatch import Problem
from batchnorm.contrib.checkpoint.model_layers import ModelVariable, Target
from batchnorm.contrib.checkpoint.roles import has_role
from batchnorm.contrib.checkpoint.saver_file import Array
from batchnorm.contrib.checkpoint.scopes import Group
from batchnorm.contrib.checkpoint.variable_kinds import PARAMETERS, Contents

# Where TensorFlow 1's names differ from Keras's: those of contrib, then those of tf.layers.
_NAMES = {
    "kernel": ("weights", "kernel"),
    "bias": ("biases", "bias"),
    "depthwise_kernel": ("depthwise_weights", "depthwise_kernel"),
    "pointwise_kernel": ("pointwise_weights", "pointwise_kernel"),
}
_DEPTHWISE = ("depthwise_weights", "depthwise_kernel", "weights", "kernel")
_RENORM = ("renorm_mean", "renorm_stddev")


def _identity(value: Array) -> Array:
    return value


@dataclass(frozen=True, eq=False)
class Source:
    """The source of a variable's value in the checkpoint.

    Attributes:
        variable: the variable.
        names: of the checkpoint's variables that its value is computed from.
        how: as in `Loaded`.
        value: computes the value from those of `names` and `also`, in this order.
        also: names of further variables that `value` takes, for an average without any step yet.
    """

    variable: ModelVariable
    names: tuple[str, ...]
    how: str
    value: Callable[..., Array] = _identity
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """The result of assigning a scope to a layer.

    Attributes:
        sources: of those of the layer's variables that have one.
        problems: why it does not fit.
        unused: why variables of the scope are not used, by name.
        foreign: whether some of these are variables that such layers never have.
    """

    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    foreign: bool = False

    @property
    def solvable(self) -> bool:
        """True if names can solve all problems, and the layer takes anything from the scope."""
        entries = [name for problem in self.problems for name in problem.names.values()]
        useful = bool(self.sources) or any(name is not None for name in entries)
        return useful and all(problem.names for problem in self.problems)


def fit(
    target: Target,
    group: Group,
    contents: Contents,
    how: str,
    named: Collection[ModelVariable] = (),
    elsewhere: Collection[str] = (),
) -> Fit:
    """Finds a source for each variable of a layer in a scope.

    Args:
        target: the layer.
        group: the scope.
        contents: of the checkpoint.
        how: in which way the scope was matched.
        named: variables of the layer that `names` assigns or leaves unchanged.
        elsewhere: variables of the checkpoint that `names` assigns to variables of the model.
    """
    result = Fit()
    missing = []
    for variable in target.variables:
        if variable in named:
            continue
        source = _source(target, variable, group, how)
        if source is None:
            missing.append(variable)
            continue
        result.sources.append(source)
        if problem := shape_problem(source, contents):
            result.problems.append(problem)
    used = {name for source in result.sources for name in source.names}
    unused = {leaf: name for leaf, name in group.leaves.items() if name not in used}
    if not result.problems:  # else it is the scope of another layer
        free = {name for name in unused.values() if name not in elsewhere}
        renamed = _renamed(missing, free, contents)
        unused = {leaf: name for leaf, name in unused.items() if name not in renamed.values()}
        result.problems.extend(
            problems.missing_variables(target, missing, renamed, group, contents)
        )
    assigned = {leaf for variable in named for leaf in leaves(target, variable)}
    another_shape = any(problem.kind == "shape" for problem in result.problems)
    for leaf, name in unused.items():
        if leaf in assigned or name in elsewhere:
            result.unused[name] = f"names gives {target.path} another value"
        elif leaf in PARAMETERS and not another_shape:
            result.problems.append(problems.extra_variable(target, leaf, name, contents))
        else:
            result.unused[name] = _reason(target, leaf)
    foreign = any("/" not in leaf and not leaf.startswith(("moving", "renorm")) for leaf in unused)
    return Fit(result.sources, result.problems, result.unused, foreign)


def leaves(target: Target, variable: ModelVariable) -> tuple[str, ...]:
    """Returns the names that a variable of a layer may have within its scope."""
    depthwise = ("DepthwiseConv1D", "DepthwiseConv2D")
    if variable.name == "kernel" and isinstance(
        target.layer, tuple(getattr(keras.layers, name) for name in depthwise)
    ):
        return _DEPTHWISE
    return _NAMES.get(variable.name, (variable.name,))


def named_source(
    target: Target, variable: ModelVariable, name: str, contents: Contents, how: str
) -> Source:
    """Returns the source of a variable that `names` tells, with a conversion if it needs one.

    Args:
        target: the variable's layer.
        variable: the variable.
        name: in the checkpoint.
        contents: of the checkpoint.
        how: in which way the name was chosen.
    """
    weight = f"{name}_weight"
    if variable.name in _RENORM and weight in contents.entries:
        return Source(variable, (name, weight), _sum(variable.name), convert.debiased)
    if variable.name == "step" and name.endswith(("renorm_mean_weight", "renorm_stddev_weight")):
        return Source(variable, (name,), _STEPS, partial(convert.steps, target.layer))
    if variable.name == "step":
        return Source(variable, (name,), how, convert.step_count)
    return Source(variable, (name,), how)


def shape_problem(source: Source, contents: Contents) -> Problem | None:
    """Returns the problem of a source that has another shape; `None` if the shape fits."""
    shape = contents.entries[contents.actual(source.names[0])].shape
    if fits(source.variable, shape):
        return None
    return Problem(
        f"{source.variable.path} has shape {source.variable.shape}, but {source.names[0]} in the "
        f"checkpoint {shape}.",
        kind="shape",
    )


def fits(variable: ModelVariable, shape: tuple[int, ...]) -> bool:
    """Returns whether a value of this shape can be reshaped to the variable's.

    With virtual batches TensorFlow 1 stored batch normalization's variables with an axis of size 1
    for every other axis; and a convolution with a window of 1 is a dense layer at each position.
    """
    if not variable.squeezes:
        return shape == variable.shape
    if len(variable.shape) > 1 and variable.name == "kernel":
        return shape == (1,) * (len(shape) - len(variable.shape)) + variable.shape
    return [size for size in variable.shape if size != 1] == [size for size in shape if size != 1]


_STEPS = "converted: log(1 - weight) / log(momentum)"


def _sum(name: str) -> str:
    return f"converted: {name} / {name}_weight"


def _renamed(
    missing: Collection[ModelVariable], names: Collection[str], contents: Contents
) -> dict[ModelVariable, str]:
    """Returns for missing variables the one of the scope that shape and role allow, if just one."""
    pairs = {
        variable: [
            name for name in names if fits(variable, contents.entries[contents.actual(name)].shape)
        ]
        for variable in missing
    }
    result: dict[ModelVariable, str] = {}
    for variable, fitting in pairs.items():
        likely = [name for name in fitting if has_role(variable.name, name)]
        if not likely and len(variable.shape) > 1:  # a kernel's shape is proof enough
            likely = fitting
        if len(likely) == 1 and likely[0] not in result.values():
            result[variable] = likely[0]
    return result


def _source(target: Target, variable: ModelVariable, group: Group, how: str) -> Source | None:
    for leaf in leaves(target, variable):
        if leaf in group.leaves and f"{leaf}_weight" not in group.leaves:
            value = convert.step_count if variable.name == "step" else _identity
            return Source(variable, (group.leaves[leaf],), how, value)
    return _converted(target, variable, group) if target.normalization else None


def _converted(target: Target, variable: ModelVariable, group: Group) -> Source | None:
    """Returns the source of a variable that TensorFlow 1 stored in another form, if it did."""
    name, at = variable.name, group.leaves
    moving = tuple(at[leaf] for leaf in ("moving_mean", "moving_variance") if leaf in at)
    if len(moving) < 2:
        return None
    epsilon = target.layer.epsilon if name.endswith("stddev") else -1.0
    if name in _RENORM and f"{name}_weight" in at and name in at:
        value: Any = partial(convert.average_or_moving, stddev=epsilon)
        return Source(variable, (at[name], at[f"{name}_weight"]), _sum(name), value, moving)
    if name in (*_RENORM, "moving_stddev"):
        if name == "renorm_mean":
            return Source(variable, moving[:1], "converted: moving_mean")
        value = partial(convert.deviation, epsilon=epsilon)
        return Source(variable, moving[1:], "converted: sqrt(moving_variance + epsilon)", value)
    if name == "step":
        weights = tuple(at[f"{leaf}_weight"] for leaf in _RENORM if f"{leaf}_weight" in at)
        if weights and target.layer.renorm:
            return Source(variable, weights, _STEPS, partial(convert.steps, target.layer))
        if count := at.get("moving_mean/local_step"):
            return Source(variable, (count,), "converted: local_step", convert.step_count)
    return None


def _reason(target: Target, leaf: str) -> str:
    if leaf.endswith("/biased"):
        return f"zero-debias: it follows from {leaf.removesuffix('/biased')}"
    if leaf.endswith("/local_step"):
        return "zero-debias: the layer counts no steps, as moving=ZeroDebiased(...) does"
    if leaf.startswith("renorm_") or leaf == "moving_stddev":
        if getattr(target.layer, "renorm", False):
            return "renorm: the layer's kind of it has no such variable"
        return "renorm: the layer has none, as one with renorm=True has"
    return f"the layer {target.path} has no such variable"
