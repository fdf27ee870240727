"""How a backend runs a pass: a module of this package for each."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

import keras

from batchnorm.benchmark.inputs import Array, Inputs

Tensor = Any
Given = Mapping[str, Tensor]


class Runner(Protocol):
    """What is needed of a backend; its contestants are what `of_layer` and `own` return."""

    OWN: str
    """The name of the framework's own layer."""

    def own(self, inputs: Inputs) -> Any:
        """The framework's own layer as a contestant, with the inputs' first gamma and beta.

        Raises:
            ImportError: it is of a library that is not installed.
        """

    def of_layer(self, layer: keras.layers.Layer) -> Any:
        """A layer that is built as a contestant."""

    def tensor(self, array: Array) -> Tensor:
        """The numbers as the backend has them."""

    def work(
        self, contestant: Any, which: str, mode: str, x: Tensor, dy: Tensor, given: Given
    ) -> Callable[[], Any]:
        """A function that does one pass and returns when it is done.

        Args:
            contestant: who does it.
            which: of `PASSES`. The gradients are those of x and of all that is trained.
            mode: how: one of the backend's `MODES`.
            x: the input.
            dy: the gradient that reaches y.
            given: arguments of the layer's call beside x.

        Returns:
            A function without arguments that returns a tuple, y first; after the backward pass
            the gradient of x is second.
        """

    def kept(self, contestant: Any, x: Tensor, given: Given) -> int:
        """Bytes that the forward pass keeps for the backward pass, without what is trained."""

    def copier(self, array: Array) -> Callable[[], object]:
        """What copies an array of these numbers to another one that is there, with all cores."""


def choose() -> Runner:
    """The one of the backend in use."""
    return cast(Runner, import_module(f"{__name__}.{keras.backend.backend()}"))
