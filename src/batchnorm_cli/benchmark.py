"""`batchnorm benchmark`: the same work done by this layer and by its peers, in one run."""

import math
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from batchnorm_cli.backend import choose_backend, need
from batchnorm_cli.console import console, say
from batchnorm_cli.errors import errors_in_words
from batchnorm_cli.options import BACKENDS, one_of, path_option

VARIANTS = ("plain", "conditional", "weighted", "renorm", "ghost")
PASSES = ("forward", "forward+backward", "inference")
MODES = ("eager", "graph", "unsized", "jit")
LARGEST = 1 << 31  # numbers of an input: 8 GiB, of which a measurement holds several

Names = list[str] | None


def _several(names: tuple[str, ...]) -> Callable[[Names], Names]:
    """The check of an option that takes some of these names."""

    def check(values: Names) -> Names:
        given = [name.strip() for value in values or () for name in value.split(",")]
        return [str(one_of(names)(name)) for name in dict.fromkeys(given)] or None

    return check


def _some(names: tuple[str, ...], text: str) -> Any:
    return typer.Option(
        help=f"{text}, by commas or repeated: {', '.join(names)}. Default: all.",
        metavar="NAME",
        callback=_several(names),
    )


def _shapes(values: Names) -> Names:
    given = [shape.strip() for value in values or () for shape in value.split(",")]
    for shape in given:
        sizes = shape.split("x")
        fits = 2 <= len(sizes) <= 5 and all(map(_positive, sizes)) and int(sizes[0]) > 1
        if not fits or math.prod(map(int, sizes)) > LARGEST:
            raise typer.BadParameter(
                f"{shape[:99]!r} is no shape to measure; expected 2 to 5 whole numbers from 1, the "
                "batch, of 2 or more, first and the channels last, as in 64x56x56x64 or 128x84, "
                f"and at most {LARGEST:,} numbers in all."
            )
    return [*dict.fromkeys(given)] or None


def _positive(size: str) -> bool:
    return size.isascii() and size.isdecimal() and len(size) < 12 and int(size) > 0


def benchmark(
    backend: Annotated[
        str | None,
        typer.Option(
            help=f"What computes: {', '.join(BACKENDS)}. Default: all that are installed.",
            metavar="NAME",
            callback=one_of(BACKENDS),
        ),
    ] = None,
    variants: Annotated[Names, _some(VARIANTS, "What is normalized by")] = None,
    shapes: Annotated[
        Names,
        typer.Option(
            help="Of the inputs, by commas or repeated, the batch first and the channels last: "
            "64x56x56x64. Default: six, from 128x84 to 256x32x32x128.",
            metavar="SHAPE",
            callback=_shapes,
        ),
    ] = None,
    passes: Annotated[Names, _some(PASSES, "What is done")] = None,
    modes: Annotated[
        Names,
        _some(MODES, "How, as far as the backend can; unsized: in a graph of unknown sizes"),
    ] = None,
    steps: Annotated[
        bool | None,
        typer.Option(
            "--steps/--no-steps",
            help="Whole training steps of LeNet and a ResNet, too. Default: yes.",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Turns of each contestant. Default: 11.", min=1, max=1000)
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Unless told otherwise: 128x10x10x16 and 128x84, plain and conditional, 3 rounds, "
            "no training steps.",
        ),
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="Peak memory of forward and backward pass, too, in a process for each contestant.",
        ),
    ] = False,
    tuned: Annotated[
        bool,
        typer.Option(
            "--tuned", help="Measure with an allocator (glibc's) that keeps what is freed."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        path_option("Folder of the results; default: runs/benchmark-DATE-TIME."),
    ] = None,
) -> None:
    """Measure how fast batch normalization is, beside its peers and the machine's memory.

    Writes benchmark.json, benchmark.md, its tables in Markdown, and benchmark.png.
    """
    folder = output or Path("runs", f"benchmark-{time.strftime('%Y%m%d-%H%M%S')}")
    sizes = None if shapes is None else tuple(tuple(map(int, s.split("x"))) for s in shapes)
    given = {
        "variants": variants and tuple(variants),
        "shapes": sizes,
        "passes": passes and tuple(passes),
        "modes": modes and tuple(modes),
        "steps": steps,
        "rounds": rounds,
        "memory": memory,
    }
    with errors_in_words():
        need("matplotlib")
        backends = [backend] if backend else [name for name in BACKENDS if find_spec(name)]
        # Of no consequence to what is measured, which is done by other processes.
        choose_backend(next(iter(backends), BACKENDS[0]), None)
        from batchnorm.benchmark import asked as asking
        from batchnorm.benchmark import report

        report.refuse_to_overwrite(folder)
        chosen = {name: value for name, value in given.items() if value is not None}
        asked = asking.Asked(**{**(asking.QUICK if quick else {}), **chosen})
        measured = asking.able(backends, asked)
        try:
            report.benchmark(measured, asked, tuned, folder, console())
        except KeyboardInterrupt:
            say(f"What was measured so far is in {folder}.", stderr=True)
            raise
