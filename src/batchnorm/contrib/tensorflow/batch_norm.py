"""`tf.contrib.layers.batch_norm`: its arguments, variables and collections."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import tensorflow.compat.v1 as tf

from batchnorm.contrib.contrib_path import (
    UPDATE_OPS,
    ContribPath,
    axis_of,
    check_parameters,
    contrib_path,
)
from batchnorm.contrib.tensorflow.arg_scope import add_arg_scope
from batchnorm.contrib.tensorflow.scope import check_graph
from batchnorm.contrib.tensorflow.stages import (
    check_backend,
    decay_from,
    frequencies,
    normalize,
    schedule_from,
    training_flag,
    update_ops,
)
from batchnorm.contrib.tensorflow.state import INITIALIZERS, affine_variables, state_variables
from batchnorm.contrib.tensorflow.variables import VariablesCollections, collect, model_variable
from batchnorm.slots.moving import Average, Exponential, ZeroDebiased
from batchnorm.slots.renorm import Renorm

Tensor = Any
Function = Callable[[Tensor], Tensor]


@add_arg_scope
def batch_norm(
    inputs: Tensor,
    decay: float | Tensor = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Function | None = None,
    param_initializers: Mapping[str, Any] | None = None,
    param_regularizers: Mapping[str, Function] | None = None,
    updates_collections: str | Sequence[str] | None = UPDATE_OPS,
    is_training: bool | Tensor = True,
    reuse: Any = None,
    variables_collections: VariablesCollections = None,
    outputs_collections: str | Sequence[str] | None = None,
    trainable: bool = True,
    batch_weights: Tensor | None = None,
    fused: bool | None = None,
    data_format: str = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: Any = None,
    renorm: bool = False,
    renorm_clipping: Mapping[str, float | Tensor] | None = None,
    renorm_decay: float | Tensor = 0.99,
    adjustment: Callable[[Tensor], Sequence[Tensor]] | None = None,
) -> Tensor:
    """Adds a batch normalization to a graph, as `tf.contrib.layers.batch_norm` did.

    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    with the batch's mean and (biased) variance in training, the moving ones in inference. It can be
    the `normalizer_fn` of `conv2d` and `fully_connected`.

    In training the moving statistics follow when two operations run, which are in UPDATE_OPS: make
    the training operation `with tf.control_dependencies(tf.get_collection(UPDATE_OPS))`.

    Args:
        inputs: `(N, ..., C)`, or `(N, C, ...)` for NCHW; the rank, 2 or more, and C are static.
        decay: how much of the moving statistics a step keeps, in [0, 1); a number or a scalar
            tensor.
        center: whether there is a beta.
        scale: whether there is a gamma. Unlike Keras's, this is False by default.
        epsilon: added to the variance under the root, in units of the inputs squared.
        activation_fn: applied to y in the end.
        param_initializers: of any of beta, gamma, moving_mean and moving_variance.
        param_regularizers: of beta and gamma; their values are in REGULARIZATION_LOSSES.
        updates_collections: collections for the operations that update the moving statistics; with
            `None` they are in no collection, and y waits for them.
        is_training: whether to use and to record the statistics of this batch: a bool, or a scalar
            boolean tensor or variable, which a session may feed.
        reuse: whether the variables are there already; give `scope` with it.
        variables_collections: further collections of all variables, or of each by its name.
        outputs_collections: of the output, whose `aliases` name the scope.
        trainable: whether gamma and beta are in TRAINABLE_VARIABLES. The statistics do not depend
            on it.
        batch_weights: `(N,)`, how often each example counts in the statistics, at least 0.
        fused: whether contrib would have run its fused kernel where it can, which records
            n / (n - 1) times the variance; `None` is True. The batch is still normalized by the
            biased variance.
        data_format: NHWC or NCHW, for any rank.
        zero_debias_moving_mean: whether the moving mean is unbiased from the first step on. It has
            two variables of its own, and loses its initial value.
        scope: of the variables; "BatchNorm" by default.
        renorm: batch renormalization, with three more variables.
        renorm_clipping: any of rmin, rmax and dmax, each a number or a scalar tensor; a missing one
            means no limit.
        renorm_decay: `decay` of the running values that r and d are computed from.
        adjustment: in training, from the dynamic shape of the inputs to a pair (scale, shift), each
            `(C,)` or `(N, C)`, that come after renorm and before gamma and beta.

    Returns:
        y, shaped like the inputs and in their dtype.

    Raises:
        ValueError: an argument is out of range; the rank or C is not known; weights do not fit.
        RuntimeError: no graph is being built, or Keras computes with another backend.

    Example:
        >>> import tensorflow.compat.v1 as tf
        >>> with tf.Graph().as_default(), tf.Session() as session:
        ...     y = batch_norm(tf.constant([[1.0], [3.0]]), epsilon=0.0)
        ...     session.run(tf.global_variables_initializer())
        ...     session.run(y).tolist()
        [[-1.0], [1.0]]

    References:
        Ioffe and Szegedy 2015, arXiv:1502.03167, Algorithms 1 and 2; with `renorm`
        Ioffe 2017, arXiv:1702.03275, Algorithm 1.
    """
    check_graph("batch_norm", "the layer that contrib.layer_from_arguments makes")
    check_backend()
    check_parameters(param_initializers, param_regularizers)
    inputs = tf.convert_to_tensor(inputs)
    axis = _axis(inputs, data_format)
    training = training_flag(is_training)
    path = contrib_path(
        inputs.shape.rank,
        inputs.dtype.name,
        fused=fused,
        batch_weights=batch_weights,
        renorm=renorm,
        adjustment=adjustment,
        zero_debias_moving_mean=zero_debias_moving_mean,
        updates_collections=updates_collections,
    )
    moving = _moving(decay, path, zero_debias_moving_mean and training is not False)
    correction = _renorm(renorm_clipping or {}, renorm_decay) if renorm else None
    with tf.variable_scope(scope, "BatchNorm", [inputs], reuse=reuse) as variable_scope:
        create = partial(
            model_variable,
            shape=inputs.shape[axis : axis + 1 or None].as_list(),
            dtype=tf.float64 if inputs.dtype == tf.float64 else tf.float32,
            collections=variables_collections,
        )
        initializers = INITIALIZERS | dict(param_initializers or {})
        names = [name for name, present in (("beta", center), ("gamma", scale)) if present]
        affine = affine_variables(create, names, initializers, param_regularizers or {}, trainable)
        state = state_variables(create, initializers, correction, moving, path.by_hand)
        result = normalize(
            inputs,
            affine | state,
            training,
            moving,
            axis=axis,
            epsilon=epsilon,
            renorm=correction,
            adjustment=adjustment,
            sample_weight=frequencies(batch_weights, inputs),
        )
        records = result.steps and (trainable or not path.layer)
        updates = update_ops(result, state) if records else ()
        y = _output(result.y, _collect_updates(updates, updates_collections), path)
        y = y if activation_fn is None else activation_fn(y)
        return collect(outputs_collections, variable_scope.name, y)


def _output(y: Tensor, updates: Sequence[Tensor], path: ContribPath) -> Tensor:
    """Returns y by the name that contrib gave it, after the updates."""
    with tf.control_dependencies(updates):
        return tf.identity(y, "FusedBatchNorm" if path.unbiased else "batchnorm")


def _axis(inputs: Tensor, data_format: str) -> int:
    """Returns the channels' axis, -1 if they are last; raises unless their number is static."""
    axis, rank = axis_of(data_format), inputs.shape.rank
    if rank is None or rank < 2:
        raise ValueError(
            f"Inputs {inputs.name} have {'undefined rank' if rank is None else f'rank {rank}'}: "
            "(N, ..., C) is needed, of rank 2 or more. inputs.set_shape tells an unknown one."
        )
    if inputs.shape.as_list()[axis] is None:
        raise ValueError(
            f"Inputs {inputs.name} of shape {inputs.shape} have an undefined number of channels, "
            f"axis {axis} for {data_format}. inputs.set_shape tells it."
        )
    return axis


def _moving(decay: float | Tensor, path: ContribPath, debias: bool) -> Average:
    momentum = decay_from("decay", decay)
    if debias:
        return ZeroDebiased(momentum, path.unbiased, variance=False)
    return Exponential(momentum, path.unbiased)


def _renorm(clipping: Mapping[str, float | Tensor], decay: float | Tensor) -> Renorm:
    limits = {name: schedule_from(value) for name, value in clipping.items()}
    return Renorm.from_clipping(limits, decay_from("renorm_decay", decay))


def _collect_updates(
    updates: Sequence[Tensor], collections: str | Sequence[str] | None
) -> Sequence[Tensor]:
    """Adds the updates to their collections, and returns those that the output waits for."""
    if collections is None:
        return updates
    for update in updates:
        tf.add_to_collections(collections, update)
    return ()
