"""Steps on JAX: stateless scopes around the stateful code, and `jit`."""

from collections.abc import Callable
from typing import Any

import jax
import keras

from batchnorm.train.steps import Tensor, Variables


class Steps:
    """See `batchnorm.train.steps.Steps`."""

    def __init__(self, variables: Variables) -> None:
        self.variables = list(variables)

    def minimize(self, loss: Callable[[], Tensor], optimizer: Any, variables: Variables) -> Tensor:
        """See `batchnorm.train.steps.Steps`."""
        changed = {id(variable) for variable in variables}
        others = [variable for variable in self.variables if id(variable) not in changed]
        # A scope hides the one around it, so it is told the values of all variables.
        known = [(variable, variable.value) for variable in others]

        def pure(values: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            mapping = [*known, *zip(variables, values, strict=True)]
            with keras.StatelessScope(mapping) as scope:
                value = loss()
            return value, [scope.get_current_value(variable) for variable in others]

        differentiated = jax.value_and_grad(pure, has_aux=True)
        (value, state), gradients = differentiated([variable.value for variable in variables])
        for variable, new in zip(others, state, strict=True):
            variable.assign(new)
        optimizer.apply(gradients, variables)
        return value

    def compiled(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """See `batchnorm.train.steps.Steps`."""

        @jax.jit
        def pure(values: list[Tensor], *arguments: Any) -> tuple[Any, list[Tensor]]:
            with keras.StatelessScope(zip(self.variables, values, strict=True)) as scope:
                result = step(*arguments)
            return result, [scope.get_current_value(variable) for variable in self.variables]

        def run(*arguments: Any) -> Any:
            result, state = pure([variable.value for variable in self.variables], *arguments)
            for variable, new in zip(self.variables, state, strict=True):
                variable.assign(new)
            return result

        return run
