"""Texts for `repr`: objects by their class and configuration, without addresses."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import keras


def text(value: Any) -> str:
    """Represents a value of a configuration, as a user would write it.

    Args:
        value: a number, text or container, a function, a slot's value, or an object of Keras's,
            such as a schedule, an initializer or a layer.

    Returns:
        `repr(value)` where that tells what the value is, and else its class and arguments.

    Example:
        >>> import keras
        >>> text(keras.initializers.Constant(2.0)), text(keras.activations.relu), text(0.5)
        ('Constant(value=2.0)', 'relu', '0.5')
    """
    if is_dataclass(value) and not isinstance(value, type):
        return call(type(value), {f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, dict):
        if {"class_name", "config"} <= value.keys():  # an object's description, as files have it
            return call(value["class_name"], value["config"])
        return "{" + ", ".join(f"{key!r}: {text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        items = ", ".join(map(text, value))
        if isinstance(value, list):
            return f"[{items}]"
        return f"({items},)" if len(value) == 1 else f"({items})"
    plain: Any = object.__repr__
    if type(value).__repr__ is plain and hasattr(value, "get_config"):
        return call(type(value), value.get_config())
    if name := getattr(value, "__name__", None):
        return str(name)
    own = repr(value)
    return own if " at 0x" not in own else f"{type(value).__name__}(...)"


def call(kind: type | str, arguments: Mapping[str, Any]) -> str:
    """Represents the call of a constructor.

    Args:
        kind: the class, or its name.
        arguments: by name; `None` and what equals the class's default are left out of an object
            of Keras's.
    """
    shown = arguments
    if isinstance(kind, type) and not is_dataclass(kind):
        defaults = inspect.signature(kind).parameters
        shown = {
            name: value
            for name, value in arguments.items()
            if name not in defaults or value != defaults[name].default
        }
    name = kind if isinstance(kind, str) else kind.__name__
    return f"{name}({', '.join(f'{key}={text(value)}' for key, value in shown.items())})"


def layer_text(layer: Any, arguments: Mapping[str, Any]) -> str:
    """Represents a layer in Keras's style.

    Args:
        layer: any.
        arguments: of its constructor, by name, those worth showing.

    Returns:
        For example `<Dense name=dense, units=8, built=True>`.
    """
    shown = "".join(f", {name}={text(value)}" for name, value in arguments.items())
    return f"<{type(layer).__name__} name={layer.name}{shown}, built={layer.built}>"


def changed(layer: Any, plain: Any, names: Iterable[str]) -> dict[str, Any]:
    """Lists the arguments of a layer that are not at their defaults.

    Args:
        layer: any, with its arguments as attributes.
        plain: a layer of its kind with all defaults.
        names: of the arguments, beside dtype and trainable.

    Returns:
        Their values, by name.
    """
    values = {name: getattr(layer, name) for name in names}
    arguments = {n: v for n, v in values.items() if not _equal(v, getattr(plain, n))}
    if not layer.trainable:
        arguments["trainable"] = False
    if layer.dtype_policy.name != keras.config.dtype_policy().name:
        arguments["dtype"] = layer.dtype_policy.name
    return arguments


def _equal(value: Any, default: Any) -> bool:
    """Compares arguments; objects of Keras's by what they were made with."""
    if hasattr(default, "get_config") and type(value) is type(default):
        return bool(value.get_config() == default.get_config())
    # Keras makes {} of a renorm_clipping of None.
    return bool(value == default) or (default is None and value == {})
