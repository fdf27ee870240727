"""Training steps of several networks, written once as stateful code, compiled on each backend."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

import keras

Tensor = Any
Variables = Sequence[keras.Variable]


class Steps(Protocol):
    """How a backend differentiates and compiles code that assigns to variables."""

    def __init__(self, variables: Variables) -> None:
        """Takes all variables that a step reads or assigns to."""

    def minimize(self, loss: Callable[[], Tensor], optimizer: Any, variables: Variables) -> Tensor:
        """Takes one step of an optimizer that is built, within code that `compiled` compiles.

        Args:
            loss: a scalar; what it assigns to variables is kept.
            optimizer: Keras's.
            variables: which to differentiate in and to change.

        Returns:
            The loss before the step.
        """

    def compiled(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step as a function of arrays or tensors of fixed shapes, as fast as may be."""


def choose(variables: Variables) -> Steps:
    """The backend's steps, for these variables: all that a step reads or assigns to."""
    module = import_module(f"{__name__}.{keras.config.backend()}")
    return cast(Steps, module.Steps(variables))
