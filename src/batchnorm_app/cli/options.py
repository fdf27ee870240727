"""The options that commands share, and the checks of their values."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from batchnorm_app import choices
from batchnorm_app.choices import Range, check_name

Check = Callable[[str | None], str | None]


def one_of(names: Iterable[str]) -> Check:
    """Returns the check of an option that takes one of these names."""

    def check(value: str | None) -> str | None:
        try:
            return None if value is None else check_name(value, names)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return check


def named(help: str, names: tuple[str, ...], note: str = "") -> Any:
    """Returns an option that takes one of these names.

    Args:
        help: its help text before the names.
        names: the allowed names.
        note: its help text after them.
    """
    text = f"{help}: {', '.join(names)}{note}."
    return typer.Option(help=text, metavar="NAME", callback=one_of(names))


def integer(help: str, bounds: Range) -> Any:
    """Returns an option that takes an integer of a range, which its help shows."""
    return typer.Option(help=help, min=bounds.ge, max=bounds.le)


def number(help: str, bounds: Range, reason: str = ".") -> Any:
    """Returns an option that takes a number of a range.

    Args:
        help: its help text.
        bounds: the allowed numbers.
        reason: the end of the sentence that refuses others.
    """

    def check(value: float) -> float:
        if value not in bounds:
            kind = "an integer" if isinstance(value, int) else "a number"
            raise typer.BadParameter(f"{value} is out of range; expected {kind} {bounds}{reason}")
        return value

    return typer.Option(help=help, callback=check)


class Group(TyperGroup):
    """A group of commands that refuses an unknown one as options refuse unknown names."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that the first argument names."""
        if not args[0].startswith("-"):
            one_of(self.commands)(args[0])
        return super().resolve_command(ctx, args)


def is_given(context: typer.Context, name: str) -> bool:
    """Returns whether the user gave an option, by its parameter's name."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def path(text: str) -> Path:
    """Returns the path of an option; raises if it is empty, which would be the current folder.

    Raises:
        typer.BadParameter: the text is empty.
    """
    if not text.strip():
        raise typer.BadParameter(
            f"{text!r} names no file or folder; the current folder is called . (a dot)."
        )
    return Path(text)


def _absolute(text: str) -> str:
    folder = path(text)
    # A broken link is not resolved, so that the error about it can name it.
    return os.path.realpath(folder) if os.path.exists(folder) else os.path.abspath(folder)


def path_option(help: str, metavar: str = "PATH") -> Any:
    """Returns an option that takes a file or a folder."""
    return typer.Option(help=help, metavar=metavar, parser=path)


def _backend(default: str) -> Any:
    """Returns the option that chooses a backend, whose help describes the default."""
    return named("Keras backend", choices.BACKENDS, f". Default: {default}")


_CONFIGURED = "KERAS_BACKEND, else the one in keras.json, else the first installed"
Backend = Annotated[str | None, _backend(_CONFIGURED)]
RunBackend = Annotated[str | None, _backend("the run's")]
TrainBackend = Annotated[str | None, _backend(f"with --resume the run's, else {_CONFIGURED}")]
Data = Annotated[str, named("Data set", choices.DATA_SETS)]
DataDir = Annotated[
    str | None,
    typer.Option(
        help="Folder of the data set's official files.", metavar="FOLDER", parser=_absolute
    ),
]
BatchSize = Annotated[
    int,
    number(
        "Images per step, 2 or more.",
        choices.BATCH_SIZE,
        ": batch statistics need at least two images. Try 32 or more.",
    ),
]
LearningRate = Annotated[float, number("Peak learning rate.", choices.LEARNING_RATE)]
DiscriminatorLearningRate = Annotated[
    float, number("Peak learning rate of the discriminator.", choices.LEARNING_RATE)
]
Schedule = Annotated[str, named("Decay of the learning rate", choices.SCHEDULES)]
EpochSchedule = Annotated[
    str,
    typer.Option(
        help=f"Decay of the learning rate: {', '.join(choices.SCHEDULES)}, or drop:60,90 to divide "
        "it by 10 after epochs 60 and 90.",
        metavar="SCHEDULE",
    ),
]
Epochs = Annotated[int, integer("Passes over the training images.", choices.EPOCHS)]
Seed = Annotated[int, integer("Seed of all random numbers.", choices.SEED)]
Normalization = Annotated[
    str,
    typer.Option(
        help=f"Normalization layer: {', '.join(choices.NORMALIZATIONS)}; or a variant of ours: "
        "ghost:32, renorm, zero-debiased, cumulative, momentum:0.9, or several joined by +.",
        metavar="NORMALIZATION",
    ),
]
Output = Annotated[Path | None, path_option("Folder of the run; default: runs/MODEL-DATE-TIME.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run in --output first.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN", parser=path)]
