"""Sums across the replicas of a `tf.distribute` strategy."""

from typing import Any

import tensorflow as tf

from batchnorm.stages.moments import Replicas

Tensor = Any


class StrategyReplicas:
    """The replicas of a strategy.

    Args:
        context: of one of them, `tf.distribute.ReplicaContext`.
    """

    def __init__(self, context: Any) -> None:
        self.context = context

    def sum(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over all replicas, differentiable."""
        return self.context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def current() -> Replicas | None:
    """Returns the replicas of this call; `None` where there is one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return StrategyReplicas(context)
