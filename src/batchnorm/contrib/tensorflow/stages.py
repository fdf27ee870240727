"""Batch normalization in a graph: the package's stages, and the operations that record a step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow.compat.v1 as tf
from keras.optimizers.schedules import LearningRateSchedule

from batchnorm.functional import batch_norm
from batchnorm.moving import Moving

Tensor = Any
Variable = Any


class Normalized(NamedTuple):
    """The output, and what is to be added to each variable, by its name in the state."""

    y: Tensor
    steps: dict[str, Tensor]


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
        ValueError: it is not in [0, 1).
    """
    if not tf.is_tensor(value) and not (isinstance(value, Real) and 0 <= float(value) < 1):
        raise ValueError(
            f"{name} must be a number in [0, 1), or a scalar tensor; received {value!r}. It is "
            "what a step keeps of the moving statistics: 0.999 averages about 1,000 batches."
        )
    return number(value)


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


def training_of(is_training: Any) -> bool | None:
    """Whether a graph trains, or `None` where a tensor tells only when it runs.

    Args:
        is_training: a bool, or a scalar boolean tensor or variable.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(is_training, bool | int | np.bool_ | np.integer) and is_training in (0, 1):
        return bool(is_training)
    if tf.is_tensor(is_training) and is_training.dtype.base_dtype == tf.bool:
        if is_training.shape.rank in (0, None):
            value = tf.get_static_value(is_training) if isinstance(is_training, tf.Tensor) else None
            return None if value is None else bool(value)
    raise ValueError(
        f"is_training must be True, False or a scalar boolean tensor; received {is_training!r}."
    )


def normalized(
    inputs: Tensor,
    variables: Mapping[str, Variable],
    is_training: Any,
    moving: Moving,
    **stages: Any,
) -> Normalized:
    """Adds the stages of `batchnorm.batch_norm` to the graph.

    Args:
        inputs: `(N, ..., C)`, or with the channels elsewhere.
        variables: `gamma`, `beta` and the state, by name; those that are not there are not used.
        is_training: as for `training_of`.
        moving: how the moving statistics follow.
        **stages: further arguments of `batchnorm.batch_norm`.

    Returns:
        `Normalized`; its steps are empty in inference, and zero where a tensor says so.
    """
    # One reading of each, so that all of a step sees the same.
    read = {name: tf.identity(variable) for name, variable in variables.items()}
    gamma, beta = read.pop("gamma", None), read.pop("beta", None)
    known = {"step": tf.zeros([]), **read}  # for what a tensor gives, whatever the step
    training = training_of(is_training)
    adjustment = stages.pop("adjustment", None)
    if adjustment is not None and training is not False:
        pair = adjustment(tf.shape(inputs))
        stages["adjustment"] = lambda shape: pair

    def run(training: bool) -> tuple[Tensor, dict[str, Tensor]]:
        y, new = batch_norm(inputs, known, gamma, beta, training=training, moving=moving, **stages)
        if not training:
            return y, {name: tf.zeros_like(value) for name, value in read.items()}
        if "biased" in read:
            new = {**new, "biased": _biased(moving, new, read)}
        return y, {name: new[name] - value for name, value in read.items()}

    with _integer_shapes():
        if training is None:
            y, steps = tf.cond(is_training, lambda: run(True), lambda: run(False))
        else:
            y, steps = run(training)
    y.set_shape(inputs.shape)
    return Normalized(y, {} if training is False else steps)


def record(result: Normalized, variables: Mapping[str, Variable]) -> tuple[Tensor, Tensor]:
    """Adds the operations that take a step to the graph.

    Args:
        result: of `normalized`.
        variables: those of the state.

    Returns:
        Two: that of the moving mean, which waits for those of all others, and that of the moving
        variance.
    """
    # What is added, not what there will be: readers of another thread may come in between, and
    # several workers may train the same variables. Nothing is written before all is read.
    with tf.control_dependencies([result.y, *result.steps.values()]):
        others = [
            variables[name].assign_add(step)
            for name, step in result.steps.items()
            if name not in ("moving_mean", "moving_variance")
        ]
        with tf.control_dependencies(others):
            mean, variance = (
                variables[name].assign_add(result.steps[name], name="AssignMovingAvg")
                for name in ("moving_mean", "moving_variance")
            )
    return mean, variance


def _biased(moving: Any, new: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> Tensor:
    """The average from zero whose debiased form the moving mean is."""
    debiased, rate = moving.rate(tf.cast(old["step"], old["biased"].dtype))
    biased = new["moving_mean"] * (rate / debiased)
    return tf.where(new["step"] > old["step"], biased, old["biased"])


@contextmanager
def _integer_shapes() -> Iterator[None]:
    """After `disable_v2_behavior` sizes are objects, and an unknown one is not None."""
    if isinstance(tf.TensorShape([1])[0], int):
        yield
        return
    tf.enable_v2_tensorshape()
    try:
        yield
    finally:
        tf.disable_v2_tensorshape()
