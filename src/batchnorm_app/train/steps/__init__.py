"""Training steps of several networks: stateful code, compiled on each backend."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

import keras

Tensor = Any
Variables = Sequence[keras.Variable]


class Steps(Protocol):
    """Differentiates and compiles code that assigns to variables, on one backend."""

    def __init__(self, variables: Variables) -> None:
        """Stores all variables that a step reads or assigns to."""

    def minimize(self, loss: Callable[[], Tensor], optimizer: Any, variables: Variables) -> Tensor:
        """Takes one step of an optimizer, within code that `compile` compiles.

        Args:
            loss: returns a scalar; its assignments to variables take effect.
            optimizer: a Keras optimizer that is built.
            variables: to differentiate with respect to, and to update.

        Returns:
            The loss before the step.
        """

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the step, compiled if possible, for arrays or tensors of fixed shapes."""


def choose(variables: Variables) -> Steps:
    """Returns the backend's steps, for all variables that a step reads or assigns to."""
    module = import_module(f"{__name__}.{keras.config.backend()}")
    return cast(Steps, module.Steps(variables))
