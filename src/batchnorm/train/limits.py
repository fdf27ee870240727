"""The types of settings with their ranges, and the ranges in words."""

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from batchnorm.data.suggest import suggest
from batchnorm.train.errors import one_line

# The upper limits keep a slip of the keyboard from a training that would end in a year, or in an
# allocator's error; each is far above what anybody trains here.
BatchSize = Annotated[int, Field(ge=2, le=100_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what NumPy's and Keras's generators take
Rate = Annotated[float, Field(gt=0, le=1e30)]
Share = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, le=1e30)]
Epochs = Annotated[int, Field(ge=1, le=1_000_000)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
ImageSize = Annotated[int, Field(ge=16, le=512)]
Depth = Annotated[int, Field(ge=1, le=1202)]  # the deepest of He et al. 2016
Width = Annotated[int, Field(ge=1, le=512)]
LatentSize = Annotated[int, Field(ge=1, le=1024)]
DiscriminatorSteps = Annotated[int, Field(ge=1, le=32)]  # compiled one after the other


class SettingError(ValueError):
    """A setting with a value that it cannot have.

    Attributes:
        setting: its name.
        received: the value.
        reason: what is allowed, in words.
    """

    def __init__(self, setting: str, received: Any, reason: str) -> None:
        super().__init__(setting, received, reason)
        self.setting, self.received, self.reason = setting, received, reason

    def __str__(self) -> str:
        """The three parts as one message."""
        return f"{self.setting} is {_shown(self.received)}: {self.reason}"


def one_of(names: Iterable[str]) -> AfterValidator:
    """Returns the check of a setting that is one of some names.

    Args:
        names: all of them.
    """

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}{suggest(value, names)}")
        return value

    return AfterValidator(check)


def accepted_by(check: Callable[[str], object]) -> AfterValidator:
    """Returns the check of a text that a function raises a ValueError for.

    Args:
        check: the function, whose result is not used.
    """

    def validate(value: str) -> str:
        check(value)
        return value

    return AfterValidator(validate)


def setting_error(error: ValidationError, kind: type[Any]) -> SettingError:
    """Returns the first error of a validation in words.

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
    """Returns the JSON schema of each setting, of the value for one that may be null.

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
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    low = f"from {schema['minimum']:,}" if above is None else f"above {above:,}, up"
    high = f"to {schema['maximum']:,}" if below is None else f"to below {below:,}"
    return f"{'an integer' if schema['type'] == 'integer' else 'a number'} {low} {high}"


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value))
    return one_line(text, 60)
