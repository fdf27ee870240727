"""Batch normalization in a graph: the package's stages, and the operations that record a step."""

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
from batchnorm.moving import Moving
from batchnorm.renorm import Renorm

Tensor = Any
Variable = Any

_switch = threading.RLock()


class Normalized(NamedTuple):
    """The output, and how the state follows.

    Attributes:
        y: the output.
        steps: what is to be added to each variable, by its name in the state.
        derived: those that follow from the others: what they are, of all after these steps.
    """

    y: Tensor
    steps: dict[str, Tensor]
    derived: dict[str, Callable[[Mapping[str, Tensor]], Tensor]]


class Fed(LearningRateSchedule):
    """A limit or a rate that a tensor of the graph gives, whatever the step."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __call__(self, step: Tensor) -> Tensor:
        """The tensor."""
        return self.value


def number(value: Any) -> Any:
    """A number as it is, a tensor in the way that slots take it."""
    return Fed(tf.convert_to_tensor(value)) if tf.is_tensor(value) else value


def kept(name: str, value: Any) -> Any:
    """`number`, for what a step keeps of an average.

    Raises:
        ValueError: it is not in [0, 1].
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
        return number(value)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not (isinstance(value, Real) and 0 <= float(value) <= 1):
        raise ValueError(
            f"{name} must be a number in [0, 1], or a scalar tensor; received {value!r}. It is "
            "what a step keeps of the moving statistics: 0.999 averages about 1,000 batches."
        )
    return number(tf.ones([])) if value == 1 else value  # 1 keeps all, which slots refuse


def frequencies(batch_weights: Any, inputs: Tensor) -> Any:
    """What `batch_weights` are to the stages.

    Raises:
        ValueError: they are not `(N,)`, or one that can be read is negative.
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
    """Refuses to go on where the stages compute with something else.

    Raises:
        RuntimeError: Keras's backend is not TensorFlow.
    """
    if (backend := keras.backend.backend()) != "tensorflow":
        raise RuntimeError(
            f"batch_norm adds to a graph of TensorFlow's, and Keras computes with {backend} in "
            "this process. Set the environment variable KERAS_BACKEND to tensorflow before Keras "
            "is imported."
        )


def training_of(is_training: Any) -> Any:
    """Whether a graph trains: a bool, or the tensor that tells it only when the graph runs.

    Args:
        is_training: a bool, or a scalar boolean tensor or variable.

    Raises:
        ValueError: it is something else.
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


def normalized(
    inputs: Tensor,
    variables: Mapping[str, Variable],
    training: bool | Tensor,
    moving: Moving,
    **stages: Any,
) -> Normalized:
    """Adds the stages of `batchnorm.batch_norm` to the graph.

    Args:
        inputs: `(N, ..., C)`, or with the channels elsewhere.
        variables: `gamma`, `beta` and the state, by name; those that are not there are not used.
        training: of `training_of`.
        moving: how the moving statistics follow.
        **stages: further arguments of `batchnorm.batch_norm`.

    Returns:
        `Normalized`; its steps are empty in inference, and zero where a tensor says so.
    """
    # One reading of each, so that all of a step sees the same; and not before the inputs are there:
    # these may come from an earlier use of the same variables.
    with tf.control_dependencies([inputs]):
        read = {name: tf.identity(variable) for name, variable in variables.items()}
    gamma, beta = read.pop("gamma", None), read.pop("beta", None)
    known = {"step": tf.zeros([]), **read}  # for what a tensor gives, whatever the step
    adjustment = stages.pop("adjustment", None)
    if adjustment is not None and training is not False:
        pair = adjustment(tf.shape(inputs))
        stages["adjustment"] = lambda shape: pair

    def run(training: bool) -> tuple[Tensor, dict[str, Tensor]]:
        y, new = batch_norm(inputs, known, gamma, beta, training=training, moving=moving, **stages)
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
        return Normalized(y, {}, {})
    derived: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {}
    if "biased" in read:
        derived["moving_mean"] = partial(_debiased, moving)
    if (renorm := stages["renorm"]) is not None:
        taken = tf.reduce_any(tf.not_equal(steps["moving_stddev"], 0))
        derived["moving_variance"] = partial(_squared, renorm, stages["epsilon"], taken)
    return Normalized(y, steps, derived)


def record(result: Normalized, variables: Mapping[str, Variable]) -> tuple[Tensor, Tensor]:
    """Adds the operations that take a step to the graph.

    Args:
        result: of `normalized`, in training.
        variables: those of the state.

    Returns:
        Two: that of the moving mean and that of the moving variance, which wait for those of all
        others.
    """
    # What is added, not what there will be: readers of another thread may come in between, and
    # several uses in one step, or several workers, may train the same variables. Nothing is
    # written before all is read, and what is derived is of what all have added by then.
    with tf.control_dependencies([result.y, *result.steps.values()]):
        others = [
            variables[name].assign_add(step)
            for name, step in result.steps.items()
            if name not in ("moving_mean", "moving_variance")
        ]
        with tf.control_dependencies(others), _integer_shapes():
            mean, variance = (
                _followed(name, result, variables) for name in ("moving_mean", "moving_variance")
            )
    return mean, variance


def _followed(name: str, result: Normalized, variables: Mapping[str, Variable]) -> Tensor:
    if name not in result.derived:
        return variables[name].assign_add(result.steps[name], name="AssignMovingAvg")
    now = {each: tf.identity(variable) for each, variable in variables.items()}
    return variables[name].assign(result.derived[name](now), name="AssignMovingAvg")


def _biased_step(moving: Moving, old: Mapping[str, Tensor], steps: Mapping[str, Tensor]) -> Tensor:
    """How far the average from zero goes: by its rate towards the batch, as the mean did by its."""
    debiased, rate = _rates(moving, old["step"], old["biased"].dtype)
    step = rate * (old["moving_mean"] - old["biased"]) + steps["moving_mean"] * (rate / debiased)
    return tf.where(steps["step"] > 0, step, tf.zeros_like(step))


def _debiased(moving: Moving, now: Mapping[str, Tensor]) -> Tensor:
    """The moving mean of the average from zero; before the first step as it is."""
    debiased, rate = _rates(moving, now["step"] - 1, now["biased"].dtype)
    return tf.where(now["step"] > 0, now["biased"] * (debiased / rate), now["moving_mean"])


def _rates(moving: Moving, step: Tensor, dtype: Any) -> tuple[Tensor, Tensor]:
    debiased, rate = moving.rate(tf.cast(step, dtype))
    return debiased, rate


def _squared(renorm: Renorm, epsilon: float, taken: Tensor, now: Mapping[str, Tensor]) -> Tensor:
    """The moving variance of the moving deviation, if a step was taken."""
    variance = renorm.variance(now["moving_stddev"], epsilon)
    return tf.where(taken, variance, now["moving_variance"])


@contextmanager
def _integer_shapes() -> Iterator[None]:
    """After `disable_v2_behavior` sizes are objects, and an unknown one is not None."""
    # The switch is the process's: two threads that build graphs take turns.
    with _switch:
        if isinstance(tf.TensorShape([1])[0], int):
            yield
            return
        tf.enable_v2_tensorshape()
        try:
            yield
        finally:
            tf.disable_v2_tensorshape()
