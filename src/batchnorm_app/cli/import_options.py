"""Options of `batchnorm import-tf1` that name the checkpoint and describe the model."""

import typer

from batchnorm_app.choices import CLASSIFIERS, IMAGE_SIDE
from batchnorm_app.cli.options import one_of, path


def check_model(value: str | None) -> str | None:
    """Returns the name of a model or of a `.keras` file; raises for any other."""
    if value is None or value.endswith(".keras"):
        return value
    return one_of((*CLASSIFIERS, "FILE.keras"))(value)


def check_prefix(value: str) -> str:
    """Returns the prefix of a checkpoint; raises if it is empty."""
    path(value)
    return value  # unchanged: a prefix may end in a slash


def check_image_shape(value: str | None) -> str | None:
    """Returns the shape of an image, H,W,C; raises unless it is one."""
    sizes = [] if value is None else value.split(",")
    if value is not None and (len(sizes) != 3 or not all(_is_side(size) for size in sizes)):
        raise typer.BadParameter(
            f"{value[:100]!r} is not the shape of an image; expected H,W,C, as in 28,28,1, each "
            f"{IMAGE_SIDE}."
        )
    return value


def _is_side(text: str) -> bool:
    digits = text.strip().lstrip("0")
    return digits.isascii() and digits.isdecimal() and len(digits) < 9 and int(digits) in IMAGE_SIDE
