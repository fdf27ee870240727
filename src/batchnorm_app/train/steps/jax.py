"""Steps on JAX: stateless scopes around the stateful code, and `jit`."""

from collections.abc import Callable
from typing import Any

import jax
import keras

from batchnorm_app.train.steps import Tensor, Variables


class Steps:
    """See `batchnorm_app.train.steps.Steps`."""

    def __init__(self, variables: Variables) -> None:
        self.variables = list(variables)

    def minimize(self, loss: Callable[[], Tensor], optimizer: Any, variables: Variables) -> Tensor:
        """See `batchnorm_app.train.steps.Steps`."""
        updated = {id(variable) for variable in variables}
        state_variables = [variable for variable in self.variables if id(variable) not in updated]
        # An inner scope hides the outer one, so it receives the values of all variables.
        state_mapping = [(variable, variable.value) for variable in state_variables]

        def pure(values: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            mapping = [*state_mapping, *zip(variables, values, strict=True)]
            with keras.StatelessScope(mapping) as scope:
                value = loss()
            return value, [scope.get_current_value(variable) for variable in state_variables]

        value_and_gradients = jax.value_and_grad(pure, has_aux=True)
        (value, state), gradients = value_and_gradients([variable.value for variable in variables])
        for variable, new_value in zip(state_variables, state, strict=True):
            variable.assign(new_value)
        optimizer.apply(gradients, variables)
        return value

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """See `batchnorm_app.train.steps.Steps`."""

        @jax.jit
        def pure(values: list[Tensor], *arguments: Any) -> tuple[Any, list[Tensor]]:
            with keras.StatelessScope(zip(self.variables, values, strict=True)) as scope:
                result = step(*arguments)
            return result, [scope.get_current_value(variable) for variable in self.variables]

        def run(*arguments: Any) -> Any:
            result, state = pure([variable.value for variable in self.variables], *arguments)
            for variable, new_value in zip(self.variables, state, strict=True):
                variable.assign(new_value)
            return result

        return run
