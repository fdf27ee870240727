"""`arg_scope`: defaults for the arguments of functions, within a block."""

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar

from tensorflow.autograph.experimental import do_not_convert

from batchnorm.contrib.foreign_arguments import hint

Function = Callable[..., Any]
# The defaults of a function's arguments, by the function's key.
Scope = dict[str, dict[str, Any]]
P = ParamSpec("P")
R = TypeVar("R")

_scope: ContextVar[Scope] = ContextVar("arg_scope")
_decorated: dict[str, "_Scoped[..., Any]"] = {}


@contextmanager
def arg_scope(
    functions: list[Function] | tuple[Function, ...] | Scope, /, **arguments: Any
) -> Iterator[Scope]:
    """Gives arguments of functions a default, for all calls within a `with` block.

    Scopes nest: an inner one adds to the outer one, and wins. What a call passes wins over both.
    Each thread has its own.

    Args:
        functions: those that take the defaults, each decorated with `add_arg_scope`; or the scope
            that an earlier `arg_scope` gave, which replaces all outer ones.
        **arguments: the defaults. Every function must have each of these arguments.

    Yields:
        The scope: the defaults in force, by the function's key.

    Raises:
        TypeError: `functions` is neither; a function does not have one of the arguments.
        ValueError: a function is not decorated; there are arguments beside an earlier scope.

    Example:
        >>> @add_arg_scope
        ... def power(base, exponent=2):
        ...     return base**exponent
        >>> with arg_scope([power], exponent=3) as cubes:
        ...     power(2), power(2, exponent=1)
        (8, 2)
        >>> with arg_scope(cubes):
        ...     power(2)
        8
    """
    if isinstance(functions, dict):
        if arguments:
            raise ValueError(
                f"A scope that is used again takes no further arguments; received "
                f"{', '.join(arguments)}. Open one within the other: "
                "`with arg_scope(scope), arg_scope([...], ...):`."
            )
        scope = {key: dict(defaults) for key, defaults in functions.items()}
    elif isinstance(functions, list | tuple):
        scope = dict(current_arg_scope())
        for function in functions:
            key = _check(function, arguments)
            scope[key] = {**scope.get(key, {}), **arguments}
    else:
        raise TypeError(
            "arg_scope takes a list or a tuple of functions, or the dictionary that an earlier "
            f"arg_scope gave; received {functions!r}."
        )
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)


def add_arg_scope(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function take its defaults from `arg_scope`, and from that of tf_slim.

    A call's own arguments win over `arg_scope`, `arg_scope` over tf_slim's scope (if tf_slim is
    imported), and tf_slim's scope over the defaults of the function. Usually used as a decorator.

    Args:
        function: any; its name, docstring and signature stay.

    Returns:
        The function with scoped defaults.

    Example:
        >>> @add_arg_scope
        ... def power(base, exponent=2):
        ...     return base**exponent
        >>> with arg_scope([power], exponent=3):
        ...     power(2)
        8
    """
    return function if isinstance(function, _Scoped) else _Scoped(function)


def current_arg_scope() -> Scope:
    """Returns the scope in force.

    Returns:
        The defaults in force, by the function's key; empty outside of all scopes.

    Example:
        >>> current_arg_scope()
        {}
    """
    return _scope.get({})


def has_arg_scope(function: Any) -> bool:
    """Returns whether a function is decorated with `add_arg_scope`.

    Args:
        function: any object.

    Returns:
        True if `arg_scope` takes it.

    Example:
        >>> has_arg_scope(print)
        False
    """
    return getattr(function, "_key_op", None) in _decorated


def arg_scoped_arguments(function: Function) -> tuple[str, ...]:
    """Returns the arguments of a function whose defaults `arg_scope` can replace.

    Args:
        function: decorated with `add_arg_scope`.

    Returns:
        Their names, in order.

    Raises:
        ValueError: the function is not decorated.

    Example:
        >>> @add_arg_scope
        ... def power(base, exponent=2):
        ...     return base**exponent
        >>> arg_scoped_arguments(power)
        ('exponent',)
    """
    parameters = _decorated[_check(function, {})].parameters
    return tuple(
        parameter.name for parameter in parameters if parameter.default is not parameter.empty
    )


class _Scoped(Generic[P, R]):
    """A function that takes its defaults from `arg_scope`, and from that of tf_slim."""

    def __init__(self, function: Callable[P, R]) -> None:
        # tf_slim, too, knows a function by this attribute, which functools.wraps copies.
        self._key: str = function.__dict__.setdefault("_key_op", repr(function))
        functools.update_wrapper(self, function)
        self._function = function
        self.parameters = tuple(inspect.signature(function).parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._positional = self._names_of(positional)
        keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self._keyword = self._names_of(keyword)
        self._takes_any = bool(self._names_of([inspect.Parameter.VAR_KEYWORD]))
        _decorated[self._key] = self

    def _names_of(self, kinds: Collection[Any]) -> list[str]:
        return [parameter.name for parameter in self.parameters if parameter.kind in kinds]

    # Graph code is written out already: AutoGraph would rewrite it all, and warn where it cannot.
    @do_not_convert  # type: ignore[untyped-decorator]
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        slim = _slim()
        slim_defaults = slim.current_arg_scope().get(self._key, {}) if slim else {}
        defaults = {**slim_defaults, **current_arg_scope().get(self._key, {})}
        passed = self._positional[: len(args)]
        scoped = {name: default for name, default in defaults.items() if name not in passed}
        arguments = {**scoped, **kwargs}
        self.check_names(arguments)
        return self._function(*args, **arguments)

    def check_names(self, arguments: Iterable[str]) -> None:
        """Raises for arguments that the function does not have.

        Args:
            arguments: names.

        Raises:
            TypeError: there is one; the message tells its name here.
        """
        for name in arguments:
            if name not in self._keyword and not self._takes_any:
                function = getattr(self._function, "__name__", repr(self._function))
                raise TypeError(f"{function} has no argument {name!r}. {hint(name, self._keyword)}")

    @property
    def _key_op(self) -> str:
        """The function's key; tf_slim's `arg_scope`, which reads it, must know the function."""
        slim = _slim()
        if slim and not slim.has_arg_scope(self._function):
            slim.add_arg_scope(self._function)
        return self._key

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Binds the function to an instance, as methods are bound."""
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return repr(self._function)

    def __reduce__(self) -> str:
        """Pickles and copies the function by name, as functions are."""
        return self.__qualname__  # type: ignore[attr-defined, no-any-return]


def _slim() -> Any:
    """Returns tf_slim's module of this name, if it has been imported."""
    return sys.modules.get("tf_slim.ops.arg_scope")


def _check(function: Any, arguments: Mapping[str, Any]) -> str:
    """Returns the key of a function; raises unless it is decorated and has these arguments."""
    name = getattr(function, "__name__", repr(function))
    if not has_arg_scope(function):
        raise ValueError(
            f"{name} of {getattr(function, '__module__', None)} is not decorated with "
            "batchnorm.contrib's add_arg_scope. Decorate it; functions of tf_slim need tf_slim's "
            "arg_scope, which batchnorm.contrib's functions obey, too."
        )
    key: str = function._key_op
    _decorated[key].check_names(arguments)
    return key
