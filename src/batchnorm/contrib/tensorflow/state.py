"""The variables of a batch normalization in a graph: gamma and beta, and its state."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import tensorflow.compat.v1 as tf

from batchnorm.contrib.tensorflow.variables import model_variable
from batchnorm.moving import Moving, ZeroDebiased
from batchnorm.renorm import Renorm

Tensor = Any
Variable = Any
Initializers = Mapping[str, Any]

INITIALIZERS: dict[str, Any] = {
    "beta": tf.zeros_initializer(),
    "gamma": tf.ones_initializer(),
    "moving_mean": tf.zeros_initializer(),
    "moving_variance": tf.ones_initializer(),
}
# Under a strategy each replica follows its own batches, and what is read or saved is the mean.
_OF_REPLICAS = {
    "synchronization": tf.VariableSynchronization.ON_READ,
    "aggregation": tf.VariableAggregation.MEAN,
}


def affine_variables(
    make: Callable[..., Variable],
    names: Sequence[str],
    initializers: Initializers,
    regularizers: Mapping[str, Callable[[Tensor], Tensor]],
    trainable: bool,
) -> dict[str, Variable]:
    """Makes gamma and beta, or those of them that are wanted.

    Args:
        make: `model_variable` with shape, dtype and collections.
        names: of the variables.
        initializers: by name.
        regularizers: by name, where there are any.
        trainable: whether they are in TRAINABLE_VARIABLES.

    Returns:
        The variables by name.
    """
    return {
        name: make(
            name,
            initializer=initializers[name],
            regularizer=regularizers.get(name),
            trainable=trainable,
        )
        for name in names
    }


def state_variables(
    make: Callable[..., Variable],
    initializers: Initializers,
    renorm: Renorm | None,
    moving: Moving,
    model: bool,
) -> dict[str, Variable]:
    """Makes what a step changes, in one piece each: a partitioned variable has no `assign_add`.

    Args:
        make: as for `affine_variables`.
        initializers: of moving_mean and moving_variance, from which the others begin.
        renorm: whether, and how, the batch is renormalized.
        moving: how the moving statistics follow; `ZeroDebiased` has variables of its own.
        model: whether these are in MODEL_VARIABLES.

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
            name: make(name, initializer=initializer, trainable=False, **_OF_REPLICAS)
            for name, initializer in kinds.items()
        }
        if isinstance(moving, ZeroDebiased):
            state |= _debiasing(f"{scope.name}/moving_mean", state["moving_mean"], model)
    return state


def _debiasing(prefix: str, moving_mean: Variable, model: bool) -> dict[str, Variable]:
    """The variables of the zero-debias, whose names hold the scope twice."""
    shape, dtype = moving_mean.shape.as_list(), moving_mean.dtype.base_dtype
    first = {**_OF_REPLICAS, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
    make = partial(
        model_variable if model else tf.get_variable,
        initializer=tf.zeros_initializer(),
        trainable=False,
    )
    # A first use that does not train has not made them.
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        return {
            "biased": make(f"{prefix}/biased", shape, dtype=dtype, **_OF_REPLICAS),
            "step": make(f"{prefix}/local_step", [], dtype=tf.float32, **first),
        }


def _root(variance: Callable[..., Tensor], shape: Any, dtype: Any, **_: Any) -> Tensor:
    return tf.sqrt(variance(shape, dtype=dtype))
