"""The types of settings with their ranges, and errors that describe them."""

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from batchnorm_app import choices
from batchnorm_app.choices import Range, check_name
from batchnorm_app.errors import one_line


def _within(bounds: Range) -> Any:
    return Field(ge=bounds.ge, gt=bounds.gt, le=bounds.le, lt=bounds.lt)


BatchSize = Annotated[int, _within(choices.BATCH_SIZE)]
Seed = Annotated[int, _within(choices.SEED)]
LearningRate = Annotated[float, _within(choices.LEARNING_RATE)]
Momentum = Annotated[float, _within(choices.MOMENTUM)]
WeightDecay = Annotated[float, _within(choices.WEIGHT_DECAY)]
Epochs = Annotated[int, _within(choices.EPOCHS)]
Steps = Annotated[int, _within(choices.STEPS)]
ImageSize = Annotated[int, _within(choices.IMAGE_SIZE)]
Depth = Annotated[int, _within(choices.DEPTH)]
Width = Annotated[int, _within(choices.WIDTH)]
LatentSize = Annotated[int, _within(choices.LATENT_SIZE)]
DiscriminatorSteps = Annotated[int, _within(choices.DISCRIMINATOR_STEPS)]


class SettingError(ValueError):
    """A value that a setting does not allow.

    Attributes:
        setting: its name.
        received: the value.
        reason: the allowed values, as a sentence.
    """

    def __init__(self, setting: str, received: Any, reason: str) -> None:
        super().__init__(setting, received, reason)
        self.setting, self.received, self.reason = setting, received, reason

    def __str__(self) -> str:
        """Returns the three parts as one message."""
        return f"{self.setting} is {_format(self.received)}: {self.reason}"


def one_of(names: Iterable[str]) -> AfterValidator:
    """Returns the check of a setting that is one of some names.

    Args:
        names: all of them.
    """
    return AfterValidator(lambda name: check_name(name, names))


def accepted_by(check: Callable[[str], object]) -> AfterValidator:
    """Returns the check of a text by a function that raises a ValueError for others.

    Args:
        check: the function, whose result is not used.
    """

    def validate(value: str) -> str:
        check(value)
        return value

    return AfterValidator(validate)


def setting_error(error: ValidationError, kind: type[Any]) -> SettingError:
    """Returns the first error of a validation as a `SettingError`.

    Args:
        error: Pydantic's.
        kind: the class that was validated.
    """
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, SettingError):
        return cause
    name = str(first["loc"][0])
    reason = str(cause) if isinstance(cause, ValueError) else f"expected {_expected(kind, name)}."
    return SettingError(name, first["input"], one_line(reason, 400))


def ranges(kind: type[Any]) -> dict[str, dict[str, Any]]:
    """Returns the JSON schema of each setting; of a setting that may be null, that of its value.

    Args:
        kind: a class of settings.
    """
    properties = TypeAdapter(kind).json_schema()["properties"]
    return {name: schema.get("anyOf", [schema])[0] for name, schema in properties.items()}


def _expected(kind: type[Any], name: str) -> str:
    schema = ranges(kind)[name]
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "string":
        longest = schema.get("maxLength")
        return f"text of 1 to {longest:,} characters" if longest else "text"
    bounds = Range(
        ge=schema.get("minimum"),
        gt=schema.get("exclusiveMinimum"),
        le=schema.get("maximum"),
        lt=schema.get("exclusiveMaximum"),
    )
    return f"{'an integer' if schema['type'] == 'integer' else 'a number'} {bounds}"


def _format(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value))
    return one_line(text, 60)
