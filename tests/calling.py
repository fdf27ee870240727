"""Layers and models called with their own variables, as fast as the backend does it."""

from typing import Any

from tests.differentiate import BACKEND, Array, compiled, to_numpy


def called(layer: Any, inputs: Any, training: bool = True, **options: Any) -> Array:
    """Returns the output of the layer; assignments to its variables last.

    Outside jit, JAX compiles operation by operation, which takes seconds.
    """
    if BACKEND != "jax":
        return to_numpy(layer(inputs, training=training, **options))

    def forward(weights: list[Any], state: list[Any], inputs: Any, options: dict[str, Any]) -> Any:
        return layer.stateless_call(weights, state, inputs, training=training, **options)

    weights, state = layer.trainable_variables, layer.non_trainable_variables
    values = ([variable.value for variable in variables] for variables in (weights, state))
    y, new = compiled(forward, "jit")(*values, inputs, options)
    for variable, value in zip(state, new, strict=True):
        variable.assign(value)
    return to_numpy(y)
