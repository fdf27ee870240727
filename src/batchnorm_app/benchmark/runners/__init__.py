"""Runs passes on a backend: one module of this package for each."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

import keras

from batchnorm_app.benchmark.inputs import Array, Inputs

Tensor = Any
CallArguments = Mapping[str, Tensor]


class Runner(Protocol):
    """The interface of a backend; `from_layer` and `native` return its contestants."""

    NATIVE: str
    """Name of the framework's own layer."""

    def native(self, inputs: Inputs) -> Any:
        """Returns the framework's own layer as a contestant, with the inputs' first gamma and beta.

        Raises:
            ImportError: the layer's library is not installed.
        """

    def from_layer(self, layer: keras.layers.Layer) -> Any:
        """Returns a contestant that calls a layer, which must be built."""

    def tensor(self, array: Array) -> Tensor:
        """Returns an array as a tensor of the backend."""

    def work(
        self,
        contestant: Any,
        pass_name: str,
        mode: str,
        x: Tensor,
        dy: Tensor,
        arguments: CallArguments,
    ) -> Callable[[], Any]:
        """Returns a function that runs one pass and waits for its end.

        Args:
            contestant: of this backend.
            pass_name: of `PASSES`. The gradients are those of x and of the trainable variables.
            mode: of the backend's `MODES`.
            x: the input.
            dy: the gradient that reaches y.
            arguments: of the layer's call, beside x.

        Returns:
            A function without arguments that returns a tuple, y first; after the backward pass
            the gradient of x is second.
        """

    def saved_bytes(self, contestant: Any, x: Tensor, arguments: CallArguments) -> int:
        """Returns the bytes saved for the backward pass, without variables."""

    def copier(self, array: Array) -> Callable[[], object]:
        """Returns a function that copies an array to an existing one, on all cores."""


def choose() -> Runner:
    """Returns the runner of the backend in use."""
    return cast(Runner, import_module(f"{__name__}.{keras.backend.backend()}"))
