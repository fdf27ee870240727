"""What commands share: the names that their options take, and how a wrong one is answered."""

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


def one_of(names: tuple[str, ...]) -> Callable[[str | None], str | None]:
    """The check of an option that takes one of these names."""

    def check(value: str | None) -> str | None:
        if value is None or value in names:
            return value
        nearest = get_close_matches(value, names, n=1, cutoff=0.0)[0]
        raise typer.BadParameter(
            f"{value!r} is unknown; did you mean {nearest!r}? Allowed: {', '.join(names)}."
        )

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


def _several(value: int) -> int:
    if value < 2:
        raise typer.BadParameter(
            f"{value} is below 2, but an image is normalized by the statistics of a batch of them. "
            "Take 32 or more."
        )
    return value


def _absolute(folder: str | None) -> str | None:
    return str(Path(folder).resolve()) if folder else None


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
        help="Folder of the data set's official files.", metavar="FOLDER", callback=_absolute
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images in a step, 2 or more.", callback=_several)]
LearningRate = Annotated[float, typer.Option(help="The highest rate.", min=0.0)]
Schedule = Annotated[str, named(SCHEDULES, "How the rate decays")]
EpochSchedule = Annotated[
    str,
    typer.Option(
        help=f"How the rate decays: {', '.join(SCHEDULES)}, or drop:60,90, divided by 10 after "
        "epochs 60 and 90.",
        metavar="SCHEDULE",
    ),
]
Epochs = Annotated[int, typer.Option(help="Passes over the images.", min=1)]
Seed = Annotated[int, typer.Option(help="Decides weights and order.", min=0)]
Normalization = Annotated[
    str,
    typer.Option(
        help="Whose layer: ours, keras, none; or what is to be done by ours, as in ghost:32, "
        "renorm, zero-debiased, cumulative, momentum:0.9, and joined by +.",
        metavar="NORMALIZATION",
    ),
]
Output = Annotated[
    Path | None, typer.Option(help="Folder of the run; default: runs/MODEL-DATE-TIME.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run in --output first.")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.", metavar="RUN")]
