"""Layers and models called with their own variables, as fast as the backend does it."""

from typing import Any

from tests.differentiate import BACKEND, Array, compiled, to_numpy


def called(layer: Any, inputs: Any, training: bool = True, **given: Any) -> Array:
    """What the layer returns; what it assigns to its variables is kept.

    JAX compiles what is called bare operation by operation, which takes seconds.
    """
    if BACKEND != "jax":
        return to_numpy(layer(inputs, training=training, **given))

    def forward(weights: list[Any], state: list[Any], inputs: Any, given: dict[str, Any]) -> Any:
        return layer.stateless_call(weights, state, inputs, training=training, **given)

    weights, state = layer.trainable_variables, layer.non_trainable_variables
    values = ([variable.value for variable in each] for each in (weights, state))
    y, new = compiled(forward, "jit")(*values, inputs, given)
    for variable, value in zip(state, new, strict=True):
        variable.assign(value)
    return to_numpy(y)
