"""Graphs of TensorFlow 1, built and run as its users do."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from batchnorm.contrib import batch_norm
from tests.differentiate import Array

Tensor = Any
Session = Any
Feed = Mapping[Any, Any]


@contextmanager
def session() -> Iterator[Session]:
    """Opens a session on a new graph, both the default."""
    with tf.Graph().as_default(), tf.Session() as opened:
        yield opened


@contextmanager
def graph() -> Iterator[Any]:
    """Opens a new graph, with the same weights each time."""
    with tf.Graph().as_default() as built:
        tf.set_random_seed(1)
        yield built


def run(output: Any, feed: Feed | None = None) -> dict[str, Array]:
    """Returns the output, "y", and all variables by the last part of their names, in float64."""
    by_name = {variable.op.name.split("/")[-1]: variable for variable in tf.global_variables()}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        values = session.run({"y": output, **by_name}, feed)
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def initialize() -> None:
    tf.get_default_session().run(tf.global_variables_initializer())


def names(collection: str = tf.GraphKeys.GLOBAL_VARIABLES) -> list[str]:
    return [member.op.name for member in tf.get_collection(collection)]


def updates() -> list[Tensor]:
    return list(tf.get_collection(tf.GraphKeys.UPDATE_OPS))


def value(name: str) -> Array:
    """Returns the value of a variable."""
    matches = [variable for variable in tf.global_variables() if variable.op.name == name]
    read: Array = tf.get_default_session().run(matches[0])
    return read


class Layer:
    """A batch normalization of a placeholder, with its gradients and its variables by name."""

    def __init__(
        self,
        shape: Sequence[int | None],
        dtype: str = "float32",
        *,
        gradients: bool = False,
        **arguments: Any,
    ) -> None:
        self.session = tf.get_default_session()
        self.x, self.dy = tf.placeholder(dtype, shape), tf.placeholder(dtype, shape)
        collection = arguments.get("updates_collections", tf.GraphKeys.UPDATE_OPS)
        before, earlier_updates = set(names()), tf.get_collection(collection) if collection else []
        self.y = batch_norm(self.x, **arguments)
        variables = [
            variable for variable in tf.global_variables() if variable.op.name not in before
        ]
        self.variables = {variable.op.name.rpartition("/")[2]: variable for variable in variables}
        self.sought = {"x": self.x} | {
            name: self.variables[name] for name in ("gamma", "beta") if name in self.variables
        }
        # Not later: TensorFlow changes a conditional that is differentiated.
        by = [*self.sought.values()] if gradients else []
        self.gradients = tf.gradients(self.y, by, self.dy) if by else []
        self.updates = tf.get_collection(collection)[len(earlier_updates) :] if collection else []
        initialize()

    def state(self) -> dict[str, Array]:
        """Returns the values of all variables, gamma and beta among them."""
        read: dict[str, Array] = self.session.run(self.variables)
        return read

    def load(self, **values: Any) -> None:
        pairs = [(self.variables[name], value) for name, value in values.items()]
        feed = {variable.initial_value: value for variable, value in pairs}
        self.session.run([variable.initializer for variable, _ in pairs], feed)

    def run(self, x: Any, feed: Feed | None = None) -> Array:
        """Returns the output, and takes the step if there is one."""
        y: Array = self.session.run([self.y, *self.updates], {self.x: x, **(feed or {})})[0]
        return y

    def differentiate(
        self, x: Any, dy: Any, feed: Feed | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Returns y and the gradients of sum(y * dy) by x, gamma and beta; takes the step."""
        gradients_by_name = dict(zip(self.sought, self.gradients, strict=True))
        feeds = {self.x: x, self.dy: dy, **(feed or {})}
        y, gradients, _ = self.session.run([self.y, gradients_by_name, self.updates], feeds)
        return y, gradients
