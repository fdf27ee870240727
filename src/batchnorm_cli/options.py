"""What commands share: the names that their options take, and how a wrong one is answered."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

DATA = ("fashion-mnist-sample", "fashion-mnist", "cifar10")
OPTIMIZERS = ("adam", "adamw", "lion", "nadam", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine")
BLOCKS = ("basic", "bottleneck")
DECAYS = ("kernels", "all")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
CONDITIONINGS = ("class", "none")
BACKENDS = ("tensorflow", "jax", "torch")

# As in batchnorm.train.limits, which these need not wait for.
HIGHEST = 1e30  # of a learning rate and of a weight decay
LARGEST_BATCH = 100_000
LAST_SEED = 2**32 - 1


def one_of(names: tuple[str, ...]) -> Callable[[str | None], str | None]:
    """The check of an option that takes one of these names."""

    def check(value: str | None) -> str | None:
        if value is None or value in names:
            return value
        # As batchnorm.data.suggest, which need not be waited for.
        lower = value.lower()
        known = {name.lower(): name for name in names}
        parts = [name for name in known if len(lower) > 2 and (lower in name or name in lower)]
        close = sorted(parts, key=len) or get_close_matches(lower[:100], known, n=1)
        hint = f"; did you mean {known[close[0]]!r}?" if close else "."
        raise typer.BadParameter(f"{value[:100]!r} is unknown{hint} Allowed: {', '.join(names)}.")

    return check


def named(names: tuple[str, ...], text: str) -> Any:
    """An option that takes one of these names."""
    return typer.Option(help=f"{text}: {', '.join(names)}.", metavar="NAME", callback=one_of(names))


class Group(TyperGroup):
    """Commands, of which an unknown one is answered as other unknown names are."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that the first argument names."""
        if not args[0].startswith("-"):
            one_of(tuple(self.commands))(args[0])
        return super().resolve_command(ctx, args)


def _rate(value: float) -> float:
    if not 0 < value <= HIGHEST:
        raise typer.BadParameter(f"{value} is not above 0 and at most {HIGHEST:g}.")
    return value


def decay(value: float) -> float:
    """The check of an option that weights decay by."""
    if not 0 <= value <= HIGHEST:
        raise typer.BadParameter(f"{value} is not from 0 to {HIGHEST:g}.")
    return value


def _several(value: int) -> int:
    if not 2 <= value <= LARGEST_BATCH:
        raise typer.BadParameter(
            f"{value} is not from 2 to {LARGEST_BATCH:,}: an image is normalized by the statistics "
            "of a batch of them. Take 32 or more."
        )
    return value


def path(text: str) -> Path:
    """The file or folder that an option names; an empty one would be the current folder.

    Raises:
        typer.BadParameter: it names none.
    """
    if not text.strip():
        raise typer.BadParameter(
            f"{text!r} names no file or folder; the current folder is called . (a dot)."
        )
    return Path(text)


def _absolute(text: str) -> str:
    folder = path(text)
    # The error about a link that leads nowhere is to name the link.
    return os.path.realpath(folder) if os.path.exists(folder) else os.path.abspath(folder)


def path_option(help: str, metavar: str = "PATH") -> Any:
    """An option that takes a file or a folder."""
    return typer.Option(help=help, metavar=metavar, parser=path)


Backend = Annotated[
    str | None,
    typer.Option(
        help=f"What computes: {', '.join(BACKENDS)}. Default: the run's, if there is one, else "
        "KERAS_BACKEND's, else that of Keras's keras.json, else the first that is installed.",
        metavar="NAME",
        callback=one_of(BACKENDS),
    ),
]
Data = Annotated[str, named(DATA, "The images")]
DataDir = Annotated[
    str | None,
    typer.Option(
        help="Folder of the data set's official files.", metavar="FOLDER", parser=_absolute
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images in a step, 2 or more.", callback=_several)]
LearningRate = Annotated[float, typer.Option(help="The highest rate.", callback=_rate)]
DiscriminatorLearningRate = Annotated[
    float, typer.Option(help="The discriminator's highest rate.", callback=_rate)
]
Schedule = Annotated[str, named(SCHEDULES, "How the rate decays")]
EpochSchedule = Annotated[
    str,
    typer.Option(
        help=f"How the rate decays: {', '.join(SCHEDULES)}, or drop:60,90, divided by 10 after "
        "epochs 60 and 90.",
        metavar="SCHEDULE",
    ),
]
Epochs = Annotated[int, typer.Option(help="Passes over the images.", min=1, max=1_000_000)]
Seed = Annotated[int, typer.Option(help="Decides weights and order.", min=0, max=LAST_SEED)]
Normalization = Annotated[
    str,
    typer.Option(
        help="Whose layer: ours, keras, none; or what is to be done by ours, as in ghost:32, "
        "renorm, zero-debiased, cumulative, momentum:0.9, and joined by +.",
        metavar="NORMALIZATION",
    ),
]
Output = Annotated[Path | None, path_option("Folder of the run; default: runs/MODEL-DATE-TIME.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run in --output first.")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.", metavar="RUN", parser=path)]
