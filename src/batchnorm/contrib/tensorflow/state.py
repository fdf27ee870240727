"""The variables of a batch normalization in a graph: gamma, beta and the state."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import tensorflow.compat.v1 as tf

from batchnorm.contrib.tensorflow.variables import model_variable
from batchnorm.slots.moving import Average, ZeroDebiased
from batchnorm.slots.renorm import Renorm

Tensor = Any
Variable = Any
Initializers = Mapping[str, Any]

INITIALIZERS: dict[str, Any] = {
    "beta": tf.zeros_initializer(),
    "gamma": tf.ones_initializer(),
    "moving_mean": tf.zeros_initializer(),
    "moving_variance": tf.ones_initializer(),
}
# Under a strategy each replica follows its own batches, and reading or saving takes their mean.
_REPLICA_OPTIONS = {
    "synchronization": tf.VariableSynchronization.ON_READ,
    "aggregation": tf.VariableAggregation.MEAN,
}


def affine_variables(
    create: Callable[..., Variable],
    names: Sequence[str],
    initializers: Initializers,
    regularizers: Mapping[str, Callable[[Tensor], Tensor]],
    trainable: bool,
) -> dict[str, Variable]:
    """Creates gamma and beta, or one of them.

    Args:
        create: `model_variable` with shape, dtype and collections.
        names: of the variables.
        initializers: by name.
        regularizers: by name; a parameter may have none.
        trainable: whether they are in TRAINABLE_VARIABLES.

    Returns:
        The variables by name.
    """
    return {
        name: create(
            name,
            initializer=initializers[name],
            regularizer=regularizers.get(name),
            trainable=trainable,
        )
        for name in names
    }


def state_variables(
    create: Callable[..., Variable],
    initializers: Initializers,
    renorm: Renorm | None,
    moving: Average,
    model: bool,
) -> dict[str, Variable]:
    """Creates the variables that a step changes.

    None is partitioned, because a partitioned variable has no `assign_add`.

    Args:
        create: as for `affine_variables`.
        initializers: of moving_mean and moving_variance, from which the others begin.
        renorm: the batch renormalization, if there is one.
        moving: the update rule of the moving statistics; `ZeroDebiased` has variables of its own.
        model: whether those of `ZeroDebiased` are in MODEL_VARIABLES.

    Returns:
        The variables by their names in the state of `batchnorm.batch_norm`, and "biased".
    """
    mean, variance = initializers["moving_mean"], initializers["moving_variance"]
    kinds = {"moving_mean": mean, "moving_variance": variance}
    if renorm is not None:
        stddev = partial(_root, variance)
        kinds |= {"moving_stddev": stddev, "renorm_mean": mean, "renorm_stddev": stddev}
    with tf.variable_scope(tf.get_variable_scope()) as scope:
        scope.set_partitioner(None)
        state = {
            name: create(name, initializer=initializer, trainable=False, **_REPLICA_OPTIONS)
            for name, initializer in kinds.items()
        }
        if isinstance(moving, ZeroDebiased):
            state |= _debiasing(f"{scope.name}/moving_mean", state["moving_mean"], model)
    return state


def _debiasing(prefix: str, moving_mean: Variable, model: bool) -> dict[str, Variable]:
    """Creates the variables of the zero-debias, whose names contain the scope twice."""
    shape, dtype = moving_mean.shape.as_list(), moving_mean.dtype.base_dtype
    first = {**_REPLICA_OPTIONS, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
    create = partial(
        model_variable if model else tf.get_variable,
        initializer=tf.zeros_initializer(),
        trainable=False,
    )
    # AUTO_REUSE: a first use in inference has not created them.
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        return {
            "biased": create(f"{prefix}/biased", shape, dtype=dtype, **_REPLICA_OPTIONS),
            "step": create(f"{prefix}/local_step", [], dtype=tf.float32, **first),
        }


def _root(variance: Callable[..., Tensor], shape: Any, dtype: Any, **_: Any) -> Tensor:
    return tf.sqrt(variance(shape, dtype=dtype))
