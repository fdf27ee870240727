"""The values of slots: small objects that a model's configuration can hold."""

from dataclasses import fields
from typing import Any, Self

import keras

from batchnorm.slots.representation import text


class Slot:
    """The base of the frozen dataclasses that fill slots: their fields are their configuration."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as a configuration holds them."""
        return {
            field.name: keras.saving.serialize_keras_object(getattr(self, field.name))
            for field in fields(self)  # type: ignore[arg-type]  # those below are dataclasses
        }

    def __repr__(self) -> str:
        """The constructor's call, schedules and initializers in it, too."""
        return text(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that `get_config` is_configuration."""
        return cls(**{name: deserialized(value) for name, value in config.items()})


def deserialized(value: Any) -> Any:
    """Deserializes a Keras configuration; returns anything else unchanged."""
    is_configuration = isinstance(value, dict) and "class_name" in value
    return keras.saving.deserialize_keras_object(value) if is_configuration else value


def slot_value(name: str, value: Any, kind: Any, example: str) -> Any:
    """Returns the value of a slot, deserialized if it is a configuration from a file.

    Args:
        name: of the slot.
        value: the argument.
        kind: the class that it must be an instance of.
        example: of such an instance.

    Raises:
        ValueError: it is neither an instance of the class nor `None`.
    """
    value = deserialized(value)
    if value is None or (isinstance(value, kind) and not isinstance(value, type)):
        return value
    raise ValueError(f"{name} must be an object like {example}, or None; received {value!r}.")
