"""The command `batchnorm`.

Its modules import the library inside functions only: that imports Keras and a backend, which
`--backend` must choose first and `--help` need not wait for.
"""

import sys
from importlib.metadata import version
from typing import Annotated

try:
    import rich  # noqa: F401
    import typer
except ImportError as missing:
    sys.exit(f"batchnorm: {missing}. The commands need: pip install 'batchnorm[train]'")

from batchnorm_app.cli import benchmark, evaluate, import_tf1, pictures, train
from batchnorm_app.cli.options import Group
from batchnorm_app.console import encode_everything, say

app = typer.Typer(
    cls=Group,
    help="Train and inspect models with batch normalization, and benchmark the layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        say(f"batchnorm {version('batchnorm')}")
        raise typer.Exit


@app.callback()
def batchnorm(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train and inspect models with batch normalization, and benchmark the layer."""


app.add_typer(train.app, name="train")
app.command()(pictures.features)
app.command()(pictures.sample)
app.command()(pictures.statistics)
app.command()(evaluate.evaluate)
app.command()(benchmark.benchmark)
app.command("import-tf1")(import_tf1.import_tf1)


def main() -> None:
    """Runs the command line of this process."""
    encode_everything()
    app()
