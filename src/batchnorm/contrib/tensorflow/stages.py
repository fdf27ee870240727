"""Batch normalization in a graph: the package's stages, and the operations that take a step."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow.compat.v1 as tf
from keras.optimizers.schedules import LearningRateSchedule

from batchnorm.functional import batch_norm
from batchnorm.slots.moving import Average
from batchnorm.slots.renorm import Renorm

Tensor = Any
Variable = Any

_shape_switch = threading.RLock()


class GraphResult(NamedTuple):
    """The output, and the step of the state.

    Attributes:
        y: the output.
        steps: the increment of each variable, by its name in the state.
        derived: functions from the state after these increments to the values of those variables
            that follow from the others.
    """

    y: Tensor
    steps: dict[str, Tensor]
    derived: dict[str, Callable[[Mapping[str, Tensor]], Tensor]]


class TensorSchedule(LearningRateSchedule):
    """A schedule whose value is a tensor of the graph, whatever the step."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the tensor."""
        return self.value


def schedule_from(value: Any) -> Any:
    """Returns a tensor as a schedule, which slots take; a number as it is."""
    return TensorSchedule(tf.convert_to_tensor(value)) if tf.is_tensor(value) else value


def decay_from(name: str, value: Any) -> Any:
    """Returns the decay of an average as a number or a schedule.

    Args:
        name: of the argument.
        value: a number or a scalar tensor.

    Raises:
        ValueError: the value is not a number in [0, 1].
    """
    flag = isinstance(value, bool | np.bool_) or (
        tf.is_tensor(value) and value.dtype.base_dtype == tf.bool
    )
    if flag:
        raise ValueError(
            f"{name} must be a number in [0, 1], or a scalar tensor; received {value!r}. If that "
            "says whether to train, give it by name: is_training=..."
        )
    if tf.is_tensor(value):
        return schedule_from(value)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not (isinstance(value, Real) and 0 <= float(value) <= 1):
        raise ValueError(
            f"{name} must be a number in [0, 1], or a scalar tensor; received {value!r}. It is "
            "what a step keeps of the moving statistics: 0.999 averages about 1,000 batches."
        )
    # Slots refuse the number 1, which keeps all; as a tensor they cannot see it.
    return schedule_from(tf.ones([])) if value == 1 else value


def frequencies(batch_weights: Any, inputs: Tensor) -> Any:
    """Returns `batch_weights` as a tensor `(N,)`; `None` if there are none.

    Raises:
        ValueError: the shape is not `(N,)`, or a weight that is known statically is negative.
    """
    if batch_weights is None:
        return None
    weights = tf.convert_to_tensor(batch_weights)
    if weights.shape.rank is None:
        weights.set_shape([None])
    if not weights.shape.is_compatible_with(inputs.shape[:1]):
        raise ValueError(
            f"batch_weights of shape {weights.shape} does not fit inputs of shape {inputs.shape}: "
            f"give {inputs.shape[:1]}, a weight for each example."
        )
    value = tf.get_static_value(weights)
    if value is not None and (value < 0).any():
        raise ValueError(
            f"batch_weights must not be negative; received {value.min()}. They say how often an "
            "example counts."
        )
    return weights


def check_backend() -> None:
    """Raises unless Keras, with which the stages compute, runs on TensorFlow.

    Raises:
        RuntimeError: Keras's backend is not TensorFlow.
    """
    if (backend := keras.backend.backend()) != "tensorflow":
        raise RuntimeError(
            f"batch_norm adds to a graph of TensorFlow's, and Keras computes with {backend} in "
            "this process. Set the environment variable KERAS_BACKEND to tensorflow before Keras "
            "is imported."
        )


def training_flag(is_training: Any) -> Any:
    """Returns `is_training` as a bool if it is known statically, else the tensor.

    Args:
        is_training: a bool, or a scalar boolean tensor or variable.

    Raises:
        ValueError: the value is neither.
    """
    if isinstance(is_training, np.ndarray) and is_training.ndim == 0:
        is_training = is_training.item()
    if isinstance(is_training, bool | int | np.bool_ | np.integer) and is_training in (0, 1):
        return bool(is_training)
    if tf.is_tensor(is_training) and is_training.dtype.base_dtype == tf.bool:
        if is_training.shape.rank in (0, None):
            value = tf.get_static_value(is_training) if isinstance(is_training, tf.Tensor) else None
            return is_training if value is None else bool(value)
    raise ValueError(
        f"is_training must be True, False or a scalar boolean tensor; received {is_training!r}."
    )


def normalize(
    inputs: Tensor,
    variables: Mapping[str, Variable],
    training: bool | Tensor,
    moving: Average,
    **stages: Any,
) -> GraphResult:
    """Adds the stages of `batchnorm.batch_norm` to the graph.

    Args:
        inputs: `(N, ..., C)`, or with the channels elsewhere.
        variables: `gamma` and `beta`, if there are any, and the state, by name.
        training: of `training_flag`.
        moving: the update rule of the moving statistics.
        **stages: further arguments of `batchnorm.batch_norm`.

    Returns:
        The output and the step, which is empty in inference, and zero where a tensor says so.
    """
    # Each variable is read once, so that all of a step sees the same value; and only after the
    # inputs are computed, which may come from an earlier use of the same variables.
    with tf.control_dependencies([inputs]):
        read = {name: tf.identity(variable) for name, variable in variables.items()}
    gamma, beta = read.pop("gamma", None), read.pop("beta", None)
    state = {"step": tf.zeros([]), **read}  # a TensorSchedule ignores the step, but slots need one
    adjustment = stages.pop("adjustment", None)
    if adjustment is not None and training is not False:
        pair = adjustment(tf.shape(inputs))
        stages["adjustment"] = lambda shape: pair

    def run(training: bool) -> tuple[Tensor, dict[str, Tensor]]:
        y, new = batch_norm(inputs, state, gamma, beta, training=training, moving=moving, **stages)
        if not training:
            return y, {name: tf.zeros_like(value) for name, value in read.items()}
        steps = {name: new[name] - value for name, value in read.items() if name in new}
        if "biased" in read:
            steps["biased"] = _biased_step(moving, read, steps)
        return y, steps

    with _integer_shapes():
        if isinstance(training, bool):
            y, steps = run(training)
        else:
            y, steps = tf.cond(training, lambda: run(True), lambda: run(False))
    y.set_shape(inputs.shape)
    if training is False:
        return GraphResult(y, {}, {})
    derived: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {}
    if "biased" in read:
        derived["moving_mean"] = partial(_debiased, moving)
    if (renorm := stages["renorm"]) is not None:
        stepped = tf.reduce_any(tf.not_equal(steps["moving_stddev"], 0))
        derived["moving_variance"] = partial(_squared, renorm, stages["epsilon"], stepped)
    return GraphResult(y, steps, derived)


def update_ops(result: GraphResult, variables: Mapping[str, Variable]) -> tuple[Tensor, Tensor]:
    """Adds the operations that take a step to the graph.

    Args:
        result: of `normalize`, in training.
        variables: of the state.

    Returns:
        The operations of the moving mean and of the moving variance, which wait for those of all
        other variables.
    """
    # Increments are added instead of new values assigned: threads may read in between, and several
    # uses in one step, or several workers, may train the same variables. Nothing is written before
    # all is read, and derived values are computed from all increments up to then.
    with tf.control_dependencies([result.y, *result.steps.values()]):
        increments = [
            variables[name].assign_add(step)
            for name, step in result.steps.items()
            if name not in ("moving_mean", "moving_variance")
        ]
        with tf.control_dependencies(increments), _integer_shapes():
            mean, variance = (
                _moving_update(name, result, variables)
                for name in ("moving_mean", "moving_variance")
            )
    return mean, variance


def _moving_update(name: str, result: GraphResult, variables: Mapping[str, Variable]) -> Tensor:
    if name not in result.derived:
        return variables[name].assign_add(result.steps[name], name="AssignMovingAvg")
    state = {key: tf.identity(variable) for key, variable in variables.items()}
    return variables[name].assign(result.derived[name](state), name="AssignMovingAvg")


def _biased_step(moving: Average, old: Mapping[str, Tensor], steps: Mapping[str, Tensor]) -> Tensor:
    """Computes the increment of the average from zero, by its own rate in place of the mean's."""
    debiased, rate = _rates(moving, old["step"], old["biased"].dtype)
    step = rate * (old["moving_mean"] - old["biased"]) + steps["moving_mean"] * (rate / debiased)
    return tf.where(steps["step"] > 0, step, tf.zeros_like(step))


def _debiased(moving: Average, state: Mapping[str, Tensor]) -> Tensor:
    """Computes the moving mean from the average from zero; before the first step it stays."""
    debiased, rate = _rates(moving, state["step"] - 1, state["biased"].dtype)
    return tf.where(state["step"] > 0, state["biased"] * (debiased / rate), state["moving_mean"])


def _rates(moving: Average, step: Tensor, dtype: Any) -> tuple[Tensor, Tensor]:
    debiased, rate = moving.rate(tf.cast(step, dtype))
    return debiased, rate


def _squared(
    renorm: Renorm, epsilon: float, stepped: Tensor, state: Mapping[str, Tensor]
) -> Tensor:
    """Computes the moving variance from the moving deviation, if a step was taken."""
    variance = renorm.variance(state["moving_stddev"], epsilon)
    return tf.where(stepped, variance, state["moving_variance"])


@contextmanager
def _integer_shapes() -> Iterator[None]:
    """Makes sizes of shapes integers or `None`: objects after `disable_v2_behavior`."""
    # The switch is process-wide, so threads that build graphs take turns.
    with _shape_switch:
        if isinstance(tf.TensorShape([1])[0], int):
            yield
            return
        tf.enable_v2_tensorshape()
        try:
            yield
        finally:
            tf.disable_v2_tensorshape()
