"""Options of `batchnorm import-tf1` that say what is read and what model is made."""

import typer

from batchnorm_cli.options import one_of, path

MODELS = ("lenet", "resnet")
# Far above the models' own, and far below what no memory holds.
DEEPEST, MOST_CLASSES, LARGEST_SIZE = 1202, 100_000, 1024


def model_option(value: str | None) -> str | None:
    """The check of a model's name, or that of a file."""
    if value is None or value.endswith(".keras"):
        return value
    return one_of((*MODELS, "FILE.keras"))(value)


def not_empty(value: str) -> str:
    """The check of a checkpoint's prefix."""
    path(value)
    return value  # as it is: a prefix may end in a slash


def image_shape_option(value: str | None) -> str | None:
    """The check of an image's shape, H,W,C."""
    sizes = [] if value is None else value.split(",")
    if value is not None and (len(sizes) != 3 or not all(_is_size(size) for size in sizes)):
        raise typer.BadParameter(
            f"{value[:100]!r} is not the shape of an image; expected H,W,C, as in 28,28,1, each "
            f"from 1 to {LARGEST_SIZE}."
        )
    return value


def _is_size(text: str) -> bool:
    digits = text.strip().lstrip("0")
    return (
        digits.isascii() and digits.isdecimal() and len(digits) < 9 and int(digits) <= LARGEST_SIZE
    )
