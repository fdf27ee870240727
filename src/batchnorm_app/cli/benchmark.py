"""`batchnorm benchmark`: measures this layer against its peers in one run."""

import math
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from batchnorm_app import choices
from batchnorm_app.choices import BACKENDS
from batchnorm_app.cli.backend import choose_backend, need
from batchnorm_app.cli.errors import report_errors
from batchnorm_app.cli.options import integer, one_of, path_option
from batchnorm_app.console import console, say

Names = list[str] | None


def _some_of(names: tuple[str, ...]) -> Callable[[Names], Names]:
    """Returns the check of an option that takes some of these names."""

    def check(values: Names) -> Names:
        return [str(one_of(names)(name)) for name in _split(values)] or None

    return check


def _split(values: Names) -> list[str]:
    """Returns the parts of an option that is repeated or separated by commas, each once."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return [*dict.fromkeys(parts)]


def _named(help: str, names: tuple[str, ...], note: str = "") -> Any:
    return typer.Option(
        help=f"{help}, separated by commas or repeated: {', '.join(names)}. Default: all.{note}",
        metavar="NAME",
        callback=_some_of(names),
    )


def _shapes(values: Names) -> Names:
    shapes = _split(values)
    for shape in shapes:
        sizes = shape.split("x")
        fits = 2 <= len(sizes) <= 5 and all(map(_positive, sizes)) and int(sizes[0]) > 1
        if not fits or math.prod(map(int, sizes)) > choices.BENCHMARK_NUMBERS:
            raise typer.BadParameter(
                f"{shape[:99]!r} is not a shape to measure; expected 2 to 5 positive integers: "
                "the batch, of 2 or more, first and the channels last, as in 64x56x56x64 or "
                f"128x84, and at most {choices.BENCHMARK_NUMBERS:,} numbers in all."
            )
    return shapes or None


def _positive(size: str) -> bool:
    return size.isascii() and size.isdecimal() and len(size) < 12 and int(size) > 0


def benchmark(
    backend: Annotated[
        str | None,
        typer.Option(
            help=f"Backend to measure: {', '.join(BACKENDS)}. Default: all that are installed.",
            metavar="NAME",
            callback=one_of(BACKENDS),
        ),
    ] = None,
    variants: Annotated[Names, _named("Variants", choices.BENCHMARK_VARIANTS)] = None,
    shapes: Annotated[
        Names,
        typer.Option(
            help="Input shapes, separated by commas or repeated, batch first and channels last, "
            "such as 64x56x56x64. Default: six, from 128x84 to 256x32x32x128.",
            metavar="SHAPE",
            callback=_shapes,
        ),
    ] = None,
    passes: Annotated[Names, _named("Passes", choices.BENCHMARK_PASSES)] = None,
    modes: Annotated[
        Names,
        _named(
            "Execution modes",
            choices.BENCHMARK_MODES,
            " Each backend skips the modes it lacks; unsized is a graph with unknown sizes.",
        ),
    ] = None,
    steps: Annotated[
        bool | None,
        typer.Option(
            "--steps/--no-steps",
            help="Also measure whole training steps of LeNet and a ResNet. Default: yes.",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        integer("Timed rounds, each with all contestants. Default: 11.", choices.BENCHMARK_ROUNDS),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Measure less: 128x10x10x16 and 128x84, plain and conditional, 3 rounds, no "
            "training steps. Other options take precedence.",
        ),
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="Also measure the peak memory of the forward and backward pass, each time in a "
            "new process.",
        ),
    ] = False,
    tuned: Annotated[
        bool,
        typer.Option("--tuned", help="Measure with glibc's allocator set to keep freed memory."),
    ] = False,
    output: Annotated[
        Path | None,
        path_option("Folder of the results; default: runs/benchmark-DATE-TIME."),
    ] = None,
) -> None:
    """Measure the speed of batch normalization against its peers and the memory bandwidth.

    Writes benchmark.json, its tables as benchmark.md, and benchmark.png.
    """
    folder = output or Path("runs", f"benchmark-{time.strftime('%Y%m%d-%H%M%S')}")
    sizes = None if shapes is None else tuple(tuple(map(int, s.split("x"))) for s in shapes)
    options = {
        "variants": variants and tuple(variants),
        "shapes": sizes,
        "passes": passes and tuple(passes),
        "modes": modes and tuple(modes),
        "steps": steps,
        "rounds": rounds,
        "memory": memory,
    }
    with report_errors():
        need("matplotlib")
        backends = [backend] if backend else [name for name in BACKENDS if find_spec(name)]
        # No effect on the measurements, which other processes make.
        choose_backend(next(iter(backends), BACKENDS[0]), None)
        from batchnorm_app.benchmark import report
        from batchnorm_app.benchmark.request import QUICK, BenchmarkRequest, supported_backends

        report.refuse_to_overwrite(folder)
        chosen = {name: value for name, value in options.items() if value is not None}
        request = BenchmarkRequest(**{**(QUICK if quick else {}), **chosen})
        supported = supported_backends(backends, request)
        try:
            report.benchmark(supported, request, tuned, folder, console())
        except KeyboardInterrupt:
            say(f"The measurements so far are in {folder}.", console(stderr=True))
            raise
