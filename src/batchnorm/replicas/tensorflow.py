"""Sums across the replicas of a `tf.distribute` strategy."""

from typing import Any

import tensorflow as tf

from batchnorm.statistics import Total


def total() -> Total | None:
    """The differentiable sum across replicas; `None` where there is one replica."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None

    def all_reduce(value: Any) -> Any:
        return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

    return all_reduce
